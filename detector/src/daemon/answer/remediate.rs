//! What people want of remediations.

use std::collections::BTreeSet;

use detector_core::{
    decide::VmStatus,
    model::{Digest, MediumRole, QuarantineTarget, Vm},
    remediate::{self, By, Outcome, Refusal, Shown, SightedMedium, Workflow},
};
use uuid::Uuid;

use super::operand;
use crate::{
    api::{
        ApiError, ErrorCode, Reply, Request,
        view::{
            ApprovalView, DeedView, EventView, PlanView, RemediationView, SightedView, StepView,
            VmRef, moment,
        },
    },
    daemon::{
        brain::Brain,
        input::{CallId, Effect},
    },
    enforcer::Enforcer,
};

/// Bytes of a reason.
const LONGEST_REASON: usize = 500;

/// Answers a request about remediations, or keeps whoever asks until what they want is on the disk.
pub(super) fn request<E: Enforcer>(brain: &mut Brain<E>, id: CallId, uid: u32, request: Request) {
    let answer = match request {
        Request::RemediatePlan { vm, outcome } => brain
            .remediation_plan(&vm, outcome)
            .map(|plan| Some(Reply::RemediationPlan(Box::new(plan)))),
        Request::RemediateStatus { vm: None } => {
            let vms: Vec<_> = brain.remediation.workflows().map(|workflow| workflow.vm).collect();
            let views = vms.into_iter().filter_map(|vm| brain.remediation_view(vm, false));
            Ok(Some(Reply::Remediations(views.collect())))
        }
        Request::RemediateStatus { vm: Some(name) } => {
            brain.workflow_named(&name).map(|workflow| {
                let view = brain.remediation_view(workflow.vm, true);
                Some(Reply::Remediations(view.into_iter().collect()))
            })
        }
        Request::RemediateStart { vm, outcome, reason, digests, alike } => {
            let wish = Wish { outcome, digests, alike };
            brain.by(uid, reason).and_then(|by| brain.start(id, &vm, &wish, &by)).map(|()| None)
        }
        Request::RemediateApprove { vm, digests, reason } => brain.change(id, &vm, uid, reason, {
            |brain, workflow, by| {
                let sighting = brain.sighting(workflow);
                workflow.approve(by, digests.into_iter().collect(), &brain.sight(&sighting))
            }
        }),
        Request::RemediateAbort { vm, reason } => {
            brain.change(id, &vm, uid, reason, |_, workflow, by| workflow.abort(&by))
        }
        Request::RemediateReject { vm, reason } => {
            brain.change(id, &vm, uid, reason, |_, workflow, by| workflow.reject(&by))
        }
        _ => Err(ApiError::new(ErrorCode::BadRequest, "not about remediations")),
    };
    match answer {
        Ok(None) => brain.remediate(),
        Ok(Some(reply)) => brain.emit(Effect::Reply { id, reply: Ok(reply), last: true }),
        Err(error) => brain.emit(Effect::Reply { id, reply: Err(error), last: true }),
    }
}

/// What is to be started.
struct Wish {
    outcome: Outcome,
    digests: Vec<Digest>,
    alike: bool,
}

impl<E: Enforcer> Brain<E> {
    /// The remediation of a VM; in full with its past.
    pub(in crate::daemon) fn remediation_view(
        &self,
        vm: Uuid,
        full: bool,
    ) -> Option<RemediationView> {
        let workflow = self.remediation.workflow(vm)?;
        let needed = workflow.needed(self.remediation.means.approvals);
        let name_of = |uuid: Uuid| self.vm(uuid).map(|(_, vm)| vm.name.clone());
        let deed = |by: &By| DeedView { uid: by.uid, at: moment(by.at), reason: by.why.clone() };
        let media = self.vm(vm).map(|(_, vm)| self.sighted_media(&vm.media)).unwrap_or_default();
        Some(RemediationView {
            vm: VmRef { uuid: vm, name: name_of(vm).unwrap_or_else(|| workflow.name.clone()) },
            outcome: workflow.outcome.clone(),
            stage: workflow.stage(),
            started: deed(&workflow.begun),
            waits: self.remediation.waits(vm),
            steps: workflow.steps.iter().map(StepView::from).collect(),
            needed,
            counted: workflow.counted(needed).into_iter().collect(),
            approvals: workflow
                .approvals
                .iter()
                .map(|approval| ApprovalView {
                    by: deed(&approval.by),
                    sha256: approval.digests.iter().map(Digest::to_string).collect(),
                })
                .collect(),
            media: if full { media.iter().map(sighted).collect() } else { Vec::new() },
            successor: workflow.successor.map(|uuid| VmRef {
                uuid,
                name: name_of(uuid).unwrap_or_else(|| uuid.to_string()),
            }),
            ended: workflow.ended.map(moment),
            history: workflow
                .history
                .iter()
                .filter(|_| full)
                .map(|event| EventView {
                    at: moment(event.at),
                    uid: event.uid,
                    what: event.what.clone(),
                })
                .collect(),
        })
    }

