//! What enforcing would cut: the verdicts are the same in both modes, so that what was refused while they were
//! only observed says it.

use std::collections::BTreeMap;

use detector_common::{
    port::{PortSlot, Role, flags},
    quarantine::Cause,
    reason::Reason,
};
use detector_core::{
    decide::{Outcome, VmDecision, VmStatus},
    model::{PowerState, QuarantineTarget},
};

use super::open;
use crate::{
    api::view::{
        CountersView, ModeView, PortState, PortView, Preview, PreviewPort, PreviewVm, VmRef,
        vm_status,
    },
    daemon::brain::Brain,
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    pub(super) fn preview(&mut self) -> Preview {
        self.refresh_seen();
        let ifindexes: Vec<_> = self.port_views().into_iter().map(|port| port.ifindex).collect();
        let mut ports: Vec<_> =
            ifindexes.into_iter().map(|ifindex| self.port_in_full(ifindex)).collect();
        self.add_counters(&mut ports);
        Preview {
            mode: self.mode().map_or(ModeView::None, ModeView::from),
            vms: self.vms_to_be_cut(),
            ports: ports.into_iter().filter_map(|port| self.port_to_be_cut(port)).collect(),
        }
    }

    fn vms_to_be_cut(&self) -> Vec<PreviewVm> {
        let decisions = self.decision.vms.iter();
        let mut vms: Vec<_> = decisions
            .filter_map(|(uuid, decision)| {
                let (_, vm) = self.vm(*uuid)?;
                let target = QuarantineTarget::Vm(*uuid);
                let quarantine = self.world.observed.quarantines.get(&target);
                if quarantine.is_some_and(|one| one.cause == Cause::Operator) {
                    return None;
                }
                if self.world.is_observed(vm) {
                    return None;
                }
                let effect = effect(decision)?;
                (vm.power != PowerState::Off).then(|| PreviewVm {
                    vm: VmRef { uuid: *uuid, name: vm.name.clone() },
                    status: vm_status(decision.status).to_owned(),
                    effect: effect.to_owned(),
                    why: open(&decision.requirements)
                        .into_iter()
                        .filter(|one| one.outcome != Outcome::Met)
                        .map(|one| format!("{}: {}", one.id, one.finding))
                        .collect(),
                })
            })
            .collect();
        vms.sort_by(|a, b| (&a.vm.name, a.vm.uuid).cmp(&(&b.vm.name, b.vm.uuid)));
        vms
    }

    /// What an operator has cut off, and the sandbox, is cut off in every mode; what is observed by itself in
    /// none.
    fn port_to_be_cut(&self, port: PortView) -> Option<PreviewPort> {
        let held = self.world.observed.interfaces.get(&port.ifindex);
        let always = |slot: &PortSlot| {
            slot.has(flags::ISOLATED_BY_OPERATOR | flags::OBSERVED) || slot.role() == Role::Sandbox
        };
        if held.is_some_and(|held| always(&held.slot)) {
            return None;
        }
        let guest = port.role == "guest";
        let mute = guest && !matches!(port.status, PortState::Granted | PortState::Kept);
        let unlisted = if mute { 0 } else { port.unlisted() };
        let (from, to) = port.counters.map(refused).unwrap_or_default();
        let claims = port.sightings;
        (mute || !from.is_empty() || !to.is_empty() || !claims.is_empty()).then_some(PreviewPort {
            name: port.name,
            ifindex: port.ifindex,
            instance: port.instance,
            role: port.role,
            status: port.status,
            vm: port.vm,
            mute,
            why: port.why,
            from,
            to,
            claims,
            unlisted,
        })
    }
}

/// What enforcing does to a VM; `None` for nothing.
fn effect(decision: &VmDecision) -> Option<&'static str> {
    match decision.status {
        VmStatus::Denied if !decision.responses.isolate => {
            Some("is granted nothing new, and keeps what is in force")
        }
        VmStatus::Denied if decision.responses.sandbox => {
            Some("is quarantined: speaks with the sandbox only")
        }
        VmStatus::Denied => Some("is quarantined: neither sends nor receives"),
        VmStatus::Pending => {
            Some("stays mute until there is a verdict, unless it is granted already")
        }
        VmStatus::Quarantined => Some("stays quarantined"),
        VmStatus::Approved | VmStatus::Off => None,
    }
}

type ByReason = BTreeMap<String, u64>;

/// The frames that were refused; others that are counted have passed.
fn refused(counters: CountersView) -> (ByReason, ByReason) {
    let refused = |counts: ByReason| {
        let passes =
            |name: &str| Reason::ALL.iter().any(|one| one.as_str() == name && one.passes());
        counts.into_iter().filter(|(name, count)| *count > 0 && !passes(name)).collect()
    };
    (refused(counters.from), refused(counters.to))
}
