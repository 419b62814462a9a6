//! Control groups of our own, which a host sees as all that there are: what its services make of them is
//! beneath ours, and goes with the host.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::wait;

/// Where the machine has them.
const ROOT: &str = "/sys/fs/cgroup";

/// Tests of one process may have some at the same time.
static MADE: AtomicU32 = AtomicU32::new(0);

/// A group in each of the machine's hierarchies, beneath the one that this process is in.
pub struct Cgroups {
    directories: Vec<PathBuf>,
    /// Whoever writes "0" to all of them is in the groups.
    doors: Vec<File>,
}

impl Cgroups {
    /// Needs root, and control groups that may be written to.
    pub fn new() -> Result<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup")?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let mut made = Self { directories: Vec::new(), doors: Vec::new() };
        for line in own.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            made.join(number, controllers, path)
                .with_context(|| format!("control groups: {line}"))?;
        }
        Ok(made)
    }

    /// Has the calling process be in the groups; only calls that are safe between fork and exec are made.
    pub(crate) fn enter(doors: &[i32]) -> std::io::Result<()> {
        for door in doors {
            // SAFETY: the buffer is one byte long, and whoever has opened the file keeps it open.
            if unsafe { libc::write(*door, b"0".as_ptr().cast(), 1) } != 1 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    }

    /// How they are mounted: all in one hierarchy (`v2`), or one for each controller.
    pub(crate) fn kind(&self) -> &'static str {
        if self.directories.len() == 1 { "v2" } else { "v1" }
    }

    /// What [`Self::enter`] takes.
    pub(crate) fn doors(&self) -> Vec<i32> {
        self.doors.iter().map(AsRawFd::as_raw_fd).collect()
    }

    fn join(&mut self, number: u32, controllers: &str, path: &str) -> Result<()> {
        let name = controllers.trim_start_matches("name=");
        let hybrid = Path::new(ROOT).join("unified");
        let hierarchy = match name {
            "" if hybrid.is_dir() => hybrid,
            "" => PathBuf::from(ROOT),
            name => Path::new(ROOT).join(name),
        };
        let own = hierarchy.join(path.trim_start_matches('/'));
        let group = own.join(format!("detector-lab-{}-{number}", std::process::id()));
        std::fs::create_dir(&group)?;
        self.directories.push(group.clone());
        // A new one of this controller has neither processors nor memory.
        for list in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (own.join(list), group.join(list));
            if name == "cpuset" && from.exists() {
                std::fs::write(to, std::fs::read(from)?)?;
            }
        }
        self.doors.push(File::options().write(true).open(group.join("cgroup.procs"))?);
        Ok(())
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        for directory in &self.directories {
            // Processes that were killed take their time to go.
            let gone = wait::until("control groups to be empty", Duration::from_secs(10), || {
                Ok(remove(directory).ok())
            });
            if let Err(error) = gone {
                eprintln!("{}: {error:#}", directory.display());
            }
        }
    }
}

/// Removes a group and those beneath it; its files are the kernel's.
fn remove(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group)? {
        let path = entry?.path();
        if path.is_dir() {
            remove(&path)?;
        }
    }
    std::fs::remove_dir(group)
}
