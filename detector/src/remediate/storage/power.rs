//! Ends a VM, which is asked to shut down, and whose power is taken where it does not; and starts one.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;
use virt::sys;

use super::{PATIENCE, Progress, Session, StorageError, Tell, shell};

/// How often it is looked whether it is off.
const LOOK: Duration = Duration::from_millis(250);

/// How a VM came to be off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Off {
    Already,
    /// Its guest has shut down.
    Graceful,
    /// Its power was taken.
    Forced,
}

/// Has a domain off: asks its guest for `grace`, and takes its power afterwards where `force` says so. One that would be
/// gone with its process is defined before. Blocks.
///
/// # Errors
///
/// It is on still, or there is no such domain.
pub fn shut_off(
    uri: &str,
    domain: Uuid,
    grace: Duration,
    force: bool,
    stop: &AtomicBool,
    tell: &Tell,
) -> Result<Off, StorageError> {
    let session = Session::open(uri, PATIENCE, tell)?;
    let gone = || StorageError::Interfered(format!("libvirt knows no domain {domain} any more"));
    let found = session.domain(domain)?.ok_or_else(gone)?;
    let state = || {
        session
            .find("say whether the domain runs", |_| {
                Ok((found.is_active()?, found.get_state()?.0))
            })?
            .ok_or_else(gone)
    };
    let (active, mut now) = state()?;
    if !active {
        return Ok(Off::Already);
    }
    let seen = session.look(domain)?.ok_or_else(gone)?;
    if !seen.persistent {
        session.define(&seen.described)?;
        tell(Progress::Step { what: "the domain is defined, and outlasts its process".to_owned() });
    }
    let name = session.ask("name the domain", |_| found.get_name())?;
    // Who is suspended hears nothing.
    if now == sys::VIR_DOMAIN_RUNNING && !grace.is_zero() {
        if let Err(error) = session.ask("shut the domain down", |_| found.shutdown()) {
            tracing::debug!(%error, "a guest is not asked to shut down");
        }
        tell(Progress::Waiting { why: format!("{} is to shut down", shell(&name)) });
        let until = Instant::now() + grace;
        while Instant::now() < until {
            if stop.load(Ordering::Relaxed) {
                return Err(StorageError::Stopped);
            }
            let active;
            (active, now) = state()?;
            if !active {
                return Ok(Off::Graceful);
            }
            thread::park_timeout(LOOK.min(until.saturating_duration_since(Instant::now())));
        }
    }
    if !force {
        let shown = shell(&name);
        return Err(StorageError::Refused(format!(
            "{shown} has not shut down in {} s (it is {}): end it (virsh destroy {shown}), or set remediation.force",
            grace.as_secs(),
            if now == sys::VIR_DOMAIN_RUNNING { "running" } else { "suspended" }
        )));
    }
    tell(Progress::Step { what: format!("the power of {} is taken", shell(&name)) });
    match session.ask("end the domain", |_| found.destroy()) {
        // It has shut down at last.
        Err(_) if !state()?.0 => Ok(Off::Graceful),
        Err(error) => Err(error),
        Ok(()) => Ok(Off::Forced),
    }
}

/// Has a domain run that is off, or suspended. Whether it was started, or resumed. Blocks.
///
/// # Errors
///
/// It is off still, or there is no such domain.
pub fn switch_on(uri: &str, domain: Uuid, tell: &Tell) -> Result<bool, StorageError> {
    let session = Session::open(uri, PATIENCE, tell)?;
    let gone = || StorageError::Interfered(format!("libvirt knows no domain {domain} any more"));
    let found = session.domain(domain)?.ok_or_else(gone)?;
    let state = |_: &_| Ok((found.is_active()?, found.get_state()?.0));
    match session.ask("say whether the domain runs", state)? {
        (true, sys::VIR_DOMAIN_PAUSED) => {
            session.ask("resume the domain", |_| found.resume())?;
            tell(Progress::Step { what: "it has been resumed".to_owned() });
            return Ok(true);
        }
        (true, _) => return Ok(false),
        (false, _) => {}
    }
    session.ask("start the domain", |_| found.create())?;
    tell(Progress::Step { what: "it has been started".to_owned() });
    Ok(true)
}
