//! Carries out what the brain wants done outside the kernel, without making it wait.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self as std_mpsc, Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread,
};

use detector_core::model::Timestamp;
use tokio::{runtime::Handle, sync::mpsc};

use super::{
    input::{CallId, Effect, Input},
    remedies::Remedies,
    supervisor::Supervisor,
    turns::Turns,
};
use crate::{
    alert::Alerts,
    api::{
        ApiError, Reply,
        view::{AdmissionView, moment},
    },
    audit::Writer,
    findings::{self, Change, Journal},
    graces::GraceFile,
    inventory::{Inventory, Suspender},
    leases::{Adopted, Remembered},
    mitigations::MitigationFile,
    mode::ModeFile,
    part::{Curbed, List, Ports},
    pauses::PauseFile,
    quarantines::{Kept, Memory},
    registry::Gatherer,
};

/// Findings that wait to be written.
const BACKLOG: usize = 4096;

pub(super) struct Hands {
    pub(super) callers: Callers,
    pub(super) gatherer: Gatherer,
    /// Where results go.
    pub(super) inputs: mpsc::Sender<Input>,
    /// The runtime on which media are read.
    pub(super) runtime: Handle,
    pub(super) turns: Turns,
    pub(super) inventories: Vec<Box<dyn Inventory>>,
    pub(super) alerts: Alerts,
    pub(super) overhear: Ports,
    pub(super) curbs: Option<List<Curbed>>,
    pub(super) journal: SyncSender<(Timestamp, Change)>,
    pub(super) leases: Remembered,
    pub(super) adopted: Adopted,
    pub(super) mode: ModeFile,
    pub(super) graces: GraceFile,
    pub(super) pauses: PauseFile,
    pub(super) mitigations: MitigationFile,
    pub(super) suspender: Suspender,
    pub(super) supervisor: Supervisor,
    /// Where quarantines go to be kept.
    pub(super) quarantines: std_mpsc::Sender<Vec<Kept>>,
    pub(super) audit: Writer,
    pub(super) remedies: Remedies,
}

type Answers = mpsc::Sender<Result<Reply, ApiError>>;

/// Who waits for replies.
#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Mutex<BTreeMap<CallId, Answers>>>);

impl Callers {
    pub(super) fn add(&self, id: CallId, answers: Answers) {
        self.lock().insert(id, answers);
    }

    pub(super) fn remove(&self, id: CallId) {
        self.lock().remove(&id);
    }

    /// Whether somebody waits for the reply.
    fn waits(&self, id: CallId) -> bool {
        self.lock().get(&id).is_some_and(|answers| !answers.is_closed())
    }

