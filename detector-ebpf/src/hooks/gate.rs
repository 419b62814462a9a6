//! The gate: what no guard has vetted reaches neither the host nor anything beyond it, so that a tap
//! that nobody has guarded yet is mute.

use detector_common::{
    gate,
    parse::Claim,
    port::{PortSlot, flags},
    reason::Reason,
};

use crate::{Outcome, counters, lookup, report, skb::Skb, stamp};

/// Frames that the bridge hands to the host. Here `ingress_ifindex` is the bridge itself, so the
/// stamp alone decides.
#[inline(always)]
pub(crate) fn bridge_ingress(skb: &Skb) -> Outcome {
    let is_stamped = stamp::is_any(skb, || lookup::port(skb.ifindex()));
    let reason = gate::vet_for_host(is_stamped, || {
        let own = is_own_multicast(skb);
        if own && let Some(slot) = lookup::port(skb.ifindex()) {
            counters::to(slot, Reason::HostOwn);
        }
        own
    });
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
        // Behind an internal port nobody could tell it from what a tap has sent.
        if lookup::port(skb.ifindex()).is_some_and(|slot| slot.has(flags::SWITCHED)) {
            stamp::set(skb);
        }
        return Outcome::Next;
    }
    let reason = gate::vet_routed(lookup::port(source));
    let outcome = settle(skb, reason);
    if matches!(outcome, Outcome::Next) {
        match lookup::port(skb.ifindex()) {
            Some(slot) if !reason.passes() => stamp::set_refused(skb, slot),
            _ => stamp::set(skb),
        }
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
        Ok(()) if is_of_local_guest(skb, &claim) => Reason::MacOfLocalGuest,
        Ok(()) => Reason::FromUplink,
    };
    if !reason.passes() && matches!(refuse(skb, &claim, reason), Outcome::Drop) {
        return Outcome::Drop;
    }
    stamp::set(skb);
    Outcome::Next
}

/// Whether a frame from outside comes under the MAC of a guest that speaks from here.
#[inline(always)]
pub(super) fn is_of_local_guest(skb: &Skb, claim: &Claim) -> bool {
    lookup::is_owned(claim.station) || lookup::is_owned_natively(claim.station, skb.ifindex())
}

/// Frames that leave the host.
#[inline(always)]
pub(crate) fn uplink_egress(skb: &Skb) -> Outcome {
    let outcome = settle(skb, vet_source(skb, || lookup::port(skb.ifindex())));
    if matches!(outcome, Outcome::Next) {
        stamp::clear(skb);
    }
    outcome
}

/// See [`gate::vet_source`]. `place` is where the program runs.
#[inline(always)]
pub(crate) fn vet_source(
    skb: &Skb,
    place: impl Fn() -> Option<&'static PortSlot> + Copy,
) -> Reason {
    let is_stamped = || stamp::is_any(skb, place);
    gate::vet_source(skb.ingress_ifindex(), is_stamped, lookup::port, || {
        gate::vet_sourceless(place(), is_stamped, || is_control(skb))
    })
}

/// Whether the frame goes to a group that bridges do not forward (IEEE 802.1Q, 8.6.3).
#[inline(always)]
fn is_control(skb: &Skb) -> bool {
    skb.frame()
        .window::<6>(0)
        .is_some_and(|header| header.u32::<0>() == 0x0180_c200 && header.u16::<4>() < 0x10)
}

/// Counts and drops what has not been vetted. Where the bridge or uplink has no slot, the gate is
/// being taken down, and the host keeps its network.
#[inline(always)]
pub(super) fn settle(skb: &Skb, reason: Reason) -> Outcome {
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
pub(super) fn refuse(skb: &Skb, claim: &Claim, reason: Reason) -> Outcome {
    let (Some(settings), Some(slot)) = (lookup::settings(), lookup::port(skb.ifindex())) else {
        return Outcome::Next;
    };
    counters::from(slot, reason as u8);
    let dropped = lookup::drops(slot, settings);
    report::sighting(skb, slot, settings, &claim.record(reason), dropped);
    if dropped { Outcome::Drop } else { Outcome::Next }
}

/// See [`gate::is_own_multicast`].
#[inline(always)]
pub(crate) fn is_own_multicast(skb: &Skb) -> bool {
    gate::is_own_multicast(skb.packet_type(), || {
        skb.frame().window::<6>(0).map(|header| header.u8::<0>())
    })
}
