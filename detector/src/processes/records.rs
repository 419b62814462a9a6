//! What managers have recorded: which process each VM is.
//!
//! libvirt writes `NAME.pid` for each VM that it starts. A file counts only where nobody but root, or
//! the daemon's own user, could have put it, and only for a process that had begun before it was
//! written: a number that another process has got since then is no longer the VM's.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use detector_core::model::Timestamp;

use super::procfs::bounded;

/// A record, by the number of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Name of the VM.
    pub(super) name: String,
    pub(super) written: Timestamp,
}

/// Clocks of file systems and of processes are rounded differently.
const SLACK_MS: u64 = 2000;

/// More VMs than a host runs.
const MOST: usize = 65_536;

impl Record {
    /// Whether a process that began then can be the one that was recorded.
    pub(super) fn is_of(&self, began: Timestamp) -> bool {
        began.0 <= self.written.0.saturating_add(SLACK_MS)
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
    Some((pid, Record { name, written }))
}

/// Nobody else can write there.
fn is_ours(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let own = nix::unistd::geteuid().as_raw();
    (metadata.uid() == 0 || metadata.uid() == own) && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

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

        fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(read(&both), BTreeMap::new());
    }
}
