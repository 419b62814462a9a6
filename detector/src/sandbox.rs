//! Shuts this thread off from everything but what it was handed, before it reads what is hostile.
//!
//! seccomp leaves it a handful of system calls; whatever else it asks for kills the process. Landlock takes the file
//! system and the network away as well, where the kernel has it (5.13 and later): two locks, since either may have a
//! flaw. No capability is left.

use std::{collections::BTreeMap, io, path::Path};

use caps::CapSet;
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

/// What a process may still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Forks, and waits for those who are to take a descriptor each.
    Doorkeeper,
    /// Reads one descriptor and answers on another.
    Worker,
}

/// The newest Landlock that is asked for; a kernel with an older one does what it can.
const LANDLOCK: ABI = ABI::V6;

/// Bytes of memory that may be written to.
const MEMORY: u64 = 128 << 20;
/// The same for who speaks to the fleet, whatever is sent there.
const MEMORY_OF_SPEAKER: u64 = 512 << 20;
/// Descriptors that may be open.
const DESCRIPTORS: u64 = 16;

/// As the C library's fork(2) asks for it.
const FORK: u64 = (libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID | libc::SIGCHLD) as u64;

/// Memory, and what the run-time library needs to go on and to end.
const PLAIN: &[libc::c_long] = &[
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_close,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigprocmask,
    libc::SYS_sigaltstack,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What the doorkeeper needs besides, and its children until they are workers.
const OF_DOORKEEPER: &[libc::c_long] = &[
    libc::SYS_recvmsg,
    libc::SYS_recvfrom,
    libc::SYS_wait4,
    libc::SYS_getppid,
    libc::SYS_set_robust_list,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_prctl,
    libc::SYS_seccomp,
    libc::SYS_setitimer,
    libc::SYS_prlimit64,
];

const OF_WORKER: &[libc::c_long] = &[libc::SYS_pread64, libc::SYS_sendto];

/// Becomes a process of this stage; the next one can only be narrower. For a process with one thread.
///
/// # Errors
///
/// The kernel does not do it, and so nothing hostile is to be read here.
pub(crate) fn enter(stage: Stage) -> io::Result<()> {
    if stage == Stage::Doorkeeper {
        limit()?;
        for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
            caps::clear(None, set).map_err(io::Error::other)?;
        }
        shut_files_and_network()?;
    }
    apply_filter(&filter(stage)?).map_err(io::Error::other)
}

/// Leaves this thread, and those that it starts, what the scan of processes does: it reads files and asks what a tap
/// is. It writes to nothing but its standard output, makes no socket, and changes no other process.
///
/// # Errors
///
/// The kernel does not do it.
pub(crate) fn only_look() -> io::Result<()> {
    /// `TUNGETIFF` and `TUNGETDEVNETNS` (`linux/if_tun.h`).
    const OF_TAPS: [u64; 2] = [0x8004_54d2, 0x54e3];
    let mut denied = changes_of_others();
    denied.extend(
        [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
        ]
        .map(|call| (call, Vec::new())),
    );
    denied.insert(libc::SYS_ioctl, vec![none_of(1, &OF_TAPS)?]);
    deny(denied)
}

/// The same for who keeps processes from running on: it signals by descriptors only, and only so that one ends, stops
/// or goes on.
///
/// # Errors
///
/// The kernel does not do it.
pub(crate) fn only_curb() -> io::Result<()> {
    const SIGNALS: [u64; 4] = [0, libc::SIGKILL as u64, libc::SIGSTOP as u64, libc::SIGCONT as u64];
    let mut denied = changes_of_others();
    denied.extend(
        [
            libc::SYS_socket,
            libc::SYS_socketpair,
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_ioctl,
            libc::SYS_pidfd_getfd,
            libc::SYS_kill,
            libc::SYS_tkill,
            libc::SYS_rt_sigqueueinfo,
            libc::SYS_rt_tgsigqueueinfo,
        ]
        .map(|call| (call, Vec::new())),
    );
    denied.insert(libc::SYS_pidfd_send_signal, vec![none_of(1, &SIGNALS)?]);
    deny(denied)
}

