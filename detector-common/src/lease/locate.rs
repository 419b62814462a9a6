//! Where in a frame the datagram lies.

use super::{Bytes, FRAME_BYTES};
use crate::{addr::Station, claim::Family, frame::Frame};

pub(super) const SERVER: u16 = 67;
pub(super) const CLIENT: u16 = 68;
pub(super) const V6_CLIENT: u16 = 546;
pub(super) const V6_SERVER: u16 = 547;

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;
const VID_MASK: u16 = 0x0fff;
/// Tags in the frame that are stepped over, as many as the parser of claims reads.
const MAX_TAGS: usize = 2;

/// A UDP datagram.
#[derive(Clone, Copy)]
pub(super) struct Datagram {
    /// Where its payload begins.
    pub(super) at: usize,
    /// Where its payload ends: within the frame, and within what was copied of it.
    pub(super) end: usize,
    pub(super) family: Family,
    /// The destination port.
    pub(super) to: u16,
    pub(super) source: Station,
    pub(super) destination: Station,
}

/// Whether the frame can be a DHCP or DHCPv6 message: cheap, for every frame to a port that learns.
/// False only when it is none.
#[inline(always)]
pub fn may_be_dhcp(frame: Frame<'_>) -> bool {
    let Some(header) = frame.window::<58>(0) else { return true };
    match header.u16::<12>() {
        IPV4 if header.u8::<23>() != UDP => false,
        IPV4 if header.u8::<14>() != 0x45 => true,
        IPV4 => matches!(header.u16::<36>(), SERVER | CLIENT),
        IPV6 if header.u8::<20>() != UDP => false,
        IPV6 => matches!(header.u16::<56>(), V6_SERVER | V6_CLIENT),
        DOT1Q | DOT1AD => true,
        _ => false,
    }
}

/// The datagram of a frame: untagged, or with up to two tags, then IPv4, or IPv6 without extension
/// headers, then UDP; not a fragment.
#[inline(always)]
pub(super) fn locate(frame: Bytes<'_>, tag: u16) -> Option<Datagram> {
    let mut at = 12;
    let mut vlan = tag & VID_MASK;
    for _ in 0..MAX_TAGS {
        if matches!(frame.u16(at), DOT1Q | DOT1AD) {
            let inner = frame.u16(at + 2) & VID_MASK;
            if inner != 0 {
                vlan = inner;
            }
            at += 4;
        }
    }
    let at = frame.forget(at);
    if at + 2 + 40 + UDP_HEADER > frame.length || frame.length > FRAME_BYTES {
        return None;
    }
    let header = at + 2;
    let (family, udp, end) = match frame.u16(at) {
        IPV4 => {
            let first = frame.u8(header);
            let length = usize::from(first & 0x0f) * 4;
            let total = usize::from(frame.u16(header + 2));
            let fragment = frame.u16(header + 6) & 0x3fff;
            if first >> 4 != 4 || length < 20 || fragment != 0 || frame.u8(header + 9) != UDP {
                return None;
            }
            (Family::V4, header + length, header + total)
        }
        IPV6 => {
            if frame.u8(header) >> 4 != 6 || frame.u8(header + 6) != UDP {
                return None;
            }
            (Family::V6, header + 40, header + 40 + usize::from(frame.u16(header + 4)))
        }
        _ => return None,
    };
    let (udp, end) = (frame.forget(udp), frame.forget(end));
    // What was not copied cannot be read to its end.
    if end > frame.length || udp + UDP_HEADER > end {
        return None;
    }
    let length = usize::from(frame.u16(udp + 4));
    if length < UDP_HEADER || udp + length > end {
        return None;
    }
    Some(Datagram {
        at: udp + UDP_HEADER,
        end: udp + length,
        family,
        to: frame.u16(udp + 2),
        source: frame.station(6).on_vlan(vlan),
        destination: frame.station(0).on_vlan(vlan),
    })
}