    fn remediation_plan(&self, name: &str, outcome: Outcome) -> Result<PlanView, ApiError> {
        let (_, vm) = self.vm_named(name)?;
        let means = self.means();
        let plan = remediate::plan(&outcome, &means, self.ways(vm.uuid)).map_err(refused)?;
        let media = self.sighted_media(&vm.media);
        let alike = self.alike(vm).into_iter().filter_map(|uuid| {
            let name = self.vm(uuid)?.1.name.clone();
            Some(VmRef { uuid, name })
        });
        Ok(PlanView {
            vm: VmRef { uuid: vm.uuid, name: vm.name.clone() },
            steps: plan.steps.iter().map(StepView::from).collect(),
            left_out: plan.left_out.into_iter().map(|(_, why)| why).collect(),
            needed: means.approvals.max(1),
            media: media.iter().map(sighted).collect(),
            alike: alike.collect(),
            outcome,
        })
    }

    fn by(&self, uid: u32, reason: String) -> Result<By, ApiError> {
        if reason.len() > LONGEST_REASON {
            let message =
                format!("the reason is longer than {LONGEST_REASON} bytes: say it in fewer words");
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        Ok(By { uid, at: self.world.now, why: reason })
    }

    /// The workflow of a VM, also of one that no inventory lists any more, or that has the place of another.
    fn workflow_named(&self, name: &str) -> Result<&Workflow, ApiError> {
        let gone = || {
            let mut named = self
                .remediation
                .workflows()
                .filter(|workflow| workflow.name == name || name.parse() == Ok(workflow.vm));
            named.next().filter(|_| named.next().is_none())
        };
        let vm = match self.vm_named(name) {
            Ok((_, vm)) => vm.uuid,
            Err(error) => return gone().ok_or(error),
        };
        let place = || {
            let mut workflows = self.remediation.workflows();
            workflows.find(|workflow| workflow.successor == Some(vm))
        };
        self.remediation.workflow(vm).or_else(place).ok_or_else(|| {
            let message = format!(
                "{name:?} is not being remediated; detector remediate plan {} shows how it would be",
                operand(name, vm)
            );
            ApiError::new(ErrorCode::NotFound, message)
        })
    }

    fn start(&mut self, id: CallId, name: &str, wish: &Wish, by: &By) -> Result<(), ApiError> {
        // The passing of time may have changed what is known.
        self.settle();
        let vm = self.vm_named(name)?.1.clone();
        let former = self.remediation.workflow(vm.uuid).cloned();
        if let Some(mut former) = former.filter(|former| !former.is_over())
            && former.outcome == wish.outcome
            && former.retry(by).is_ok()
        {
            self.put_remediations(id, vec![former]);
            return Ok(());
        }
        let mut vms = vec![vm.clone()];
        if wish.alike {
            let alike = self.alike(&vm);
            vms.extend(alike.into_iter().filter_map(|uuid| Some(self.vm(uuid)?.1.clone())));
        }
        self.make_room_for_remediations(vms.len())?;
        let begin = |vm: &Vm| self.begin_workflow(vm, wish, by);
        let workflows: Vec<Workflow> = vms.iter().map(begin).collect::<Result<_, _>>()?;
        tracing::info!(uid = by.uid, count = workflows.len(), "remediation started");
        self.put_remediations(id, workflows);
        Ok(())
    }

    /// A workflow for a VM, which nobody has approved anything for.
    pub(in crate::daemon) fn new_workflow(
        &self,
        vm: &Vm,
        outcome: &Outcome,
        by: &By,
    ) -> Result<Workflow, ApiError> {
        let means = self.means();
        let needed = means.approvals.max(1);
        let plan = remediate::plan(outcome, &means, self.ways(vm.uuid)).map_err(refused)?;
        let target = QuarantineTarget::Vm(vm.uuid);
        let before = self.world.observed.quarantines.get(&target).cloned();
        let former = self.remediation.workflow(vm.uuid);
        let (outcome, called) = (outcome.clone(), (vm.uuid, vm.name.as_str()));
        Workflow::start(called, outcome, plan, by.clone(), needed, before, former).map_err(refused)
    }

    fn begin_workflow(&self, vm: &Vm, wish: &Wish, by: &By) -> Result<Workflow, ApiError> {
        let mut workflow = self.new_workflow(vm, &wish.outcome, by)?;
        let digests: BTreeSet<Digest> = wish.digests.iter().copied().collect();
        if !digests.is_empty() {
            let sighting = self.sighting(&workflow);
            workflow
                .approve_at_once(by.clone(), digests, &self.sight(&sighting))
                .map_err(refused)?;
        }
        Ok(workflow)
    }

    fn change(
        &mut self,
        id: CallId,
        name: &str,
        uid: u32,
        reason: String,
        change: impl FnOnce(&Self, &mut Workflow, By) -> Result<(), Refusal>,
    ) -> Result<Option<Reply>, ApiError> {
        self.settle();
        let by = self.by(uid, reason)?;
        let mut workflow = self.workflow_named(name)?.clone();
        change(self, &mut workflow, by).map_err(refused)?;
        self.put_remediations(id, vec![workflow]);
        Ok(None)
    }

    /// Other VMs that are cut off, boot from the same, and are not being remediated.
    fn alike(&self, vm: &Vm) -> Vec<Uuid> {
        let Some(images) = digests(&self.sighted_media(&vm.media)) else { return Vec::new() };
        let cut_off = self.decision.vms.iter().filter(|(uuid, decision)| {
            let denied = matches!(decision.status, VmStatus::Denied | VmStatus::Quarantined);
            let idle = self.remediation.workflow(**uuid).is_none_or(Workflow::is_over);
            denied && idle && **uuid != vm.uuid
        });
        let same = |uuid: &Uuid| {
            let other = self.vm(*uuid)?.1;
            Some(digests(&self.sighted_media(&other.media))? == images)
        };
        cut_off.map(|(uuid, _)| *uuid).filter(|uuid| same(uuid) == Some(true)).collect()
    }

    /// Refuses to lift by itself what a remediation keeps.
    pub(super) fn refuse_while_remediated(&self, uuid: Uuid) -> Result<(), ApiError> {
        let workflow = self.remediation.workflow(uuid).filter(|workflow| !workflow.is_over());
        let Some(workflow) = workflow else { return Ok(()) };
        Err(ApiError::new(
            ErrorCode::StillFailing,
            format!(
                "the quarantine stays, because the VM is being remediated ({}): detector remediate abort {} ends \
                 that, and leaves it in quarantine",
                workflow.stage().as_str(),
                operand(&workflow.name, uuid)
            ),
        ))
    }
}

/// What it boots from, by role; `None` while not all of that is known.
fn digests(media: &[SightedMedium]) -> Option<BTreeSet<(MediumRole, Digest)>> {
    let digest = |medium: &SightedMedium| match medium.shown {
        Shown::Digest(digest) => Some((medium.role, digest)),
        Shown::Pending | Shown::Unreadable(_) => None,
    };
    let all: Option<BTreeSet<_>> = media.iter().map(digest).collect();
    all.filter(|all| !all.is_empty())
}

fn sighted(medium: &SightedMedium) -> SightedView {
    let (sha256, unreadable) = match &medium.shown {
        Shown::Digest(digest) => (Some(digest.to_string()), None),
        Shown::Pending => (None, None),
        Shown::Unreadable(why) => (None, Some(why.clone())),
    };
    let path = medium.path.display().to_string();
    SightedView { role: medium.role, path, sha256, unreadable, known: medium.known }
}

fn refused(refusal: Refusal) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, refusal.0)
}
