//! Guard, frames to the guest: only to a port whose verdict is in force, and only what was vetted.

use detector_common::{gate, learned, port::PortSlot, reason::Reason};

use super::gate::vet_source;
use crate::{Outcome, counters, dhcp, lookup, skb::Skb, stamp};

#[inline(always)]
pub(crate) fn run(skb: &Skb) -> Outcome {
    deliver(skb, |skb, slot| vet_source(skb, || Some(slot)))
}

/// The same for a port on a device of its own: no bridge has brought the frame here, so that its source
/// says nothing. A port that is mute or isolated receives nothing.
#[inline(always)]
pub(crate) fn from_device(skb: &Skb) -> Outcome {
    deliver(skb, |_, _| Reason::FromUplink)
}

#[inline(always)]
fn deliver(skb: &Skb, vet_source: impl FnOnce(&Skb, &'static PortSlot) -> Reason) -> Outcome {
    let Some(slot) = lookup::port(skb.ifindex()) else {
        return if lookup::enforces() { Outcome::Drop } else { Outcome::Next };
    };
    let reason = gate::vet_towards(
        slot,
        || vet_source(skb, slot),
        || {
            let brought = super::sandbox::brought(skb, slot);
            if brought {
                counters::to(slot, Reason::Sandboxed);
            }
            brought
        },
    );
    if !reason.passes() {
        counters::to(slot, reason);
        if lookup::settings().is_none_or(|settings| lookup::drops(slot, settings)) {
            return Outcome::Drop;
        }
    }
    // Before the reply is delivered, so that no frame under the new address comes too early.
    if reason.passes() && learned::follows(slot) {
        dhcp::learn_reply(skb.raw());
    }
    stamp::clear(skb);
    Outcome::Next
}
