//! Interfaces come and go.

use std::collections::BTreeMap;

use detector_core::reconcile::Action;

use super::brain::Brain;
use crate::{enforcer::Enforcer, net::LinkEvent};

pub(super) fn take_in<E: Enforcer>(brain: &mut Brain<E>, event: LinkEvent) {
    match event {
        LinkEvent::Seen(link) => {
            let ifindex = link.ifindex;
            if brain.world.links.insert(ifindex, link).is_none() {
                // Another life of this number: what the mirror may still say of the last one, where
                // freeing it failed, must not be taken for this one.
                brain.world.observed.interfaces.remove(&ifindex);
            }
        }
        LinkEvent::Gone { ifindex } => {
            brain.world.links.remove(&ifindex);
            forget(brain, ifindex);
        }
        LinkEvent::Resynced(links) => {
            let links: BTreeMap<_, _> =
                links.into_iter().map(|link| (link.ifindex, link)).collect();
            let gone: Vec<_> =
                brain.world.links.keys().filter(|i| !links.contains_key(i)).copied().collect();
            for ifindex in gone {
                forget(brain, ifindex);
            }
            brain.world.links = links;
            // An ifindex may have died and come back unnoticed: the kernel knows whether our guard
            // is still on it.
            brain.observe();
        }
    }
}

/// Frees what was granted to an interface at once, before another of the same number can appear.
fn forget<E: Enforcer>(brain: &mut Brain<E>, ifindex: u32) {
    brain.world.seen.remove(&ifindex);
    if brain.world.observed.interfaces.contains_key(&ifindex) {
        let now = brain.world.now;
        let release = Action::Release { ifindex };
        if brain.executor.carry_out_now(&mut brain.enforcer, release, now).is_ok() {
            brain.observe();
        }
    }
}
