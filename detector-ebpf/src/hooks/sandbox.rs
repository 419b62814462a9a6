//! The sandbox: frames of a port that is quarantined there are switched to a port of the sandbox's
//! bridge instead, and back. Whatever is missing on the way, the frame is dropped.

use aya_ebpf::bindings::__sk_buff;
use detector_common::{
    port::{PortSlot, Role, flags},
    reason::Reason,
    services,
};

use super::gate::is_own_multicast;
use crate::{Outcome, counters, lookup, skb::Skb, stamp};

/// Where a frame goes that a sandboxed port may send.
pub(crate) enum Way {
    /// Out by this interface, which is the inner end of its passage.
    Passage(u32),
    /// On, as if it had been granted: in observe mode a verdict's quarantine is not carried out.
    Next,
    Nowhere,
}

#[inline(always)]
pub(crate) fn enter(skb: &Skb) -> Way {
    let Some(settings) = lookup::settings() else { return Way::Nowhere };
    let slot = match lookup::port(skb.ifindex()) {
        Some(slot) if slot.is_sandboxed() => slot,
        // It was until now.
        _ => return Way::Nowhere,
    };
    let offered = is_offered(skb, slot, true);
    let reason = if offered { Reason::Sandboxed } else { Reason::NotAService };
    if !lookup::drops(slot, settings) {
        counters::from(slot, reason as u8);
        stamp::set_refused(skb, slot);
        return Way::Next;
    }
    if !offered {
        counters::from(slot, reason as u8);
        return Way::Nowhere;
    }
    match lookup::passage(slot.ifindex, slot.instance) {
        Some(inner) => {
            counters::from(slot, Reason::Sandboxed as u8);
            Way::Passage(inner)
        }
        None => {
            counters::from(slot, Reason::PortIsolated as u8);
            Way::Nowhere
        }
    }
}

/// Whether the port may speak with the other end of the frame: with everybody in the sandbox, or with the
/// services that are named there.
#[inline(always)]
fn is_offered(skb: &Skb, slot: &PortSlot, outwards: bool) -> bool {
    !slot.has(flags::LIMITED) || is_service(skb.raw(), u32::from(outwards)) != 0
}

/// Whether the other end of a frame is a service that is named. A function of its own, which the verifier
/// walks once.
#[inline(never)]
#[unsafe(no_mangle)]
pub extern "C" fn is_service(skb: *mut __sk_buff, outwards: u32) -> i32 {
    let skb = Skb::new(skb);
    // What cannot be pulled is read as far as it goes.
    if !skb.has_linear_headers() {
        let _ = skb.pull_headers();
    }
    match services::other_end(skb.frame(), outwards != 0) {
        Some(service) => i32::from(lookup::is_offered(&service)),
        None => 0,
    }
}

/// Whether a frame towards a sandboxed port was brought by its own passage.
#[inline(always)]
pub(crate) fn brought(skb: &Skb, slot: &PortSlot) -> bool {
    slot.is_sandboxed()
        && stamp::is_set(skb)
        && lookup::passage(slot.ifindex, slot.instance) == Some(skb.ingress_ifindex())
}

/// The same to a port on a device of its own, where a frame comes in by the port itself.
#[inline(always)]
pub(crate) fn brought_to_device(skb: &Skb, slot: &PortSlot) -> bool {
    slot.is_sandboxed()
        && stamp::is_brought(skb)
        && lookup::passage(slot.ifindex, slot.instance).is_some()
}

/// Where a frame goes that comes from the sandbox.
pub(crate) enum Home {
    /// Out by this port, to its guest.
    Out(u32),
    /// Into this port: what its guest is sent comes in by it.
    In(u32),
}

/// Frames from the sandbox, at the inner end of a passage: the host gets to see none of them.
#[inline(always)]
pub(crate) fn passage_ingress(skb: &Skb) -> Option<Home> {
    let passage = lookup::passage_of(skb.ifindex())?;
    let slot = lookup::port(passage.peer)?;
    if slot.instance != passage.instance || !slot.is_sandboxed() {
        return None;
    }
    if !is_offered(skb, slot, false) {
        counters::to(slot, Reason::NotAService);
        return None;
    }
    if matches!(slot.role(), Role::GuestOnDevice) {
        stamp::set_brought(skb);
        return Some(Home::In(slot.ifindex));
    }
    stamp::set(skb);
    Some(Home::Out(slot.ifindex))
}

/// Frames that the sandbox's bridge hands to the host: neither the host nor what it routes to is part
/// of the sandbox, in any mode.
#[inline(always)]
pub(crate) fn bridge_ingress(skb: &Skb) -> Outcome {
    let own = is_own_multicast(skb);
    boundary(skb, if own { Reason::HostOwn } else { Reason::SandboxBoundary })
}

/// Frames that the host sends, or routes, into the sandbox's bridge.
#[inline(always)]
pub(crate) fn bridge_egress(skb: &Skb) -> Outcome {
    let own = skb.ingress_ifindex() == 0;
    boundary(skb, if own { Reason::HostOwn } else { Reason::SandboxBoundary })
}

#[inline(always)]
fn boundary(skb: &Skb, reason: Reason) -> Outcome {
    if let Some(slot) = lookup::port(skb.ifindex()) {
        counters::to(slot, reason);
    }
    if reason.passes() { Outcome::Next } else { Outcome::Drop }
}
