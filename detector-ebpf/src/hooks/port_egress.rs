//! Guard, frames to the guest: only to a port whose verdict is in force, and only what was vetted.

use detector_common::{
    port::{PortSlot, flags},
    reason::Reason,
};

use super::gate::vet_source;
use crate::{Outcome, counters, dhcp, lookup, skb::Skb, stamp};

#[inline(always)]
pub(crate) fn run(skb: &Skb) -> Outcome {
    deliver(skb, vet_source)
}

/// The same for a port on a device of its own: no bridge has brought the frame here, so that its source
/// says nothing. A port that is mute or isolated receives nothing.
#[inline(always)]
pub(crate) fn from_device(skb: &Skb) -> Outcome {
    deliver(skb, |_| Reason::FromUplink)
}

#[inline(always)]
fn deliver(skb: &Skb, vet_source: impl FnOnce(&Skb) -> Reason) -> Outcome {
    let Some(slot) = lookup::port(skb.ifindex()) else {
        return if lookup::enforces() { Outcome::Drop } else { Outcome::Next };
    };
    let reason = vet(skb, slot, vet_source);
    if !reason.passes() {
        counters::to(slot, reason);
        if lookup::settings().is_none_or(|settings| lookup::drops(slot, settings)) {
            return Outcome::Drop;
        }
    }
    // Before the reply is delivered, so that no frame under the new address comes too early.
    if reason.passes() && slot.flags & (flags::LEARNS | flags::FIRST_COME) == flags::LEARNS {
        dhcp::learn_reply(skb.raw());
    }
    stamp::clear(skb);
    Outcome::Next
}

#[inline(always)]
fn vet(skb: &Skb, slot: &PortSlot, vet_source: impl FnOnce(&Skb) -> Reason) -> Reason {
    if slot.flags & (flags::GRANTED | flags::ISOLATED) == flags::GRANTED {
        vet_source(skb)
    } else if slot.has(flags::ISOLATED) {
        if super::sandbox::brought(skb, slot) {
            counters::to(slot, Reason::Sandboxed);
            Reason::Sandboxed
        } else {
            Reason::PortIsolated
        }
    } else {
        Reason::PortPending
    }
}
