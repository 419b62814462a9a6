//! Which ports get a shield.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{port::flags, settings::Mode};

use crate::{
    model::{ObservedInterface, World},
    reconcile::{InterfacePlan, Isolation, Isolator, PortPlan},
};

/// The ports that are isolated, with effect, and flood.
pub(super) fn wanted(
    world: &World,
    interfaces: &BTreeMap<u32, (String, InterfacePlan)>,
    observed: &BTreeSet<u32>,
) -> BTreeSet<u32> {
    let mode = |ifindex| if observed.contains(ifindex) { Mode::Observe } else { world.mode() };
    let flooding = world.loads.iter().filter(|(_, load)| load.flood.is_some());
    flooding
        .filter(|(ifindex, load)| {
            let Some(held) = world.observed.interfaces.get(ifindex) else { return false };
            let Some((_, InterfacePlan::Guest(plan))) = interfaces.get(ifindex) else {
                return false;
            };
            held.slot.instance == load.instance && is_cut_off(plan, held, mode(ifindex))
        })
        .map(|(ifindex, _)| *ifindex)
        .collect()
}

fn is_cut_off(plan: &PortPlan, held: &ObservedInterface, mode: Mode) -> bool {
    let enforced = mode == Mode::Enforce;
    match plan {
        // One in the sandbox is to be heard there.
        PortPlan::Isolated(Isolation { sandbox: Some(_), .. }) => false,
        PortPlan::Isolated(isolation) => enforced || isolation.by == Isolator::Operator,
        PortPlan::Keep => {
            let by_operator = held.slot.has(flags::ISOLATED_BY_OPERATOR);
            let dropped = held.slot.has(flags::ISOLATED) && !held.slot.is_sandboxed();
            dropped && (enforced || by_operator)
        }
        PortPlan::Pending | PortPlan::Granted(_) => false,
    }
}
