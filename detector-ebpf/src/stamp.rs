//! The stamp that says a guard, or the gate of an uplink, has vetted the frame. What it is are
//! constants that the loader sets, and that the verifier knows.

use aya_ebpf::Global;
use detector_common::{
    gate::Vetting,
    port::{PortSlot, Role, flags},
    stamp::{Carrier, Stamp},
};

use crate::skb::Skb;

#[unsafe(no_mangle)]
static STAMP_CARRIER: Global<u32> = Global::new(Stamp::DEFAULT.carrier as u32);
#[unsafe(no_mangle)]
static STAMP_MASK: Global<u32> = Global::new(Stamp::DEFAULT.mask);
#[unsafe(no_mangle)]
static STAMP_VALUE: Global<u32> = Global::new(Stamp::DEFAULT.value);
#[unsafe(no_mangle)]
static STAMP_BROUGHT: Global<u32> = Global::new(0);
#[unsafe(no_mangle)]
static STAMP_STAYS: Global<u32> = Global::new(0);

#[inline(always)]
pub(crate) fn is_set(skb: &Skb) -> bool {
    carried(skb) == u64::from(STAMP_VALUE.load())
}

/// Whether a passage has brought the frame to a port that does not know by what interface it came.
#[inline(always)]
pub(crate) fn is_brought(skb: &Skb) -> bool {
    let brought = STAMP_BROUGHT.load();
    brought != 0 && carried(skb) == u64::from(brought)
}

/// What a frame carries, where [`set_refused`] tells the two apart.
#[inline(always)]
pub(crate) fn read(skb: &Skb) -> Vetting {
    match carried(skb) {
        carried if carried == u64::from(STAMP_VALUE.load()) => Vetting::Vetted,
        carried if carried != 0 && carried == refused() => Vetting::Refused,
        _ => Vetting::Unvetted,
    }
}

/// Whether the frame was vetted, or goes on though it was refused. `place` is where the program runs: on a
/// bridge nothing carries that it was refused.
#[inline(always)]
pub(crate) fn is_any(skb: &Skb, place: impl FnOnce() -> Option<&'static PortSlot>) -> bool {
    match read(skb) {
        Vetting::Vetted => true,
        Vetting::Refused => place().is_some_and(|slot| slot.has(flags::SWITCHED)),
        Vetting::Unvetted => false,
    }
}

#[inline(always)]
pub(crate) fn set(skb: &Skb) {
    write(skb, STAMP_VALUE.load());
}

/// See [`is_brought`].
#[inline(always)]
pub(crate) fn set_brought(skb: &Skb) {
    write(skb, STAMP_BROUGHT.load());
}

/// Of a frame that is refused at a port and goes on all the same: it is delivered like one that is vetted.
/// Where it may lose its source on its way, as in Open vSwitch and between macvtaps of one device, it carries
/// that it was not.
#[inline(always)]
pub(crate) fn set_refused(skb: &Skb, slot: &PortSlot) {
    // Programs of another release that come behind stamp what they grant; of a port that they do not know
    // nothing is to get by their gate.
    if STAMP_STAYS.load() != 0 {
        return;
    }
    let loses_source = slot.has(flags::SWITCHED) || matches!(slot.role(), Role::GuestOnDevice);
    if loses_source && refused() != 0 {
        write(skb, refused() as u32);
    } else {
        set(skb);
    }
}

/// Where a frame leaves our care, nobody else shall see the stamp. While programs of another release come
/// behind, they take it off.
#[inline(always)]
pub(crate) fn clear(skb: &Skb) {
    if STAMP_STAYS.load() == 0 {
        write(skb, 0);
    }
}

/// See [`Stamp::refused`].
#[inline(always)]
fn refused() -> u64 {
    u64::from(STAMP_MASK.load() ^ STAMP_VALUE.load())
}

#[inline(always)]
fn carried(skb: &Skb) -> u64 {
    let carrier = if is_in_tc_index() { skb.tc_index() } else { skb.mark() };
    carrier & u64::from(STAMP_MASK.load())
}

#[inline(always)]
fn write(skb: &Skb, value: u32) {
    let (others, value) = (u64::from(!STAMP_MASK.load()), u64::from(value));
    if is_in_tc_index() {
        skb.set_tc_index(skb.tc_index() & others | value);
    } else {
        skb.set_mark(skb.mark() & others | value);
    }
}

#[inline(always)]
fn is_in_tc_index() -> bool {
    STAMP_CARRIER.load() == Carrier::TcIndex as u32
}
