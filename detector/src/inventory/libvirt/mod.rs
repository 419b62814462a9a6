//! Libvirt as a source of VMs.
//!
//! One thread owns the connection, and no other thread ever waits for libvirt: a call may take as
//! long as a hook that libvirt runs, and that hook may be waiting for the daemon. Another one watches how
//! long calls take ([`watchdog`]).

mod agent;
mod backoff;
mod callbacks;
mod client;
mod events;
mod others;
mod session;
mod surroundings;
mod suspend;
mod watchdog;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use detector_core::model::KnownLease;
use tokio::sync::mpsc;

pub use agent::Agents;
pub(crate) use client::Client;

use super::{Inventory, SourceEvent, Update, xml};
use backoff::Backoff;
use events::Signal;
use session::Session;
pub use suspend::{NotDone, Power, Suspender};
use watchdog::Watchdog;

/// Everything is listed again this often: not every change of a description has an event.
const RESYNC: Duration = Duration::from_secs(60);

/// How a libvirt is followed.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Also the name of the source.
    pub uri: String,
    /// How long one call may take before the source counts as lost.
    pub patience: Duration,
    /// What libvirt says of networks and volumes; kept up to date.
    pub context: xml::Shared,
}

impl Connection {
    /// The shortest patience. Calls take milliseconds on an idle host, seconds on a busy one.
    pub const PATIENCE: Duration = Duration::from_secs(15);
}

/// What libvirt says besides its domains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// The directories of its storage pools, before each snapshot.
    Pools(Vec<PathBuf>),
    /// What the servers of its networks have leased.
    Leases(Vec<KnownLease>),
}

/// A connection to libvirt that is kept up, for as long as this value lives.
#[derive(Debug)]
pub struct LibvirtSource {
    uri: String,
    signal: Arc<Signal>,
}

impl LibvirtSource {
    /// Starts to follow the domains of a libvirt. First of all comes a snapshot, or the news that
    /// there is no connection. When `events` is full the thread waits, and coalesces meanwhile.
    pub fn spawn(
        connection: &Connection,
        events: mpsc::Sender<SourceEvent>,
        tell: impl Fn(Told) + Send + 'static,
    ) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let worker = Worker::new(connection, Arc::clone(&signal), events, Box::new(tell))?;
        // The thread is not joined: a call to libvirt has no deadline.
        thread::Builder::new().name("libvirt".to_owned()).spawn(move || worker.run())?;
        Ok(Self { uri: connection.uri.clone(), signal })
    }
}

impl Inventory for LibvirtSource {
    fn name(&self) -> &str {
        &self.uri
    }

    fn is_live(&self) -> bool {
        true
    }

    fn resync(&self) {
        self.signal.resync();
    }
}

impl Drop for LibvirtSource {
    fn drop(&mut self) {
        self.signal.stop();
    }
}

struct Worker {
    uri: String,
    signal: Arc<Signal>,
    watchdog: Arc<Watchdog>,
    context: xml::Shared,
    events: mpsc::Sender<SourceEvent>,
    tell: Box<dyn Fn(Told) + Send>,
}

/// Nobody wants to hear from the source any more.
struct Stopped;

/// Why following a connection ended.
enum End {
    Stopped,
    Lost(String),
}

impl From<Stopped> for End {
    fn from(_: Stopped) -> Self {
        Self::Stopped
    }
}

impl From<virt::error::Error> for End {
    fn from(error: virt::error::Error) -> Self {
        Self::Lost(error.to_string())
    }
}

impl Worker {
    fn new(
        connection: &Connection,
        signal: Arc<Signal>,
        events: mpsc::Sender<SourceEvent>,
        tell: Box<dyn Fn(Told) + Send>,
    ) -> io::Result<Self> {
        let Connection { uri, patience, context } = connection.clone();
        let (lost, resynced) = (events.clone(), Arc::clone(&signal));
        let source = uri.clone();
        let watchdog = Watchdog::spawn(
            patience,
            move |why| {
                tracing::warn!(uri = %source, %why, "libvirt hangs");
                let update = Update::Lost { why };
                // Nobody listens when this fails; the worker notices by itself.
                let _ = lost.blocking_send(SourceEvent { source: source.clone(), update });
            },
            // Only a snapshot ends the loss.
            move || resynced.resync(),
        )?;
        Ok(Self { uri, signal, watchdog: Arc::new(watchdog), context, events, tell })
    }

    fn run(&self) {
        let mut backoff = Backoff::default();
        loop {
            let mut followed = None;
            let Err(end) = self.follow(&mut followed);
            let End::Lost(why) = end else { return };
            tracing::warn!(uri = %self.uri, %why, "libvirt does not answer");
            if self.send(Update::Lost { why }).is_err() {
                return;
            }
            let lasted = followed.map_or(Duration::ZERO, |since: Instant| since.elapsed());
            if self.signal.pause(backoff.pause_after(lasted)) {
                return;
            }
        }
    }

    /// Connects, and reports until the connection is lost. Since when it could be followed is for
    /// whoever waits before the next one.
    fn follow(&self, followed: &mut Option<Instant>) -> Result<Infallible, End> {
        events::run_loop().map_err(End::Lost)?;
        let session = Session::open(&self.uri, &self.signal, &self.watchdog, &self.context)?;
        // What happens while everything is listed is noted by now, and looked at afterwards.
        self.snapshot(&session)?;
        *followed = Some(Instant::now());
        tracing::info!(uri = %self.uri, "following libvirt");
        loop {
            let news = self.signal.wait(RESYNC);
            if news.stop {
                return Err(End::Stopped);
            }
            if news.closed || !session.is_alive()? {
                return Err(End::Lost("the connection was closed".to_owned()));
            }
            for uuid in news.departed {
                self.send(Update::Departed(uuid))?;
            }
            for uuid in news.changed {
                self.send(session.domain(uuid)?)?;
            }
            if news.resync {
                self.snapshot(&session)?;
            }
        }
    }

    fn snapshot(&self, session: &Session) -> Result<(), End> {
        if let Some(pools) = session.pools() {
            (self.tell)(Told::Pools(pools));
        }
        let mut refused = Vec::new();
        if let Some((leases, wrong)) = session.networks() {
            (self.tell)(Told::Leases(leases));
            refused = wrong;
        }
        let mut vms = Vec::new();
        for update in session.domains()? {
            match update {
                Update::Changed(vm) => vms.push(vm),
                Update::Refused(why) => refused.push(why),
                // Gone between the list and its turn: its event comes next.
                _ => {}
            }
        }
        Ok(self.send(Update::Snapshot { vms, overlays: BTreeMap::new(), refused })?)
    }

    fn send(&self, update: Update) -> Result<(), Stopped> {
        let event = SourceEvent { source: self.uri.clone(), update };
        self.events.blocking_send(event).map_err(|_| Stopped)
    }
}

#[cfg(test)]
mod tests;
