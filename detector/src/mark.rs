//! By what a change of a file shows.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

/// Device, inode, size and change time, which cannot be set back; `None` where there is no such file.
pub(crate) type Mark = Option<(u64, u64, u64, i64, i64)>;

pub(crate) fn mark(path: &Path) -> Mark {
    let metadata = fs::metadata(path).ok()?;
    let (inode, size) = (metadata.ino(), metadata.size());
    Some((metadata.dev(), inode, size, metadata.ctime(), metadata.ctime_nsec()))
}
