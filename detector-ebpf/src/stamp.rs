//! The stamp that says a guard, or the gate of an uplink, has vetted the frame.

use detector_common::settings::{Carrier, Settings};

use crate::skb::Skb;

#[inline(always)]
pub(crate) fn is_set(skb: &Skb, settings: &Settings) -> bool {
    read(skb, settings) & settings.stamp_mask == settings.stamp_value
}

#[inline(always)]
pub(crate) fn set(skb: &Skb, settings: &Settings) {
    write(skb, settings, settings.stamp_value);
}

/// Where a frame leaves our care, nobody else shall see the stamp.
#[inline(always)]
pub(crate) fn clear(skb: &Skb, settings: &Settings) {
    write(skb, settings, 0);
}

#[inline(always)]
fn read(skb: &Skb, settings: &Settings) -> u32 {
    if settings.carrier == Carrier::TcIndex as u32 { skb.tc_index() } else { skb.mark() }
}

#[inline(always)]
fn write(skb: &Skb, settings: &Settings, value: u32) {
    if settings.carrier == Carrier::TcIndex as u32 {
        skb.set_tc_index(skb.tc_index() & !settings.stamp_mask | value);
    } else {
        skb.set_mark(skb.mark() & !settings.stamp_mask | value);
    }
}
