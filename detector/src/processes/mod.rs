//! Every virtual machine of the host, whoever started it: a scan of its processes.
//!
//! An inventory lists what a manager knows. Whoever starts a VM past every manager, without a port on
//! any bridge, is found here: by what the process holds ([`holds`]), and by what its program is
//! ([`program`]). The scan has a thread of its own; nothing waits for it. It looks at everything at an
//! interval, and at a process that has just begun to run a program when the kernel tells of it.
//!
//! Processes are hostile. They name themselves anything, end while they are read, hold many descriptors,
//! give threads tables of their own, run from file systems that do not answer: work and memory are
//! bounded for each user, and what cannot be looked into is reported rather than passed over.

pub(crate) mod arguments;
mod curb;
mod events;
mod holds;
mod patience;
mod procfs;
mod program;
mod records;
mod scan;
mod tap;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use detector_core::model::{ProcessId, Timestamp, VmProcess};

pub(crate) use curb::Curbs;

use self::{
    events::ProcessEvent,
    scan::{Rules, Scanner},
};

/// What a scan has to say: what it found, or why it found nothing out.
pub type Scanned = Result<BTreeMap<ProcessId, VmProcess>, String>;

/// How the host is scanned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScanOptions {
    pub interval: Duration,
    /// How long a process may be there before it is reported.
    pub grace: Duration,
    /// Directories in which managers record the processes of their VMs.
    pub records: Vec<PathBuf>,
    /// Programs that hold taps or devices and are no VMs.
    pub ignored: Vec<PathBuf>,
}

/// After a program has begun to run, how long until it is looked at: it opens what it needs first.
const SETTLE: Duration = Duration::from_millis(300);
/// Between two looks at young VMs, which may end before they are worth a word.
const YOUNG: Duration = Duration::from_millis(500);
/// Events that wait; more than that is a reason for a whole scan.
const EVENTS: usize = 4096;

/// The kernel's announcements of processes. To ask for them takes a capability, to take them none.
pub struct Announcements(io::Result<netlink_sys::Socket>);

impl Announcements {
    pub fn ask_for() -> Self {
        Self(events::subscribe())
    }
}

/// Starts to scan. `tell` is called with what each scan finds, on a thread of the scan's own, until it
/// says that nobody listens.
pub fn spawn(
    options: ScanOptions,
    Announcements(announced): Announcements,
    now: fn() -> Timestamp,
    mut tell: impl FnMut(Scanned) -> bool + Send + 'static,
) -> io::Result<()> {
    let (sender, events) = sync_channel(EVENTS);
    let followed = announced.and_then(|socket| events::follow(socket, sender));
    if let Err(error) = followed {
        tracing::info!(%error, "processes: the kernel announces none here, the interval alone counts");
    }
    let rules = Rules { grace: options.grace, records: options.records, ignored: options.ignored };
    thread::Builder::new().name("processes".to_owned()).spawn(move || {
        let mut scanner = None;
        let mut begun = BTreeSet::new();
        let mut whole = true;
        let mut last = Instant::now();
        let mut told = None;
        loop {
            let found = scan(&mut scanner, &rules, now(), whole, &begun);
            if whole {
                last = Instant::now();
            }
            if told.as_ref() != Some(&found) {
                told = Some(found.clone());
                if !tell(found.clone()) {
                    return;
                }
            }
            let found = found.unwrap_or_default();
            let young = found.values().any(|process| !process.lasting);
            let next = if young { YOUNG.min(options.interval) } else { options.interval };
            let watched = found.keys().map(|id| id.pid).collect();
            (whole, begun) = wait(&events, last + next, &watched);
        }
    })?;
    Ok(())
}

fn scan(
    scanner: &mut Option<Scanner>,
    rules: &Rules,
    now: Timestamp,
    whole: bool,
    begun: &BTreeSet<u32>,
) -> Scanned {
    let scanner = match scanner {
        Some(scanner) => scanner,
        None => scanner.insert(Scanner::new(rules.clone()).map_err(|error| error.to_string())?),
    };
    let scanned = if whole { scanner.all(now) } else { scanner.some(now, begun) };
    scanned.map_err(|error| error.to_string())?;
    Ok(scanner.found().clone())
}

/// Waits until it is time for a whole scan, or programs have begun to run that are to be looked at.
fn wait(
    events: &Receiver<ProcessEvent>,
    due: Instant,
    watched: &BTreeSet<u32>,
) -> (bool, BTreeSet<u32>) {
    let mut begun = BTreeSet::new();
    let mut until = due;
    loop {
        match events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(ProcessEvent::Exec(pid)) if begun.len() < EVENTS => {
                begun.insert(pid);
                until = until.min(Instant::now() + SETTLE);
            }
            // One that was reported is gone: that is news.
            Ok(ProcessEvent::Exit(pid)) if watched.contains(&pid) => {
                begun.insert(pid);
                until = until.min(Instant::now() + SETTLE);
            }
            Ok(ProcessEvent::Exit(pid)) => {
                begun.remove(&pid);
            }
            Ok(ProcessEvent::Exec(_) | ProcessEvent::Lost) => {
                return (true, BTreeSet::new());
            }
            Err(RecvTimeoutError::Timeout) => return (Instant::now() >= due, begun),
            Err(RecvTimeoutError::Disconnected) => {
                // Nobody announces anything: the interval alone counts.
                while Instant::now() < due {
                    thread::park_timeout(due.saturating_duration_since(Instant::now()));
                }
                return (true, BTreeSet::new());
            }
        }
    }
}