    /// Sends a reply. False when nobody takes it any more, or not fast enough.
    fn answer(&self, id: CallId, reply: Result<Reply, ApiError>, last: bool) -> bool {
        let mut callers = self.lock();
        let Some(answers) = callers.get(&id) else { return false };
        let taken = answers.try_send(reply).is_ok();
        if last || !taken {
            callers.remove(&id);
        }
        taken
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<CallId, Answers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who has let go of a VM's files, and is answered when this is dropped.
struct Release {
    callers: Callers,
    call: Option<CallId>,
}

impl Release {
    /// Whether nobody else has the files yet, as far as that one has a say in it.
    fn is_held_up(&self) -> bool {
        self.call.is_none_or(|id| self.callers.waits(id))
    }
}

impl Drop for Release {
    fn drop(&mut self) {
        if let Some(id) = self.call {
            self.callers.answer(id, Ok(Reply::Admission(AdmissionView::noted())), true);
        }
    }
}

impl Hands {
    /// `today` is the time of day, for people. What has come of it already is for the brain to hear.
    #[must_use]
    pub(super) fn carry_out(&mut self, today: Timestamp, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Reply { id, reply, last } => {
                if !self.callers.answer(id, reply, last) && !last {
                    // The watcher's task says so too; saying it twice does no harm.
                    return Some(Input::HungUp(id));
                }
            }
            Effect::Gather { file, ticket } => {
                let (gatherer, inputs) = (self.gatherer.clone(), self.inputs.clone());
                self.runtime.spawn(async move {
                    let evidence = gatherer.gather(&file).await;
                    let _ = inputs.send(Input::Evidence { file, ticket, evidence }).await;
                });
            }
            Effect::LookAgain(media) => {
                let (gatherer, inputs) = (self.gatherer.clone(), self.inputs.clone());
                self.runtime.spawn(async move {
                    let looked = tokio::task::spawn_blocking(move || gatherer.altered(&media));
                    let altered = looked.await.unwrap_or_default();
                    let _ = inputs.send(Input::Altered(altered)).await;
                });
            }
            Effect::Begins { role, disk, digest } => {
                let gatherer = self.gatherer.clone();
                let path = disk.path.clone();
                self.turns.take(&path, move || gatherer.begin(role, &disk, digest));
            }
            Effect::Ends { disks, call } => {
                let release = Arc::new(Release { callers: self.callers.clone(), call });
                for disk in disks {
                    let (gatherer, release) = (self.gatherer.clone(), Arc::clone(&release));
                    let path = disk.path.clone();
                    self.turns.take(&path, move || gatherer.end(&disk, || release.is_held_up()));
                }
            }
            Effect::Reloaded => self.supervisor.ready(),
            Effect::AskSources => {
                self.inventories.iter().for_each(|inventory| inventory.resync());
            }
            Effect::Remember(leases) => {
                let file = self.leases.clone();
                self.turns.take(self.leases.path(), move || file.write(&leases));
            }
            Effect::KeepGraces(begun) => {
                let (graces, inputs) = (self.graces.clone(), self.inputs.clone());
                graces.set(begun);
                self.runtime.spawn_blocking(move || {
                    if let Err(why) = graces.write() {
                        let _ = inputs.blocking_send(Input::GracesLost(why));
                    }
                });
            }
            Effect::KeepMitigations(mitigations) => {
                let (file, inputs) = (self.mitigations.clone(), self.inputs.clone());
                file.set(*mitigations);
                self.runtime.spawn_blocking(move || {
                    let _ = inputs.blocking_send(Input::MitigationsKept(file.write()));
                });
            }
            Effect::Stop { source, vm, power } => {
                let unasked = self.suspender.put(&source, vm, power).err();
                return unasked.map(|why| Input::Paused(vm, Err(why)));
            }
            Effect::Curb(wanted) => {
                if let Some(curbs) = &self.curbs {
                    curbs.set(wanted);
                }
            }
            Effect::KeepPauses(suspended) => {
                let (pauses, inputs) = (self.pauses.clone(), self.inputs.clone());
                pauses.set(suspended);
                self.runtime.spawn_blocking(move || {
                    let _ = inputs.blocking_send(Input::PausesKept(pauses.write()));
                });
            }
            Effect::KeepAdopted(ports) => {
                let file = self.adopted.clone();
                self.turns.take(self.adopted.path(), move || file.write(ports));
            }
            Effect::KeepMode(kept) => {
                // It is rare, and whoever has confirmed it is told only once it is on the disk.
                let result = self.mode.write(&kept);
                if let Err(why) = &result {
                    tracing::error!(why, "the mode cannot be kept for after a restart of the host");
                }
                return Some(Input::ModeKept(result));
            }
            Effect::KeepQuarantines(kept) => {
                if self.quarantines.send(kept).is_err() {
                    tracing::error!("quarantines: nobody is left to write them down");
                }
            }
            Effect::KeepWorkflow { workflow, records } => {
                self.remedies.keep(workflow, moment(today), records);
            }
            Effect::ForgetWorkflow(vm) => self.remedies.forget(vm),
            Effect::Remedy { deed, patient, order } => {
                self.remedies.carry_out(deed, patient, order);
            }
            Effect::StopRemedy(vm) => self.remedies.stop(vm),
            Effect::Record(entry) => self.audit.decision(moment(today), *entry),
            Effect::Overhear(ports) => {
                // Where nobody listens, less is known of who is behind a port.
                self.overhear.set(ports);
            }
            Effect::TellAll(findings) => self.alerts.tell_all(findings),
            Effect::Tell(change) => {
                findings::log(&change);
                self.alerts.tell(change.clone());
                if let Err(TrySendError::Full(_)) = self.journal.try_send((today, change)) {
                    tracing::warn!("findings: the file is too slow, one is not written");
                }
            }
        }
        None
    }
}

/// Starts the thread that writes quarantines down, each state after the one before it; `map` is the one
/// that they are a copy of.
pub(super) fn keeper(memory: Memory, map: u32) -> io::Result<std_mpsc::Sender<Vec<Kept>>> {
    let (sender, receiver) = std_mpsc::channel();
    thread::Builder::new().name("quarantines".to_owned()).spawn(move || {
        while let Ok(first) = receiver.recv() {
            // Only the latest state is worth a write.
            let kept: Vec<Kept> = receiver.try_iter().last().unwrap_or(first);
            if let Err(error) = memory.write(map, &kept) {
                tracing::error!(%error, "quarantines cannot be kept over a restart of the host");
            }
        }
    })?;
    Ok(sender)
}

/// Starts the thread that writes findings to `path`.
pub(super) fn journal(path: &Path) -> io::Result<SyncSender<(Timestamp, Change)>> {
    let (sender, receiver): (_, Receiver<(Timestamp, Change)>) = sync_channel(BACKLOG);
    let mut journal = Journal::new(path);
    thread::Builder::new().name("findings".to_owned()).spawn(move || {
        for (at, change) in receiver {
            journal.write(at, &change);
        }
    })?;
    Ok(sender)
}
