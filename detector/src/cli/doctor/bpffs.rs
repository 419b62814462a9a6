//! Where programs and maps are kept in force.

use std::path::Path;

use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{Finding, Patient, fine, problem, unknown};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let pins = &patient.config.paths.pins;
    // What a user may not see is there all the same: the nearest that can be seen decides.
    let existing = pins.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    vec![match statfs(existing) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {
            fine(format!("{} is on a BPF file system", pins.display()))
        }
        Ok(_) => problem(
            format!("{} is not on a BPF file system", pins.display()),
            "`mount -t bpf bpf /sys/fs/bpf` (systemd does so at boot), or name a directory of one as \
             `paths.pins`",
        ),
        Err(error) => unknown(format!("{}: {error}", existing.display()), "run it as root"),
    }]
}
