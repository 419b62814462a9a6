use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    io,
    num::NonZeroUsize,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use detector_core::model::Digest;
use lru::LruCache;
use serde::de::DeserializeOwned;

use super::{
    cache::{self, CacheEntry, FileState, MeasuredEntry},
    open::{Inode, Opened},
    reader::{self, ReadError},
    verity::Measurement,
};

/// How many digests are remembered; the least recently used go first. A host has a few dozen
/// images, and ten thousand digests are two megabytes.
const MAX_ENTRIES: NonZeroUsize = NonZeroUsize::new(10_000).expect("more than none");

const REPORT_EVERY: u64 = 1 << 30;

/// How often the reading of a file that changes meanwhile is begun anew.
const ATTEMPTS: u32 = 3;

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

/// SHA-256 of files, remembered across restarts.
pub(super) struct Digests {
    /// Of files by their state, and of what the kernel has measured.
    paths: [PathBuf; 2],
    memory: Mutex<Memory>,
    /// Files that are being read now.
    busy: Mutex<BTreeSet<Inode>>,
    idle: Condvar,
    saving: Mutex<()>,
}

struct Memory {
    files: LruCache<FileState, Digest>,
    measured: LruCache<Measurement, Digest>,
}

impl Digests {
    /// Reads what is remembered in the state directory. What cannot be used is set aside.
    pub(super) fn open(state: &Path) -> Self {
        let paths = ["digests.json", "measured.json"].map(|name| state.join(name));
        let [files, measured] = &paths;
        let mut memory =
            Memory { files: LruCache::new(MAX_ENTRIES), measured: LruCache::new(MAX_ENTRIES) };
        // Those that were used last are written first.
        for CacheEntry { state, sha256 } in remembered(files).into_iter().rev() {
            memory.files.put(state, sha256);
        }
        for MeasuredEntry { measurement, sha256 } in remembered(measured).into_iter().rev() {
            memory.measured.put(measurement, sha256);
        }
        Self {
            paths,
            memory: Mutex::new(memory),
            busy: Mutex::default(),
            idle: Condvar::new(),
            saving: Mutex::default(),
        }
    }

    /// The digest of a file that has been read before in this state, or of which the kernel says that it
    /// has the contents of one that was. Block devices are never remembered, nor are files of file systems
    /// whose times do not tell of every change.
    pub(super) fn known(&self, opened: &Opened) -> Option<Digest> {
        let mut memory = lock(&self.memory);
        if let Some(measurement) = &opened.measurement {
            return memory.measured.get(measurement).copied();
        }
        if !opened.dated {
            return None;
        }
        let state = FileState::of(&opened.file.metadata().ok()?)?;
        memory.files.get(&state).copied()
    }

