//! What a move asks of libvirt.

use std::{
    path::{Path, PathBuf},
    ptr,
    sync::Arc,
    time::Duration,
};

use uuid::Uuid;
use virt::{
    connect::Connect,
    domain::Domain,
    error::{Error, ErrorNumber},
    storage_pool::StoragePool,
    storage_vol::StorageVol,
    sys,
};

use super::{Progress, StorageError, Tell, plan};
use crate::inventory::{
    Client,
    xml::{child, document, text},
};

/// Other domains whose disks are compared.
const MOST_DOMAINS: usize = 20_000;

/// A connection, and who is told when it hangs.
pub(in crate::remediate) struct Session {
    client: Client,
}

/// What a domain is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::remediate) struct Domains {
    pub(in crate::remediate) active: bool,
    pub(in crate::remediate) persistent: bool,
    /// As it is described for its next start, secrets included.
    pub(in crate::remediate) described: String,
    /// As it runs, if it does.
    pub(in crate::remediate) live: Option<String>,
}

impl Session {
    pub(in crate::remediate) fn open(
        uri: &str,
        patience: Duration,
        tell: &Tell,
    ) -> Result<Self, StorageError> {
        let tell = Arc::clone(tell);
        let client = Client::open(uri, patience, move |why| tell(Progress::Waiting { why }));
        Ok(Self { client: client.map_err(StorageError::Failed)? })
    }

    /// Has libvirt do something, which `what` says for people.
    pub(in crate::remediate) fn ask<T>(
        &self,
        what: &str,
        call: impl FnOnce(&Connect) -> Result<T, Error>,
    ) -> Result<T, StorageError> {
        self.client.call(what, call).map_err(|error| failed(what, &error))
    }

