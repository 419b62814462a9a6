//! Which quarantines are in force, and which of them is on a port, if any.

use std::collections::BTreeMap;

use detector_common::{
    addr::Mac,
    quarantine::{Cause, QuarantineMode},
    settings::Mode,
};
use uuid::Uuid;

use super::{Outcome, VmDecision, VmStatus, inventory::Merged, mode};
use crate::{
    model::{Observed, Quarantine, QuarantineTarget, World},
    reconcile::Isolator,
};

/// What isolates a port.
pub(super) struct Held<'a> {
    /// The quarantine to name: a person's outweighs a verdict's, since it holds in observe mode too.
    pub(super) quarantine: &'a Quarantine,
    /// The strictest mode of those that are on the port.
    pub(super) mode: QuarantineMode,
}

/// The quarantines on a port, if any.
pub(super) fn on_port(
    observed: &Observed,
    (ifindex, instance): (u32, u32),
    macs: impl IntoIterator<Item = Mac>,
    vms: impl IntoIterator<Item = Uuid>,
) -> Option<Held<'_>> {
    if observed.quarantines.is_empty() {
        return None;
    }
    let targets = std::iter::once(QuarantineTarget::Port { ifindex, instance })
        .chain(macs.into_iter().map(QuarantineTarget::Mac))
        .chain(vms.into_iter().map(QuarantineTarget::Vm));
    targets.filter_map(|target| observed.quarantines.get(&target)).fold(None, |held, quarantine| {
        let mode = quarantine.mode;
        Some(match held {
            None => Held { quarantine, mode },
            Some(Held { quarantine: other, mode: strictest }) => Held {
                quarantine: if quarantine.cause >= other.cause { quarantine } else { other },
                mode: mode.min(strictest),
            },
        })
    })
}

/// Whether a quarantine is in force on something that no source lists: it may be what isolates a
/// port whose VM is not known at present.
pub(super) fn any_unaccounted(observed: &Observed, inventory: &[Merged<'_>]) -> bool {
    observed.quarantines.keys().any(|target| match target {
        QuarantineTarget::Port { .. } => false,
        QuarantineTarget::Mac(mac) => {
            !inventory.iter().flat_map(|merged| &merged.vm.nics).any(|nic| nic.mac == *mac)
        }
        QuarantineTarget::Vm(uuid) => {
            inventory.binary_search_by_key(uuid, |merged| merged.vm.uuid).is_err()
        }
    })
}

/// By whom a quarantine isolates.
pub(super) fn isolator(cause: Cause) -> Isolator {
    match cause {
        Cause::Verdict => Isolator::Verdict,
        Cause::Operator => Isolator::Operator,
    }
}

/// Every quarantine in force, for no decision lifts one but those that await the mode's confirmation, and in
/// enforce mode one more for each VM that runs and is denied.
pub(super) fn in_force(
    inventory: &[Merged<'_>],
    decisions: &[VmDecision],
    world: &World,
) -> BTreeMap<QuarantineTarget, Quarantine> {
    let mut quarantines = world.observed.quarantines.clone();
    mode::settle(&mut quarantines, world);
    if world.mode() == Mode::Enforce && !world.is_under_maintenance() {
        let denied = inventory
            .iter()
            .zip(decisions)
            .filter(|(merged, _)| world.mode_of(&merged.vm) == Mode::Enforce);
        let is_denied = |one: &VmDecision| {
            one.status == VmStatus::Denied
                && one.responses.isolate
                && !one.is_spared(world.now)
                && !one.guard.keeps()
        };
        for (merged, decision) in denied.filter(|(_, one)| is_denied(one)) {
            let target = QuarantineTarget::Vm(merged.vm.uuid);
            let failed = decision.requirements.iter().find(|one| one.outcome == Outcome::Failed);
            let note = failed.map_or("", |one| &one.finding);
            let quarantine = Quarantine::new(target, world.now, Cause::Verdict, DAEMON, note)
                .in_mode(decision.responses.mode())
                .on_trial(world.is_on_trial());
            quarantines.insert(target, quarantine);
        }
    }
    quarantines
}

/// The user id that quarantines by verdict carry: the daemon decides on nobody's behalf.
pub(super) const DAEMON: u32 = 0;
