//! The disk of a whole machine, which the suite `boot` starts: Debian as mmdebstrap makes it, from where this
//! machine itself gets Debian, with the kernel's modules of the lab's guests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::archive::{self, Source};
use super::unpacked::remove;
use super::{GuestKernel, pins};
use crate::process;

const SUITE: &str = "bookworm";
/// What a machine in a test has no use for: documents, other languages, and what is done once a day.
const LEFT_OUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];
const MASKED: [&str; 10] = [
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "logrotate.timer",
    "serial-getty@ttyS0.service",
    "systemd-pstore.service",
];
/// In megabytes, most of them a hole.
const SIZE: &str = "1200M";

/// Whether it is there, made by what is said here.
pub(super) fn is_made() -> bool {
    fs::read_to_string(recipe_file()).is_ok_and(|made_by| made_by == recipe())
}

/// Makes it anew.
pub(super) fn make() -> Result<String> {
    let directory = directory();
    remove(&directory)?;
    let root = directory.join("root");
    fs::create_dir_all(&directory)?;
    install(&root)?;
    let modules = "usr/lib/modules";
    let from = GuestKernel::directory().join("lib/modules");
    process::quiet(Command::new("cp").arg("-a").arg(from).arg(root.join("usr/lib")))?;
    for release in fs::read_dir(root.join(modules))? {
        process::quiet(Command::new("depmod").arg("-b").arg(&root).arg(release?.file_name()))?;
    }
    for unit in MASKED {
        let place = root.join("etc/systemd/system").join(unit);
        remove_file(&place)?;
        std::os::unix::fs::symlink("/dev/null", place)?;
    }
    fs::write(root.join("etc/fstab"), "/dev/vda / ext4 noatime 0 1\n")?;
    fs::write(root.join("etc/hostname"), "machine\n")?;
    fs::write(root.join("etc/hosts"), "127.0.0.1 localhost machine\n")?;
    let disk = directory.join("root.ext4");
    let mut mke2fs = Command::new("/sbin/mke2fs");
    mke2fs.args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg(SIZE);
    process::quiet(&mut mke2fs)?;
    remove(&root)?;
    // It comes last, so that an interrupted setup starts over.
    fs::write(recipe_file(), recipe())?;
    Ok(format!("Debian {SUITE}, {} packages asked for", pins::MACHINE.len()))
}

fn install(root: &Path) -> Result<()> {
    let mut mmdebstrap = Command::new("mmdebstrap");
    mmdebstrap.args(["--quiet", "--mode=root", "--variant=minbase", "--format=directory"]);
    mmdebstrap.arg(format!("--include={}", pins::MACHINE.join(",")));
    mmdebstrap.arg("--aptopt=APT::Install-Recommends \"false\"");
    mmdebstrap.arg("--dpkgopt=force-unsafe-io");
    for paths in LEFT_OUT {
        mmdebstrap.arg(format!("--dpkgopt=path-exclude={paths}"));
    }
    let enable = "systemctl enable systemd-networkd qemu-guest-agent";
    mmdebstrap.arg(format!("--customize-hook=chroot \"$1\" {enable}"));
    let source = Source { mirror: archive::mirror()?, suite: SUITE.to_owned() };
    mmdebstrap.args([SUITE.as_ref(), root.as_os_str()]).arg(source.line().trim_end());
    process::quiet(&mut mmdebstrap).map(drop)
}

/// Everything that it is made by: another one makes another disk.
fn recipe() -> String {
    let release = fs::read_dir(GuestKernel::directory().join("lib/modules"));
    let release = release.ok().and_then(|mut entries| Some(entries.next()?.ok()?.file_name()));
    format!("{}\n{:?}", include_str!("machine.rs"), (pins::MACHINE, release))
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn recipe_file() -> PathBuf {
    directory().join("recipe")
}

fn directory() -> PathBuf {
    process::target().join("lab/machine")
}
