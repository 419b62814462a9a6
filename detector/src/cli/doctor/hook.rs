//! Whether libvirt asks before it starts a VM.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use super::{
    super::hook::installed::{DIRECTORY, asking, asks, beside, hooks},
    Finding, Patient, fine, problem, unknown, warning,
};

/// The drivers with a hook, and the hook that belongs to this release.
const HOOKS: [(&str, &str); 2] = [
    ("qemu", include_str!("../../../../packaging/libvirt-hook-qemu")),
    ("lxc", include_str!("../../../../packaging/libvirt-hook-lxc")),
];

pub(super) fn check(patient: &Patient<'_>) -> Vec<Finding> {
    let libvirt = &patient.config.libvirt;
    let used = HOOKS.iter().filter(|(driver, _)| libvirt.uri_of(driver).is_some());
    used.map(|(driver, ours)| look(driver, ours, Path::new(DIRECTORY))).collect()
}

/// Of several hooks those count that ask.
pub(super) fn look(driver: &str, ours: &str, directory: &Path) -> Finding {
    let there = hooks(directory, driver);
    match &asking(directory, driver)[..] {
        [] if there.is_empty() => judge(driver, ours, &beside(directory, driver).join("detector")),
        [] => judge(driver, ours, &there[0]),
        [one] => judge(driver, ours, one),
        [one, other, ..] => warning(
            format!("{} and {} both ask before each start", one.display(), other.display()),
            format!("rm {}", one.display()),
        ),
    }
}

fn judge(driver: &str, ours: &str, path: &Path) -> Finding {
    let install = format!(
        "install -D -m 755 packaging/libvirt-hook-{driver} {}, then `systemctl reload libvirtd`",
        path.display()
    );
    let text = match fs::read(path) {
        Ok(text) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return warning(
                format!(
                    "{} is not there: an approved VM loses the frames that it sends before libvirt lists \
                     it, and no start can be refused",
                    path.display()
                ),
                install,
            );
        }
        Err(error) => return unknown(format!("{}: {error}", path.display()), "run it as root"),
    };
    let runs = fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o111 != 0);
    if !runs {
        let what = format!("{} cannot be executed, so that libvirt passes it by", path.display());
        return problem(what, format!("chmod 755 {}", path.display()));
    }
    if text == ours {
        return match program(&text) {
            Some(program) if !program.exists() => problem(
                format!(
                    "{} calls {}, which is not there: nobody judges VMs",
                    path.display(),
                    program.display()
                ),
                format!(
                    "install the program there, or correct the line `detector=` in {}",
                    path.display()
                ),
            ),
            _ => fine(format!("{} asks before each start", path.display())),
        };
    }
    if asks(&text, driver) {
        return warning(
            format!(
                "{} asks before each start, and is not the one of this release",
                path.display()
            ),
            format!("compare it with packaging/libvirt-hook-{driver}"),
        );
    }
    problem(
        format!("{} is somebody else's and does not ask", path.display()),
        format!(
            "have it end with `exec detector hook {driver} \"$@\"`, or put packaging/libvirt-hook-{driver} \
             into {DIRECTORY}/{driver}.d, where libvirt runs several"
        ),
    )
}

fn program(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.strip_prefix("detector=")).map(PathBuf::from)
}
