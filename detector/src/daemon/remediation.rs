//! VMs that are brought back: what is written down of each, what it waits for, and who waits for that.
//!
//! Nothing is begun before it is on the disk that it begins, and nobody is answered before what they want is on the
//! disk. What comes next the core says (`detector_core::remediate`); [`advance`] does it.

mod advance;
mod automatic;
mod findings;
mod sights;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_core::{
    decide::VmStatus,
    model::{QuarantineTarget, Template, Timestamp},
    remediate::{Event, Means, Step, Workflow},
};
use uuid::Uuid;

use automatic::Unstarted;

use super::{
    brain::Brain,
    input::{CallId, Effect},
};
use crate::{
    api::{ApiError, ErrorCode, Reply},
    audit::{Entry, Kind, Subject, Who},
    enforcer::Enforcer,
    remediate::{
        EVENT, Recalled,
        hands::{Done, Failed, Progress},
    },
};

/// Workflows that are kept: those that are over and with which nothing was approved go first.
const MOST: usize = 512;
/// Until what could not be written down, or was refused by the kernel, is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What is being done outside of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    pub step: Step,
    /// When the workflow has begun that it is a step of: the VM may have another one by the time that it ends.
    pub workflow: Timestamp,
}

/// What has become of a deed, so far.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    Progress(Progress),
    Ended(Result<Done, Failed>),
}

#[derive(Debug, Default)]
pub(super) struct Remediation {
    held: BTreeMap<Uuid, Held>,
    pub(super) means: Means,
    /// Why what people had approved may not be known.
    lost: Option<(Timestamp, String)>,
    /// Who is answered once this revision of a VM's workflow is on the disk.
    callers: Vec<(CallId, Vec<(Uuid, u64)>)>,
    /// When there is something to do though nothing happens.
    again: Option<Timestamp>,
    /// What the policy wanted started and could not.
    unstarted: Unstarted,
}

#[derive(Debug)]
struct Held {
    workflow: Workflow,
    /// What is on the disk.
    kept: Option<Workflow>,
    /// What is on its way there.
    writing: Option<Workflow>,
    /// Since when it cannot be written down, or carried out, and why.
    trouble: Option<(Timestamp, String)>,
    retry: Option<Timestamp>,
    /// One deed at a time, also where it was a former workflow that wanted it.
    running: Option<Running>,
    /// For which step its media have been read again, and whether the VM was off.
    read: Option<(Step, bool)>,
    waits: Option<String>,
    /// What was last said of a verification.
    failed: Option<String>,
}

impl Held {
    fn new(workflow: Workflow, kept: Option<Workflow>) -> Self {
        Self {
            workflow,
            kept,
            writing: None,
            trouble: None,
            retry: None,
            running: None,
            read: None,
            waits: None,
            failed: None,
        }
    }

    fn is_kept(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.revision == self.workflow.revision)
    }

    /// Whether its VM is approved, or verified, at rest: what it boots from is looked at meanwhile.
    fn is_about_images(&self) -> bool {
        let step = self.workflow.current().filter(|_| !self.workflow.is_over());
        step.is_some_and(|planned| matches!(planned.step, Step::Approve | Step::Verify))
    }
}

impl Remediation {
    pub(super) fn workflow(&self, vm: Uuid) -> Option<&Workflow> {
        self.held.get(&vm).map(|held| &held.workflow)
    }

    pub(super) fn workflows(&self) -> impl Iterator<Item = &Workflow> {
        self.held.values().map(|held| &held.workflow)
    }

    /// What a workflow waits for.
    pub(super) fn waits(&self, vm: Uuid) -> Option<String> {
        let held = self.held.get(&vm)?;
        match (&held.trouble, &held.waits) {
            (Some((_, why)), _) => Some(why.clone()),
            (None, waits) => waits.clone(),
        }
    }

    /// VMs whose media are looked at although they are off.
    pub(super) fn at_rest(&self) -> BTreeSet<Uuid> {
        let about_images = self.held.iter().filter(|(_, held)| held.is_about_images());
        about_images.map(|(vm, held)| held.workflow.successor.unwrap_or(*vm)).collect()
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.again
    }

    /// What has been approved for single VMs, by what is on the disk.
    fn births(&self) -> BTreeMap<Uuid, Template> {
        let kept = self.held.iter().filter_map(|(vm, held)| Some((*vm, held.kept.as_ref()?)));
        kept.filter_map(|(vm, kept)| Some((vm, kept.birth()?))).collect()
    }

