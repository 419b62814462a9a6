//! Libvirt as a source of VMs.
//!
//! One thread owns the connection, and no other thread ever waits for libvirt: a call may take as
//! long as a hook that libvirt runs, and that hook may be waiting for the daemon.

mod callbacks;
mod events;
mod session;
mod suspend;

use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, thread, time::Duration};

use tokio::sync::mpsc;

use super::{SourceEvent, Update};
use events::Signal;
use session::Session;
pub use suspend::Suspender;

/// The first and the longest pause between attempts to connect.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Everything is listed again this often: not every change of a description has an event.
const RESYNC: Duration = Duration::from_secs(60);

/// A connection to libvirt that is kept up, for as long as this value lives.
#[derive(Debug)]
pub struct LibvirtSource {
    signal: Arc<Signal>,
}

impl LibvirtSource {
    /// Starts to follow the domains of `uri`. First of all comes a snapshot, or the news that
    /// there is no connection. When `events` is full the thread waits, and coalesces meanwhile.
    ///
    /// `pools` is told of the directories of its storage pools, before each snapshot.
    pub fn spawn(
        uri: &str,
        events: mpsc::Sender<SourceEvent>,
        pools: impl Fn(Vec<PathBuf>) + Send + 'static,
    ) -> io::Result<Self> {
        let signal = Arc::new(Signal::default());
        let pools = Box::new(pools);
        let worker = Worker { uri: uri.to_owned(), signal: Arc::clone(&signal), events, pools };
        // The thread is not joined: a call to libvirt has no deadline.
        thread::Builder::new().name("libvirt".to_owned()).spawn(move || worker.run())?;
        Ok(Self { signal })
    }

    /// Asks for a snapshot soon.
    pub fn resync(&self) {
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
    events: mpsc::Sender<SourceEvent>,
    pools: Box<dyn Fn(Vec<PathBuf>) + Send>,
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
    fn run(&self) {
        let mut pause = BACKOFF.0;
        loop {
            let mut connected = false;
            let Err(end) = self.follow(&mut connected);
            let End::Lost(why) = end else { return };
            tracing::warn!(uri = %self.uri, %why, "libvirt does not answer");
            if self.send(Update::Lost { why }).is_err() {
                return;
            }
            pause = if connected { BACKOFF.0 } else { pause };
            if self.signal.pause(pause) {
                return;
            }
            pause = (pause * 2).min(BACKOFF.1);
        }
    }

    /// Connects, and reports until the connection is lost.
    fn follow(&self, connected: &mut bool) -> Result<std::convert::Infallible, End> {
        events::run_loop().map_err(End::Lost)?;
        let session = Session::open(&self.uri, &self.signal)?;
        // What happens while everything is listed is noted by now, and looked at afterwards.
        self.snapshot(&session)?;
        *connected = true;
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
            (self.pools)(pools);
        }
        let mut vms = Vec::new();
        let mut refused = Vec::new();
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
