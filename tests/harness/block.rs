//! Block devices whose contents are a file's.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::run;

/// A loop device, for as long as this value lives.
pub struct LoopDevice {
    pub path: PathBuf,
}

impl LoopDevice {
    /// Needs root, and a machine that has such devices.
    pub fn attach(file: &Path) -> Result<Self> {
        let mut command = Command::new("losetup");
        command.args(["--find", "--show"]).arg(file);
        let result = command.output();
        let path = run::checked(&command, result)?;
        if path.trim().is_empty() {
            bail!("losetup names no device");
        }
        Ok(Self { path: path.trim().into() })
    }
}

impl Drop for LoopDevice {
    fn drop(&mut self) {
        // Whoever still holds it open keeps it until then.
        let _ = Command::new("losetup").arg("--detach").arg(&self.path).status();
    }
}

/// A volume group of LVM on a file, for as long as this value lives.
pub struct VolumeGroup {
    name: String,
    _device: LoopDevice,
}

impl VolumeGroup {
    /// Of so many bytes, most of which volumes can have.
    pub fn make(name: &str, file: &Path, size: usize) -> Result<Self> {
        std::fs::File::create(file)?.set_len(size as u64)?;
        let device = LoopDevice::attach(file)?;
        let path = device.path.display().to_string();
        lvm(&["pvcreate", "--quiet", &path])?;
        lvm(&["vgcreate", "--quiet", "--physicalextentsize", "512k", name, &path])?;
        Ok(Self { name: name.to_owned(), _device: device })
    }

    /// Where the device of a volume is.
    pub fn path(&self, volume: &str) -> PathBuf {
        Path::new("/dev").join(&self.name).join(volume)
    }

    pub fn volume(&self, name: &str, size: usize) -> Result<()> {
        let size = format!("{size}b");
        let words = ["--wipesignatures", "n", "--size", &size, "--name", name, &self.name];
        lvm(&[&["lvcreate", "--quiet", "--yes"], &words[..]].concat()).map(drop)
    }

    /// A snapshot of a volume, with room for so many bytes of changes.
    pub fn snapshot(&self, name: &str, of: &str, size: usize) -> Result<()> {
        let (of, size) = (format!("{}/{of}", self.name), format!("{size}b"));
        lvm(&["lvcreate", "--quiet", "--snapshot", "--size", &size, "--name", name, &of]).map(drop)
    }

    /// The volumes, in the order of their names, each with these fields.
    pub fn list(&self, fields: &str) -> Result<Vec<Vec<String>>> {
        let command = ["lvs", "--noheadings", "--separator", "#", "--sort", "lv_name", "--options"];
        let listed = lvm(&[&command[..], &[fields, &self.name]].concat())?;
        let split = |line: &str| line.trim().split('#').map(str::to_owned).collect();
        Ok(listed.lines().map(split).collect())
    }
}

impl Drop for VolumeGroup {
    fn drop(&mut self) {
        if let Err(error) = lvm(&["vgremove", "--quiet", "--force", "--yes", &self.name]) {
            eprintln!("volume group {}: {error:#}", self.name);
        }
    }
}

/// Without help of udev, which need not run, and without a trace elsewhere.
fn lvm(words: &[&str]) -> Result<String> {
    const CONFIG: &str = "activation{udev_sync=0 udev_rules=0} backup{backup=0 archive=0} \
                          devices{use_devicesfile=0 obtain_device_list_from_udev=0}";
    let mut command = Command::new("lvm");
    command.args(words).args(["--config", CONFIG]).env("LVM_SUPPRESS_FD_WARNINGS", "1");
    let result = command.output();
    run::checked(&command, result)
}
