//! Puts a VM that is made from an approved template in the place of one that was not approved.
//!
//! It has the other's name, MACs, networks, memory and processors, and a UUID of its own: what is known of the other,
//! its quarantine first of all, stays the other's. That one is kept for whoever looks into it: under another name, never
//! started by itself, without an interface, with its disks where they are.
//!
//! The order is such that there is at most one VM of the name at any time, and each step finds what an earlier attempt has
//! done. Everything can be undone until the new VM runs.

mod describe;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
};

use detector_core::model::Digest;
use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virt::{domain::Domain, storage_vol::StorageVol, sys};

use super::{
    kept::Kept,
    storage::{self, PATIENCE, Pool, Progress, Session, StorageError, Tell},
};
use crate::registry::Image;
use describe::New;

/// Names that are tried for the former VM.
const NAMES: usize = 100;

/// What is made, and in whose place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    pub uri: String,
    /// The VM that was not approved.
    pub former: Uuid,
    /// Of the workflow: the same one makes the same VM.
    pub workflow: String,
    /// The former one becomes `NAME-rogue-DATE`.
    pub date: String,
    pub disk: TemplateFile,
    pub kernel: Option<TemplateFile>,
    pub initrd: Option<TemplateFile>,
    /// The kernel's command line, where the template has a kernel: nothing of the former VM's.
    pub arguments: Option<String>,
    /// The pool that the new disk is made in.
    pub pool: String,
    pub cloning: Cloning,
}

/// A file of a template.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TemplateFile {
    pub path: PathBuf,
    pub format: String,
    pub sha256: Digest,
}

/// How a disk is made of a template's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cloning {
    /// A layer over it, which shows where it comes from for as long as it is there.
    Overlay,
    /// All of its bytes.
    Copy,
}

/// What has taken the place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    pub successor: Uuid,
    pub name: String,
    pub disk: PathBuf,
    /// What the former one is called now.
    pub archived_as: String,
}

/// What has been written down before anything was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Journal {
    replacement: Replacement,
    name: String,
    archived_as: String,
    autostart: bool,
    /// The descriptions of the former VM, and of both afterwards.
    former: String,
    archived: String,
    successor: String,
    uuid: Uuid,
    volume: String,
    disk: PathBuf,
    /// Whether the disk is whole.
    cloned: bool,
    /// Whether the new VM has been in its place.
    #[serde(default)]
    done: bool,
}

/// Replaces VMs.
#[derive(Clone, Debug)]
pub struct Replacer {
    journals: Kept<Journal>,
    stop: Arc<AtomicBool>,
}

impl Replacer {
    /// Keeps its journals in the state directory.
    pub fn new(state: &Path, stop: Arc<AtomicBool>) -> Self {
        Self { journals: Kept::new(state, "replacements"), stop }
    }

    /// Replaces a VM that is off, or goes on with that. Blocks.
    ///
    /// # Errors
    ///
    /// Both VMs are as they were, or the replacement is under way; it can be gone on with, or undone.
    pub fn carry_out(&self, wanted: &Replacement, tell: &Tell) -> Result<Replaced, StorageError> {
        let session = Session::open(&wanted.uri, PATIENCE, tell)?;
        let mut journal = match self.journals.read(wanted.former)? {
            Some(journal) if journal.replacement == *wanted => journal,
            Some(other) => {
                self.settle(&other, tell)?;
                self.begin(&session, wanted, tell)?
            }
            None => self.begin(&session, wanted, tell)?,
        };
        if !journal.cloned {
            self.clone_disk(&session, &journal, tell)?;
            journal.cloned = true;
            self.journals.write(wanted.former, &journal)?;
            step(tell, "the new disk is made");
        }
        self.archive(&session, &journal)?;
        step(tell, "the former VM is archived");
        self.define(&session, &journal)?;
        journal.done = true;
        self.journals.write(wanted.former, &journal)?;
        step(tell, "the new VM is in its place");
        Ok(Replaced {
            successor: journal.uuid,
            name: journal.name,
            disk: journal.disk,
            archived_as: journal.archived_as,
        })
    }

