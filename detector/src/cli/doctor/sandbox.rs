//! How those who read images are shut in.

use super::{Finding, Patient, fine, warning};
use crate::sandbox::landlock_version;

pub(super) fn check(_patient: &Patient<'_>) -> Vec<Finding> {
    vec![judge(landlock_version())]
}

pub(super) fn judge(landlock: i32) -> Finding {
    match landlock {
        0 => warning(
            "no Landlock: who reads images is shut in by seccomp alone",
            "run Linux 5.13 or newer with CONFIG_SECURITY_LANDLOCK, and with `landlock` among the modules of `lsm=`",
        ),
        version => {
            fine(format!("who reads images is shut in by seccomp and Landlock (version {version})"))
        }
    }
}
