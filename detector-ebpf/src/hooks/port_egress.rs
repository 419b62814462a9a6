//! Guard, frames to the guest: only to a port whose verdict is in force, and only what was vetted.

use detector_common::{
    port::{PortSlot, flags},
    reason::Reason,
    settings::Settings,
};

use crate::{Outcome, counters, learned, lookup, skb::Skb, stamp};

#[inline(always)]
pub(crate) fn run(skb: &Skb) -> Outcome {
    let Some(settings) = lookup::settings() else { return Outcome::Drop };
    let Some(slot) = lookup::port(skb.ifindex()) else {
        return if settings.enforces() { Outcome::Drop } else { Outcome::Next };
    };

    let reason = vet(skb, slot, settings);
    counters::to(slot, reason);
    let dropped =
        !reason.passes() && (settings.enforces() || slot.has(flags::ISOLATED_BY_OPERATOR));
    if dropped {
        return Outcome::Drop;
    }
    // Before the reply is delivered, so that no frame under the new address comes too early.
    if reason.passes() && slot.flags & (flags::LEARNS | flags::FIRST_COME) == flags::LEARNS {
        learned::learn_reply(skb.context().skb.skb);
    }
    stamp::clear(skb, settings);
    Outcome::Next
}

#[inline(always)]
fn vet(skb: &Skb, slot: &PortSlot, settings: &Settings) -> Reason {
    if slot.has(flags::ISOLATED) {
        Reason::PortIsolated
    } else if !slot.has(flags::GRANTED) {
        Reason::PortPending
    } else {
        super::gate::vet_source(skb, settings)
    }
}
