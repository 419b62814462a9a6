//! A guest port whose guard is attached: from what it holds to what it should hold.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    addr::Mac,
    port::{Grant, GrantKey, PortSlot, PrefixKey, flags},
};

use super::{
    Action, GrantEntry, Identity, Isolation, Isolator, PortPlan, SlotEntry, Steps, compile,
};
use crate::model::{ObservedInterface, Shield};

/// What a port's surroundings say about its MACs.
#[derive(Clone, Copy)]
pub(super) struct Place {
    /// Its VM is between two hosts.
    pub(super) in_transit: bool,
    /// Whatever it is on has forwarding entries that are ours to put.
    pub(super) has_entries: bool,
    /// What it sends may come back from outside by design.
    pub(super) reflected: bool,
}

pub(super) fn converge(
    ifindex: u32,
    plan: &PortPlan,
    place: Place,
    held: &ObservedInterface,
    steps: &mut Steps,
) {
    let instance = held.slot.instance;
    let unpin = |(mac, vlan): &_| Action::UnpinForwarding { ifindex, mac: *mac, vlan: *vlan };
    let give_way = |(mac, vlan): &_| Action::YieldMac { ifindex, instance, mac: *mac, vlan: *vlan };
    let (phase, (slot, wanted)) = match plan {
        // Whatever is kept, the guest may speak from the other host.
        PortPlan::Keep if place.in_transit => {
            steps.unpin.extend(held.forwarding.iter().map(unpin));
            steps.unpin.extend(held.defended.iter().map(give_way));
            return;
        }
        PortPlan::Keep => return,
        PortPlan::Granted(identities) => {
            return grant(ifindex, identities, place, held, steps);
        }
        PortPlan::Pending => (&mut steps.mute, (SlotEntry::default(), Vec::new())),
        PortPlan::Isolated(isolation) => (&mut steps.isolate, isolated(isolation)),
    };
    phase.extend(changes(ifindex, &slot, &wanted, held));
    phase.extend(held.forwarding.iter().map(unpin));
    phase.extend(held.defended.iter().map(give_way));
}

/// What isolates a port. In the sandbox it has its MACs, and nothing is granted.
fn isolated(isolation: &Isolation) -> (SlotEntry, Vec<GrantEntry>) {
    let by = match isolation.by {
        Isolator::Verdict => flags::ISOLATED,
        Isolator::Operator => flags::ISOLATED | flags::ISOLATED_BY_OPERATOR,
    };
    match &isolation.sandbox {
        None => (SlotEntry { flags: by, ..SlotEntry::default() }, Vec::new()),
        Some(sandbox) => {
            let (slot, entries) = compile(&sandbox.identities);
            let limited = if sandbox.limited { flags::LIMITED } else { 0 };
            let flags = slot.flags & !flags::GRANTED | flags::SANDBOXED | limited | by;
            (SlotEntry { flags, ..slot }, entries)
        }
    }
}

/// What leads to the passage that is wanted.
pub(super) fn passage(
    ifindex: u32,
    plan: &PortPlan,
    held: &ObservedInterface,
    actions: &mut Vec<Action>,
) {
    let instance = held.slot.instance;
    let open = held.passage.map(|passage| passage.bridge);
    let wanted = match plan {
        PortPlan::Keep => open,
        PortPlan::Isolated(Isolation { sandbox: Some(sandbox), .. }) => sandbox.bridge,
        PortPlan::Isolated(_) | PortPlan::Pending | PortPlan::Granted(_) => None,
    };
    if wanted == open {
        return;
    }
    actions.extend(open.map(|_| Action::ClosePassage { ifindex, instance }));
    actions.extend(wanted.map(|bridge| Action::OpenPassage { ifindex, instance, bridge }));
}

/// What leads to the shield that is wanted.
pub(super) fn shield(ifindex: u32, wanted: bool, held: &ObservedInterface) -> Option<Action> {
    let instance = held.slot.instance;
    match (wanted, held.shield) {
        (true, Shield::Off) => Some(Action::PutShield { ifindex, instance }),
        // With the next flood it may be possible.
        (false, Shield::On | Shield::Refused) => Some(Action::DropShield { ifindex, instance }),
        (true, Shield::On | Shield::Refused) | (false, Shield::Off) => None,
    }
}

