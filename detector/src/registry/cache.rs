//! The files in which digests and certificates outlive the daemon.

use std::{
    fs::{self, File, Metadata},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use detector_core::model::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::verity::Measurement;
use crate::config::text::read_text;

const MAX_BYTES: u64 = 16 << 20;

/// Version of the file.
const VERSION: u32 = 1;

/// File times come from a clock that ticks every 1 to 10 ms. Of a file changed within this span
/// before it was read, a later change could leave the same times, so that nothing is remembered.
pub(super) const SETTLED: Duration = Duration::from_millis(100);

/// One state of a regular file. The kernel sets the time of change; nobody but root can set it
/// back (by the clock or the raw device).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) struct FileState {
    pub(super) dev: u64,
    pub(super) inode: u64,
    pub(super) size: u64,
    pub(super) mtime_ns: i64,
    pub(super) ctime_ns: i64,
}

impl FileState {
    /// `None` for times that nanoseconds in 64 bits cannot tell.
    pub(super) fn of(metadata: &Metadata) -> Option<Self> {
        let ns = |seconds: i64, ns: i64| seconds.checked_mul(1_000_000_000)?.checked_add(ns);
        Some(Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            mtime_ns: ns(metadata.mtime(), metadata.mtime_nsec())?,
            ctime_ns: ns(metadata.ctime(), metadata.ctime_nsec())?,
        })
    }

    pub(super) fn is_settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SETTLED);
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        self.ctime_ns < now && self.mtime_ns < now
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CacheFile<Entry> {
    version: u32,
    entries: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct CacheEntry {
    #[serde(flatten)]
    pub(super) state: FileState,
    pub(super) sha256: Digest,
}

#[derive(Serialize, Deserialize)]
pub(super) struct MeasuredEntry {
    pub(super) measurement: Measurement,
    pub(super) sha256: Digest,
}

/// Reads the cache; an absent one is empty.
pub(super) fn load<Entry: DeserializeOwned>(path: &Path) -> Result<Vec<Entry>, String> {
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
    let text = read_text(path, MAX_BYTES).map_err(|error| error.to_string())?;
    let cache: CacheFile<Entry> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if cache.version != VERSION {
        return Err(format!("it has version {}; expected {VERSION}", cache.version));
    }
    Ok(cache.entries)
}

/// Writes the cache beside its place and moves it there, so that a crash leaves the old or the new
/// one.
pub(super) fn save<Entry: Serialize>(path: &Path, entries: Vec<Entry>) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(&CacheFile { version: VERSION, entries })?;
    let draft = path.with_extension("json.new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), |state| File::open(state)?.sync_all())
}
