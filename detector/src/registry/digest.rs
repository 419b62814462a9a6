use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Metadata},
    io::{self, Write},
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use detector_core::model::Digest;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::open::{Inode, Opened};
use crate::config::text::read_text;

/// How many digests are remembered; the least recently used go first. A host has a few dozen
/// images, and ten thousand digests are two megabytes.
const MAX_ENTRIES: usize = 10_000;

const MAX_CACHE_BYTES: u64 = 16 << 20;

/// Version of the file.
const VERSION: u32 = 1;

const BUFFER: usize = 1 << 20;

/// A file that changes while it is read is noticed every so many bytes.
const CHECK_EVERY: u64 = 64 << 20;

const REPORT_EVERY: u64 = 1 << 30;

/// How often the reading of a file that changes meanwhile is begun anew.
const ATTEMPTS: u32 = 3;

/// File times come from a clock that ticks every 1 to 10 ms. Of a file changed within this span
/// before it was read, a later change could leave the same times, so that nothing is remembered.
const SETTLED: Duration = Duration::from_millis(100);

/// Why a file has no digest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum DigestError {
    #[error("it keeps changing while it is read; is it the disk of a running VM?")]
    Unsteady,
    #[error("it cannot be read: {0}")]
    Io(String),
    #[error("the daemon is stopping")]
    Stopping,
}

impl From<io::Error> for DigestError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// One state of a regular file. The kernel sets the time of change; nobody but root can set it
/// back (by the clock or the raw device).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct FileState {
    dev: u64,
    inode: u64,
    size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
}

impl FileState {
    /// `None` for times that nanoseconds in 64 bits cannot tell.
    fn of(metadata: &Metadata) -> Option<Self> {
        let ns = |seconds: i64, ns: i64| seconds.checked_mul(1_000_000_000)?.checked_add(ns);
        Some(Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec())?,
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec())?,
        })
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SETTLED);
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        self.ctime_ns < now && self.mtime_ns < now
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFile {
    version: u32,
    entries: Vec<CacheEntry>,
}

#[derive(Serialize, Deserialize)]
struct CacheEntry {
    #[serde(flatten)]
    state: FileState,
    sha256: Digest,
}

/// SHA-256 of files, remembered across restarts in one file.
pub(super) struct Digests {
    path: PathBuf,
    memory: Mutex<Memory>,
    /// Files that are being read now.
    busy: Mutex<BTreeSet<Inode>>,
    idle: Condvar,
    saving: Mutex<()>,
}

#[derive(Default)]
struct Memory {
    /// With the turn in which each was last asked for.
    entries: BTreeMap<FileState, (Digest, u64)>,
    turn: u64,
}

impl Digests {
    /// Reads the cache in the state directory. One that cannot be used is set aside.
    pub(super) fn open(state: &Path) -> Self {
        let path = state.join("digests.json");
        let entries = load(&path).unwrap_or_else(|why| {
            let aside = path.with_extension("json.bad");
            let kept = fs::rename(&path, &aside).is_ok();
            tracing::warn!(
                path = %path.display(), %why, aside = kept.then(|| aside.display().to_string()),
                "the cache of digests is not used; images are read again"
            );
            Vec::new()
        });
        let entries = entries.into_iter().map(|entry| (entry.state, (entry.sha256, 0))).collect();
        Self {
            path,
            memory: Mutex::new(Memory { entries, turn: 0 }),
            busy: Mutex::default(),
            idle: Condvar::new(),
            saving: Mutex::default(),
        }
    }

    /// The digest of a file whose state has been seen before. Block devices are never remembered:
    /// writing to one changes none of its times.
    pub(super) fn known(&self, opened: &Opened) -> Option<Digest> {
        if opened.block_device {
            return None;
        }
        let state = FileState::of(&opened.file.metadata().ok()?)?;
        let mut memory = lock(&self.memory);
        memory.turn += 1;
        let turn = memory.turn;
        let (digest, used) = memory.entries.get_mut(&state)?;
        *used = turn;
        Some(*digest)
    }

    /// Reads a file unless its digest is known. Blocks; whoever asks for a file that another
    /// thread is reading waits for that one.
    pub(super) fn digest(&self, opened: &Opened, stop: &AtomicBool) -> Result<Digest, DigestError> {
        let _turn = self.take_turn(opened.id);
        if let Some(digest) = self.known(opened) {
            return Ok(digest);
        }
        let (digest, state) = read_steady(opened, stop)?;
        if let Some(state) = state {
            self.remember(state, digest);
        }
        Ok(digest)
    }

