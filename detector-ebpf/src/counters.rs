//! Per-CPU counters of each port: of frames that were refused, and of those that passed the gate
//! without the stamp. What passes otherwise is counted by the interface itself.

use core::ptr::addr_of_mut;

use aya_ebpf::{macros::map, maps::PerCpuArray};
use detector_common::{
    counters::PortCounters,
    maps,
    port::PortSlot,
    reason::{REASON_SLOTS, Reason},
};

#[map]
static COUNTERS: PerCpuArray<PortCounters> = PerCpuArray::pinned(maps::MAX_PORTS, 0);

/// Counts a frame from the port's side, by the code of its reason.
#[inline(always)]
pub(crate) fn from(slot: &PortSlot, reason: u8) {
    count(slot, |counters| {
        // SAFETY: the entry is this CPU's, and codes are below REASON_SLOTS.
        unsafe { addr_of_mut!((*counters).from[reason as usize & (REASON_SLOTS - 1)]) }
    });
}

/// Counts a frame towards the port's side.
#[inline(always)]
pub(crate) fn to(slot: &PortSlot, reason: Reason) {
    count(slot, |counters| {
        // SAFETY: the entry is this CPU's, and codes are below REASON_SLOTS.
        unsafe { addr_of_mut!((*counters).to[reason as usize & (REASON_SLOTS - 1)]) }
    });
}

/// Counts an event that the ring buffer had no room for.
#[inline(always)]
pub(crate) fn event_lost(slot: &PortSlot) {
    // SAFETY: the entry is this CPU's.
    count(slot, |counters| unsafe { addr_of_mut!((*counters).events_lost) });
}

/// Counts an event that the port's budget held back.
#[inline(always)]
pub(crate) fn event_held(slot: &PortSlot) {
    // SAFETY: the entry is this CPU's.
    count(slot, |counters| unsafe { addr_of_mut!((*counters).events_held) });
}

#[inline(always)]
fn count(slot: &PortSlot, field: impl FnOnce(*mut PortCounters) -> *mut u64) {
    if let Some(counters) = COUNTERS.get_ptr_mut(u32::from(slot.id)) {
        let counter = field(counters);
        // SAFETY: a field of this CPU's entry; programs of one CPU do not interrupt each other
        // here, and a count lost to one that did would be no verdict lost.
        unsafe { *counter = (*counter).wrapping_add(1) };
    }
}
