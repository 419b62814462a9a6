//! What a machine starts from: its disk, what is laid over it, and the initial file system that does so.

use std::fs::{self, Permissions};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cpio::Archive;
use crate::{artefacts, run};

const BUSYBOX: &str = "/usr/bin/busybox";
/// In the order they have to be loaded. One that is not there is built in.
const MODULES: [&str; 6] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "virtio_blk",
];
/// Lays the files over the disk once, and goes there.
const INIT: &str = "#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
$b mount -t ext4 -o noatime /dev/vda /root
if [ ! -e /root/installed ]; then
    # Scripts of packages expect both.
    $b mount -o bind /dev /root/dev
    $b mount -t proc proc /root/proc
    $b tar -xf /dev/vdb -C /root && $b chroot /root /bin/sh -e /install && $b touch /root/installed
    $b umount /root/proc /root/dev
fi
$b mount -o move /dev /root/dev
exec $b switch_root /root /sbin/init
";

/// Files of root's, by where they will be.
pub struct Files {
    directory: TempDir,
}

impl Files {
    pub fn new() -> Result<Self> {
        Ok(Self { directory: tempfile::Builder::new().prefix("detector-files-").tempdir()? })
    }

    pub fn text(&self, path: &str, text: &str) -> Result<()> {
        self.put(path, 0o644, |place| Ok(fs::write(place, text)?))
    }

    /// Nobody else may read it.
    pub fn secret(&self, path: &str, text: &str) -> Result<()> {
        self.put(path, 0o600, |place| Ok(fs::write(place, text)?))
    }

    pub fn copy(&self, path: &str, from: &Path) -> Result<()> {
        self.put(path, 0o644, |place| Ok(fs::copy(from, place).map(drop)?))
    }

    fn put(&self, path: &str, mode: u32, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let place = self.directory.path().join(path.trim_start_matches('/'));
        if let Some(parent) = place.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        make(&place).with_context(|| format!("cannot make {path}"))?;
        Ok(fs::set_permissions(place, Permissions::from_mode(mode))?)
    }
}

/// Makes `disk`, `files` and `initrd` in the directory.
pub(super) fn make(directory: &Path, files: &Files, install: &str) -> Result<()> {
    files.text("install", install)?;
    let mut tar = Command::new("tar");
    tar.arg("--create").arg("--file").arg(directory.join("files"));
    tar.args(["--owner=0", "--group=0", "--directory"]).arg(files.directory.path());
    for entry in fs::read_dir(files.directory.path())? {
        tar.arg(entry?.file_name());
    }
    let result = tar.output();
    run::checked(&tar, result)?;
    let mut overlay = Command::new("qemu-img");
    overlay.args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
    overlay.arg(artefacts::machine_disk()?).arg(directory.join("disk"));
    let result = overlay.output();
    run::checked(&overlay, result)?;
    fs::write(directory.join("initrd"), initial_file_system()?)?;
    Ok(())
}

fn initial_file_system() -> Result<Vec<u8>> {
    let busybox = fs::read(BUSYBOX)
        .with_context(|| format!("cannot read {BUSYBOX} (package busybox-static)"))?;
    let mut archive = Archive::default();
    for directory in ["bin", "dev", "modules", "root"] {
        archive.directory(directory);
    }
    archive.executable("bin/busybox", &busybox).executable("init", INIT.as_bytes());
    for (number, name) in MODULES.iter().enumerate() {
        let module = fs::read(artefacts::module(name)?)?;
        archive.file(&format!("modules/{number}-{name}.ko"), &module);
    }
    Ok(archive.finish())
}
