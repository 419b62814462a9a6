//! Whether what is to be kept can be kept.

use std::{io, path::Path};

use nix::sys::statvfs::{FsFlags, statvfs};

use super::{Finding, Patient, fine, problem, unknown, warning};

const MIB: u64 = 1 << 20;
/// What the state of a busy host takes for some days.
const PLENTY: u64 = 1024 * MIB;
const LITTLE: u64 = 10 * MIB;

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let state = &patient.config.paths.state;
    let existing = state.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    vec![match statvfs(existing) {
        Ok(found) => {
            let free = found.blocks_available() * found.fragment_size();
            judge(state, free, found.flags().contains(FsFlags::ST_RDONLY))
        }
        Err(errno) => {
            let error = io::Error::from(errno);
            unknown(format!("{}: {error}", state.display()), "run it as root")
        }
    }]
}

pub(super) fn judge(state: &Path, free: u64, read_only: bool) -> Finding {
    let (state, mib) = (state.display(), free / MIB);
    if read_only {
        return problem(
            format!(
                "{state} is on a file system that is read-only: quarantines, leases and the mode do not outlive the host"
            ),
            "mount it for writing, or name another place as `paths.state`",
        );
    }
    match free {
        ..LITTLE => problem(
            format!(
                "{mib} MiB are free for {state}: quarantines, leases and the mode may not outlive the host"
            ),
            "make room",
        ),
        LITTLE..PLENTY => warning(format!("only {mib} MiB are free for {state}"), "make room"),
        _ => fine(format!("{} GiB are free for {state}", mib / 1024)),
    }
}
