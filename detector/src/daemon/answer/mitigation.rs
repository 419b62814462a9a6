//! VMs that are held, and what people say of them.

use detector_core::{
    decide::{Outcome, VmDecision},
    model::{Hold, ProcessId, Word},
};
use uuid::Uuid;

use crate::{
    api::{
        ApiError, ErrorCode, Reply,
        view::{HeldView, MitigationsView, VmRef, WordView, moment},
    },
    daemon::{
        brain::Brain,
        input::{CallId, Effect},
        mitigations::Said,
    },
    enforcer::Enforcer,
};

/// Bytes of a reason.
const LONGEST_REASON: usize = 500;

/// What a person says of VMs that are held.
pub(super) struct Wish {
    pub(super) vms: Vec<String>,
    /// All that nobody has said anything of.
    pub(super) all: bool,
    pub(super) approves: bool,
    pub(super) reason: String,
}

/// Keeps whoever says so until it is on the disk and in force.
pub(super) fn say<E: Enforcer>(brain: &mut Brain<E>, id: CallId, uid: u32, wish: Wish) {
    // The passing of time may have changed who is held.
    brain.settle();
    match brain.meant(&wish) {
        Ok(vms) => {
            let Wish { approves, reason: why, .. } = wish;
            let word = Word { approves, uid, at: brain.world.now, why };
            brain.guarding.hear(Said { by: id, vms, word });
            brain.keep_mitigations();
        }
        Err(error) => brain.emit(Effect::Reply { id, reply: Err(error), last: true }),
    }
}

impl<E: Enforcer> Brain<E> {
    pub(super) fn mitigation_list(&self) -> Reply {
        Reply::Mitigations(Box::new(self.mitigations_view()))
    }

    pub(in crate::daemon) fn mitigations_view(&self) -> MitigationsView {
        let name = |uuid: Uuid| {
            let name = match (self.decision.stray(uuid), self.vm(uuid)) {
                (Some(id), _) => of_process(id),
                (None, Some((_, vm))) => vm.name.clone(),
                (None, None) => uuid.to_string(),
            };
            VmRef { uuid, name }
        };
        let decisions = self.decision.vms.iter();
        let held = decisions.filter_map(|(uuid, one)| Some((uuid, one, one.guard.held()?)));
        let mut held: Vec<_> =
            held.map(|(uuid, one, hold)| held_view(name(*uuid), Some(one), hold)).collect();
        let strays = self.decision.mitigations.held.iter();
        let strays = strays
            .filter(|(uuid, hold)| self.decision.stray(**uuid).is_some() && !hold.is_approved());
        held.extend(strays.map(|(uuid, hold)| held_view(name(*uuid), None, hold)));
        held.sort_by(|a, b| (&a.vm.name, a.vm.uuid).cmp(&(&b.vm.name, b.vm.uuid)));
        let mitigations = &self.decision.mitigations;
        MitigationsView {
            guards: self.world.policy.blast.is_some(),
            vms: self.world.policy.blast.map(|limits| limits.vms),
            percent: self.world.policy.blast.map(|limits| limits.percent),
            window_seconds: self.world.policy.blast.map(|limits| limits.window.as_secs()),
            taken: mitigations.taken.keys().map(|uuid| name(*uuid)).collect(),
            blind_until: mitigations.blind_until.map(moment),
            unkept: self.world.recorded.lost.as_ref().map(|lost| lost.why.clone()),
            held,
        }
    }

    pub(in crate::daemon) fn held_view(&self, uuid: Uuid) -> Option<HeldView> {
        let (decision, (_, vm)) = (self.decision.vms.get(&uuid)?, self.vm(uuid)?);
        let vm = VmRef { uuid, name: vm.name.clone() };
        Some(held_view(vm, Some(decision), decision.guard.held()?))
    }

    fn meant(&self, wish: &Wish) -> Result<Vec<Uuid>, ApiError> {
        if wish.reason.len() > LONGEST_REASON {
            let message =
                format!("the reason is longer than {LONGEST_REASON} bytes: say it in fewer words");
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        let hold = |uuid: &Uuid| match self.decision.vms.get(uuid) {
            Some(decision) => decision.guard.held(),
            None => self
                .decision
                .mitigations
                .held
                .get(uuid)
                .filter(|_| self.decision.stray(*uuid).is_some()),
        };
        let strays = self
            .decision
            .mitigations
            .held
            .keys()
            .filter(|uuid| self.decision.stray(**uuid).is_some());
        let strays: Vec<Uuid> = strays.copied().collect();
        let mut vms: Vec<Uuid> = Vec::new();
        for name in &wish.vms {
            let stray = strays
                .iter()
                .find(|uuid| self.decision.stray(**uuid).is_some_and(|id| of_process(id) == *name));
            let uuid = match stray {
                Some(uuid) => *uuid,
                None => self.vm_named(name)?.1.uuid,
            };
            if hold(&uuid).is_none() {
                let message =
                    format!("{name:?} is not held; detector mitigation list shows what is");
                return Err(ApiError::new(ErrorCode::NotFound, message));
            }
            vms.push(uuid);
        }
        if wish.all {
            let open = |uuid: &&Uuid| hold(uuid).is_some_and(|hold| hold.word.is_none());
            vms.extend(self.decision.vms.keys().chain(&strays).filter(open));
        }
        match vms.is_empty() {
            true => Err(ApiError::new(ErrorCode::NotFound, "no VM waits for a word")),
            false => Ok(vms),
        }
    }
}

/// A VM that no inventory knows, where VMs have names.
fn of_process(id: ProcessId) -> String {
    format!("process-{}", id.pid)
}

fn held_view(vm: VmRef, decision: Option<&VmDecision>, hold: &Hold) -> HeldView {
    let failed = decision.map(|decision| {
        let failed = decision.requirements.iter().find(|one| one.outcome == Outcome::Failed);
        failed.map_or_else(String::new, |one| one.finding.clone())
    });
    HeldView {
        vm,
        since: moment(hold.since),
        why: failed.unwrap_or_else(|| "No inventory knows it.".to_owned()),
        rules: hold.grounds.iter().cloned().collect(),
        rejected: hold.word.as_ref().filter(|word| !word.approves).map(|word| WordView {
            uid: word.uid,
            at: moment(word.at),
            reason: word.why.clone(),
        }),
    }
}