    /// The same, where the absence of what is asked for is an answer.
    pub(in crate::remediate) fn find<T>(
        &self,
        what: &str,
        call: impl FnOnce(&Connect) -> Result<T, Error>,
    ) -> Result<Option<T>, StorageError> {
        match self.client.call(what, call) {
            Ok(found) => Ok(Some(found)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(failed(what, &error)),
        }
    }

    pub(in crate::remediate) fn domain(&self, uuid: Uuid) -> Result<Option<Domain>, StorageError> {
        self.find(&format!("look up the domain {uuid}"), |connection| {
            Domain::lookup_by_uuid(connection, uuid)
        })
    }

    /// `None` where the domain is gone.
    pub(in crate::remediate) fn look(&self, uuid: Uuid) -> Result<Option<Domains>, StorageError> {
        const NEXT: u32 = sys::VIR_DOMAIN_XML_INACTIVE | sys::VIR_DOMAIN_XML_SECURE;
        let Some(domain) = self.domain(uuid)? else { return Ok(None) };
        self.find(&format!("describe the domain {uuid}"), |_| {
            let active = domain.is_active()?;
            Ok(Domains {
                active,
                persistent: domain.is_persistent()?,
                described: domain.get_xml_desc(NEXT)?,
                live: if active { Some(domain.get_xml_desc(0)?) } else { None },
            })
        })
    }

    pub(in crate::remediate) fn define(&self, xml: &str) -> Result<(), StorageError> {
        self.ask("describe the domain anew", |connection| {
            Domain::define_xml(connection, xml).map(drop)
        })
    }

    /// What of a domain names its files besides its description: why it is not moved.
    pub(in crate::remediate) fn ties(
        &self,
        uuid: Uuid,
        name: &str,
    ) -> Result<Vec<String>, StorageError> {
        let Some(domain) = self.domain(uuid)? else { return Ok(Vec::new()) };
        let (snapshots, checkpoints, saved) = self.ask("list what the domain has saved", |_| {
            // SAFETY: the domain is alive, and the calls take plain numbers; a null list is not written to.
            let counted = unsafe {
                let domain = domain.as_ptr();
                let checkpoints = sys::virDomainListAllCheckpoints(domain, ptr::null_mut(), 0);
                // Drivers without them say so by an error.
                (sys::virDomainSnapshotNum(domain, 0), checkpoints.max(0))
            };
            if counted.0 < 0 {
                return Err(Error::last_error());
            }
            Ok((counted.0, counted.1, domain.has_managed_save(0)?))
        })?;
        let name = super::shell(name);
        let mut ties = Vec::new();
        if snapshots > 0 {
            ties.push(format!(
                "it has {snapshots} snapshot(s), which say where its disks are now: delete or merge them (virsh \
                 snapshot-list {name})"
            ));
        }
        if checkpoints > 0 {
            ties.push(format!(
                "it has {checkpoints} checkpoint(s), which its disks hold: delete them (virsh checkpoint-list {name})"
            ));
        }
        if saved {
            ties.push(format!(
                "its memory has been saved, and goes with the disks where they are now: start it from there, or give \
                 that up (virsh managedsave-remove {name})"
            ));
        }
        Ok(ties)
    }

    /// Shows the names and descriptions of all other domains, of the next start and as they run.
    pub(super) fn each_other(
        &self,
        uuid: Uuid,
        mut see: impl FnMut(&str, &str),
    ) -> Result<(), StorageError> {
        let all = self.ask("list the domains", |connection| connection.list_all_domains(0))?;
        if all.len() > MOST_DOMAINS {
            return Err(StorageError::Refused(format!(
                "there are {} domains, and no more than {MOST_DOMAINS} are asked whether they have its files too",
                all.len()
            )));
        }
        for domain in &all {
            for flags in [sys::VIR_DOMAIN_XML_INACTIVE, 0] {
                // One that goes meanwhile uses nothing.
                let said = self.find("describe a domain", |_| {
                    Ok((domain.get_uuid()?, domain.get_name()?, domain.get_xml_desc(flags)?))
                })?;
                if let Some((other, name, xml)) = said
                    && other != uuid
                {
                    see(&name, &xml);
                }
            }
        }
        Ok(())
    }

    /// Where a pool keeps files, whether it is active or not: `None` where there is no such pool, and inside where it
    /// keeps none.
    pub(super) fn directory_of(&self, pool: &str) -> Result<Option<Option<PathBuf>>, StorageError> {
        let xml = self.find(&format!("look up the pool {pool}"), |connection| {
            StoragePool::lookup_by_name(connection, pool)?.get_xml_desc(0)
        })?;
        Ok(xml.map(|xml| directory(&xml)))
    }

    pub(in crate::remediate) fn pool(&self, name: &str) -> Result<Pool, StorageError> {
        let shown = super::shell(name);
        let pool = self
            .find(&format!("look up the pool {name}"), |connection| {
                StoragePool::lookup_by_name(connection, name)
            })?
            .ok_or_else(|| {
                StorageError::Refused(format!(
                    "there is no storage pool {shown}: make one that only the detector uses (virsh pool-define-as \
                     {shown} dir --target DIRECTORY), or correct remediation.pool"
                ))
            })?;
        self.opened(pool)
    }

    /// The pool of a directory, if it is one's.
    pub(in crate::remediate) fn pool_at(
        &self,
        directory: &Path,
    ) -> Result<Option<Pool>, StorageError> {
        let Some(text) = directory.to_str() else { return Ok(None) };
        let found = self.find(&format!("look up the pool of {text}"), |connection| {
            StoragePool::lookup_by_target_path(connection, text)
        })?;
        found.map(|pool| self.opened(pool)).transpose()
    }

    /// Where the file of a volume is.
    pub(in crate::remediate) fn place_of(
        &self,
        pool: &str,
        volume: &str,
    ) -> Result<PathBuf, StorageError> {
        let found = self.find(&format!("look up the pool {pool}"), |connection| {
            StoragePool::lookup_by_name(connection, pool)
        })?;
        let absent =
            || StorageError::Refused(format!("there is no storage pool {}", super::shell(pool)));
        let pool = self.opened(found.ok_or_else(absent)?)?;
        let found = pool.volume(self, volume)?.ok_or_else(|| {
            let (pool, volume) = (super::shell(&pool.name), super::shell(volume));
            StorageError::Refused(format!("the storage pool {pool} has no volume {volume}"))
        })?;
        Ok(self.ask("say where a volume is", |_| found.get_path())?.into())
    }

    /// A pool for as long as a move lasts, for files that are in none.
    pub(in crate::remediate) fn make_pool(
        &self,
        name: &str,
        directory: &Path,
    ) -> Result<Pool, StorageError> {
        let path = plan::escaped(directory).map_err(StorageError::Refused)?;
        let xml = format!(
            "<pool type='dir'><name>{name}</name><target><path>{path}</path></target></pool>"
        );
        let pool = self.ask(&format!("make {} a pool", directory.display()), |connection| {
            StoragePool::create_xml(connection, &xml, 0)
        })?;
        self.opened(pool)
    }

    pub(in crate::remediate) fn end_pool(&self, name: &str) -> Result<(), StorageError> {
        self.find(&format!("end the pool {name}"), |connection| {
            StoragePool::lookup_by_name(connection, name)?.destroy()
        })
        .map(drop)
    }

    /// The directories of all pools that keep files.
    pub(super) fn directories(&self) -> Result<Vec<PathBuf>, StorageError> {
        const ACTIVE: u32 = sys::VIR_CONNECT_LIST_STORAGE_POOLS_ACTIVE;
        let pools = self.ask("list the pools", |connection| {
            let pools = connection.list_all_storage_pools(ACTIVE)?;
            pools.iter().map(|pool| pool.get_xml_desc(0)).collect::<Result<Vec<_>, _>>()
        })?;
        Ok(pools.iter().filter_map(|xml| directory(xml)).collect())
    }

    fn opened(&self, pool: StoragePool) -> Result<Pool, StorageError> {
        let (name, xml, active) = self.ask("describe a pool", |_| {
            Ok((pool.get_name()?, pool.get_xml_desc(0)?, pool.is_active()?))
        })?;
        let shown = super::shell(&name);
        if !active {
            return Err(StorageError::Refused(format!(
                "the storage pool {shown} is not active: start it (virsh pool-start {shown})"
            )));
        }
        let directory = directory(&xml).ok_or_else(|| {
            StorageError::Refused(format!(
                "the storage pool {shown} keeps no files: expected one of the type dir, fs or netfs"
            ))
        })?;
        Ok(Pool { pool, name, directory })
    }
}

/// A pool that keeps files.
pub(in crate::remediate) struct Pool {
    pub(in crate::remediate) pool: StoragePool,
    pub(in crate::remediate) name: String,
    pub(in crate::remediate) directory: PathBuf,
}

impl Pool {
    /// Bytes that are free.
    pub(in crate::remediate) fn free(&self, session: &Session) -> Result<u64, StorageError> {
        session.ask(&format!("look into the pool {}", self.name), |_| {
            self.pool.refresh(0)?;
            Ok(self.pool.get_info()?.available)
        })
    }

