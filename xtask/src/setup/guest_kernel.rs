//! The kernel that the lab's guests boot: Debian's cloud kernel, unpacked but not installed.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{pins, unpacked};
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
    let package = unpacked::update_unless(dependency)?;
    unpacked::fetch(&package, &GuestKernel::directory())?;
    Ok(package)
}

fn dependency() -> Result<String> {
    let depends = process::quiet(Command::new("apt-cache").args(["depends", pins::GUEST_KERNEL]))?;
    let package = depends.lines().find_map(|l| l.trim().strip_prefix("Depends: "));
    package.map(str::to_owned).with_context(|| {
        format!("apt knows no kernel package ({} has no dependency)", pins::GUEST_KERNEL)
    })
}
