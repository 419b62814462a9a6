use std::sync::Arc;

use detector_common::settings::Mode;
use detector_core::decide::{
    VmDecision, VmStatus, decide,
    policy::{Responses, Rules},
};

use super::open;
use crate::{
    api::{
        Reply,
        view::{PolicyChange, PolicyDiffView, PolicyView, VmRef, moment},
    },
    daemon::{
        brain::Brain,
        input::{CallId, Effect},
    },
    enforcer::Enforcer,
};

/// Answers what these rules would change. As any request, it sees what came before it.
pub(in crate::daemon) fn diff<E: Enforcer>(brain: &mut Brain<E>, id: CallId, rules: Arc<Rules>) {
    brain.settle();
    let reply = Ok(Reply::PolicyDiff(brain.policy_diff(rules)));
    brain.emit(Effect::Reply { id, reply, last: true });
}

impl<E: Enforcer> Brain<E> {
    pub(super) fn policy_view(&self) -> PolicyView {
        let book = &self.world.rules;
        let refused = book.refused.as_ref();
        PolicyView {
            origin: book.origin.clone(),
            rules: book.rules.list().to_vec(),
            text: book.rules.text().to_owned(),
            refused: refused.map_or_else(Vec::new, |refused| refused.why.clone()),
            refused_since: refused.map(|refused| moment(refused.since)),
        }
    }

    /// What these rules would change. They judge the same world and nothing else: a copy of it, of which
    /// nothing is carried out.
    fn policy_diff(&self, rules: Arc<Rules>) -> PolicyDiffView {
        let mut world = self.world.clone();
        world.rules.rules = rules;
        let other = decide(&world);
        let mut changes: Vec<_> = other
            .vms
            .iter()
            .filter_map(|(uuid, to)| {
                let from = self.decision.vms.get(uuid)?;
                let (_, vm) = self.vm(*uuid)?;
                differs(from, to).then(|| PolicyChange {
                    vm: VmRef { uuid: *uuid, name: vm.name.clone() },
                    power: vm.power,
                    from: from.verdict,
                    to: to.verdict,
                    effect: effect(from, to, world.mode()).to_owned(),
                    rules: to.rules.clone(),
                    why: why(to),
                })
            })
            .collect();
        changes.sort_by(|a, b| (&a.vm.name, a.vm.uuid).cmp(&(&b.vm.name, b.vm.uuid)));
        let losing = other.vms.values().filter(|one| one.guard.keeps()).count();
        let held = other.vms.values().filter(|one| one.guard.held().is_some()).count();
        PolicyDiffView { vms: other.vms.len(), losing, held, changes }
    }
}

fn differs(from: &VmDecision, to: &VmDecision) -> bool {
    let what = |one: &VmDecision| {
        // By which rules is no difference.
        let responses = Responses { rules: Vec::new(), ..one.responses.clone() };
        (one.status, one.verdict, responses, one.address_rules.clone())
    };
    what(from) != what(to)
}

/// What would follow for its ports.
fn effect(from: &VmDecision, to: &VmDecision, mode: Mode) -> &'static str {
    match (to.status, to.verdict) {
        (VmStatus::Off, _) => "nothing until it starts",
        (VmStatus::Quarantined, VmStatus::Approved) => "stays quarantined until it is released",
        (VmStatus::Quarantined, _) => "stays quarantined",
        (VmStatus::Approved, _)
            if from.status == VmStatus::Approved && from.address_rules != to.address_rules =>
        {
            "is granted addresses by another rule"
        }
        (VmStatus::Approved, _) => "is granted its identities",
        (VmStatus::Pending, _) if from.status == VmStatus::Approved => "keeps what is in force",
        (VmStatus::Pending, _) => "stays as it is until there is a verdict",
        (VmStatus::Denied, _) if !to.responses.isolate => {
            "keeps what is in force, and is granted nothing new"
        }
        (VmStatus::Denied, _) if to.grace.is_some() => {
            "keeps what is in force for its grace period, then is quarantined"
        }
        (VmStatus::Denied, _) if to.guard.held().is_some() => {
            "is held: keeps what is in force until a person approves"
        }
        (VmStatus::Denied, _) if mode == Mode::Observe => "would be quarantined (mode is observe)",
        (VmStatus::Denied, _) if to.responses.sandbox => {
            "is quarantined: speaks with the sandbox only"
        }
        (VmStatus::Denied, _) => "is quarantined: neither sends nor receives",
    }
}

fn why(decision: &VmDecision) -> Vec<String> {
    let open = open(&decision.requirements).into_iter();
    open.map(|one| format!("{}: {}", one.id, one.finding)).collect()
}
