//! What managers have recorded: which process each VM is.
//!
//! libvirt writes `NAME.pid` for each VM that it starts. A file counts only where nobody but root, or
//! the daemon's own user, could have put it, and only for one process: a number that another process has
//! got since then is no longer the VM's.
//!
//! Which process that is the time of day says last, since somebody may have set it. What libvirt starts
//! holds the lock on its file. Else a process that has begun before the file was seen for the first time,
//! by the time that the host has been running, is the one, and stays it for as long as the file is what it
//! was. Only of a file that was there before the first look its time has to be believed.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use detector_core::model::{ProcessId, Timestamp};
use nix::fcntl::{FcntlArg, fcntl};

use super::procfs::bounded;
use crate::clock;

/// What is known of records from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Records {
    directories: Vec<PathBuf>,
    known: BTreeMap<PathBuf, Known>,
    /// Whether there was a look before: what is new then has come since.
    looked: bool,
    /// By the number of the process, as of the latest look; of some only one can be right.
    by_pid: BTreeMap<u32, Vec<(PathBuf, Holder)>>,
}

/// A record, for as long as it is the same one.
#[derive(Debug)]
struct Known {
    record: Record,
    /// When it was seen first, where it was not there in the look before; by the time that only grows.
    appeared: Option<Timestamp>,
    /// The process that was found to be the one.
    owner: Option<ProcessId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    pid: u32,
    /// Device and inode of the file.
    file: (u64, u64),
    /// By the time of day.
    written: Timestamp,
}

/// Who holds the lock on a record, as far as the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holder {
    Nobody,
    Process(u32),
}

/// Clocks of file systems and of processes are rounded differently, and to look takes its time.
const SLACK_MS: u64 = 2000;

/// More VMs than a host runs.
const MOST: usize = 65_536;

impl Records {
    pub(super) fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, ..Self::default() }
    }

    /// Reads those that there are now. A directory that is absent has none.
    pub(super) fn look(&mut self, now: Timestamp) {
        let mut known = BTreeMap::new();
        self.by_pid.clear();
        for path in self.directories.iter().flat_map(|directory| paths(directory)) {
            let Some((record, holder)) = read(&path) else { continue };
            self.by_pid.entry(record.pid).or_default().push((path.clone(), holder));
            let same = self.known.remove(&path).filter(|before| before.record == record);
            let appeared = self.looked.then_some(now);
            let entry = same.unwrap_or(Known { record, appeared, owner: None });
            known.insert(path, entry);
        }
        self.known = known;
        self.looked = true;
    }

    /// The name of the VM as whose process this one is recorded, if it is; `began` is by the time that
    /// only grows.
    pub(super) fn name_of(&mut self, id: ProcessId, began: Timestamp) -> Option<String> {
        let records = self.by_pid.get(&id.pid)?;
        let mut records = records.iter();
        records.find_map(|(path, holder)| {
            let known = self.known.get_mut(path)?;
            let is_it = match (*holder, known.owner, known.appeared) {
                (Holder::Process(pid), ..) => pid == id.pid,
                (_, Some(owner), _) => owner == id,
                (.., Some(appeared)) => began.0 <= appeared.0.saturating_add(SLACK_MS),
                (.., None) => {
                    clock::day(began).0 <= known.record.written.0.saturating_add(SLACK_MS)
                }
            };
            is_it.then(|| known.owner = Some(id))?;
            Some(path.file_stem()?.to_str()?.to_owned())
        })
    }
}

fn paths(directory: &Path) -> Vec<PathBuf> {
    if !is_ours(directory) {
        return Vec::new();
    }
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(MOST);
    let paths = entries.map(|entry| entry.path());
    paths.filter(|path| path.extension().is_some_and(|end| end == "pid")).collect()
}

fn read(path: &Path) -> Option<(Record, Holder)> {
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
    let record = Record { pid, file: (metadata.dev(), metadata.ino()), written };
    Some((record, holder(path)))
}

/// The process that holds a lock on the file (fcntl(2)).
fn holder(path: &Path) -> Holder {
    let locked = || {
        let file = fs::File::open(path).ok()?;
        // SAFETY: all zero is a valid flock.
        let mut lock: libc::flock = unsafe { std::mem::zeroed() };
        lock.l_type = i16::try_from(libc::F_WRLCK).ok()?;
        fcntl(&file, FcntlArg::F_GETLK(&mut lock)).ok()?;
        let is_held = i32::from(lock.l_type) != libc::F_UNLCK;
        u32::try_from(lock.l_pid).ok().filter(|pid| is_held && *pid > 0)
    };
    locked().map_or(Holder::Nobody, Holder::Process)
}

/// Nobody else can write there.
fn is_ours(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let own = nix::unistd::geteuid().as_raw();
    (metadata.uid() == 0 || metadata.uid() == own) && metadata.mode() & 0o022 == 0
}

#[cfg(test)]
mod tests;