    fn take_turn(&self, id: Inode) -> Turn<'_> {
        let busy = lock(&self.busy);
        let mut busy = self
            .idle
            .wait_while(busy, |busy| busy.contains(&id))
            .unwrap_or_else(PoisonError::into_inner);
        busy.insert(id);
        Turn { digests: self, id }
    }

    fn remember(&self, state: FileState, digest: Digest) {
        let mut memory = lock(&self.memory);
        memory.turn += 1;
        let turn = memory.turn;
        // Earlier states of the same file do not come back.
        memory.entries.retain(|old, _| (old.dev, old.inode) != (state.dev, state.inode));
        memory.entries.insert(state, (digest, turn));
        while memory.entries.len() > MAX_ENTRIES {
            let oldest = memory.entries.iter().min_by_key(|(_, (_, used))| *used);
            let Some(oldest) = oldest.map(|(state, _)| *state) else { break };
            memory.entries.remove(&oldest);
        }
        drop(memory);
        if let Err(error) = self.save() {
            tracing::warn!(path = %self.path.display(), %error, "cannot keep the cache of digests");
        }
    }

    /// Writes the cache beside its place and moves it there, so that a crash leaves the old or the
    /// new one.
    fn save(&self) -> io::Result<()> {
        let _saving = lock(&self.saving);
        let entries = lock(&self.memory)
            .entries
            .iter()
            .map(|(state, (sha256, _))| CacheEntry { state: *state, sha256: *sha256 })
            .collect();
        let text = serde_json::to_vec_pretty(&CacheFile { version: VERSION, entries })?;
        let draft = self.path.with_extension("json.new");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&draft, &self.path)?;
        self.path.parent().map_or(Ok(()), |state| File::open(state)?.sync_all())
    }
}

/// The right to read a file, given back on drop.
struct Turn<'a> {
    digests: &'a Digests,
    id: Inode,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.digests.busy).remove(&self.id);
        self.digests.idle.notify_all();
    }
}

/// Nothing here leaves a lock's contents half changed, so that a panic elsewhere does not matter.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn load(path: &Path) -> Result<Vec<CacheEntry>, String> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    if !metadata.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let ours = metadata.uid() == nix::unistd::geteuid().as_raw();
    if !ours || metadata.mode() & 0o022 != 0 {
        return Err("somebody else may write to it".to_owned());
    }
    let text = read_text(path, MAX_CACHE_BYTES).map_err(|error| error.to_string())?;
    let cache: CacheFile = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if cache.version != VERSION {
        return Err(format!("it has version {}; expected {VERSION}", cache.version));
    }
    Ok(cache.entries)
}

/// Reads a file until it has stayed the same from the first byte to the last. The state is
/// returned where it may be remembered.
fn read_steady(
    opened: &Opened,
    stop: &AtomicBool,
) -> Result<(Digest, Option<FileState>), DigestError> {
    for _ in 0..ATTEMPTS {
        let before = opened.file.metadata()?;
        let now = SystemTime::now();
        let Some(digest) = read_once(opened, &before, stop)? else { continue };
        let state = FileState::of(&before).filter(|state| state.is_settled(now));
        return Ok((digest, state.filter(|_| !opened.block_device)));
    }
    Err(DigestError::Unsteady)
}

/// Reads a file from its first byte to its last; `None` when it has changed meanwhile.
fn read_once(
    opened: &Opened,
    before: &Metadata,
    stop: &AtomicBool,
) -> Result<Option<Digest>, DigestError> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER];
    let mut at = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(DigestError::Stopping);
        }
        let count = match opened.file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        hasher.update(&buffer[..count]);
        let earlier = at;
        at += count as u64;
        if earlier / CHECK_EVERY != at / CHECK_EVERY && is_changed(opened, before)? {
            return Ok(None);
        }
        if earlier / REPORT_EVERY != at / REPORT_EVERY {
            tracing::debug!(path = %opened.real.display(), read = at, of = before.size(), "hashing");
        }
    }
    if is_changed(opened, before)? || (!opened.block_device && at != before.size()) {
        return Ok(None);
    }
    tracing::debug!(path = %opened.real.display(), bytes = at, "hashed");
    Ok(Some(Digest(hasher.finalize().into())))
}

fn is_changed(opened: &Opened, before: &Metadata) -> io::Result<bool> {
    let now = opened.file.metadata()?;
    let times = |m: &Metadata| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    Ok(!opened.block_device && (times(&now), now.size()) != (times(before), before.size()))
}

#[cfg(test)]
mod tests;
