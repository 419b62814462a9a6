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
