//! A guest port whose guard is attached: from what it holds to what it should hold.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    addr::Mac,
    port::{Grant, GrantKey, PortSlot, PrefixKey, flags},
};

use super::{Action, GrantEntry, Identity, Isolation, PortPlan, SlotEntry, Steps, compile};
use crate::model::ObservedInterface;

pub(super) fn converge(ifindex: u32, plan: &PortPlan, held: &ObservedInterface, steps: &mut Steps) {
    let isolated = |flags| SlotEntry { flags, ..SlotEntry::default() };
    let (phase, slot) = match plan {
        PortPlan::Keep => return,
        PortPlan::Granted(identities) => return grant(ifindex, identities, held, steps),
        PortPlan::Pending => (&mut steps.mute, SlotEntry::default()),
        PortPlan::Isolated(Isolation::Verdict) => (&mut steps.isolate, isolated(flags::ISOLATED)),
        PortPlan::Isolated(Isolation::Operator) => {
            (&mut steps.isolate, isolated(flags::ISOLATED | flags::ISOLATED_BY_OPERATOR))
        }
    };
    let instance = held.slot.instance;
    if slot != in_force(&held.slot) {
        phase.push(Action::WriteSlot { ifindex, instance, slot });
    }
    let stale = entries(held);
    if !stale.is_empty() {
        phase.push(Action::DropGrants { ifindex, instance, grants: stale });
    }
    let unpin = |(mac, vlan): &_| Action::UnpinForwarding { ifindex, mac: *mac, vlan: *vlan };
    phase.extend(held.forwarding.iter().map(unpin));
}

fn grant(ifindex: u32, identities: &[Identity], held: &ObservedInterface, steps: &mut Steps) {
    let instance = held.slot.instance;
    let (slot, wanted) = compile(identities);
    let present = entries(held);
    let key = |entry: &GrantEntry| GrantEntry { flags: 0, ..*entry };
    let missing: Vec<_> =
        wanted.iter().copied().filter(|entry| present.binary_search(entry).is_err()).collect();
    let mut kept: Vec<_> = wanted.iter().map(key).collect();
    kept.sort_unstable();
    let stale: Vec<_> =
        present.into_iter().filter(|entry| kept.binary_search(&key(entry)).is_err()).collect();

    if !missing.is_empty() {
        steps.grant.push(Action::PutGrants { ifindex, instance, grants: missing });
    }
    if slot.flags & flags::LEARNS != 0 && !learns_already(&slot, &held.slot) {
        let seeds: Vec<_> = identities.iter().flat_map(compile::seeds).collect();
        if !seeds.is_empty() {
            steps.grant.push(Action::Teach { ifindex, instance, seeds });
        }
    }
    if slot != in_force(&held.slot) {
        steps.grant.push(Action::WriteSlot { ifindex, instance, slot });
    }
    if !stale.is_empty() {
        steps.grant.push(Action::DropGrants { ifindex, instance, grants: stale });
    }

    let pins: BTreeSet<(Mac, u16)> = identities.iter().map(|one| (one.mac, one.vlan)).collect();
    let gone = held.forwarding.difference(&pins);
    let come = pins.difference(&held.forwarding);
    let unpin =
        |(mac, vlan): &(Mac, u16)| Action::UnpinForwarding { ifindex, mac: *mac, vlan: *vlan };
    let pin = |(mac, vlan): &(Mac, u16)| Action::PinForwarding { ifindex, mac: *mac, vlan: *vlan };
    steps.unpin.extend(gone.map(unpin));
    steps.pin.extend(come.map(pin));
}

/// Whether the port has learned under this plan before. What it knows then it has from the kernel.
fn learns_already(slot: &SlotEntry, held: &PortSlot) -> bool {
    let both = flags::GRANTED | flags::LEARNS;
    held.flags & both == both && (held.mac.0, held.v4) == (slot.mac, slot.v4)
}

/// What a slot holds of what [`Action::WriteSlot`] sets.
fn in_force(slot: &PortSlot) -> SlotEntry {
    SlotEntry {
        flags: slot.flags,
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
