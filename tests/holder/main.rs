//! A program that is no known emulator and holds what virtual machines are made of, until its standard
//! input ends: `kvm`, `kvm-thread`, `kvm-behind-many`, `tap NAME`, `nothing`, or what bpf(2) hands out (`program`,
//! `map PATH`). With `seccomp FILE PROGRAM …`
//! it applies a filter and becomes that program.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, unshare};

nix::ioctl_write_int_bad!(kvm_create_vm, 0xae01);
nix::ioctl_write_int!(tun_set_iff, b'T', 202);

fn main() -> Result<()> {
    let words: Vec<_> = std::env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    // Held to the end.
    let _held: Vec<OwnedFd> = match words[..] {
        ["kvm"] => vec![vm()?],
        // In a table of descriptors that the first thread does not have.
        ["kvm-thread"] => {
            let (ready, told) = std::sync::mpsc::channel();
            std::thread::spawn(move || -> Result<()> {
                unshare(CloneFlags::CLONE_FILES)?;
                let _held = vm()?;
                ready.send(())?;
                loop {
                    std::thread::park();
                }
            });
            told.recv().context("the thread has no VM")?;
            Vec::new()
        }
        ["kvm-behind-many"] => {
            const MANY: usize = 5000;
            let (soft, hard) = nix::sys::resource::getrlimit(FILES)?;
            nix::sys::resource::setrlimit(FILES, hard.min(10_000).max(soft), hard)?;
            let mut held = Vec::new();
            for _ in 0..MANY {
                held.push(File::open("/dev/null")?.into());
            }
            held.push(vm()?);
            held
        }
        ["tap", name] => vec![tap(name)?],
        ["nothing"] => Vec::new(),
        ["program"] => vec![bpf(PROG_LOAD, &program()).context("load a program")?],
        ["map", path] => vec![bpf(OBJ_GET, &pinned(path)?).context("open a map")?],
        ["seccomp", filter, program, ref arguments @ ..] => {
            return confined(filter, program, arguments);
        }
        _ => bail!(
            "expected kvm, kvm-thread, kvm-behind-many, tap NAME, program, map PATH, nothing or seccomp FILE PROGRAM"
        ),
    };
    println!("ready");
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

const FILES: nix::sys::resource::Resource = nix::sys::resource::Resource::RLIMIT_NOFILE;

/// Becomes the program, under a filter that is read from a file, eight bytes an instruction.
fn confined(filter: &str, program: &str, arguments: &[&str]) -> Result<()> {
    let bytes = std::fs::read(filter).context("cannot read the filter")?;
    let instruction = |one: &[u8]| seccompiler::sock_filter {
        code: u16::from_ne_bytes([one[0], one[1]]),
        jt: one[2],
        jf: one[3],
        k: u32::from_ne_bytes([one[4], one[5], one[6], one[7]]),
    };
    let filter: Vec<_> = bytes.chunks_exact(8).map(instruction).collect();
    seccompiler::apply_filter(&filter).context("cannot apply the filter")?;
    let error = std::os::unix::process::CommandExt::exec(Command::new(program).args(arguments));
    Err(error).with_context(|| format!("cannot run {program}"))
}

fn vm() -> Result<OwnedFd> {
    let kvm = File::options().read(true).write(true).open("/dev/kvm").context("/dev/kvm")?;
    // SAFETY: the call takes a number, the type of the machine, and returns a new descriptor.
    let vm = unsafe { kvm_create_vm(kvm.as_raw_fd(), 0) }.context("KVM_CREATE_VM")?;
    // SAFETY: nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(vm) })
}

/// Commands of bpf(2).
const PROG_LOAD: libc::c_int = 5;
const OBJ_GET: libc::c_int = 7;

/// `union bpf_attr`, as much of it as is needed here.
type Attributes = [u64; 16];

fn bpf(command: libc::c_int, attributes: &Attributes) -> Result<OwnedFd> {
    let size = size_of::<Attributes>();
    // SAFETY: the attributes live through the call, and so does what they point to.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attributes.as_ptr(), size) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().into());
    }
    // SAFETY: nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// A tc program that lets everything pass.
fn program() -> Attributes {
    const SCHED_CLS: u64 = 3;
    /// r0 = 0; exit.
    static INSTRUCTIONS: [u64; 2] = [0xb7, 0x95];
    let mut attributes = [0; 16];
    attributes[0] = SCHED_CLS | (INSTRUCTIONS.len() as u64) << 32;
    attributes[1] = INSTRUCTIONS.as_ptr() as u64;
    attributes[2] = c"GPL".as_ptr() as u64;
    attributes
}

fn pinned(path: &str) -> Result<Attributes> {
    let path = std::ffi::CString::new(path)?;
    let mut attributes = [0; 16];
    // It lives as long as this process.
    attributes[0] = path.into_raw() as u64;
    Ok(attributes)
}

fn tap(name: &str) -> Result<OwnedFd> {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives through the call, which reads and writes one ifreq.
    unsafe { tun_set_iff(file.as_raw_fd(), (&raw mut request) as libc::c_ulong) }?;
    Ok(file.into())
}
