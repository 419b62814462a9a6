//! Writes workflows down and has deeds done, for a brain that waits for neither.

mod owed;

use std::{
    collections::BTreeMap,
    io,
    ops::ControlFlow,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as std_mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use detector_core::remediate::{LONGEST_TEXT, Workflow};
use jiff::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, mpsc, oneshot},
    task::spawn_blocking,
};
use uuid::Uuid;

use super::{
    input::Input,
    remediation::{Report, Running},
};
use crate::{
    audit::Entry,
    remediate::{
        Owed, Store,
        hands::{Done, Failed, Hands, Order, Patient, Progress},
    },
};

/// Deeds at a time: each may copy a whole disk.
const AT_A_TIME: usize = 2;
/// Until records are tried again that the audit may not have.
pub(super) const RETRY: Duration = Duration::from_secs(30);
/// Between two words on how far a deed is.
const PACE: Duration = Duration::from_millis(200);

pub(super) use owed::{Audit, Book};

type Stops = Arc<Mutex<BTreeMap<Uuid, Arc<AtomicBool>>>>;

#[derive(Clone)]
pub(super) struct Remedies {
    writing: std_mpsc::Sender<Writing>,
    hands: Arc<dyn Hands>,
    places: Arc<Semaphore>,
    stops: Stops,
    inputs: mpsc::Sender<Input>,
    runtime: Handle,
}

enum Writing {
    Keep {
        workflow: Box<Workflow>,
        at: Timestamp,
        records: Vec<Entry>,
    },
    Forget(Uuid),
    /// Somebody wants to know what the audit is owed.
    Owed(oneshot::Sender<Result<Vec<Owed>, String>>),
    /// This record is in the audit.
    Paid(i64),
}

impl Remedies {
    /// Starts the thread that writes, each state after the one before it, and what brings records into the audit: nobody
    /// waits for that.
    pub(super) fn start(
        store: Store,
        hands: Arc<dyn Hands>,
        (book, retry): (impl Book, Duration),
        inputs: mpsc::Sender<Input>,
        runtime: Handle,
    ) -> io::Result<Self> {
        let (writing, wanted) = std_mpsc::channel();
        let more = Arc::new(Notify::new());
        runtime.spawn(owed::pay(Arc::new(book), writing.clone(), Arc::clone(&more), retry));
        let told = inputs.clone();
        let body = move || write(store, &wanted, &more, &told);
        thread::Builder::new().name("remediations".to_owned()).spawn(body)?;
        let places = Arc::new(Semaphore::new(AT_A_TIME));
        Ok(Self { writing, hands, places, stops: Stops::default(), inputs, runtime })
    }

    pub(super) fn keep(&self, workflow: Box<Workflow>, at: Timestamp, records: Vec<Entry>) {
        if self.writing.send(Writing::Keep { workflow, at, records }).is_err() {
            tracing::error!("remediations: nobody is left to write them down");
        }
    }

    pub(super) fn forget(&self, vm: Uuid) {
        let _ = self.writing.send(Writing::Forget(vm));
    }

    /// What is done for the VM stops at the next point where nothing is lost.
    pub(super) fn stop(&self, vm: Uuid) {
        if let Some(stop) = self.stops().get(&vm) {
            stop.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn carry_out(&self, deed: Running, patient: Patient, order: Order) {
        let (vm, stop) = (patient.uuid, Arc::new(AtomicBool::new(false)));
        self.stops().insert(vm, Arc::clone(&stop));
        let this = self.clone();
        self.runtime.spawn(async move {
            let place = Arc::clone(&this.places).acquire_owned().await;
            let (hands, inputs) = (Arc::clone(&this.hands), this.inputs.clone());
            let asked = Arc::clone(&stop);
            let done = spawn_blocking(move || {
                // It may have waited for a place for long.
                if asked.load(Ordering::Relaxed) {
                    return Err(Failed::Stopped);
                }
                let mut teller = Teller { vm, deed, stop: asked, inputs, told: None };
                hands.carry_out(&patient, &order, &mut |progress| teller.hear(progress))
            });
            let ended = match done.await {
                Ok(ended) => ended,
                Err(error) => Err(Failed::Refused(format!("it has broken: {error}"))),
            };
            drop(place);
            this.stops().remove(&vm);
            let ended = ended.map(bounded).map_err(bounded_failure);
            let report = Report::Ended(ended);
            let _ = this.inputs.send(Input::Remedied { vm, deed, report }).await;
        });
    }

    fn stops(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Arc<AtomicBool>>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the brain how far a deed is, but not more often than a person reads it.
struct Teller {
    vm: Uuid,
    deed: Running,
    stop: Arc<AtomicBool>,
    inputs: mpsc::Sender<Input>,
    told: Option<Instant>,
}

impl Teller {
    fn hear(&mut self, progress: Progress) -> ControlFlow<()> {
        if self.told.is_none_or(|at| at.elapsed() >= PACE) {
            self.told = Some(Instant::now());
            let says = cut(progress.says);
            let report = Report::Progress(Progress { says, ..progress });
            let (vm, deed) = (self.vm, self.deed);
            // Where the brain is behind, the next word will do.
            let _ = self.inputs.try_send(Input::Remedied { vm, deed, report });
        }
        match self.stop.load(Ordering::Relaxed) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

fn settle(store: &mut Store, number: i64) {
    if let Err(why) = store.paid(number) {
        tracing::warn!(
            why,
            "remediations: a record that is in the audit is looked up again at the next start"
        );
    }
}

fn write(
    mut store: Store,
    wanted: &std_mpsc::Receiver<Writing>,
    more: &Notify,
    told: &mpsc::Sender<Input>,
) {
    let tell = |dropped: u64| {
        if dropped > 0 {
            tracing::error!(dropped, "remediations: the audit takes no records, some are dropped");
            let _ = told.blocking_send(Input::RecordsDropped(dropped));
        }
    };
    tell(store.dropped().unwrap_or_default());
    while let Ok(writing) = wanted.recv() {
        match writing {
            Writing::Owed(answer) => drop(answer.send(store.owed())),
            Writing::Paid(number) => settle(&mut store, number),
            Writing::Keep { workflow, at, records } => {
                let (vm, revision) = (workflow.vm, workflow.revision);
                let result = store.keep(&workflow, at, records).map(tell);
                if let Err(why) = &result {
                    tracing::error!(%vm, why, "remediations: one cannot be written down");
                }
                more.notify_one();
                let _ = told.blocking_send(Input::WorkflowKept { vm, revision, result });
            }
            Writing::Forget(vm) => {
                if let Err(why) = store.forget(vm) {
                    tracing::warn!(%vm, why, "remediations: one that is over cannot be removed");
                }
            }
        }
    }
}

/// How many further words of a deed are kept.
const MOST_WORDS: usize = 8;

fn bounded(done: Done) -> Done {
    let more = done.more.into_iter().take(MOST_WORDS);
    let more = more.map(|(name, value)| (cut(name), cut(value))).collect();
    Done { says: cut(done.says), more, ..done }
}

fn bounded_failure(failed: Failed) -> Failed {
    match failed {
        Failed::Stopped => Failed::Stopped,
        Failed::Refused(why) => Failed::Refused(cut(why)),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text,
        Some((end, _)) => text[..end].to_owned(),
    }
}

#[cfg(test)]
mod tests;
