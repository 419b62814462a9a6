//! Suspends domains: the only thing that libvirt is asked to do.

use std::{
    io,
    sync::mpsc::{SyncSender, TrySendError, sync_channel},
    thread,
};

use uuid::Uuid;
use virt::{connect::Connect, domain::Domain, error::Error, sys};

/// Domains that wait while libvirt does not answer.
const WAITING: usize = 64;

/// A thread that suspends one domain after the other. A call to libvirt has no deadline; who asks does not
/// wait for it.
#[derive(Debug)]
pub struct Suspender {
    requests: SyncSender<(String, Uuid)>,
}

impl Suspender {
    /// `tell` is called on the thread with what came of each.
    pub fn spawn(tell: impl Fn(Uuid, Result<(), String>) + Send + 'static) -> io::Result<Self> {
        let (requests, asked) = sync_channel::<(String, Uuid)>(WAITING);
        thread::Builder::new().name("suspend".to_owned()).spawn(move || {
            for (uri, uuid) in asked {
                tell(uuid, suspend(&uri, uuid).map_err(|error| error.to_string()));
            }
        })?;
        Ok(Self { requests })
    }

    /// Has a domain suspended soon.
    pub fn suspend(&self, uri: &str, uuid: Uuid) -> Result<(), String> {
        let asked = self.requests.try_send((uri.to_owned(), uuid));
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
fn suspend(uri: &str, uuid: Uuid) -> Result<(), Error> {
    let mut connection = Connect::open(Some(uri))?;
    let suspended =
        Domain::lookup_by_uuid(&connection, uuid).and_then(|domain| match domain.get_state()? {
            (sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_SHUTOFF, _) => Ok(()),
            _ => domain.suspend().map(drop),
        });
    if let Err(error) = connection.close() {
        tracing::debug!(%error, "closing libvirt");
    }
    suspended
}