    /// Changes a workflow, or begins one.
    fn put(&mut self, workflow: Workflow) {
        match self.held.get_mut(&workflow.vm) {
            Some(held) => {
                if held.workflow.begun.at != workflow.begun.at {
                    held.read = None;
                }
                (held.workflow, held.waits, held.failed, held.retry) = (workflow, None, None, None);
            }
            None => drop(self.held.insert(workflow.vm, Held::new(workflow, None))),
        }
    }
}

impl<E: Enforcer> Brain<E> {
    /// What was written down before the start, and what this host has to remediate with.
    pub(super) fn recall_remediations(&mut self, recalled: Recalled, means: Means) {
        let now = self.world.now;
        self.remediation.means = means;
        self.world.births.lost.clone_from(&recalled.lost);
        self.remediation.lost = recalled.lost.map(|why| (now, why));
        for workflow in recalled.workflows {
            let held = Held::new(workflow.clone(), Some(workflow));
            self.remediation.held.insert(held.workflow.vm, held);
        }
        self.world.births.held = self.remediation.births();
    }

    /// Begins or changes workflows in somebody's name, who is answered once that is on the disk.
    pub(super) fn put_remediations(&mut self, id: CallId, workflows: Vec<Workflow>) {
        let revisions = workflows.iter().map(|workflow| (workflow.vm, workflow.revision)).collect();
        self.put_workflows(workflows);
        self.remediation.callers.push((id, revisions));
    }

    /// Begins or changes workflows.
    fn put_workflows(&mut self, workflows: Vec<Workflow>) {
        for workflow in workflows {
            // What is being done for a workflow that has turned elsewhere stops where nothing is lost.
            let vm = workflow.vm;
            let running = self.remediation.held.get(&vm).and_then(|held| held.running);
            let wanted = |running: Running| {
                running.workflow == workflow.begun.at
                    && workflow.steps.iter().any(|planned| planned.step == running.step)
            };
            if running.is_some_and(|running| !wanted(running)) {
                self.emit(Effect::StopRemedy(vm));
            }
            self.remediation.put(workflow);
        }
        self.remediation.again = Some(self.world.now);
    }

    /// Makes room for one more workflow.
    pub(super) fn make_room_for_remediations(&mut self, count: usize) -> Result<(), ApiError> {
        while self.remediation.held.len() + count > MOST {
            let idle = self.remediation.held.iter().filter(|(_, held)| {
                let workflow = &held.workflow;
                let idle = workflow.is_over() && held.running.is_none();
                idle && workflow.approved.is_empty() && held.is_kept()
            });
            let oldest = idle.min_by_key(|(_, held)| held.workflow.ended).map(|(vm, _)| *vm);
            let Some(vm) = oldest else {
                let message = format!(
                    "there are {MOST} remediations under way, or with something approved: reject those whose VMs \
                     are gone (detector remediate status)"
                );
                return Err(ApiError::new(ErrorCode::Busy, message));
            };
            self.remediation.held.remove(&vm);
            self.emit(Effect::ForgetWorkflow(vm));
        }
        Ok(())
    }

    /// Whether a workflow is on the disk by now, as [`Effect::KeepWorkflow`] asked.
    pub(super) fn workflow_kept(&mut self, vm: Uuid, revision: u64, result: Result<(), String>) {
        let now = self.world.now;
        let Some(held) = self.remediation.held.get_mut(&vm) else { return };
        let Some(written) = held.writing.take_if(|writing| writing.revision == revision) else {
            return;
        };
        match result {
            Ok(()) => {
                (held.trouble, held.retry) = (None, None);
                held.kept = Some(written);
                self.world.births.held = self.remediation.births();
                self.answer_kept();
            }
            Err(why) => {
                let why = format!("it cannot be written down: {why}");
                let since = held.trouble.as_ref().map_or(now, |(since, _)| *since);
                (held.trouble, held.retry) = (Some((since, why.clone())), Some(now + RETRY));
                self.refuse_unkept(vm, &why);
            }
        }
    }

    /// Answers those whose wish is on the disk.
    fn answer_kept(&mut self) {
        let held = &self.remediation.held;
        let is_kept = |(vm, revision): &(Uuid, u64)| {
            let kept = held.get(vm).and_then(|held| held.kept.as_ref());
            kept.is_some_and(|kept| kept.revision >= *revision)
        };
        let callers = self.remediation.callers.extract_if(.., |(_, all)| all.iter().all(is_kept));
        for (id, all) in callers.collect::<Vec<_>>() {
            let vms = all.into_iter().map(|(vm, _)| vm);
            let views = vms.filter_map(|vm| self.remediation_view(vm, true)).collect();
            self.emit(Effect::Reply { id, reply: Ok(Reply::Remediations(views)), last: true });
        }
    }

