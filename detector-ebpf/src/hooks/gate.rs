//! The gate: what no guard has vetted reaches neither the host nor anything beyond it, so that a tap
//! that nobody has guarded yet is mute.

use detector_common::{parse::Claim, port::Role, reason::Reason};

use crate::{Outcome, counters, lookup, report, skb::Skb, stamp};

/// linux/if_packet.h
const PACKET_HOST: u32 = 0;
const PACKET_LOOPBACK: u32 = 5;

/// Frames that the bridge hands to the host. Here `ingress_ifindex` is the bridge itself, so the
/// stamp alone decides.
#[inline(always)]
pub(crate) fn bridge_ingress(skb: &Skb) -> Outcome {
    let reason = if stamp::is_set(skb) {
        Reason::Vetted
    } else if is_own_multicast(skb) {
        if let Some(slot) = lookup::port(skb.ifindex()) {
            counters::to(slot, Reason::HostOwn);
        }
        Reason::HostOwn
    } else {
        Reason::Unvetted
    };
    let outcome = settle(skb, reason);
    if matches!(outcome, Outcome::Next) {
        stamp::clear(skb);
    }
    outcome
}

/// Frames that the host sends, or routes, into the bridge.
#[inline(always)]
pub(crate) fn bridge_egress(skb: &Skb) -> Outcome {
    let source = skb.ingress_ifindex();
    if source == 0 {
        return Outcome::Next;
    }
    let outcome = settle(skb, vet_routed(source));
    if matches!(outcome, Outcome::Next) {
        stamp::set(skb);
    }
    outcome
}

/// Frames from outside: vetted, as far as guests are concerned, unless they come under the MAC of
/// one of them.
#[inline(always)]
pub(crate) fn uplink_ingress(skb: &Skb) -> Outcome {
    let mut claim = Claim::default();
    let reason = match claim.read_station(skb.frame(), skb.tag()) {
        Err(reason) => reason,
        Ok(())
            if lookup::is_owned(claim.station)
                || lookup::is_owned_natively(claim.station, skb.ifindex()) =>
        {
            Reason::MacOfLocalGuest
        }
        Ok(()) => Reason::FromUplink,
    };
    if !reason.passes() && matches!(refuse(skb, &claim, reason), Outcome::Drop) {
        return Outcome::Drop;
    }
    stamp::set(skb);
    Outcome::Next
}

/// Frames that leave the host.
#[inline(always)]
pub(crate) fn uplink_egress(skb: &Skb) -> Outcome {
    let outcome = settle(skb, vet_source(skb));
    if matches!(outcome, Outcome::Next) {
        stamp::clear(skb);
    }
    outcome
}

/// Whether a frame on its way out of the bridge comes from where it may: from the host itself, or
/// stamped and from an interface in force.
#[inline(always)]
pub(crate) fn vet_source(skb: &Skb) -> Reason {
    let source = skb.ingress_ifindex();
    if source == 0 {
        Reason::HostOwn
    } else if !stamp::is_set(skb) {
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
            Role::Vacant | Role::Guest | Role::GuestOnDevice | Role::Sandbox => {
                Reason::SourceNotInForce
            }
        },
    }
}

/// Counts and drops what has not been vetted. Where the bridge or uplink has no slot, the gate is
/// being taken down, and the host keeps its network.
#[inline(always)]
fn settle(skb: &Skb, reason: Reason) -> Outcome {
    if reason.passes() {
        return Outcome::Next;
    }
    let Some(slot) = lookup::port(skb.ifindex()) else { return Outcome::Next };
    counters::to(slot, reason);
    match lookup::settings() {
        Some(settings) if !lookup::drops(slot, settings) => Outcome::Next,
        _ => Outcome::Drop,
    }
}

/// Counts, reports and drops what comes in by an uplink and cannot have come from outside.
#[inline(always)]
fn refuse(skb: &Skb, claim: &Claim, reason: Reason) -> Outcome {
    let (Some(settings), Some(slot)) = (lookup::settings(), lookup::port(skb.ifindex())) else {
        return Outcome::Next;
    };
    counters::from(slot, reason as u8);
    let dropped = lookup::drops(slot, settings);
    report::sighting(slot, settings, &claim.record(reason), dropped);
    if dropped { Outcome::Drop } else { Outcome::Next }
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
