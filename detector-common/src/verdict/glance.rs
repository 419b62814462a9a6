//! What nearly every frame is, told by comparing it with the slot as it lies in memory.
//!
//! The parser asks what a frame asserts, and keeps the answer; that takes more registers than a
//! program has. Here nothing is kept.

use crate::{
    frame::{Frame, Window},
    parse::ethertype,
    port::{PortSlot, flags},
};

const TCP: u8 = 6;
const UDP: u8 = 17;
const ETHERNET: u64 = 14;
const IPV4_HEADER: u64 = 20;
const IPV6_HEADER: u64 = 40;
const UDP_HEADER: u64 = 8;
/// Where the destination port of a TCP segment or UDP datagram ends, behind the shortest headers.
const V4_READ: usize = 38;
const V6_READ: usize = 58;
/// The EtherType where [`station_and_type`] has it.
const V4: u64 = (ethertype::IPV4.swap_bytes() as u64) << 48;
const V6: u64 = (ethertype::IPV6.swap_bytes() as u64) << 48;
/// The first four bytes of 01:80:c2:00:00:0x.
const LINK_LOCAL: u64 = u32::from_le_bytes([0x01, 0x80, 0xc2, 0x00]) as u64;

/// Whether a frame without a tag in metadata is one that [`vet`](super::vet) grants: TCP or UDP from the
/// slot's own MAC and address. `false` says nothing.
#[inline(always)]
pub fn passes_at_a_glance(frame: Frame<'_>, slot: &PortSlot) -> bool {
    let Some(window) = frame.window::<V4_READ>(0) else { return false };
    if window.half_word::<0>() == LINK_LOCAL {
        return false;
    }
    let length = frame.length() as u64;
    // Of an untagged slot only the type is left where the MACs are the same.
    match window.word::<6>() ^ slot.station().word() {
        V4 if may_be_compared(slot, flags::EXACT_V4) => is_own_v4(window, length, slot),
        V6 if may_be_compared(slot, flags::EXACT_V6) => match frame.window::<V6_READ>(0) {
            Some(window) => is_own_v6(window, length, slot),
            None => false,
        },
        _ => false,
    }
}

#[inline(always)]
const fn may_be_compared(slot: &PortSlot, exact: u32) -> bool {
    slot.flags & (flags::GRANTED | flags::ISOLATED | exact) == flags::GRANTED | exact
}

#[inline(always)]
fn is_own_v4(window: Window<'_, V4_READ>, length: u64, slot: &PortSlot) -> bool {
    /// Everything but "do not fragment".
    const FRAGMENT: u16 = 0xbfff;

    let source = window.half_word::<26>();
    if source != u64::from(u32::from_ne_bytes(slot.v4)) || window.u8::<14>() != 0x45 {
        return false;
    }
    let total = u64::from(window.u16::<16>());
    if total + ETHERNET > length || window.u16::<20>() & FRAGMENT != 0 {
        return false;
    }
    let sum = source
        + window.half_word::<14>()
        + window.half_word::<18>()
        + window.half_word::<22>()
        + window.half_word::<30>();
    // Below 5 * 2^32, so then below 2^19 + 2^16, and then below 2^16 + 2^4: of the multiples of 0xffff,
    // which are what a right header adds up to, one is left.
    let sum = (sum & 0xffff) + (sum >> 16);
    if (sum & 0xffff) + (sum >> 16) != 0xffff {
        return false;
    }
    match window.u8::<23>() {
        TCP => total >= IPV4_HEADER,
        UDP => total >= IPV4_HEADER + UDP_HEADER && !matches!(window.u16::<36>(), 67 | 68),
        _ => false,
    }
}

#[inline(always)]
fn is_own_v6(window: Window<'_, V6_READ>, length: u64, slot: &PortSlot) -> bool {
    if window.v6::<22>() != slot.v6 || window.u8::<14>() >> 4 != 6 {
        return false;
    }
    let payload = u64::from(window.u16::<18>());
    if payload + ETHERNET + IPV6_HEADER > length {
        return false;
    }
    match window.u8::<20>() {
        TCP => true,
        UDP => payload >= UDP_HEADER && !matches!(window.u16::<56>(), 546 | 547),
        _ => false,
    }
}
