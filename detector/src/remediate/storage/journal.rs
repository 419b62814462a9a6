//! How far a move has come, in a file that outlasts whoever moves: written before each step that cannot be seen from
//! outside, and after it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use detector_core::model::Digest;
use serde::{Deserialize, Serialize};

use super::{Role, Stays, Task, plan};

/// A move that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Journal {
    pub(super) task: Task,
    pub(super) name: String,
    /// The description that the domain had.
    pub(super) before: String,
    pub(super) phase: Phase,
    pub(super) items: Vec<Item>,
    pub(super) stays: Vec<Stays>,
    /// Pools that were made for the files' own directories, and go with the move.
    pub(super) pools: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Phase {
    /// Nothing but copies is made.
    Copying,
    /// All copies are what they are copies of. The domain may be described by them already.
    Redefining,
    /// It is, and its former files may go.
    Removing,
    Done,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Item {
    pub(super) target: String,
    pub(super) role: Role,
    /// Where it really is.
    pub(super) source: PathBuf,
    pub(super) state: State,
    /// The name of the copy in the pool that it is moved to, and where that is.
    pub(super) copy: String,
    pub(super) place: PathBuf,
    pub(super) stage: Stage,
    /// Whether the digest is of this very call.
    #[serde(skip)]
    pub(super) fresh: bool,
}

/// By what a change of a file shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) bytes: u64,
    /// What it takes of its file system.
    pub(super) allocated: u64,
    pub(super) identity: (u64, u64),
    modified: (i64, i64),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Stage {
    Planned,
    /// The volume may be there. Up to here the bytes have been handed over.
    Copying(u64),
    /// The copy has been read again, and so has the source.
    Same(Digest),
    /// The source is gone.
    Removed(Digest),
    /// It has to stay, for this reason.
    Kept(Digest, String),
}

impl State {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let found = fs::symlink_metadata(path)?;
        if !found.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        Ok(Self {
            bytes: found.len(),
            allocated: found.blocks().saturating_mul(512),
            identity: (found.dev(), found.ino()),
            modified: (found.mtime(), found.mtime_nsec()),
        })
    }

    /// Whether it is the same file with the same contents, as far as its times tell.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let of = |one: &Self| (one.bytes, one.identity, one.modified);
        of(self) == of(other)
    }
}

impl Stage {
    pub(super) fn digest(&self) -> Option<Digest> {
        match self {
            Self::Planned | Self::Copying(_) => None,
            Self::Same(digest) | Self::Removed(digest) | Self::Kept(digest, _) => Some(*digest),
        }
    }
}

impl Journal {
    pub(super) fn new(task: &Task, name: String, before: String) -> Self {
        Self {
            task: task.clone(),
            name,
            before,
            phase: Phase::Copying,
            items: Vec::new(),
            stays: Vec::new(),
            pools: Vec::new(),
        }
    }

    /// Keeps no more of the description than where the files were: passwords need not outlast the move.
    pub(super) fn forget_secrets(&mut self) {
        if let Ok(files) = plan::only_files(&self.before) {
            self.before = files;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_the_same_until_it_is_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        fs::write(&path, "one").unwrap();
        let state = State::of(&path).unwrap();
        assert!(state.is_same(&State::of(&path).unwrap()));
        fs::write(&path, "other").unwrap();
        assert!(!state.is_same(&State::of(&path).unwrap()));
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(State::of(&path).is_err(), "a link is not followed");
    }
}
