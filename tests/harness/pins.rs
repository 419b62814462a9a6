//! A place of its own for what a test pins.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

/// A directory on the BPF file system that goes with this value.
pub struct PinRoot(PathBuf);

impl PinRoot {
    /// A new name; whoever pins makes the directory.
    pub fn new() -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        fs::metadata("/sys/fs/bpf").context("no BPF file system")?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("detector-test-{}-{number}", std::process::id());
        Ok(Self(Path::new("/sys/fs/bpf").join(name)))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PinRoot {
    fn drop(&mut self) {
        // What is left behind is reported by whoever looks at the directory next.
        let _ = fs::remove_dir_all(&self.0);
    }
}
