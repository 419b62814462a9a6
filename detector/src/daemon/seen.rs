//! What ports claim without a grant, and since when a port has been without a VM.

use std::collections::BTreeSet;

use detector_common::event::EventRecord;
use detector_core::{
    decide::Decision,
    model::{RefusedFrame, Seen, World},
};

/// Claims that are remembered of a port; the one seen longest ago makes room.
const CLAIMS: usize = 16;

/// Takes in a kernel event: bounded work and memory, whatever a guest sends. True when the claim is
/// a new one.
pub(super) fn take_in(world: &mut World, report: &EventRecord) -> bool {
    let (now, event) = (world.now, &report.event);
    let known = world
        .observed
        .interfaces
        .get(&event.ifindex)
        .is_some_and(|interface| interface.slot.instance == event.instance);
    if !known {
        return false;
    }
    keep_frame(world, report);
    let claims = world.seen.entry(event.ifindex).or_default();
    claims.retain(|seen| seen.instance == event.instance);
    let frames = 1 + u64::from(event.held);
    if let Some(seen) = claims.iter_mut().find(|seen| seen.claim == event.claim) {
        seen.last = now;
        seen.count = seen.count.saturating_add(frames);
        return false;
    }
    if claims.len() >= CLAIMS
        && let Some(oldest) = (0..claims.len()).min_by_key(|at| claims[*at].last)
    {
        claims.swap_remove(oldest);
    }
    claims.push(Seen {
        instance: event.instance,
        claim: event.claim,
        first: now,
        last: now,
        count: frames,
    });
    true
}

/// Keeps the beginning of the first frame of a claim. The port's very first stays; of the others the one that came
/// longest ago makes room.
fn keep_frame(world: &mut World, report: &EventRecord) {
    let event = &report.event;
    if report.head().is_empty() {
        return;
    }
    let frames = world.frames.entry(event.ifindex).or_default();
    frames.retain(|frame| frame.instance == event.instance);
    if frames.iter().any(|frame| frame.claim == event.claim) {
        return;
    }
    if frames.len() >= CLAIMS {
        frames.remove(1);
    }
    let head = report.head().to_vec();
    frames.push(RefusedFrame { instance: event.instance, claim: event.claim, head });
}

/// Whether a port belongs to no VM, or is on no bridge, that has not been so before.
pub(super) fn is_news(world: &World, decision: &Decision) -> bool {
    waited_for(world, decision).any(|port| !world.noticed.contains_key(&port))
}

/// Remembers since when each port has belonged to no VM, or been on no bridge.
pub(super) fn notice(world: &mut World, decision: &Decision) {
    let ports: BTreeSet<_> = waited_for(world, decision).collect();
    world.noticed.retain(|port, _| ports.contains(port));
    for port in ports {
        world.noticed.entry(port).or_insert(world.now);
    }
}

/// Ports that belong to no VM, and those of VMs that are on no bridge, by ifindex and instance.
fn waited_for(world: &World, decision: &Decision) -> impl Iterator<Item = (u32, u32)> {
    let ports = decision.ports.iter().filter(|(_, port)| port.vm.is_none());
    let without_vm = ports.map(|(ifindex, _)| {
        let observed = world.observed.interfaces.get(ifindex);
        (*ifindex, observed.map_or(0, |interface| interface.slot.instance))
    });
    without_vm.chain(decision.loose.iter().map(|ifindex| (*ifindex, 0)))
}
