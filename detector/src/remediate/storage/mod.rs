//! Moves the files of a VM that is off, its disks and its firmware's variables, into a storage pool of their own.
//!
//! Everything is done by libvirt's storage API: it makes the copy, is handed the bytes, and removes the source. How far
//! that has come is in a journal ([`journal`]), and the order is such that at every moment either the former files are
//! whole and the domain names them, or the copies have been found to be the same and the domain names those:
//!
//! 1. copies are made, piece by piece;
//! 2. copy and source are read anew, in a process that can do nothing else, and compared by digest;
//! 3. the domain is described by the copies, if it is what it was, and off;
//! 4. the former files are removed, if they are what was copied and nobody has them in use.
//!
//! Whoever is ended in between, at whatever byte, is called again and goes on. Before step 3 everything can be undone.
//! What somebody else does to the domain meanwhile ends the move without loss.

mod copy;
mod journal;
mod libvirt;
mod locks;
mod others;
mod plan;
mod power;
mod put;
mod remove;
mod standing;
mod survey;
mod undo;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use detector_core::model::Digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{escape::escape, registry::Image, remediate::kept::Kept};
pub(in crate::remediate) use copy::copy_whole;
use journal::{Journal, Phase, Stage, State};
pub(in crate::remediate) use libvirt::{Pool, Session};
pub(in crate::remediate) use plan::{Named, Own, describe, escaped, quoted};
pub use power::{Off, shut_off, switch_on};
pub(in crate::remediate) use put::put_whole;
use standing::At;

/// Bytes that are handed over before that is written down.
pub const SEGMENT: u64 = 256 << 20;
/// How long one call to libvirt may take before that is told.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever wants to know how something goes on; called from several threads.
pub type Tell = Arc<dyn Fn(Progress) + Send + Sync>;

/// How something goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Progress {
    /// It has come to this, which is on the disk.
    Step { what: String },
    /// So many bytes of a file are at their new place.
    Copied { target: String, bytes: u64, of: u64 },
    /// A file is read as a whole.
    Compares { target: String },
    /// Whoever works says it.
    Told { percent: Option<u8>, what: String },
    /// Somebody else has to answer first.
    Waiting { why: String },
}

/// What is to be moved where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// libvirt's connection.
    pub uri: String,
    pub domain: Uuid,
    /// The name of the pool.
    pub pool: String,
}

/// What a file is to its VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    Disk,
    /// Of the firmware (NVRAM).
    Variables,
}

/// What is not moved, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stays {
    pub target: String,
    pub why: String,
}

/// What a move would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub name: String,
    /// Files with their sizes in bytes.
    pub moves: Vec<(String, PathBuf, u64)>,
    pub stays: Vec<Stays>,
    /// Bytes that it takes of the pool, and that are free there.
    pub needs: u64,
    pub free: u64,
}

/// What has been moved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub name: String,
    pub moved: Vec<Moved>,
    pub stays: Vec<Stays>,
}

/// One file at its new place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    pub target: String,
    pub role: Role,
    pub from: PathBuf,
    pub to: PathBuf,
    pub bytes: u64,
    pub sha256: Digest,
    /// Whether it has been read as a whole in this very call: an earlier one's digest says what it was then.
    #[serde(skip)]
    pub fresh: bool,
    /// Why the former file is still there, if it is.
    pub kept: Option<String>,
}

/// Why nothing is moved, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum StorageError {
    /// Not as things are; nothing has been changed.
    #[error("{0}")]
    Refused(String),
    /// Somebody else has changed the domain meanwhile. What could be undone is.
    #[error("{0}")]
    Interfered(String),
    /// It did not work. Whoever tries again goes on from there.
    #[error("{0}")]
    Failed(String),
    #[error("it was told to stop; it goes on from there when it is begun again")]
    Stopped,
}

