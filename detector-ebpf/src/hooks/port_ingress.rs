//! Guard, frames from the guest: a claim that is granted is stamped, any other is dropped.

use aya_log_ebpf::warn;
use detector_common::{
    frame::opaque,
    parse::Claim,
    port::{PortSlot, flags},
    reason::Reason,
    settings::Settings,
    verdict,
};

use crate::{
    Outcome, counters,
    lookup::{self, MapGrants},
    report,
    skb::Skb,
    stamp,
};

/// Passes what is plainly granted; `None` asks for [`whole`].
#[inline(always)]
pub(crate) fn run(skb: &Skb) -> Option<Outcome> {
    let settings = lookup::settings()?;
    let slot = lookup::inline_port(skb.ifindex())?;
    if !verdict::is_plainly_granted(skb.frame(), skb.tag(), slot) {
        return None;
    }
    counters::from(slot, Reason::Granted);
    stamp::set(skb, settings);
    Some(Outcome::Next)
}

/// The verdict on any frame, with all that follows from it.
#[inline(always)]
pub(crate) fn whole(skb: &Skb) -> Outcome {
    let Some(settings) = lookup::settings() else { return Outcome::Drop };
    let Some(slot) = lookup::port(skb.ifindex()) else {
        warn!(skb.context(), "guard on interface {} has no slot", skb.ifindex());
        return if settings.enforces() { Outcome::Drop } else { Outcome::Next };
    };

    let mut claim = Claim::default();
    let reason = vet(skb, slot, &mut claim);
    counters::from(slot, reason);
    if reason.passes() {
        stamp::set(skb, settings);
        return Outcome::Next;
    }

    let dropped = settings.enforces() || slot.has(flags::ISOLATED_BY_OPERATOR);
    report::sighting(slot, settings, &claim.record(reason), dropped);
    if dropped { Outcome::Drop } else { pass_observed(skb, settings) }
}

/// The verdict on a frame.
#[inline(always)]
fn vet(skb: &Skb, slot: &PortSlot, claim: &mut Claim) -> Reason {
    let mut tries = opaque(2);
    loop {
        let reason = verdict::vet(skb.frame(), skb.tag(), slot, &MapGrants, claim);
        tries -= 1;
        // A guest chooses how much of a frame is linear (virtio's hdr_len).
        if reason as u8 != Reason::Truncated as u8 || tries == 0 || !skb.pull_headers() {
            return reason;
        }
    }
}

/// Observe mode: the frame goes on as if it had been granted.
#[inline(always)]
fn pass_observed(skb: &Skb, settings: &Settings) -> Outcome {
    stamp::set(skb, settings);
    Outcome::Next
}
