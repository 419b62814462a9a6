//! Suspends and ends domains by the policy's word.

use std::{
    io,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// Domains that wait while libvirt does not answer.
const WAITING: usize = 64;

/// What is to be done to a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    Suspend,
    /// Its guest is asked to shut down.
    ShutDown,
    Off,
}

/// Why it is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// Libvirt has not been asked for it, as far as anybody knows.
    Unasked(String),
    /// Libvirt was asked, and has refused it.
    Refused(String),
}

/// A thread that does so to one domain after the other. A call to libvirt has no deadline; who asks does not
/// wait for it.
#[derive(Debug)]
pub struct Suspender {
    requests: SyncSender<(String, Uuid, Power)>,
}

impl Suspender {
    /// `tell` is called on the thread with what came of each.
    pub fn spawn(tell: impl Fn(Uuid, Result<(), NotDone>) + Send + 'static) -> io::Result<Self> {
        let (requests, asked) = sync_channel::<(String, Uuid, Power)>(WAITING);
        thread::Builder::new().name("suspend".to_owned()).spawn(move || {
            for (uri, uuid, power) in asked {
                tell(uuid, put(&uri, uuid, power));
            }
        })?;
        Ok(Self { requests })
    }

    /// Has it done to a domain soon.
    ///
    /// # Errors
    ///
    /// Nobody will be told what has come of it: it is [`NotDone::Unasked`].
    pub fn put(&self, uri: &str, uuid: Uuid, power: Power) -> Result<(), NotDone> {
        let asked = self.requests.try_send((uri.to_owned(), uuid, power));
        asked.map_err(|error| {
            let why = match error {
                TrySendError::Full(_) => "too many wait already: libvirt does not answer",
                TrySendError::Disconnected(_) => "nobody asks libvirt any more",
            };
            NotDone::Unasked(why.to_owned())
        })
    }
}

/// By a connection of its own: the one that is followed may only read.
fn put(uri: &str, uuid: Uuid, power: Power) -> Result<(), NotDone> {
    let mut connection = Connect::open(Some(uri)).map_err(unasked)?;
    let done = put_on(&connection, uuid, power);
    if let Err(error) = connection.close() {
        tracing::debug!(%error, "closing libvirt");
    }
    done
}

fn put_on(connection: &Connect, uuid: Uuid, power: Power) -> Result<(), NotDone> {
    let domain = Domain::lookup_by_uuid(connection, uuid).map_err(unasked)?;
    let (state, _) = domain.get_state().map_err(unasked)?;
    let done = match (power, state) {
        (_, sys::VIR_DOMAIN_SHUTOFF) | (Power::Suspend, sys::VIR_DOMAIN_PAUSED) => return Ok(()),
        (Power::Suspend, _) => domain.suspend().map(drop),
        (Power::ShutDown, _) => domain.shutdown().map(drop),
        (Power::Off, _) => domain.destroy(),
    };
    // Whoever goes away meanwhile may not have heard of it: asked twice is better than never.
    done.map_err(|error| match connection.is_alive() {
        Ok(true) => NotDone::Refused(error.to_string()),
        Ok(false) | Err(_) => unasked(error),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` hands it on")]
fn unasked(error: Error) -> NotDone {
    NotDone::Unasked(error.to_string())
}
