//! Guard, frames from the guest: a claim that is granted is stamped, any other is dropped.

use detector_common::{
    claim::ClaimRecord,
    parse::{Claim, ethertype},
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

/// The verdict at first sight; `None` asks for [`whole`].
#[inline(always)]
pub(crate) fn run(skb: &Skb) -> Option<Outcome> {
    let slot = lookup::inline_port(skb.ifindex())?;
    let mut claim = Claim::default();
    let reason = verdict::vet_plain(skb.frame(), skb.tag(), slot, &MapGrants, &mut claim)?;
    if reason as u8 != Reason::Granted as u8 {
        return Some(refuse_apart(*skb, slot, &claim.record(reason)));
    }
    if claim.ethertype == ethertype::ARP {
        return None;
    }
    stamp::set(skb);
    Some(Outcome::Next)
}

/// The verdict on any frame, with all that follows from it.
#[inline(always)]
pub(crate) fn whole(skb: &Skb) -> Outcome {
    let Some(settings) = lookup::settings() else { return Outcome::Drop };
    let Some(slot) = lookup::port(skb.ifindex()) else {
        report::no_slot(skb, settings);
        return if settings.enforces() { Outcome::Drop } else { Outcome::Next };
    };

    // A guest chooses how much of a frame is linear (virtio's hdr_len). What cannot be pulled is
    // judged as truncated.
    if (!slot.has(flags::ISOLATED) || slot.is_sandboxed()) && !skb.has_linear_headers() {
        let _ = skb.pull_headers();
    }
    let mut claim = Claim::default();
    let frame = skb.frame().with_segments(skb.is_in_segments());
    let mut reason = verdict::vet(frame, skb.tag(), slot, &MapGrants, &mut claim);
    let is_arp = matches!(claim.ethertype, ethertype::ARP | ethertype::RARP);
    if reason.passes() && is_arp && skb.awaits_checksum() {
        reason = Reason::ChecksumPending;
    }
    let reason = skb.forget(reason);
    // Not by [`refuse_apart`]: the stacks of three functions, each counted in full 32 bytes before
    // Linux 6.8, would be more than the 512 bytes that a chain of calls may have.
    if !reason.passes() {
        return refuse(skb, slot, settings, &claim.record(reason));
    }
    if slot.is_sandboxed() {
        return Outcome::Sandbox;
    }
    stamp::set(skb);
    Outcome::Next
}

/// Counts and reports a claim that is refused. In observe mode the frame goes on as if it had been
/// granted.
#[inline(always)]
fn refuse(skb: &Skb, slot: &PortSlot, settings: &Settings, claim: &ClaimRecord) -> Outcome {
    counters::from(slot, claim.reason);
    let dropped = settings.enforces() || slot.has(flags::ISOLATED_BY_OPERATOR);
    report::sighting(slot, settings, claim, dropped);
    if dropped {
        return Outcome::Drop;
    }
    stamp::set(skb);
    Outcome::Next
}

/// [`refuse`] as a function of its own, out of the way of what passes.
#[inline(never)]
fn refuse_apart(skb: Skb, slot: &PortSlot, claim: &ClaimRecord) -> Outcome {
    match lookup::settings() {
        Some(settings) => refuse(&skb, slot, settings, claim),
        None => Outcome::Drop,
    }
}