/// Moves files.
#[derive(Clone, Debug)]
pub struct Mover {
    journals: Kept<Journal>,
    /// Besides the pools of libvirt: what lies elsewhere is not touched.
    image_dirs: Vec<PathBuf>,
    /// Files of templates: they stay where they are, whoever names them.
    kept: Vec<PathBuf>,
    segment: u64,
    patience: Duration,
    stop: Arc<AtomicBool>,
}

impl Mover {
    /// Keeps its journals in the state directory.
    pub fn new(state: &Path, image_dirs: &[PathBuf], stop: Arc<AtomicBool>) -> Self {
        Self {
            journals: Kept::new(state, "moves"),
            image_dirs: image_dirs.to_vec(),
            kept: Vec::new(),
            segment: SEGMENT,
            patience: PATIENCE,
            stop,
        }
    }

    /// Writes down how far it is after so many bytes.
    pub fn with_segment(self, segment: u64) -> Self {
        Self { segment: segment.max(1), ..self }
    }

    /// Does not move these files, nor what lies beneath them: what templates are.
    pub fn with_kept(self, kept: Vec<PathBuf>) -> Self {
        Self { kept, ..self }
    }

    /// What a move would do; changes nothing. Blocks.
    ///
    /// # Errors
    ///
    /// Why it would not be done.
    pub fn plan(&self, task: &Task) -> Result<Plan, StorageError> {
        let session = Session::open(&task.uri, self.patience, &silent())?;
        let survey = self.survey(&session, task)?;
        Ok(survey.plan())
    }

    /// Moves the files, from wherever an earlier call has come to. A move that is done is done once. Blocks.
    ///
    /// # Errors
    ///
    /// The former files, or their copies, are what the domain names, and are whole.
    pub fn carry_out(&self, task: &Task, tell: &Tell) -> Result<Report, StorageError> {
        let session = Session::open(&task.uri, self.patience, tell)?;
        let mut journal = match self.journals.read(task.domain)? {
            Some(journal) if journal.phase == Phase::Done => {
                if journal.task == *task && self.is_at(&session, &journal)? == At::After {
                    return Ok(report(&journal));
                }
                self.begin(&session, task, tell)?
            }
            Some(journal) if journal.task == *task => journal,
            Some(other) => {
                self.settle(other, tell)?;
                self.begin(&session, task, tell)?
            }
            None => self.begin(&session, task, tell)?,
        };
        self.finish(&session, &mut journal, tell)?;
        Ok(report(&journal))
    }

    /// Ends a move to somewhere else that nobody has finished: it is finished where the domain is described by the copies,
    /// since it may have run from them, and undone otherwise.
    fn settle(&self, mut journal: Journal, tell: &Tell) -> Result<(), StorageError> {
        let session = Session::open(&journal.task.uri, self.patience, tell)?;
        let copies_count = journal.phase == Phase::Removing
            || matches!(self.is_at(&session, &journal)?, At::After | At::RunsAfter);
        if copies_count {
            return self.finish(&session, &mut journal, tell);
        }
        self.undo(journal.task.domain, tell)
    }

    fn finish(
        &self,
        session: &Session,
        journal: &mut Journal,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        let moved = self.go_on(session, journal, tell);
        if let Err(StorageError::Interfered(why)) = &moved {
            let why = self.withdraw(session, journal, why, tell);
            return Err(StorageError::Interfered(why));
        }
        moved
    }

    fn begin(&self, session: &Session, task: &Task, tell: &Tell) -> Result<Journal, StorageError> {
        let survey = self.survey(session, task)?;
        survey.has_room()?;
        let journal = survey.journal(session, task)?;
        self.keep(&journal, "the move has begun", tell)?;
        Ok(journal)
    }

    fn keep(&self, journal: &Journal, what: &str, tell: &Tell) -> Result<(), StorageError> {
        self.journals.write(journal.task.domain, journal)?;
        tell(Progress::Step { what: what.to_owned() });
        Ok(())
    }

