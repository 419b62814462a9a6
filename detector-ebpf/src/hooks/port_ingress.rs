//! Guard, frames from the guest: a claim that is granted is stamped, any other is dropped.

use detector_common::{
    claim::ClaimRecord,
    learned as common,
    parse::{Claim, ethertype},
    port::{PortSlot, flags},
    reason::Reason,
    settings::Settings,
    verdict,
};

use crate::{
    Outcome, counters, learned,
    lookup::{self, MapGrants},
    report,
    skb::Skb,
    stamp,
};

/// Whether the frame may go on, as nearly every one may; `false` asks for [`plain`].
#[inline(always)]
pub(crate) fn passes_at_a_glance(skb: &Skb, slot: &PortSlot) -> bool {
    let passes = !skb.has_tag() && verdict::passes_at_a_glance(skb.frame(), slot);
    if passes {
        stamp::set(skb);
    }
    passes
}

/// The verdict at first sight; `None` asks for [`whole`].
#[inline(always)]
pub(crate) fn plain(skb: &Skb, slot: &PortSlot) -> Option<Outcome> {
    let mut claim = Claim::default();
    let reason = verdict::vet_plain(skb.frame(), skb.tag(), slot, &MapGrants, &mut claim)?;
    if reason as u8 != Reason::Granted as u8 {
        if reason as u8 != Reason::AddressNotLeased as u8 {
            return Some(refuse_apart(*skb, slot, &claim.record(reason)));
        }
        let reason = learned::settle(slot, &mut claim);
        if !reason.passes() {
            return Some(refuse_apart(*skb, slot, &claim.record(skb.forget(reason))));
        }
    }
    if claim.ethertype == ethertype::ARP {
        return None;
    }
    stamp::set(skb);
    Some(Outcome::Next)
}

/// What becomes of a frame that [`plain`] has not passed at first sight.
pub(crate) enum Step {
    Done(Outcome),
    /// [`finish`] says the last word, on the claim and the verdict that are kept. The stack has no
    /// room for both.
    Finish,
    /// It comes from an address that is not leased, and a DHCP client speaks: [`finish_renewal`] says the last
    /// word.
    Renew,
    /// It goes on, and is what a DHCP client says: see [`crate::dhcp::learn_request`].
    Note,
    /// The same on its way to the sandbox.
    NoteInSandbox,
}

/// The verdict on any frame, and what follows from it for most that pass.
#[inline(always)]
pub(crate) fn whole(skb: &Skb) -> Step {
    let Some(settings) = lookup::settings() else { return Step::Done(Outcome::Drop) };
    let Some(slot) = lookup::port(skb.ifindex()) else {
        report::no_slot(skb, settings);
        return Step::Done(if lookup::carries_out(settings) {
            Outcome::Drop
        } else {
            Outcome::Next
        });
    };

    // A guest chooses how much of a frame is linear (virtio's hdr_len). What cannot be pulled is
    // judged as truncated.
    if (!slot.has(flags::ISOLATED) || slot.is_sandboxed()) && !skb.has_linear_headers() {
        let _ = skb.pull_headers();
    }
    let mut claim = Claim::default();
    let frame = skb.frame().with_segments(skb.is_in_segments());
    let mut reason = verdict::vet(frame, skb.tag(), slot, &MapGrants, &mut claim);
    if reason.passes() && is_arp(&claim) && skb.awaits_checksum() {
        reason = Reason::ChecksumPending;
    }
    let reason = skb.forget(reason);
    if reason as u8 != Reason::Granted as u8 || claim.roles & flags::DHCP_CLIENT != 0 {
        learned::keep(claim, reason);
        return Step::Finish;
    }
    if slot.is_sandboxed() {
        return Step::Done(Outcome::Sandbox);
    }
    stamp::set(skb);
    Step::Done(Outcome::Next)
}

/// What follows from the verdict that [`whole`] has kept.
#[inline(always)]
pub(crate) fn finish(skb: &Skb) -> Step {
    let (Some(settings), Some(slot), Some((claim, reason))) =
        (lookup::settings(), lookup::port(skb.ifindex()), learned::kept())
    else {
        return Step::Done(Outcome::Drop);
    };
    let mut reason = reason;
    if reason as u8 == Reason::AddressNotLeased as u8 {
        reason = learned::settle(slot, claim);
        if reason.passes() && is_arp(claim) && skb.awaits_checksum() {
            reason = Reason::ChecksumPending;
        }
    }
    let reason = skb.forget(reason);
    if common::may_renew(slot, claim, reason) {
        return Step::Renew;
    }
    let asks = common::asks(slot, claim, reason);
    let outcome = if reason.passes() && !slot.is_sandboxed() {
        stamp::set(skb);
        Outcome::Next
    } else if reason.passes() {
        Outcome::Sandbox
    } else {
        refuse(skb, slot, settings, &claim.record(reason))
    };
    match outcome {
        // What observe mode lets go on will be answered too.
        Outcome::Next if asks => Step::Note,
        Outcome::Sandbox if asks => Step::NoteInSandbox,
        outcome => Step::Done(outcome),
    }
}

/// What becomes of what a DHCP client says from an address that is not leased: the server judges a request
/// to prolong the lease, and nothing else goes on.
#[inline(always)]
pub(crate) fn finish_renewal(skb: &Skb, renews: bool) -> Step {
    let (Some(settings), Some(slot), Some((claim, _))) =
        (lookup::settings(), lookup::port(skb.ifindex()), learned::kept())
    else {
        return Step::Done(Outcome::Drop);
    };
    if renews && slot.is_sandboxed() {
        return Step::NoteInSandbox;
    }
    if renews {
        stamp::set(skb);
        return Step::Note;
    }
    match refuse(skb, slot, settings, &claim.record(Reason::AddressNotLeased)) {
        // What observe mode lets go on will be answered too.
        Outcome::Next => Step::Note,
        outcome => Step::Done(outcome),
    }
}

#[inline(always)]
const fn is_arp(claim: &Claim) -> bool {
    matches!(claim.ethertype, ethertype::ARP | ethertype::RARP)
}

/// Counts and reports a claim that is refused. In observe mode the frame goes on as if it had been
/// granted.
#[inline(always)]
fn refuse(skb: &Skb, slot: &PortSlot, settings: &Settings, claim: &ClaimRecord) -> Outcome {
    counters::from(slot, claim.reason);
    let dropped = lookup::drops(slot, settings);
    report::sighting(skb, slot, settings, claim, dropped);
    if dropped {
        return Outcome::Drop;
    }
    stamp::set_refused(skb, slot);
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
