//! Guard, frames from the guest: a claim that is granted is stamped, any other is dropped.

use aya_log_ebpf::warn;
use detector_common::{parse::Claim, port::flags, reason::Reason, settings::Settings, verdict};

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
    if !verdict::is_plainly_granted(skb.frame(), skb.tag(), slot, &MapGrants) {
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
    // A guest chooses how much of a frame is linear (virtio's hdr_len). What cannot be pulled is
    // judged as truncated.
    if !slot.has(flags::ISOLATED) && !skb.has_linear_headers() {
        let _ = skb.pull_headers();
    }
    let reason = verdict::vet(skb.frame(), skb.tag(), slot, &MapGrants, &mut claim);
    let reason = skb.forget(reason);
    counters::from(slot, reason);
    if reason.passes() {
        stamp::set(skb, settings);
        return Outcome::Next;
    }

    let dropped = settings.enforces() || slot.has(flags::ISOLATED_BY_OPERATOR);
    report::sighting(slot, settings, &claim.record(reason), dropped);
    if dropped { Outcome::Drop } else { pass_observed(skb, settings) }
}

/// Observe mode: the frame goes on as if it had been granted.
#[inline(always)]
fn pass_observed(skb: &Skb, settings: &Settings) -> Outcome {
    stamp::set(skb, settings);
    Outcome::Next
}