    fn go_on(
        &self,
        session: &Session,
        journal: &mut Journal,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        if journal.phase == Phase::Copying {
            self.copy_all(session, journal, tell)?;
            self.attend(session, journal)?;
            journal.phase = Phase::Redefining;
            self.keep(journal, "the copies are the same", tell)?;
        }
        if journal.phase == Phase::Redefining {
            self.redefine(session, journal)?;
            journal.phase = Phase::Removing;
            self.keep(journal, "the domain is described by the copies", tell)?;
        }
        if journal.phase == Phase::Removing {
            self.remove_all(session, journal, tell)?;
            for pool in std::mem::take(&mut journal.pools) {
                session.end_pool(&pool)?;
            }
            journal.phase = Phase::Done;
            journal.forget_secrets();
            self.keep(journal, "the files are moved", tell)?;
        }
        Ok(())
    }

    /// From here on the copies are the VM's files. What has been changed of its description meanwhile, and names no
    /// file, stays changed.
    fn redefine(&self, session: &Session, journal: &mut Journal) -> Result<(), StorageError> {
        match self.is_at(session, journal)? {
            At::After | At::RunsAfter => return Ok(()),
            // It may have been started, and shut down again, since they were compared.
            At::Before => self.expect_sources(journal)?,
            at => return Err(StorageError::Interfered(at.sentence(&journal.name))),
        }
        let gone = || StorageError::Interfered(At::Gone.sentence(&journal.name));
        let domain = session.look(journal.task.domain)?.ok_or_else(gone)?;
        let places: Vec<_> =
            journal.items.iter().map(|item| (item.target.clone(), item.place.clone())).collect();
        let rewritten =
            plan::rewrite(&domain.described, &places).map_err(StorageError::Interfered)?;
        session.define(&rewritten)?;
        // Whoever starts it from now on starts it from the copies; whoever has done so just before has not.
        match self.is_at(session, journal)? {
            At::After | At::RunsAfter => Ok(()),
            at => Err(StorageError::Interfered(at.sentence(&journal.name))),
        }
    }

    /// The pool of the directory that a file is in, which is made where there is none.
    fn pool_of(
        &self,
        session: &Session,
        journal: &mut Journal,
        file: &Path,
    ) -> Result<Pool, StorageError> {
        let directory = file.parent().unwrap_or(Path::new("/"));
        if let Some(pool) = session.pool_at(directory)? {
            return Ok(pool);
        }
        let name = format!("detector-{}-{}", journal.task.domain, journal.pools.len());
        // It is known before it is there, so that it goes whatever comes between.
        journal.pools.push(name.clone());
        self.journals.write(journal.task.domain, journal)?;
        session.make_pool(&name, directory)
    }
}

fn report(journal: &Journal) -> Report {
    let moved = journal.items.iter().filter_map(|item| {
        Some(Moved {
            target: item.target.clone(),
            role: item.role,
            from: item.source.clone(),
            to: item.place.clone(),
            bytes: item.state.bytes,
            sha256: item.stage.digest()?,
            fresh: item.fresh,
            kept: match &item.stage {
                Stage::Kept(_, why) => Some(why.clone()),
                _ => None,
            },
        })
    });
    Report { name: journal.name.clone(), moved: moved.collect(), stays: journal.stays.clone() }
}

fn open(path: &Path) -> Result<Image, StorageError> {
    Image::open(path).map_err(|error| StorageError::Failed(format!("{}: {error}", shown(path))))
}

fn unknown_holder(error: &std::io::Error) -> StorageError {
    StorageError::Failed(format!("it cannot be told whether a disk is in use: {error}"))
}

fn file_name(path: &Path) -> Result<String, StorageError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| StorageError::Refused(format!("the name of {} is not UTF-8", shown(path))))
}

/// Nobody wants to know.
fn silent() -> Tell {
    Arc::new(|_| {})
}

pub(in crate::remediate) fn shown(path: &Path) -> String {
    escape(&path.display().to_string())
}

/// A name as it can be typed, of whoever has chosen it.
pub(in crate::remediate) fn shell(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if !name.is_empty() && !name.starts_with('-') && name.chars().all(plain) {
        name.to_owned()
    } else {
        format!("'{}'", escape(name).replace('\'', "'\\''"))
    }
}
