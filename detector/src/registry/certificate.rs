//! Certificates of birth: what a disk was before its VM ran for the first time.
//!
//! A disk that is a full copy of an image is no image any more once its VM has written to it. Its digest
//! is taken before that, and what is recorded then holds for this file for as long as nobody but its VM
//! has changed it: while the VM runs the file is its own; when it ends the file's state is recorded, and
//! must be the same when it begins to run again.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::UNIX_EPOCH,
};

use detector_core::model::Digest;
use serde::{Deserialize, Serialize};

use super::{
    cache::{self, FileState, SETTLED},
    open::{Inode, Opened},
};

/// Many times as many as a host has disks; the oldest go first.
const MAX_CERTIFICATES: usize = 10_000;

pub(super) struct Certificates {
    path: PathBuf,
    held: Mutex<BTreeMap<Inode, Certificate>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Certificate {
    dev: u64,
    inode: u64,
    /// Inodes are given out again; nanoseconds, where the file system knows.
    created: Option<u128>,
    /// Of the whole file before its VM ran for the first time.
    sha256: Digest,
    /// Rises with each certificate.
    number: u64,
    /// What the file was like when its VM ended; none while the VM runs, and after it has ended unseen.
    rest: Option<FileState>,
}

/// What is known of the birth of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Birth {
    /// Nothing, or nothing that still holds.
    Unknown,
    Certified(Digest),
    /// Its VM has begun to run with it, and has not been seen to end.
    InUse,
}

/// Why a certificate in use proves nothing to a VM that begins to run.
pub(super) const IN_USE: &str = "it has a certificate of birth from a run whose end was not seen, so that somebody \
                                 else may have written to it since; make it anew from the template";

impl Certificates {
    /// Reads those in the state directory. A file that cannot be used is set aside.
    pub(super) fn open(state: &Path) -> Self {
        let path = state.join("certificates.json");
        let held: Vec<Certificate> = cache::load(&path).unwrap_or_else(|why| {
            let aside = path.with_extension("json.bad");
            let kept = fs::rename(&path, &aside).is_ok();
            tracing::warn!(
                path = %path.display(), %why, aside = kept.then(|| aside.display().to_string()),
                "the certificates of birth are not used: disks that have changed since prove nothing"
            );
            Vec::new()
        });
        let held = held.into_iter().map(|one| ((one.dev, one.inode), one)).collect();
        Self { path, held: Mutex::new(held) }
    }

    /// What is known of this file's birth. Where a file system's times do not tell of every change,
    /// nothing is.
    pub(super) fn birth(&self, opened: &Opened) -> Birth {
        if !opened.dated {
            return Birth::Unknown;
        }
        let Some(held) = self.lock().get(&opened.id).cloned() else { return Birth::Unknown };
        if held.created != created(opened) {
            return Birth::Unknown;
        }
        let Some(rest) = held.rest else { return Birth::InUse };
        let now = opened.file.metadata().ok().and_then(|metadata| FileState::of(&metadata));
        if now == Some(rest) {
            return Birth::Certified(held.sha256);
        }
        tracing::warn!(
            path = %opened.real.display(),
            "changed while its VM was off: its certificate of birth is void"
        );
        Birth::Unknown
    }

    /// A VM begins to run with this file, whose digest was this before it ever did.
    pub(super) fn begin(&self, opened: &Opened, sha256: Digest) {
        let ((dev, inode), created) = (opened.id, created(opened));
        let mut held = self.lock();
        let number = held.values().map(|one| one.number).max().unwrap_or(0).saturating_add(1);
        held.insert((dev, inode), Certificate { dev, inode, created, sha256, number, rest: None });
        while held.len() > MAX_CERTIFICATES {
            let oldest = held.iter().min_by_key(|(_, one)| one.number).map(|(id, _)| *id);
            let Some(oldest) = oldest else { break };
            held.remove(&oldest);
        }
        self.save(&held);
    }

    /// The VM has ended, and the file is what it has left, where it is held up for us until its state has been seen.
    pub(super) fn end(&self, opened: &Opened, is_held_up: impl Fn() -> bool) -> io::Result<()> {
        let in_use = |one: &&mut Certificate| one.rest.is_none();
        if !opened.dated || self.lock().get_mut(&opened.id).filter(in_use).is_none() {
            return Ok(());
        }
        // What is still on its way through a mapping gets its time now.
        opened.file.sync_data()?;
        let state = settled(|| Ok(FileState::of(&opened.file.metadata()?)), pause)?;
        if !is_held_up() {
            let why = "its manager has not waited until the VM's end was recorded";
            return Err(io::Error::other(why));
        }
        let mut held = self.lock();
        if let Some(certificate) = held.get_mut(&opened.id).filter(in_use) {
            certificate.rest = state;
            self.save(&held);
        }
        Ok(())
    }

    fn save(&self, held: &BTreeMap<Inode, Certificate>) {
        if let Err(error) = cache::save(&self.path, held.values().cloned().collect()) {
            tracing::warn!(path = %self.path.display(), %error, "cannot keep the certificates of birth");
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Inode, Certificate>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A state that no later change has in common: by the end of the pause the clock of file times has ticked, and until
/// then nothing may have changed.
fn settled(
    look: impl Fn() -> io::Result<Option<FileState>>,
    pause: impl FnOnce(),
) -> io::Result<Option<FileState>> {
    let state = look()?;
    pause();
    match look()? == state {
        true => Ok(state),
        false => Err(io::Error::other("it was changed after its VM had ended")),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "nothing tells that a file system's clock has ticked"
)]
fn pause() {
    thread::sleep(SETTLED);
}

fn created(opened: &Opened) -> Option<u128> {
    let at = opened.file.metadata().ok()?.created().ok()?;
    at.duration_since(UNIX_EPOCH).ok().map(|age| age.as_nanos())
}

#[cfg(test)]
mod tests;