/// The same for who listens to ports: it makes packet sockets, and sends nothing.
///
/// # Errors
///
/// The kernel does not do it.
pub(crate) fn only_listen() -> io::Result<()> {
    let mut denied = changes_of_others();
    denied.extend(
        [
            libc::SYS_sendto,
            libc::SYS_sendmsg,
            libc::SYS_sendmmsg,
            libc::SYS_ioctl,
            libc::SYS_pidfd_getfd,
        ]
        .map(|call| (call, Vec::new())),
    );
    denied.insert(libc::SYS_socket, vec![none_of(0, &[libc::AF_PACKET as u64])?]);
    deny(denied)
}

/// The same for who speaks to the fleet: it connects by the internet's protocols, reads what that takes, and opens
/// nothing to write. It makes no socket to anybody on this host, the daemon's least of all: there it would be taken for
/// the daemon's own user.
///
/// # Errors
///
/// The kernel does not do it.
pub(crate) fn only_connect(readable: &[&Path]) -> io::Result<()> {
    /// Names are looked up by the C library, which asks for addresses by netlink.
    const FAMILIES: [u64; 3] =
        [libc::AF_INET as u64, libc::AF_INET6 as u64, libc::AF_NETLINK as u64];
    let mut denied = changes_of_others();
    // Which is how what is encrypted is sent.
    denied.remove(&libc::SYS_writev);
    denied.insert(libc::SYS_pidfd_getfd, Vec::new());
    denied.insert(libc::SYS_socket, vec![none_of(0, &FAMILIES)?]);
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_DATA, MEMORY_OF_SPEAKER, MEMORY_OF_SPEAKER)?;
    if landlock_version() > 0 {
        let status = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(LANDLOCK))
            .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
            .and_then(Ruleset::create)
            .and_then(|rules| {
                rules.add_rules(path_beneath_rules(readable, AccessFs::from_read(LANDLOCK)))
            })
            .and_then(landlock::RulesetCreated::restrict_self)
            .map_err(io::Error::other)?;
        if status.ruleset == RulesetStatus::NotEnforced {
            return Err(io::Error::other("Landlock is there and does nothing"));
        }
    }
    refuse(denied)
}

/// What changes something beyond the calling process, and whatever does so in ways that this does not know of.
fn changes_of_others() -> BTreeMap<i64, Vec<SeccompRule>> {
    [
        libc::SYS_bpf,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_perf_event_open,
        libc::SYS_io_uring_setup,
        libc::SYS_openat2,
        libc::SYS_open_by_handle_at,
        libc::SYS_execve,
        libc::SYS_execveat,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_mount,
        libc::SYS_writev,
        libc::SYS_pwrite64,
        libc::SYS_pwritev,
        libc::SYS_pwritev2,
        libc::SYS_sendfile,
        libc::SYS_splice,
        libc::SYS_vmsplice,
        libc::SYS_userfaultfd,
        libc::SYS_kexec_load,
    ]
    .map(|call| (call, Vec::new()))
    .into()
}

/// Older calls for the same as newer ones, which this architecture still has.
fn older() -> BTreeMap<i64, Vec<SeccompRule>> {
    #[cfg(target_arch = "x86_64")]
    return [libc::SYS_open, libc::SYS_creat].map(|call| (call, Vec::new())).into();
    #[cfg(not(target_arch = "x86_64"))]
    BTreeMap::new()
}

/// Refuses these with EPERM, and all that opens or writes to what it was not handed.
fn deny(mut denied: BTreeMap<i64, Vec<SeccompRule>>) -> io::Result<()> {
    const OUT: [u64; 2] = [libc::STDOUT_FILENO as u64, libc::STDERR_FILENO as u64];
    denied.insert(libc::SYS_write, vec![none_of(0, &OUT)?]);
    refuse(denied)
}

