//! What this kernel can do and this process may, said in sentences.

use std::{error::Error, fs};

use aya::{
    maps::MapType,
    programs::ProgramType,
    sys::{is_map_supported, is_program_supported},
};

use super::{BpfError, error::errno, pins::Hook, sys};

/// What the kernel offers beyond what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// TCX links (Linux 6.6). Without them programs are attached as clsact filters.
    pub tcx: bool,
}

/// Finds out whether the kernel programs can run here.
///
/// # Errors
///
/// What is missing, and where to get it.
pub fn probe() -> Result<Features, BpfError> {
    may()?;
    let program = is_program_supported(ProgramType::SchedClassifier)
        .map_err(BpfError::failed("load a BPF program"))?;
    let ring = is_map_supported(MapType::RingBuf).map_err(BpfError::failed("create a BPF map"))?;
    match missing(program, ring) {
        Some(what) => Err(BpfError::Refused(what.to_owned())),
        None => Ok(Features { tcx: has_tcx() }),
    }
}

/// What this kernel lacks, and which one has it.
fn missing(program: bool, ring: bool) -> Option<&'static str> {
    match (program, ring) {
        (false, _) => Some(
            "this kernel cannot run BPF programs on network interfaces: it needs CONFIG_BPF_SYSCALL \
             and CONFIG_NET_CLS_BPF (Linux 5.10 or newer)",
        ),
        (true, false) => Some("this kernel has no BPF ring buffer: Linux 5.10 or newer is needed"),
        (true, true) => None,
    }
}

/// Asking what runs on the loopback changes nothing, and a kernel without TCX does not know the
/// question.
fn has_tcx() -> bool {
    const LOOPBACK: u32 = 1;
    !matches!(
        sys::links_on(LOOPBACK, Hook::Ingress).map_err(|e| e.raw_os_error()),
        Err(Some(libc::EINVAL))
    )
}

/// What an errno means here and what to do about it, as ` (…)`; empty when it says enough itself.
pub(super) fn hint(error: &(dyn Error + Send + Sync + 'static)) -> String {
    let hint = match errno(error) {
        Some(libc::EPERM | libc::EACCES) => {
            "not permitted: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON"
        }
        Some(libc::ENOSYS) => "this kernel has no BPF system call (CONFIG_BPF_SYSCALL)",
        Some(libc::ENOENT) => "it is not there",
        Some(libc::ENODEV) => "there is no such interface in this network namespace",
        Some(libc::E2BIG | libc::ENOSPC) => "the map is full, nothing was taken out to make room",
        Some(libc::ENOMEM) => "the kernel has no memory left for it",
        Some(libc::EINVAL) => "this kernel does not support it: Linux 5.10 or newer is needed",
        Some(libc::EEXIST) => "somebody else's is there already",
        _ => return String::new(),
    };
    format!(" ({hint})")
}

/// Capabilities that are needed, by their bit (`linux/capability.h`), and one that stands for all.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

fn may() -> Result<(), BpfError> {
    let status = fs::read_to_string("/proc/self/status")
        .map_err(BpfError::failed("read the capabilities of this process"))?;
    let missing = missing_capabilities(&status);
    if missing.is_empty() {
        return Ok(());
    }
    Err(BpfError::Refused(format!(
        "this process lacks {}: run it as root, or grant it these capabilities (systemd: \
         AmbientCapabilities=)",
        missing.join(", ")
    )))
}

fn missing_capabilities(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective & (1 << bit) != 0;
    let needed = [
        ("CAP_NET_ADMIN", has(CAP_NET_ADMIN)),
        ("CAP_BPF", has(CAP_BPF) || has(CAP_SYS_ADMIN)),
        ("CAP_PERFMON", has(CAP_PERFMON) || has(CAP_SYS_ADMIN)),
    ];
    needed.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_named() {
        let cases: &[(&str, &[&str])] = &[
            ("Name:\tx\nCapEff:\t000001ffffffffff\n", &[]),
            ("CapEff:\t0000000000000000\n", &["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]),
            ("CapEff:\t0000000000201000\n", &[]),
            ("CapEff:\t000000c000001000\n", &[]),
            ("CapEff:\t0000008000001000\n", &["CAP_PERFMON"]),
            ("", &["CAP_NET_ADMIN", "CAP_BPF", "CAP_PERFMON"]),
        ];
        for (status, expect) in cases {
            assert_eq!(missing_capabilities(status), *expect, "{status}");
        }
    }

    #[test]
    fn what_the_kernel_lacks_is_named_with_the_way_out() {
        assert_eq!(missing(true, true), None);
        for (program, ring, word) in [
            (false, false, "CONFIG_NET_CLS_BPF"),
            (false, true, "CONFIG_NET_CLS_BPF"),
            (true, false, "ring buffer"),
        ] {
            let what = missing(program, ring).unwrap();
            assert!(what.contains(word) && what.contains("5.10"), "{what}");
        }
    }

    #[test]
    fn an_errno_comes_with_what_to_do() {
        let cases = [
            (libc::EPERM, "CAP_BPF"),
            (libc::ENOSYS, "CONFIG_BPF_SYSCALL"),
            (libc::EINVAL, "5.10"),
            (libc::ENODEV, "no such interface"),
            (libc::E2BIG, "map is full"),
            (libc::ENOMEM, "memory"),
        ];
        for (errno, word) in cases {
            let hint = hint(&std::io::Error::from_raw_os_error(errno));
            assert!(hint.starts_with(" (") && hint.contains(word), "{errno}: {hint}");
        }
        assert_eq!(hint(&std::io::Error::from_raw_os_error(libc::EIO)), "");
    }

    #[test]
    fn this_machine_runs_the_programs() {
        probe().unwrap();
    }
}
