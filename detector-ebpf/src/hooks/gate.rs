//! The gate: what no guard has vetted reaches neither the host nor anything beyond it, so that a tap
//! that nobody has guarded yet is mute.

use detector_common::{
    port::{PortSlot, Role},
    reason::Reason,
    settings::Settings,
};

use crate::{Outcome, counters, lookup, skb::Skb, stamp};

/// linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_LOOPBACK: u32 = 5;

/// Frames that the bridge hands to the host. Here `ingress_ifindex` is the bridge itself, so the
/// stamp alone decides.
#[inline(always)]
pub(crate) fn bridge_ingress(skb: &Skb) -> Outcome {
    gate(skb, |skb, settings| {
        if stamp::is_set(skb, settings) {
            Reason::Vetted
        } else if is_own_multicast(skb) {
            Reason::HostOwn
        } else {
            Reason::Unvetted
        }
    })
}

/// Frames that the host sends, or routes, into the bridge.
#[inline(always)]
pub(crate) fn bridge_egress(skb: &Skb) -> Outcome {
    let Some((settings, slot)) = place(skb) else { return Outcome::Next };
    let source = skb.ingress_ifindex();
    let reason = if source == 0 { Reason::HostOwn } else { vet_routed(source) };
    counters::to(slot, reason);
    if reason.passes() || !settings.enforces() {
        if source != 0 {
            stamp::set(skb, settings);
        }
        Outcome::Next
    } else {
        Outcome::Drop
    }
}

/// Frames from outside: vetted, as far as guests are concerned.
#[inline(always)]
pub(crate) fn uplink_ingress(skb: &Skb) -> Outcome {
    if let Some((settings, slot)) = place(skb) {
        counters::from(slot, Reason::FromUplink);
        stamp::set(skb, settings);
    }
    Outcome::Next
}

/// Frames that leave the host.
#[inline(always)]
pub(crate) fn uplink_egress(skb: &Skb) -> Outcome {
    gate(skb, vet_source)
}

/// Whether a frame on its way out of the bridge comes from where it may: from the host itself, or
/// stamped and from an interface in force.
#[inline(always)]
pub(crate) fn vet_source(skb: &Skb, settings: &Settings) -> Reason {
    let source = skb.ingress_ifindex();
    if source == 0 {
        Reason::HostOwn
    } else if !stamp::is_set(skb, settings) {
        Reason::Unvetted
    } else if lookup::in_force(source) {
        Reason::Vetted
    } else {
        Reason::SourceNotInForce
    }
}

/// Frames that the host routes into a bridge come from an interface that is known to lead
/// elsewhere. A guest's port is none: its frames come by its bridge.
#[inline(always)]
fn vet_routed(source: u32) -> Reason {
    match lookup::port(source) {
        None => Reason::Unvetted,
        Some(slot) => match slot.role() {
            Role::Uplink | Role::Bridge | Role::Trusted => Reason::Vetted,
            Role::Vacant | Role::Guest | Role::Sandbox => Reason::SourceNotInForce,
        },
    }
}

#[inline(always)]
fn gate(skb: &Skb, vet: impl FnOnce(&Skb, &Settings) -> Reason) -> Outcome {
    let Some((settings, slot)) = place(skb) else { return Outcome::Next };
    let reason = vet(skb, settings);
    counters::to(slot, reason);
    if reason.passes() || !settings.enforces() {
        stamp::clear(skb, settings);
        Outcome::Next
    } else {
        Outcome::Drop
    }
}

/// Settings and slot of the bridge or uplink. Without a slot the gate is being taken down, and the
/// host keeps its network.
#[inline(always)]
fn place(skb: &Skb) -> Option<(&'static Settings, &'static PortSlot)> {
    Some((lookup::settings()?, lookup::port(skb.ifindex())?))
}

/// Multicast that the host sends to itself: looped back by a socket, or the bridge's own IGMP or MLD
/// query. Frames from a port never look so: for them the network stack has set the packet type
/// from the destination.
#[inline(always)]
pub(crate) fn is_own_multicast(skb: &Skb) -> bool {
    match skb.packet_type() {
        PACKET_LOOPBACK => true,
        PACKET_HOST => skb.frame().window::<6>(0).is_some_and(|header| header.u8::<0>() & 1 != 0),
        _ => false,
    }
}