    /// What somebody wanted is not on the disk, and so has not been done.
    fn refuse_unkept(&mut self, vm: Uuid, why: &str) {
        let asks = |(_, all): &mut (CallId, Vec<(Uuid, u64)>)| all.iter().any(|(of, _)| *of == vm);
        let refused: Vec<_> = self.remediation.callers.extract_if(.., asks).collect();
        for (id, all) in refused {
            for (of, _) in all {
                let Some(held) = self.remediation.held.get_mut(&of) else { continue };
                match held.kept.clone() {
                    // Its own progress is found again.
                    Some(kept) => held.workflow = kept,
                    None => drop(self.remediation.held.remove(&of)),
                }
            }
            let error = ApiError::new(ErrorCode::Unavailable, format!("nothing was done: {why}"));
            self.emit(Effect::Reply { id, reply: Err(error), last: true });
        }
    }

    /// What has become of a deed. False when nothing follows from it.
    pub(super) fn remedied(&mut self, vm: Uuid, deed: Running, report: Report) -> bool {
        let now = self.world.now;
        let held = self.remediation.held.get_mut(&vm);
        // Of what nobody has asked for nothing is believed.
        let Some(held) = held.filter(|held| held.running == Some(deed)) else { return false };
        let (step, is_former) = (deed.step, deed.workflow != held.workflow.begun.at);
        let result = match report {
            Report::Progress(_) if is_former => return false,
            Report::Progress(progress) => {
                held.workflow.progress(step, progress.percent, progress.says);
                return false;
            }
            Report::Ended(result) => result,
        };
        held.running = None;
        if is_former {
            let came = result.map_or_else(|failed| failed.to_string(), |done| done.says);
            let what = format!("{} of the remediation before has ended: {came}", step.as_str());
            held.workflow.note(now, None, what);
            return true;
        }
        let result = match result {
            Ok(done) => {
                held.workflow.successor = done.successor.or(held.workflow.successor);
                let more = done.more.iter().map(|(name, value)| format!("; {name}: {value}"));
                Ok([done.says.clone()].into_iter().chain(more).collect::<String>())
            }
            Err(failed) => Err(failed.to_string()),
        };
        // Of a workflow that has turned elsewhere it is no step any more.
        let _ = held.workflow.finish(step, now, result);
        true
    }

    /// Whether a VM that is verified passes, so that its quarantine is about to be lifted, or has just been.
    pub(super) fn is_about_to_return(&self, vm: Uuid) -> bool {
        let workflow = self.remediation.workflow(vm).filter(|workflow| !workflow.is_over());
        let Some(workflow) = workflow else { return false };
        let step = workflow.current().map(|planned| planned.step);
        let verdict = self.decision.vms.get(&vm).map(|decision| decision.verdict);
        verdict == Some(VmStatus::Approved)
            && matches!(step, None | Some(Step::Verify | Step::Release))
    }

    /// Whether a provisioner is at work on the VM, which is quarantined meanwhile.
    pub(super) fn is_being_provisioned(&self, vm: Uuid) -> bool {
        let held = self.remediation.held.get(&vm);
        held.and_then(|held| held.running).is_some_and(|running| running.step == Step::Provision)
            && self.world.observed.quarantines.contains_key(&QuarantineTarget::Vm(vm))
    }
}

/// What has happened since the workflow was written down before, for the audit. Each has a name of its own, by which it is
/// found there after a crash.
fn records(before: Option<&Workflow>, now: &Workflow) -> Vec<Entry> {
    let known = before.map_or(0, |before| before.revision);
    let news = usize::try_from(now.revision.saturating_sub(known)).unwrap_or(usize::MAX);
    let skipped = now.history.len().saturating_sub(news);
    let stage = before.map(|before| before.stage().as_str());
    let last = now.history.len().saturating_sub(1);
    let entry = |(place, event): (usize, &Event)| {
        let number = now.revision.saturating_sub((last - place) as u64);
        let name = format!("{}/{}/{number}", now.vm, now.begun.at.0);
        let who = event.uid.map_or(Who::Daemon, |uid| Who::User { uid });
        Entry::new(Kind::Remediation, who)
            .on(Subject::new("vm", now.vm.to_string()).named(now.name.as_str()))
            .change(stage, now.stage().as_str())
            .why(event.what.as_str())
            .because(EVENT, [name])
    };
    now.history.iter().enumerate().skip(skipped).map(entry).collect()
}