    /// Takes back a replacement of another workflow's that nobody has finished. One that is finished stays for as long as
    /// its VM is there: somebody may count on that.
    fn settle(&self, other: &Journal, tell: &Tell) -> Result<(), StorageError> {
        let former = other.replacement.former;
        if !other.done {
            return self.undo(former, tell);
        }
        let session = Session::open(&other.replacement.uri, PATIENCE, tell)?;
        if session.domain(other.uuid)?.is_none() {
            return self.journals.forget(former);
        }
        Err(StorageError::Refused(format!(
            "{former} has been replaced already: the VM {} has its place, and it is kept as {}",
            other.uuid,
            storage::shell(&other.archived_as)
        )))
    }

    /// Takes a replacement back: the new VM goes, and the former one is what it was. Blocks.
    ///
    /// # Errors
    ///
    /// The new one runs.
    pub fn undo(&self, former: Uuid, tell: &Tell) -> Result<(), StorageError> {
        let Some(journal) = self.journals.read(former)? else { return Ok(()) };
        let session = Session::open(&journal.replacement.uri, PATIENCE, tell)?;
        if let Some(domain) = session.domain(journal.uuid)? {
            if session.ask("say whether the new VM runs", |_| domain.is_active())? {
                return Err(StorageError::Refused(format!(
                    "the new {} runs: shut it down first",
                    storage::shell(&journal.name)
                )));
            }
            session.ask("give the new VM up", |_| {
                domain.undefine_flags(sys::VIR_DOMAIN_UNDEFINE_NVRAM)
            })?;
        }
        if let Some(domain) = session.domain(former)? {
            rename(&session, &domain, &journal.name)?;
            session.define(&journal.former)?;
            let autostart = journal.autostart;
            session.ask("set how the VM starts", |_| domain.set_autostart(autostart))?;
        }
        step(tell, "the former VM is what it was");
        session.pool(&journal.replacement.pool)?.remove(&session, &journal.volume)?;
        self.journals.forget(former)
    }

    fn begin(
        &self,
        session: &Session,
        wanted: &Replacement,
        tell: &Tell,
    ) -> Result<Journal, StorageError> {
        let refused = |why: String| StorageError::Refused(why);
        let seen = session.look(wanted.former)?;
        let seen = seen.ok_or_else(|| refused(format!("libvirt knows no VM {}", wanted.former)))?;
        let domain = session.domain(wanted.former)?;
        let domain = domain.ok_or_else(|| refused("it has gone".to_owned()))?;
        let (name, autostart) =
            session.ask("name the VM", |_| Ok((domain.get_name()?, domain.get_autostart()?)))?;
        let shown = storage::shell(&name);
        if seen.active || !seen.persistent {
            return Err(refused(format!("{shown} is running: shut it down first")));
        }
        if let Some(tie) = session.ties(wanted.former, &name)?.first() {
            return Err(refused(format!("{shown} cannot be given another name: {tie}")));
        }
        let files = [Some(&wanted.disk), wanted.kernel.as_ref(), wanted.initrd.as_ref()];
        for file in files.into_iter().flatten() {
            self.expect(file)?;
        }
        let pool = session.pool(&wanted.pool)?;
        let uuid = Uuid::new_v5(&wanted.former, wanted.workflow.as_bytes());
        let format = match wanted.cloning {
            Cloning::Overlay => "qcow2",
            Cloning::Copy => &wanted.disk.format,
        };
        let volume = format!("{uuid}-vda.{format}");
        let variables = format!("{uuid}_VARS.fd");
        for volume in [&volume, &variables] {
            if pool.volume(session, volume)?.is_some() {
                let pool = storage::shell(&pool.name);
                return Err(refused(format!("the pool {pool} has a volume {volume} already")));
            }
        }
        let disk = pool.directory.join(&volume);
        let archived_as = self.free_name(session, &name, &wanted.date)?;
        let path = |file: &Option<TemplateFile>| file.as_ref().map(|file| file.path.clone());
        let new = New {
            uuid,
            disk: disk.clone(),
            variables: pool.directory.join(&variables),
            format: format.to_owned(),
            kernel: path(&wanted.kernel),
            initrd: path(&wanted.initrd),
            arguments: wanted.arguments.clone(),
        };
        let not_taken = |why: String| refused(format!("{shown} cannot be replaced: {why}"));
        let successor = describe::successor(&seen.described, &new).map_err(not_taken)?;
        let archived = describe::archived(&seen.described, &archived_as).map_err(not_taken)?;
        let journal = Journal {
            replacement: wanted.clone(),
            name,
            archived_as,
            autostart,
            former: seen.described,
            archived,
            successor,
            uuid,
            volume,
            disk,
            cloned: false,
            done: false,
        };
        self.journals.write(wanted.former, &journal)?;
        step(tell, "the replacement has begun");
        Ok(journal)
    }

