//! The thread that writes while the daemon lives.

mod scribe;

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::oneshot;

use self::scribe::Scribe;
use super::{Entry, Limits, Place};

/// What waits to be written at most, before the thread and within it.
const BACKLOG: usize = 8192;
/// Records that are written at once.
const BATCH: usize = 1024;
/// How long an action waits for its record.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts to hand over what there is no room for.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the end of the daemon waits.
const FAREWELL: Duration = Duration::from_secs(2);

/// What an administrator must know of the audit: what is wrong, by a stable name.
pub type Trouble = BTreeMap<&'static str, String>;

/// Hands records to the thread.
#[derive(Clone, Debug)]
pub struct Writer {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
    tickets: Arc<AtomicU64>,
}

/// An action that is on record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is on the disk, under this number.
    Written(u64),
    /// It is kept in memory, and written as soon as that can be. By this its outcome will find it.
    Kept(u64),
}

#[derive(Debug)]
struct Job {
    at: Timestamp,
    entry: Entry,
    /// By which the record is known before it has a number.
    ticket: Option<u64>,
    /// The one that it is the outcome of.
    after: Option<u64>,
    waiting: Option<Waiting>,
}

/// Somebody waits for the record.
#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<u64, Unwritten>>,
    unable: Unable,
    /// Nothing comes after it.
    last: bool,
}

/// What becomes of a record that cannot be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unable {
    /// What is asked for is not done.
    Refuse,
    /// What is asked for is done in any case, so that the record is kept.
    Keep,
    /// It is kept, and whoever has it recorded waits.
    Wait,
}

/// Why a record is not on the disk.
#[derive(Debug)]
enum Unwritten {
    Kept,
    Refused(String),
}

impl Writer {
    /// Starts the thread. It tells what is wrong, all of it, whenever that changes.
    pub fn spawn(
        place: Place,
        limits: Limits,
        tell: impl Fn(Trouble) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, inbox) = sync_channel(BACKLOG);
        let lost = Arc::new(AtomicU64::new(0));
        let scribe = Scribe::new(place, limits, Arc::clone(&lost), Box::new(tell));
        thread::Builder::new().name("audit".to_owned()).spawn(move || write(scribe, &inbox))?;
        Ok(Self { jobs, lost, tickets: Arc::default() })
    }

    /// Has a decision recorded. It never waits: what there is no room for is counted, and the number recorded.
    pub fn decision(&self, at: Timestamp, entry: Entry) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::new(at, entry)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Has an action recorded, and waits until that has been done. One that `must` be done is kept where it cannot
    /// be written.
    ///
    /// # Errors
    ///
    /// Why it is not recorded, and so not to be done.
    pub async fn action(&self, at: Timestamp, entry: Entry, must: bool) -> Result<Asked, String> {
        let unable = if must { Unable::Keep } else { Unable::Refuse };
        self.ask(Job::new(at, entry), unable, false).await
    }

    /// Has recorded what has come of an action; waits for it, and keeps it where it cannot be written.
    pub async fn outcome(&self, at: Timestamp, mut entry: Entry, of: Asked) {
        let mut after = None;
        match of {
            Asked::Written(seq) => entry.of = Some(seq),
            Asked::Kept(ticket) => after = Some(ticket),
        }
        let _ = self.ask(Job { after, ..Job::new(at, entry) }, Unable::Keep, false).await;
    }

    /// Has a decision recorded, and waits for that however long it takes. False where nobody writes any more.
    pub async fn settled(&self, at: Timestamp, entry: Entry) -> bool {
        let asked = self.ask(Job::new(at, entry), Unable::Wait, false).await;
        matches!(asked, Ok(Asked::Written(_)))
    }

    /// Records the daemon's end and signs it; waits a moment at most.
    pub async fn end(&self, at: Timestamp, entry: Entry) {
        let _ =
            tokio::time::timeout(FAREWELL, self.ask(Job::new(at, entry), Unable::Keep, true)).await;
    }

    async fn ask(&self, job: Job, unable: Unable, last: bool) -> Result<Asked, String> {
        let (answer, answered) = oneshot::channel();
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let waiting = Some(Waiting { answer, unable, last });
        let mut job = Job { ticket: Some(ticket), waiting, ..job };
        let gone = || Unwritten::Refused("the thread that writes it has ended".to_owned());
        let wait = async {
            loop {
                match self.jobs.try_send(job) {
                    Ok(()) => break answered.await.unwrap_or_else(|_| Err(gone())),
                    Err(TrySendError::Full(again)) => job = again,
                    Err(TrySendError::Disconnected(_)) => break Err(gone()),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        let waited = match unable {
            Unable::Wait => Ok(wait.await),
            Unable::Refuse | Unable::Keep => tokio::time::timeout(PATIENCE, wait).await,
        };
        match waited {
            Ok(Ok(seq)) => Ok(Asked::Written(seq)),
            Ok(Err(Unwritten::Kept)) => Ok(Asked::Kept(ticket)),
            Err(_) if unable == Unable::Keep => Ok(Asked::Kept(ticket)),
            Ok(Err(Unwritten::Refused(why))) => Err(why),
            Err(_) => Err("its disk does not answer in time".to_owned()),
        }
    }
}

impl Job {
    fn new(at: Timestamp, entry: Entry) -> Self {
        Self { at, entry, ticket: None, after: None, waiting: None }
    }
}

fn write(mut scribe: Scribe, inbox: &Receiver<Job>) {
    scribe.write();
    loop {
        match inbox.recv_timeout(scribe.due()) {
            Ok(job) => {
                scribe.take(job);
                inbox.try_iter().take(BATCH - 1).for_each(|job| scribe.take(job));
                scribe.write();
            }
            Err(RecvTimeoutError::Timeout) => {
                scribe.write();
                scribe.maintain();
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}