fn grant(
    ifindex: u32,
    identities: &[Identity],
    place: Place,
    held: &ObservedInterface,
    steps: &mut Steps,
) {
    let instance = held.slot.instance;
    let (slot, wanted) = compile(identities);
    if slot.flags & flags::LEARNS != 0 && !learns_already(&slot, &held.slot) {
        let seeds: Vec<_> = identities.iter().flat_map(compile::seeds).collect();
        if !seeds.is_empty() {
            steps.teach.push(Action::Teach { ifindex, instance, seeds });
        }
    }
    steps.grant.extend(changes(ifindex, &slot, &wanted, held));

    let own = |wanted: bool| -> BTreeSet<(Mac, u16)> {
        let own = identities.iter().filter(|_| wanted);
        own.map(|one| (one.mac, one.vlan)).collect()
    };
    let pins = own(place.has_entries && !place.in_transit);
    let gone = held.forwarding.difference(&pins);
    let come = pins.difference(&held.forwarding);
    let unpin =
        |(mac, vlan): &(Mac, u16)| Action::UnpinForwarding { ifindex, mac: *mac, vlan: *vlan };
    let pin = |(mac, vlan): &(Mac, u16)| Action::PinForwarding { ifindex, mac: *mac, vlan: *vlan };
    steps.unpin.extend(gone.map(unpin));
    steps.pin.extend(come.map(pin));

    let defended = own(!place.reflected && !place.in_transit);
    let gone = held.defended.difference(&defended);
    let come = defended.difference(&held.defended);
    let give_way = |(mac, vlan): &_| Action::YieldMac { ifindex, instance, mac: *mac, vlan: *vlan };
    let defend = |(mac, vlan): &_| Action::DefendMac { ifindex, instance, mac: *mac, vlan: *vlan };
    steps.unpin.extend(gone.map(give_way));
    steps.pin.extend(come.map(defend));
}

/// The actions that put slot and entries in force: the entries that the slot makes count come before
/// it, those that it no longer needs go after.
pub(super) fn changes(
    ifindex: u32,
    slot: &SlotEntry,
    wanted: &[GrantEntry],
    held: &ObservedInterface,
) -> Vec<Action> {
    let instance = held.slot.instance;
    let present = entries(held);
    let key = |entry: &GrantEntry| GrantEntry { flags: 0, ..*entry };
    let missing: Vec<_> =
        wanted.iter().copied().filter(|entry| present.binary_search(entry).is_err()).collect();
    let mut kept: Vec<_> = wanted.iter().map(key).collect();
    kept.sort_unstable();
    let stale: Vec<_> =
        present.into_iter().filter(|entry| kept.binary_search(&key(entry)).is_err()).collect();

    let mut actions = Vec::new();
    if !missing.is_empty() {
        actions.push(Action::PutGrants { ifindex, instance, grants: missing });
    }
    if *slot != in_force(&held.slot) {
        actions.push(Action::WriteSlot { ifindex, instance, slot: *slot });
    }
    if !stale.is_empty() {
        actions.push(Action::DropGrants { ifindex, instance, grants: stale });
    }
    actions
}

/// Whether the port has learned under this plan before. What it knows then it has from the kernel.
fn learns_already(slot: &SlotEntry, held: &PortSlot) -> bool {
    let both = flags::GRANTED | flags::LEARNS;
    held.flags & both == both && (held.mac.0, held.v4) == (slot.mac, slot.v4)
}

/// What a slot holds of what [`Action::WriteSlot`] sets.
fn in_force(slot: &PortSlot) -> SlotEntry {
    SlotEntry {
        // They have actions of their own.
        flags: slot.flags & !flags::OF_PLACE,
        mac: slot.mac.0,
        vlan: slot.vlan,
        v4: slot.v4,
        v4_mask: slot.v4_mask,
        v6: slot.v6.bytes(),
        v6_mask: slot.v6_mask.bytes(),
    }
}

/// The entries that the interface has in the maps, sorted.
fn entries(held: &ObservedInterface) -> Vec<GrantEntry> {
    let ObservedInterface { grants, prefixes, .. } = held;
    if grants.is_empty() && prefixes.is_empty() {
        return Vec::new();
    }
    let mut entries: Vec<_> = listed(grants).chain(prefixed(prefixes)).collect();
    entries.sort_unstable();
    entries
}

fn listed(grants: &BTreeMap<GrantKey, Grant>) -> impl Iterator<Item = GrantEntry> {
    grants.iter().map(|(key, grant)| GrantEntry {
        mac: key.mac.0,
        vlan: key.vlan,
        address: key.address,
        prefix: None,
        flags: grant.flags,
    })
}

fn prefixed(prefixes: &BTreeMap<(PrefixKey, u8), Grant>) -> impl Iterator<Item = GrantEntry> {
    prefixes.iter().map(|((key, length), grant)| GrantEntry {
        mac: key.mac.0,
        vlan: u16::from_ne_bytes(key.vlan),
        address: key.address,
        prefix: Some(*length),
        flags: grant.flags,
    })
}