/// Refuses these with EPERM, and all that opens something to write to.
fn refuse(mut denied: BTreeMap<i64, Vec<SeccompRule>>) -> io::Result<()> {
    denied.extend(older());
    let opening = [libc::O_WRONLY, libc::O_RDWR]
        .map(|way| bits(2, libc::O_ACCMODE as u64, way as u64))
        .into_iter()
        .collect::<io::Result<_>>()?;
    denied.insert(libc::SYS_openat, opening);
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(denied, SeccompAction::Allow, refused, arch);
    let program = filter.and_then(BpfProgram::try_from).map_err(io::Error::other)?;
    apply_filter(&program).map_err(io::Error::other)
}

/// That these bits of an argument have this value.
fn bits(number: u8, mask: u64, value: u64) -> io::Result<SeccompRule> {
    let same = SeccompCmpOp::MaskedEq(mask);
    let same = SeccompCondition::new(number, SeccompCmpArgLen::Dword, same, value);
    same.and_then(|same| SeccompRule::new(vec![same])).map_err(io::Error::other)
}

/// That an argument is none of these.
fn none_of(number: u8, values: &[u64]) -> io::Result<SeccompRule> {
    let other = |value: &u64| {
        SeccompCondition::new(number, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, *value)
    };
    let conditions = values.iter().map(other).collect::<Result<_, _>>();
    conditions.and_then(SeccompRule::new).map_err(io::Error::other)
}

/// Which Landlock this kernel has: 0 for none.
pub(crate) fn landlock_version() -> i32 {
    /// `LANDLOCK_CREATE_RULESET_VERSION` (`landlock.h`).
    const VERSION: libc::c_uint = 1;
    // SAFETY: with this flag and no attributes the call only returns a number (landlock_create_ruleset(2)).
    let version = unsafe {
        libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, VERSION)
    };
    i32::try_from(version).unwrap_or(0).max(0)
}

fn limit() -> io::Result<()> {
    let limits = [
        (Resource::RLIMIT_DATA, MEMORY),
        (Resource::RLIMIT_NOFILE, DESCRIPTORS),
        (Resource::RLIMIT_FSIZE, 0),
        (Resource::RLIMIT_CORE, 0),
    ];
    for (resource, most) in limits {
        setrlimit(resource, most, most)?;
    }
    Ok(())
}

/// Without a rule that allows anything, nothing is allowed.
fn shut_files_and_network() -> io::Result<()> {
    if landlock_version() == 0 {
        return Ok(());
    }
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(LANDLOCK))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(LANDLOCK)))
        .and_then(|rules| rules.scope(Scope::from_all(LANDLOCK)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(io::Error::other("Landlock is there and does nothing")),
        RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced => Ok(()),
    }
}

fn filter(stage: Stage) -> io::Result<BpfProgram> {
    let mut calls: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let of_worker = OF_WORKER.iter();
    let all = PLAIN.iter().chain(of_worker);
    let own = if stage == Stage::Doorkeeper { OF_DOORKEEPER } else { &[] };
    calls.extend(all.chain(own).map(|call| (*call, Vec::new())));
    // Memory, but none that holds code.
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        calls.insert(call, vec![bits(2, libc::PROT_EXEC as u64, 0)?]);
    }
    // The run-time library asks whether a descriptor is open; who becomes a worker says what ends it.
    let mut control = vec![argument(1, libc::F_GETFD as u64)?];
    if stage == Stage::Doorkeeper {
        for what in [libc::F_SETOWN, libc::F_GETFL, libc::F_SETFL] {
            control.push(argument(1, what as u64)?);
        }
    }
    calls.insert(libc::SYS_fcntl, control);
    // What a panic says; nothing else may be written to.
    calls.insert(libc::SYS_write, vec![argument(0, libc::STDERR_FILENO as u64)?]);
    if stage == Stage::Doorkeeper {
        calls.insert(libc::SYS_clone, vec![argument(0, FORK)?]);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(io::Error::other)?;
    let filter = SeccompFilter::new(calls, SeccompAction::KillProcess, SeccompAction::Allow, arch);
    filter.and_then(BpfProgram::try_from).map_err(io::Error::other)
}

fn argument(number: u8, value: u64) -> io::Result<SeccompRule> {
    let same = SeccompCondition::new(number, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value);
    same.and_then(|same| SeccompRule::new(vec![same])).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
