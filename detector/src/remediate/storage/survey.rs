//! Whether a domain can be moved as things are.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use super::{
    Mover, Plan, Pool, Role, Session, Stays, StorageError, Task, file_name,
    journal::{Item, Journal, Stage, State},
    locks,
    others::Goes,
    plan::{self, Named, Own},
    shell, shown, unknown_holder,
};
use crate::registry;

/// Where libvirt puts firmware's variables that nobody has given a place.
const VARIABLES: &str = "/var/lib/libvirt/qemu/nvram";
/// Names that are tried for a copy.
const NAMES: usize = 100;

/// A domain that can be moved.
pub(super) struct Survey {
    name: String,
    before: String,
    found: Vec<Found>,
    stays: Vec<Stays>,
    pool: Pool,
    needs: u64,
    free: u64,
}

/// A file of it, as it is.
struct Found {
    own: Own,
    real: PathBuf,
    state: State,
}

impl Mover {
    pub(super) fn survey(&self, session: &Session, task: &Task) -> Result<Survey, StorageError> {
        let refused = |why: String| Err(StorageError::Refused(why));
        let Some(domain) = session.look(task.domain)? else {
            return refused(format!("libvirt knows no domain {}", task.domain));
        };
        let described = plan::describe(&domain.described).map_err(StorageError::Refused)?;
        let name = shell(&described.name);
        if domain.active {
            return refused(format!(
                "{name} is running, and has its disks in use: shut it down first (virsh shutdown {name})"
            ));
        }
        if !domain.persistent {
            return refused(format!("{name} is not defined, and ends with its process"));
        }
        let pool = session.pool(&task.pool)?;
        let mut against = described.against.clone();
        against.extend(session.ties(task.domain, &described.name)?);
        let mut stays = described.stays.clone();
        let mut found = Vec::new();
        let home = pool.directory.canonicalize().unwrap_or_else(|_| pool.directory.clone());
        let mut allowed = session.directories()?;
        allowed.extend(self.image_dirs.iter().cloned());
        for own in &described.own {
            match self.file(session, own, &allowed) {
                Ok(file) if file.real.parent() == Some(&home) => {
                    let why = "it is in the pool already".to_owned();
                    stays.push(Stays { target: own.target.clone(), why });
                }
                Ok(file) => found.push(file),
                Err(StorageError::Refused(why)) => against.push(why),
                Err(error) => return Err(error),
            }
        }
        let mut files = BTreeSet::new();
        for file in found.iter().filter(|file| !files.insert(file.real.clone())) {
            against.push(format!("two of its disks are the same file, {}", shown(&file.real)));
        }
        let goes: Vec<_> = found.iter().map(Found::goes).collect();
        against.extend(self.others(session, task.domain, &goes)?);
        if !against.is_empty() {
            return refused(format!("{name} is not moved: {}", against.join("; ")));
        }
        // Where there are no holes, or other blocks, it takes more.
        let needs = found.iter().map(|file| file.state.allocated.saturating_add(1 << 20)).sum();
        let free = pool.free(session)?;
        let name = described.name;
        Ok(Survey { name, before: domain.described, found, stays, pool, needs, free })
    }

    /// A file of the domain, if it may be moved.
    fn file(
        &self,
        session: &Session,
        own: &Own,
        allowed: &[PathBuf],
    ) -> Result<Found, StorageError> {
        let target = &own.target;
        let refused = |why: String| StorageError::Refused(format!("its disk {target}: {why}"));
        let named = match &own.source {
            Named::File(path) => path.clone(),
            Named::Volume { pool, volume } => session.place_of(pool, volume)?,
        };
        let image = registry::Image::open(&named)
            .map_err(|error| refused(format!("{}: {error}", shown(&named))))?;
        let real = image.real().to_owned();
        if image.is_block_device() {
            return Err(refused(format!("{} is a block device", shown(&real))));
        }
        // Its name was chosen by whoever has defined the VM, and what is moved is removed by root.
        let mut allowed = allowed.iter().filter_map(|path| path.canonicalize().ok());
        let variables = own.role == Role::Variables && real.starts_with(VARIABLES);
        if !variables && !allowed.any(|directory| real.starts_with(directory)) {
            return Err(refused(format!(
                "{} lies in no storage pool of libvirt's and in none of registry.image_dirs, and is not touched: make \
                 its directory a pool, or list it there",
                shown(&real)
            )));
        }
        if let Some(who) = locks::holder(image.file()).map_err(|error| unknown_holder(&error))? {
            return Err(refused(format!("{} is in use by {who}", shown(&real))));
        }
        let beneath = image.backing(&own.format).map_err(|error| refused(error.to_string()))?;
        if let Some(beneath) = beneath
            && !Path::new(&beneath.name).is_absolute()
        {
            let name = beneath.name.to_string_lossy().into_owned();
            return Err(refused(format!(
                "{} names the layer beneath it as {:?}, from where it lies itself: give it a whole path (qemu-img \
                 rebase -u -b DIRECTORY/…), or merge the two (qemu-img convert)",
                shown(&real),
                name
            )));
        }
        let state =
            State::of(&real).map_err(|error| refused(format!("{}: {error}", shown(&real))))?;
        file_name(&real)?;
        Ok(Found { own: own.clone(), real, state })
    }
}

impl Found {
    fn goes(&self) -> Goes<'_> {
        Goes { target: &self.own.target, real: &self.real, identity: self.state.identity }
    }
}

impl Survey {
    pub(super) fn plan(self) -> Plan {
        let moves = self.found.into_iter();
        Plan {
            name: self.name,
            moves: moves.map(|file| (file.own.target, file.real, file.state.bytes)).collect(),
            stays: self.stays,
            needs: self.needs,
            free: self.free,
        }
    }

    pub(super) fn has_room(&self) -> Result<(), StorageError> {
        if self.needs <= self.free {
            return Ok(());
        }
        Err(StorageError::Refused(format!(
            "the storage pool {} has {} bytes free, and {} needs {}: make room there",
            shell(&self.pool.name),
            self.free,
            shell(&self.name),
            self.needs
        )))
    }

    /// What is written down before anything is done.
    pub(super) fn journal(self, session: &Session, task: &Task) -> Result<Journal, StorageError> {
        let mut journal = Journal::new(task, self.name, self.before);
        for Found { own, real, state } in self.found {
            let mut copy = None;
            for number in 0..NAMES {
                let name = plan::volume_name(task.domain, &own, number);
                if self.pool.volume(session, &name)?.is_none() {
                    copy = Some(name);
                    break;
                }
            }
            let copy = copy.ok_or_else(|| {
                StorageError::Refused(format!(
                    "the storage pool {} is full of earlier copies of {}: remove some",
                    shell(&self.pool.name),
                    task.domain
                ))
            })?;
            let place = self.pool.directory.join(&copy);
            let Own { target, role, .. } = own;
            journal.items.push(Item {
                target,
                role,
                source: real,
                state,
                copy,
                place,
                stage: Stage::Planned,
                fresh: false,
            });
        }
        journal.stays = self.stays;
        Ok(journal)
    }
}