    /// Reads a file unless its digest is known. Blocks; whoever asks for a file that another
    /// thread is reading waits for that one.
    pub(super) fn digest(&self, opened: &Opened, stop: &AtomicBool) -> Result<Digest, DigestError> {
        let _turn = self.take_turn(opened.id);
        if let Some(digest) = self.known(opened) {
            return Ok(digest);
        }
        let (digest, state) = read_steady(opened, stop)?;
        match (&opened.measurement, state) {
            (Some(measurement), _) => {
                lock(&self.memory).measured.put(measurement.clone(), digest);
                self.save();
            }
            (None, Some(state)) => self.remember(state, digest),
            (None, None) => {}
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
        // Earlier states of the same file do not come back.
        let earlier = |old: &FileState| (old.dev, old.inode) == (state.dev, state.inode);
        let earlier: Vec<_> =
            memory.files.iter().map(|(old, _)| *old).filter(|old| earlier(old)).collect();
        for old in earlier {
            memory.files.pop(&old);
        }
        memory.files.put(state, digest);
        drop(memory);
        self.save();
    }

    fn save(&self) {
        let _saving = lock(&self.saving);
        let memory = lock(&self.memory);
        let files = memory
            .files
            .iter()
            .map(|(state, sha256)| CacheEntry { state: *state, sha256: *sha256 });
        let files: Vec<_> = files.collect();
        let measured = memory.measured.iter().map(|(measurement, sha256)| MeasuredEntry {
            measurement: measurement.clone(),
            sha256: *sha256,
        });
        let measured: Vec<_> = measured.collect();
        drop(memory);
        let [files_path, measured_path] = &self.paths;
        let saved = [
            (files_path, cache::save(files_path, files)),
            (measured_path, cache::save(measured_path, measured)),
        ];
        for (path, saved) in saved {
            if let Err(error) = saved {
                tracing::warn!(path = %path.display(), %error, "cannot keep the cache of digests");
            }
        }
    }
}

/// What is remembered in a file. One that cannot be used is set aside.
fn remembered<Entry: DeserializeOwned>(path: &Path) -> Vec<Entry> {
    cache::load(path).unwrap_or_else(|why| {
        let aside = path.with_extension("json.bad");
        let kept = fs::rename(path, &aside).is_ok();
        tracing::warn!(
            path = %path.display(), %why, aside = kept.then(|| aside.display().to_string()),
            "the cache of digests is not used; images are read again"
        );
        Vec::new()
    })
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

/// Reads a file until it has stayed the same from the first byte to the last. The state is
/// returned where it may be remembered.
pub(super) fn read_steady(
    opened: &Opened,
    stop: &AtomicBool,
) -> Result<(Digest, Option<FileState>), DigestError> {
    for _ in 0..ATTEMPTS {
        let before = opened.file.metadata()?;
        let now = SystemTime::now();
        seal(opened)?;
        let Some(digest) = read_once(opened, &before, stop)? else { continue };
        let state = FileState::of(&before).filter(|state| state.is_settled(now));
        return Ok((digest, state.filter(|_| opened.dated)));
    }
    Err(DigestError::Unsteady)
}

/// Whoever has changed a page through a mapping goes on changing it without another trace until it is
/// written back (`file_update_time` is called when a clean page becomes dirty). So it is written back
/// now: the next change is a new one. Whatever happens before this shows in the times, which were
/// taken earlier.
fn seal(opened: &Opened) -> io::Result<()> {
    if opened.block_device {
        return Ok(());
    }
    match opened.file.sync_data() {
        // Where nothing is written back nothing is dirty either.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EROFS)) => Ok(()),
        result => result,
    }
}

/// Has a file read from its first byte to its last; `None` when it has changed meanwhile.
fn read_once(
    opened: &Opened,
    before: &Metadata,
    stop: &AtomicBool,
) -> Result<Option<Digest>, DigestError> {
    let mut next = REPORT_EVERY;
    let read = reader::whole(&opened.file, |read| {
        if stop.load(Ordering::Relaxed) || (read.is_some() && is_changed(opened, before)?) {
            return Err(ReadError::GivenUp);
        }
        if let Some(read) = read.filter(|read| *read >= next) {
            next += REPORT_EVERY;
            tracing::debug!(path = %opened.real.display(), read, of = before.size(), "hashing");
        }
        Ok(())
    });
    let (digest, size) = match read {
        Ok(read) => read,
        Err(ReadError::GivenUp) if stop.load(Ordering::Relaxed) => {
            return Err(DigestError::Stopping);
        }
        Err(ReadError::GivenUp) => return Ok(None),
        Err(error) => return Err(DigestError::Io(error.to_string())),
    };
    if is_changed(opened, before)? || (!opened.block_device && size != before.size()) {
        return Ok(None);
    }
    tracing::debug!(path = %opened.real.display(), bytes = size, "hashed");
    Ok(Some(digest))
}

fn is_changed(opened: &Opened, before: &Metadata) -> io::Result<bool> {
    let now = opened.file.metadata()?;
    let times = |m: &Metadata| (m.mtime(), m.mtime_nsec(), m.ctime(), m.ctime_nsec());
    Ok(!opened.block_device && (times(&now), now.size()) != (times(before), before.size()))
}

#[cfg(test)]
mod tests;
