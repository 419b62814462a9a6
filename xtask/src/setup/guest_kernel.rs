//! The kernel that the lab's guests boot: Debian's cloud kernel, unpacked but not installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::pins;
use crate::process;

/// Where the kernel is unpacked: `boot/vmlinuz-…` and `lib/modules/…`.
pub(crate) struct GuestKernel;

impl GuestKernel {
    pub(crate) fn directory() -> PathBuf {
        process::target().join("lab/kernel")
    }

    pub(super) fn is_unpacked() -> bool {
        Self::directory().join("lib/modules").is_dir()
    }
}

/// Fetches and unpacks it; the answer is the package's name.
pub(super) fn fetch() -> Result<String> {
    if process::find("apt-get").is_none() {
        bail!(
            "unpack a Debian package of a cloud kernel (linux-image-…-cloud-amd64) into {}",
            GuestKernel::directory().display()
        );
    }
    let package = match dependency() {
        Ok(package) => package,
        Err(_) => {
            process::quiet(Command::new("apt-get").arg("update"))?;
            dependency()?
        }
    };
    let download = process::target().join("lab/download");
    remove(&download)?;
    std::fs::create_dir_all(&download)?;
    process::quiet(Command::new("apt-get").args(["download", &package]).current_dir(&download))?;
    let deb = std::fs::read_dir(&download)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get download {package} left no package"))?;
    let unpacked = process::target().join("lab/kernel.new");
    remove(&unpacked)?;
    process::quiet(Command::new("dpkg").arg("-x").arg(deb).arg(&unpacked))?;
    // The rename comes last, so that an interrupted setup starts over.
    remove(&GuestKernel::directory())?;
    std::fs::rename(unpacked, GuestKernel::directory())?;
    remove(&download)?;
    Ok(package)
}

fn dependency() -> Result<String> {
    let depends = process::quiet(Command::new("apt-cache").args(["depends", pins::GUEST_KERNEL]))?;
    let package = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: "));
    package.map(str::to_owned).with_context(|| {
        format!("apt knows no kernel package ({} has no dependency)", pins::GUEST_KERNEL)
    })
}

pub(super) fn remove(directory: &Path) -> Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
