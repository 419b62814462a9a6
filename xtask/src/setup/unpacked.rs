//! Debian packages that are unpacked for the lab's guests, and installed nowhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process;

/// Fetches a package and unpacks it into a directory, in place of what was there.
pub(super) fn fetch(package: &str, place: &Path) -> Result<()> {
    if process::find("apt-get").is_none() {
        bail!("unpack Debian's package {package} into {}", place.display());
    }
    let download = process::target().join("lab/download");
    remove(&download)?;
    std::fs::create_dir_all(&download)?;
    process::quiet(Command::new("apt-get").args(["download", package]).current_dir(&download))?;
    let deb = std::fs::read_dir(&download)?
        .filter_map(|entry| entry.ok().map(|e| e.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .with_context(|| format!("apt-get download {package} left no package"))?;
    let unpacked = process::target().join("lab/unpacked.new");
    remove(&unpacked)?;
    process::quiet(Command::new("dpkg").arg("-x").arg(deb).arg(&unpacked))?;
    // The rename comes last, so that an interrupted setup starts over.
    remove(place)?;
    std::fs::rename(unpacked, place)?;
    remove(&download)
}

/// Whether apt's lists know of it; where they do not, they are brought up to date first.
pub(super) fn update_unless(known: impl Fn() -> Result<String>) -> Result<String> {
    known().or_else(|_| {
        process::quiet(Command::new("apt-get").arg("update"))?;
        known()
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
