//! What libvirt says of a VM, and what its disks are.

use std::{collections::BTreeMap, sync::atomic::AtomicBool};

use detector_core::model::Digest;
use uuid::Uuid;
use virt::sys;

use super::{Case, DiskEvidence};
use crate::{
    registry::Image,
    remediate::storage::{self, Named, Own, PATIENCE, Progress, Session, StorageError, Tell},
};

/// A case of a domain as it is now, with the digests of disks that are known, by their names. Of one that runs no disk has
/// any: they change. Blocks.
///
/// # Errors
///
/// libvirt does not answer, or knows no such domain.
pub fn of_domain(
    id: &str,
    uri: &str,
    vm: Uuid,
    frames: Vec<String>,
    known: &BTreeMap<String, Digest>,
    stop: &AtomicBool,
    tell: &Tell,
) -> Result<Case, StorageError> {
    let session = Session::open(uri, PATIENCE, tell)?;
    let gone = || StorageError::Refused(format!("libvirt knows no domain {vm}"));
    let domain = session.domain(vm)?.ok_or_else(gone)?;
    // Without its secrets: what is kept is shown to others.
    let (active, description) = session
        .find("describe the domain", |_| {
            let active = domain.is_active()?;
            let how = if active { 0 } else { sys::VIR_DOMAIN_XML_INACTIVE };
            Ok((active, domain.get_xml_desc(how)?))
        })?
        .ok_or_else(gone)?;
    let described = storage::describe(&description).map_err(StorageError::Refused)?;
    let mut disks = Vec::new();
    for own in described.own {
        let path = match &own.source {
            Named::File(path) => path.clone(),
            Named::Volume { pool, volume } => match session.place_of(pool, volume) {
                Ok(path) => path,
                // Of a pool that is gone, or off: the rest of the case is kept none the less.
                Err(StorageError::Refused(why)) => {
                    disks.push(without_place(&own, (pool, volume), why));
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let (mut bytes, mut sha256, mut unread) = (0, None, None);
        match Image::open(&path) {
            Err(error) => unread = Some(error.to_string()),
            Ok(image) => {
                bytes = image.file().metadata().map_or(0, |found| found.len());
                if active {
                    unread = Some("the VM runs, and writes to it".to_owned());
                } else if let Some(digest) = known.get(&own.target) {
                    sha256 = Some(*digest);
                } else {
                    tell(Progress::Compares { target: own.target.clone() });
                    match image.digest(stop) {
                        Ok(digest) => sha256 = Some(digest),
                        Err(why) => unread = Some(why),
                    }
                }
            }
        }
        let path = storage::shown(&path);
        disks.push(DiskEvidence {
            target: own.target,
            path,
            format: own.format,
            bytes,
            sha256,
            unread,
        });
    }
    let name = described.name;
    Ok(Case { id: id.to_owned(), vm, name, source: uri.to_owned(), description, disks, frames })
}

fn without_place(own: &Own, (pool, volume): (&str, &str), why: String) -> DiskEvidence {
    DiskEvidence {
        target: own.target.clone(),
        path: format!("volume {} of the pool {}", storage::shell(volume), storage::shell(pool)),
        format: own.format.clone(),
        bytes: 0,
        sha256: None,
        unread: Some(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remediate::storage::Role;

    #[test]
    fn a_volume_without_a_place_is_named_and_not_read() {
        let own = Own {
            target: "vda".to_owned(),
            role: Role::Disk,
            source: Named::Volume { pool: "p".to_owned(), volume: "a b".to_owned() },
            format: "qcow2".to_owned(),
        };
        let kept = without_place(&own, ("p", "a b"), "it is off".to_owned());
        assert_eq!(kept.path, "volume 'a b' of the pool p");
        assert_eq!((kept.sha256, kept.unread.as_deref()), (None, Some("it is off")));
    }
}
