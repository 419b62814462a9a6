//! Whether what has no privileges has none, and how those who read images are shut in.

use super::{Finding, Patient, fine, problem, warning};
use crate::{
    privilege::{self, Identity},
    sandbox::landlock_version,
};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let user = privilege::named(patient.config.user.as_deref()).map_err(|error| error.to_string());
    vec![separate(user), judge(landlock_version())]
}

pub(super) fn separate(user: Result<Option<Identity>, String>) -> Finding {
    match user {
        Ok(Some(user)) => fine(format!("what decides runs as {user}")),
        Ok(None) => warning(
            "what decides runs as root: who takes it over can read and change files of the host",
            "`useradd --system --no-create-home --shell /usr/sbin/nologin detector`, and let it speak with libvirt \
             (`usermod -aG libvirt detector`)",
        ),
        Err(why) => problem(why, "create the user, or correct `user`"),
    }
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