    /// That a file is what was approved.
    fn expect(&self, file: &TemplateFile) -> Result<(), StorageError> {
        let path = storage::shown(&file.path);
        let image = Image::open(&file.path)
            .map_err(|error| StorageError::Refused(format!("{path}: {error}")))?;
        let digest = image.digest(&self.stop).map_err(StorageError::Failed)?;
        if digest != file.sha256 {
            return Err(StorageError::Refused(format!(
                "{path} is not what was approved: its digest is {digest}, and the template's {}",
                file.sha256
            )));
        }
        Ok(())
    }

    fn free_name(&self, session: &Session, name: &str, date: &str) -> Result<String, StorageError> {
        for number in 0..NAMES {
            let wanted = match number {
                0 => format!("{name}-rogue-{date}"),
                again => format!("{name}-rogue-{date}-{again}"),
            };
            let taken = session.find("look up a VM by its name", |connection| {
                Domain::lookup_by_name(connection, &wanted)
            })?;
            if taken.is_none() {
                return Ok(wanted);
            }
        }
        let shown = storage::shell(name);
        Err(StorageError::Refused(format!("{shown} has been replaced {NAMES} times at {date}")))
    }

    fn clone_disk(
        &self,
        session: &Session,
        journal: &Journal,
        tell: &Tell,
    ) -> Result<(), StorageError> {
        let wanted = &journal.replacement;
        let pool = session.pool(&wanted.pool)?;
        // What an earlier attempt has left; nobody has it yet.
        pool.remove(session, &journal.volume)?;
        match wanted.cloning {
            Cloning::Overlay => overlay(session, &pool, journal),
            Cloning::Copy => {
                let copied = storage::copy_whole(
                    session,
                    &wanted.disk.path,
                    (&pool, &journal.volume),
                    &self.stop,
                    tell,
                )?;
                if copied != wanted.disk.sha256 {
                    let path = storage::shown(&wanted.disk.path);
                    return Err(StorageError::Failed(format!("the copy of {path} is another")));
                }
                Ok(())
            }
        }
    }

    fn archive(&self, session: &Session, journal: &Journal) -> Result<(), StorageError> {
        let former = journal.replacement.former;
        let gone = || {
            StorageError::Interfered(format!(
                "{} has been deleted meanwhile",
                storage::shell(&journal.name)
            ))
        };
        let seen = session.look(former)?.ok_or_else(gone)?;
        let domain = session.domain(former)?.ok_or_else(gone)?;
        if seen.active {
            return Err(StorageError::Interfered(format!(
                "{} has been started meanwhile: shut it down first",
                storage::shell(&journal.name)
            )));
        }
        session.ask("have the VM not start by itself", |_| domain.set_autostart(false))?;
        rename(session, &domain, &journal.archived_as)?;
        session.define(&journal.archived)
    }

    fn define(&self, session: &Session, journal: &Journal) -> Result<(), StorageError> {
        if session.domain(journal.uuid)?.is_none() {
            session.define(&journal.successor)?;
        }
        let Some(domain) = session.domain(journal.uuid)? else { return Ok(()) };
        session.ask("set how the VM starts", |_| domain.set_autostart(journal.autostart)).map(drop)
    }
}

fn rename(session: &Session, domain: &Domain, name: &str) -> Result<(), StorageError> {
    session.ask("give the VM another name", |_| match domain.get_name()? {
        now if now == name => Ok(()),
        _ => domain.rename(name, 0).map(drop),
    })
}

fn overlay(session: &Session, pool: &Pool, journal: &Journal) -> Result<(), StorageError> {
    let disk = &journal.replacement.disk;
    let path = storage::escaped(&disk.path).map_err(StorageError::Refused)?;
    let (volume, format) = (&journal.volume, storage::quoted(&disk.format));
    let xml = format!(
        "<volume><name>{volume}</name><target><format type='qcow2'/></target><backingStore><path>{path}</path>\
         <format type='{format}'/></backingStore></volume>"
    );
    session
        .ask("lay a volume over the template", |_| StorageVol::create_xml(&pool.pool, &xml, 0))
        .map(drop)
}

fn step(tell: &Tell, what: &str) {
    tell(Progress::Step { what: what.to_owned() });
}
