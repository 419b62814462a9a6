//! Whether what has no privileges has none, and how those who read images are shut in.

use std::process::Command;

use super::{Finding, Patient, fine, problem, warning};
use crate::{
    privilege::{self, Identity},
    sandbox::landlock_version,
};

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let user = privilege::named(patient.config.user.as_deref()).map_err(|error| error.to_string());
    let unit = of_unit().unwrap_or_default();
    let disagrees = user.as_ref().ok().and_then(|user| agree(user.as_ref(), &unit));
    [Some(separate(user)), disagrees, Some(judge(landlock_version()))]
        .into_iter()
        .flatten()
        .collect()
}

/// The user in the daemon's unit, where there is one.
fn of_unit() -> Option<String> {
    let words = ["show", "--property=User", "--value", "detector.service"];
    let said = Command::new("systemctl").args(words).output().ok()?;
    Some(String::from_utf8(said.stdout).ok()?.trim().to_owned())
}

pub(super) fn agree(user: Option<&Identity>, of_unit: &str) -> Option<Finding> {
    let why = privilege::disagreement(user.or(Some(&Identity::ROOT)), of_unit)?;
    Some(warning(
        why,
        "name the same one in both: `user` in the configuration, and `systemctl edit detector`",
    ))
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
