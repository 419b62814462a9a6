//! Interfaces come and go.

use std::collections::BTreeMap;

use detector_core::reconcile::Action;

use super::{brain::Brain, sources::stand_in};
use crate::{enforcer::Enforcer, net::LinkEvent};

pub(super) fn take_in<E: Enforcer>(brain: &mut Brain<E>, event: LinkEvent) {
    match event {
        LinkEvent::Seen(link) => {
            brain.world.links.insert(link.ifindex, link);
        }
        LinkEvent::Gone { ifindex } => {
            forget(brain, ifindex);
            brain.world.links.remove(&ifindex);
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
            if let Err(error) = brain.enforcer.resync() {
                brain.executor.unobserved(brain.world.now, &error);
            }
            brain.observe();
        }
    }
}

/// Frees what was granted to an interface at once, before another of the same number can appear.
fn forget<E: Enforcer>(brain: &mut Brain<E>, ifindex: u32) {
    // The next interface of this name is another port: only its manager's next word says whose.
    if let Some(link) = brain.world.links.get(&ifindex) {
        let stand_ins: Vec<_> = brain.live.iter().map(|live| stand_in(live)).collect();
        for (name, source) in &mut brain.world.sources {
            if brain.live.contains(name) || stand_ins.contains(name) {
                source.forget_port(&link.name);
            }
        }
        brain.admissions.forget_port(&link.name);
    }
    brain.world.seen.remove(&ifindex);
    brain.world.frames.remove(&ifindex);
    brain.world.adoption.ports.remove(&ifindex);
    if brain.world.observed.interfaces.contains_key(&ifindex) {
        let now = brain.world.now;
        let release = Action::Release { ifindex };
        if brain.executor.carry_out_now(&mut brain.enforcer, release, now).is_ok() {
            brain.observe();
        }
    }
}
