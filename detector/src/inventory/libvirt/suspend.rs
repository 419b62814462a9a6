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

/// A thread that does so to one domain after the other. A call to libvirt has no deadline; who asks does not
/// wait for it.
#[derive(Debug)]
pub struct Suspender {
    requests: SyncSender<(String, Uuid, Power)>,
}

impl Suspender {
    /// `tell` is called on the thread with what came of each.
    pub fn spawn(tell: impl Fn(Uuid, Result<(), String>) + Send + 'static) -> io::Result<Self> {
        let (requests, asked) = sync_channel::<(String, Uuid, Power)>(WAITING);
        thread::Builder::new().name("suspend".to_owned()).spawn(move || {
            for (uri, uuid, power) in asked {
                tell(uuid, put(&uri, uuid, power).map_err(|error| error.to_string()));
            }
        })?;
        Ok(Self { requests })
    }

    /// Has it done to a domain soon.
    pub fn put(&self, uri: &str, uuid: Uuid, power: Power) -> Result<(), String> {
        let asked = self.requests.try_send((uri.to_owned(), uuid, power));
        asked.map_err(|error| {
            match error {
                TrySendError::Full(_) => "too many wait already: libvirt does not answer",
                TrySendError::Disconnected(_) => "nobody asks libvirt any more",
            }
            .to_owned()
        })
    }
}

/// By a connection of its own: the one that is followed may only read.
fn put(uri: &str, uuid: Uuid, power: Power) -> Result<(), Error> {
    let mut connection = Connect::open(Some(uri))?;
    let done = Domain::lookup_by_uuid(&connection, uuid).and_then(|domain| {
        match (power, domain.get_state()?.0) {
            (_, sys::VIR_DOMAIN_SHUTOFF) => Ok(()),
            (Power::Suspend, sys::VIR_DOMAIN_PAUSED) => Ok(()),
            (Power::Suspend, _) => domain.suspend().map(drop),
            (Power::ShutDown, _) => domain.shutdown().map(drop),
            (Power::Off, _) => domain.destroy(),
        }
    });
    if let Err(error) = connection.close() {
        tracing::debug!(%error, "closing libvirt");
    }
    done
}
