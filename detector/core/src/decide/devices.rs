//! Devices that macvtaps of guests are on, and who besides them speaks out of one.

use std::collections::BTreeSet;

use super::interfaces;
use crate::{
    model::{Link, LinkKind, World},
    reconcile::DevicePlan,
};

/// What such a device should be.
pub(super) fn plan(device: &Link, trusted: bool, world: &World) -> DevicePlan {
    let closed = is_to_be_closed(device, world) && obstacle(device, world).is_none();
    let senders = closed.then(|| {
        let stacked = stacked_on(device, world).into_iter();
        let known = stacked.filter(|link| !is_macvtap(link)).filter_map(|link| link.mac);
        known.chain(world.policy.known_senders.iter().copied()).collect()
    });
    DevicePlan { trusted, senders }
}

/// Whether only known senders are to speak out of the device.
pub(super) fn is_to_be_closed(device: &Link, world: &World) -> bool {
    interfaces::is_named(&device.name, &world.policy.closed_devices)
}

/// What is on the device and speaks under MACs that nobody can list: a port of a bridge.
pub(super) fn obstacle<'a>(device: &'a Link, world: &'a World) -> Option<&'a Link> {
    let is_switch = |ifindex| {
        let master: Option<&Link> = world.links.get(&ifindex);
        master.is_some_and(|one| matches!(one.kind, LinkKind::Bridge | LinkKind::OpenVSwitch))
    };
    let switches = |link: &Link| matches!(link.kind, LinkKind::Bridge | LinkKind::OpenVSwitch);
    let stacked = stacked_on(device, world).into_iter();
    let mut bridged = stacked.filter(|link| switches(link) || link.master.is_some_and(is_switch));
    bridged.next()
}

/// The device itself, and all that is on it, on whatever is on it, and so on.
fn stacked_on<'a>(device: &'a Link, world: &'a World) -> Vec<&'a Link> {
    let mut found = vec![device];
    let mut known = BTreeSet::from([device.ifindex]);
    let mut next = 0;
    while let Some(below) = found.get(next) {
        let below = below.ifindex;
        next += 1;
        let on_it = world.links.values().filter(|link| link.lower == Some(below));
        found.extend(on_it.filter(|link| known.insert(link.ifindex)));
    }
    found
}

/// Guests speak under any MAC by these until they have a guard.
fn is_macvtap(link: &Link) -> bool {
    link.kind.is_shared_macvtap() || link.kind == LinkKind::MacvtapPassthrough
}
