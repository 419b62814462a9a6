//! What the daemon learns of claims without a grant: sightings, and events within a budget. Nothing
//! here decides, and a port can only ever crowd out what is its own.

use aya_ebpf::{
    helpers::generated::{bpf_jiffies64, bpf_skb_load_bytes},
    macros::map,
    maps::{Array, RingBuf},
};
use aya_log_ebpf::warn;
use detector_common::{
    claim::ClaimRecord,
    counters::{Budget, Sighting},
    event::{Event, EventRecord, HEAD_BYTES},
    frame::opaque,
    maps::{self, SIGHTINGS_PER_PORT},
    port::PortSlot,
    settings::Settings,
};

use crate::{counters, skb::Skb};

/// Events a port may cause in a second.
const EVENTS_PER_SECOND: u32 = 16;

#[map]
static SIGHTINGS: Array<Sighting> = Array::pinned(maps::MAX_PORTS * SIGHTINGS_PER_PORT, 0);

#[map]
static BUDGETS: Array<Budget> = Array::pinned(maps::MAX_PORTS, 0);

#[map]
static EVENTS: RingBuf = RingBuf::pinned(maps::EVENT_BYTES, 0);

/// When it was last told that a guard has no slot.
#[map]
static TOLD: Array<u64> = Array::with_max_entries(1, 0);

/// Notes a claim that was refused, and reports it when it is new.
#[inline(always)]
pub(crate) fn sighting(
    skb: &Skb,
    slot: &PortSlot,
    settings: &Settings,
    claim: &ClaimRecord,
    dropped: bool,
) {
    // SAFETY: no arguments, no effects.
    let now = unsafe { bpf_jiffies64() };
    let index =
        u32::from(slot.id) * SIGHTINGS_PER_PORT + claim.spread::<{ SIGHTINGS_PER_PORT.ilog2() }>();
    let Some(entry) = SIGHTINGS.get_ptr_mut(index) else { return };
    // SAFETY: the entry is a living map value. CPUs may race for it: a sighting can then be counted
    // wrongly, but is never of another port.
    unsafe {
        if (*entry).instance == slot.instance && (*entry).claim.same(claim) {
            (*entry).last = now;
            (*entry).count += 1;
            return;
        }
        *entry = Sighting {
            first: now,
            last: now,
            count: 1,
            instance: slot.instance,
            claim: *claim,
            pad: 0,
        };
    }
    if let Some(held) = take_token(slot, settings, now) {
        send(skb, slot, claim, now, held, dropped);
    }
}

/// Tells that a guard runs where no slot is, which a guest's frames must not repeat at will: once a
/// second, whichever interface it is.
#[inline(never)]
pub(crate) fn no_slot(skb: &Skb, settings: &Settings) {
    let Some(told) = TOLD.get_ptr_mut(0) else { return };
    // SAFETY: no arguments, no effects; the entry is a living map value, and CPUs that race for it
    // tell the same.
    unsafe {
        let now = bpf_jiffies64();
        if now.wrapping_sub(*told) < u64::from(settings.hz) {
            return;
        }
        *told = now;
    }
    warn!(
        &skb.context(),
        "the guard of interface {} has no slot: it lets nothing through",
        skb.ifindex()
    );
}

/// Takes one event from the port's budget; returns how many were held back before it.
#[inline(always)]
fn take_token(slot: &PortSlot, settings: &Settings, now: u64) -> Option<u32> {
    let budget = BUDGETS.get_ptr_mut(u32::from(slot.id))?;
    // SAFETY: the entry is a living map value; CPUs that race for it can take a few tokens more.
    unsafe {
        if now.wrapping_sub((*budget).refilled) >= u64::from(settings.hz) {
            (*budget).refilled = now;
            (*budget).tokens = EVENTS_PER_SECOND;
        }
        if (*budget).tokens == 0 {
            (*budget).held = (*budget).held.wrapping_add(1);
            counters::event_held(slot);
            return None;
        }
        (*budget).tokens -= 1;
        let held = (*budget).held;
        (*budget).held = 0;
        Some(held)
    }
}

#[inline(always)]
fn send(skb: &Skb, slot: &PortSlot, claim: &ClaimRecord, at: u64, held: u32, dropped: bool) {
    let Some(mut entry) = EVENTS.reserve::<EventRecord>(0) else {
        counters::event_lost(slot);
        return;
    };
    let report = entry.as_mut_ptr();
    // SAFETY: the entry has room for a report, whose fields are written by address, since the stack has no room for
    // another one.
    unsafe {
        (&raw mut (*report).event).write(Event {
            at,
            ifindex: slot.ifindex,
            instance: slot.instance,
            port: slot.id,
            dropped: u8::from(dropped),
            copied: 0,
            held,
            claim: *claim,
        });
        (*report).event.copied = copy(skb, (&raw mut (*report).head).cast());
    }
    entry.submit(0);
}

/// Copies the beginning of the frame to where there is room for [`HEAD_BYTES`], and says how much.
#[inline(always)]
unsafe fn copy(skb: &Skb, to: *mut core::ffi::c_void) -> u8 {
    let length = skb.length().min(HEAD_BYTES as u32);
    if length == 0 {
        return 0;
    }
    // The verifier has to see that the length is neither nothing nor more than there is room for.
    let length = (opaque(length as usize - 1) & (HEAD_BYTES - 1)) + 1;
    // SAFETY: the caller has room for so many bytes.
    match unsafe { bpf_skb_load_bytes(skb.raw().cast(), 0, to, length as u32) } {
        0 => length as u8,
        _ => 0,
    }
}
