//! What managers have recorded: which process each VM is.
//!
//! libvirt writes `NAME.pid` for each VM that it starts. A file counts only where nobody but root, or
//! the daemon's own user, could have put it, and only for the process that holds the lock on it, as what
//! libvirt starts does, or that had begun before it was written: a number that another process has got
//! since then is no longer the VM's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use detector_core::model::Timestamp;
use nix::fcntl::{FcntlArg, fcntl};

use super::procfs::bounded;

/// A record, by the number of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Name of the VM.
    pub(super) name: String,
    written: Timestamp,
    /// The process holds the lock on the file. Clocks may have been set since; this the kernel knows.
    locked: bool,
}

/// Clocks of file systems and of processes are rounded differently.
const SLACK_MS: u64 = 2000;

/// More VMs than a host runs.
const MOST: usize = 65_536;

impl Record {
    /// Whether a process that began then can be the one that was recorded.
    pub(super) fn is_of(&self, began: Timestamp) -> bool {
        self.locked || began.0 <= self.written.0.saturating_add(SLACK_MS)
    }
}

/// The records in these directories. One that is absent has none.
pub(super) fn read(directories: &[PathBuf]) -> BTreeMap<u32, Record> {
    let mut records = BTreeMap::new();
    for directory in directories {
        if !is_ours(directory) {
            continue;
        }
        for entry in fs::read_dir(directory).into_iter().flatten().flatten().take(MOST) {
            let path = entry.path();
            if path.extension().is_some_and(|end| end == "pid")
                && let Some((pid, record)) = record(&path)
            {
                records.insert(pid, record);
            }
        }
    }
    records
}

fn record(path: &Path) -> Option<(u32, Record)> {
    let name = path.file_stem()?.to_str()?.to_owned();
    if !is_ours(path) {
        return None;
    }
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() {
        return None;
    }
    let text = bounded(path, 32).ok()?;
    let pid = str::from_utf8(&text).ok()?.trim().parse().ok()?;
    let written = u64::try_from(metadata.mtime()).ok()?.saturating_mul(1000);
    let written = Timestamp(written + u64::try_from(metadata.mtime_nsec()).ok()? / 1_000_000);
    let locked = holder(path) == Some(pid);
    Some((pid, Record { name, written, locked }))
}

/// The process that holds a lock on the file (fcntl(2)).
fn holder(path: &Path) -> Option<u32> {
    let file = fs::File::open(path).ok()?;
    // SAFETY: all zero is a valid flock.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = i16::try_from(libc::F_WRLCK).ok()?;
    fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    let is_held = i32::from(lock.l_type) != libc::F_UNLCK;
    u32::try_from(lock.l_pid).ok().filter(|pid| is_held && *pid > 0)
}

/// Nobody else can write there.
fn is_ours(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let own = nix::unistd::geteuid().as_raw();
    (metadata.uid() == 0 || metadata.uid() == own) && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::PermissionsExt, process::CommandExt},
        process::Command,
    };

    use nix::fcntl::FdFlag;

    use super::*;

    #[test]
    fn records_that_count() {
        let directory = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        };
        put("web1.pid", "4711\n", 0o600);
        put("web2.pid", "4712", 0o666);
        put("web3.pid", "not a number", 0o600);
        put("web4.txt", "4714", 0o600);
        put("a.b.pid", "4715", 0o644);
        let both = [directory.path().to_owned(), "/nonexistent".into()];
        let found = read(&both);
        let names: Vec<_> = found.iter().map(|(pid, r)| (*pid, r.name.as_str())).collect();
        assert_eq!(names, [(4711, "web1"), (4715, "a.b")]);
        let written = found[&4711].written;
        assert!(found[&4711].is_of(Timestamp(written.0 - 60_000)));
        assert!(!found[&4711].is_of(Timestamp(written.0 + 60_000)));

        // Whoever holds the lock is the one, whatever the clock said.
        let path = directory.path().join("web1.pid");
        let file = fs::File::options().write(true).open(&path).unwrap();
        let mut command = Command::new("sleep");
        // SAFETY: only fcntl is called between fork and exec, on a descriptor that is open.
        unsafe {
            command.arg("60").pre_exec(move || {
                let mut lock: libc::flock = std::mem::zeroed();
                lock.l_type = libc::F_WRLCK as i16;
                fcntl(&file, FcntlArg::F_SETLK(&lock))?;
                fcntl(&file, FcntlArg::F_SETFD(FdFlag::empty()))?;
                Ok(())
            });
        }
        let mut holder = command.spawn().unwrap();
        fs::write(&path, holder.id().to_string()).unwrap();
        let record = &read(&both)[&holder.id()];
        assert!(record.is_of(Timestamp(u64::MAX)));
        holder.kill().unwrap();
        holder.wait().unwrap();
        let record = &read(&both)[&holder.id()];
        assert!(!record.is_of(Timestamp(u64::MAX)));

        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(read(&both), BTreeMap::new());
    }
}
