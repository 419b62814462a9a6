//! Disks with a file system, and what a machine boots from that changes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::{artefacts, run};

const BUSYBOX: &str = "/usr/bin/busybox";
/// The module of each, and what has to be there before it: the last first.
const MODULES: [(&str, &[&str]); 6] = [
    ("virtio_ring", &[]),
    ("virtio", &["virtio_ring"]),
    ("virtio_pci_legacy_dev", &[]),
    ("virtio_pci_modern_dev", &[]),
    ("virtio_pci", &["virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio", "virtio_ring"]),
    ("virtio_blk", &["virtio", "virtio_ring"]),
];

/// An initial file system with a shell and the modules for disks, as that of a distribution has them.
pub fn initrd(path: &Path) -> Result<()> {
    let busybox = busybox()?;
    let modules = format!("lib/modules/{}", artefacts::kernel_release()?);
    let mut archive = Archive::default();
    for directory in ["bin", "lib", "lib/modules", &modules] {
        archive.directory(directory);
    }
    archive.executable("bin/busybox", &busybox).executable("bin/sh", &busybox);
    let mut needs = String::new();
    for (name, before) in MODULES {
        archive.file(&format!("{modules}/{name}.ko"), &fs::read(artefacts::module(name)?)?);
        let before: Vec<_> = before.iter().map(|name| format!("{name}.ko")).collect();
        needs.push_str(&format!("{name}.ko: {}\n", before.join(" ")));
    }
    archive.file(&format!("{modules}/modules.dep"), needs.as_bytes());
    fs::write(path, archive.finish()).context("cannot write an initial file system")
}

/// A raw disk that is one file system, of what is put into a directory.
pub struct Tree {
    directory: tempfile::TempDir,
}

impl Tree {
    pub fn new() -> Result<Self> {
        let tree = Self { directory: tempfile::Builder::new().prefix("detector-tree-").tempdir()? };
        Ok(tree)
    }

    pub fn text(self, path: &str, text: &str) -> Result<Self> {
        self.put(path, |place| fs::write(place, text))
    }

    pub fn link(self, path: &str, to: &str) -> Result<Self> {
        self.put(path, |place| symlink(to, place))
    }

    /// With a shell, and nothing else that runs.
    pub fn with_shell(self) -> Result<Self> {
        self.put("bin/sh", |place| fs::copy(BUSYBOX, place).map(drop))?
            .link("bin/yes", "sh")?
            .link("bin/sleep", "sh")
    }

    pub fn disk(&self, path: &Path) -> Result<()> {
        let mut make = Command::new("mke2fs");
        make.args(["-q", "-t", "ext4", "-F", "-d"]).arg(self.directory.path());
        make.arg(path).arg("16M");
        let result = make.output();
        run::checked(&make, result).map(drop)
    }

    fn put(self, path: &str, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<Self> {
        let place = self.place(path);
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent)?;
        }
        make(&place).with_context(|| format!("cannot make {path}"))?;
        Ok(self)
    }

    fn place(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }
}

/// What is in a file of such a disk, which nobody has in use; nothing where there is none.
pub fn content(disk: &Path, path: &str) -> Result<String> {
    let mut look = Command::new("debugfs");
    look.arg("-R").arg(format!("cat {path}")).arg(disk);
    let result = look.output();
    run::checked(&look, result)
}

/// What debugfs says that a path is, such as its owner and its mode.
pub fn state(disk: &Path, path: &str) -> Result<String> {
    let mut look = Command::new("debugfs");
    look.arg("-R").arg(format!("stat {path}")).arg(disk);
    let result = look.output();
    run::checked(&look, result)
}

fn busybox() -> Result<Vec<u8>> {
    fs::read(BUSYBOX).with_context(|| format!("cannot read {BUSYBOX} (package busybox-static)"))
}
