//! Contains a VM that no port can be cut off of, such as one with user-mode networking: by its manager.

use std::{sync::atomic::AtomicBool, time::Duration};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virt::sys;

use super::storage::{self, PATIENCE, Session, StorageError, Tell, shut_off};

/// How a VM is contained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Containment {
    /// It does not run on, and its memory stays.
    Suspend,
    /// Its power is taken.
    Stop,
}

/// What it is then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contained {
    Suspended,
    Off,
}

/// Contains a domain; one that is contained already stays as it is. Blocks.
///
/// # Errors
///
/// It runs still, or libvirt knows no such domain.
pub fn contain(
    uri: &str,
    domain: Uuid,
    how: Containment,
    stop: &AtomicBool,
    tell: &Tell,
) -> Result<Contained, StorageError> {
    if how == Containment::Stop {
        return shut_off(uri, domain, Duration::ZERO, true, stop, tell).map(|_| Contained::Off);
    }
    let session = Session::open(uri, PATIENCE, tell)?;
    let gone = || StorageError::Refused(format!("libvirt knows no domain {domain}"));
    let found = session.domain(domain)?.ok_or_else(gone)?;
    let state = || {
        session
            .find("say whether the domain runs", |_| Ok((found.is_active()?, found.get_state()?.0)))
    };
    match state()?.ok_or_else(gone)? {
        (false, _) => return Ok(Contained::Off),
        (true, sys::VIR_DOMAIN_PAUSED) => return Ok(Contained::Suspended),
        (true, _) => {}
    }
    session.ask("suspend the domain", |_| found.suspend())?;
    match state()? {
        Some((true, sys::VIR_DOMAIN_PAUSED)) => Ok(Contained::Suspended),
        Some((true, _)) => {
            let name = session.ask("name the domain", |_| found.get_name())?;
            Err(StorageError::Failed(format!(
                "{} has been resumed by somebody",
                storage::shell(&name)
            )))
        }
        Some((false, _)) | None => Ok(Contained::Off),
    }
}