    /// A volume, also one that has appeared since libvirt looked.
    pub(in crate::remediate) fn volume(
        &self,
        session: &Session,
        name: &str,
    ) -> Result<Option<StorageVol>, StorageError> {
        let what = format!("look up the volume {name} of {}", self.name);
        let find = || session.find(&what, |_| StorageVol::lookup_by_name(&self.pool, name));
        match find()? {
            Some(found) => Ok(Some(found)),
            None => {
                session.ask(&what, |_| self.pool.refresh(0))?;
                find()
            }
        }
    }

    /// Removes a volume, if it is there.
    pub(in crate::remediate) fn remove(
        &self,
        session: &Session,
        name: &str,
    ) -> Result<(), StorageError> {
        let Some(volume) = self.volume(session, name)? else { return Ok(()) };
        session
            .find(&format!("remove the volume {name} of {}", self.name), |_| volume.delete(0))
            .map(drop)
    }
}

fn directory(xml: &str) -> Option<PathBuf> {
    let document = document(xml).ok()?;
    let pool = document.root_element();
    let keeps_files = matches!(pool.attribute("type"), Some("dir" | "fs" | "netfs"));
    let path = text(child(pool, "target")?, "path")?;
    keeps_files.then(|| PathBuf::from(path))
}

fn is_absent(error: &Error) -> bool {
    matches!(
        error.code(),
        ErrorNumber::NoDomain | ErrorNumber::NoStoragePool | ErrorNumber::NoStorageVolume
    )
}

fn failed(what: &str, error: &Error) -> StorageError {
    StorageError::Failed(format!("libvirt was asked to {what}: {}", error.message()))
}
