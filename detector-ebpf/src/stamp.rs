//! The stamp that says a guard, or the gate of an uplink, has vetted the frame. What it is are
//! constants that the loader sets, and that the verifier knows.

use aya_ebpf::Global;
use detector_common::stamp::{Carrier, Stamp};

use crate::skb::Skb;

#[unsafe(no_mangle)]
static STAMP_CARRIER: Global<u32> = Global::new(Stamp::DEFAULT.carrier as u32);
#[unsafe(no_mangle)]
static STAMP_MASK: Global<u32> = Global::new(Stamp::DEFAULT.mask);
#[unsafe(no_mangle)]
static STAMP_VALUE: Global<u32> = Global::new(Stamp::DEFAULT.value);
#[unsafe(no_mangle)]
static STAMP_STAYS: Global<u32> = Global::new(0);

#[inline(always)]
pub(crate) fn is_set(skb: &Skb) -> bool {
    let carried = if is_in_tc_index() { skb.tc_index() } else { skb.mark() };
    carried & u64::from(STAMP_MASK.load()) == u64::from(STAMP_VALUE.load())
}

#[inline(always)]
pub(crate) fn set(skb: &Skb) {
    write(skb, STAMP_VALUE.load());
}

/// Where a frame leaves our care, nobody else shall see the stamp. While programs of another release come
/// behind, they take it off.
#[inline(always)]
pub(crate) fn clear(skb: &Skb) {
    if STAMP_STAYS.load() == 0 {
        write(skb, 0);
    }
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
