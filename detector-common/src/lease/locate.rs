//! Where in a frame the datagram lies.

use super::Exchange;
use crate::{
    claim::Family,
    frame::{Copied, Frame},
};

const SERVER: u16 = 67;
const CLIENT: u16 = 68;
const V6_CLIENT: u16 = 546;
const V6_SERVER: u16 = 547;

const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
const IPV4: u16 = 0x0800;
pub(super) const IPV6: u16 = 0x86dd;
pub(super) const DOT1Q: u16 = 0x8100;
pub(super) const DOT1AD: u16 = 0x88a8;
const VID_MASK: u16 = 0x0fff;
/// Tags in the frame that are stepped over, as many as the parser of claims reads.
const MAX_TAGS: usize = 2;

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

/// Finds the message in a frame: untagged, or with up to two tags, then IPv4, or IPv6 without extension
/// headers, then UDP to a port of DHCP; not a fragment. Puts down where it is and who the client is;
/// no family when there is none.
#[inline(always)]
pub fn locate(frame: Copied<'_>, tag: u16, found: &mut Exchange) -> Family {
    let (at, vlan) = behind_tags(frame, tag);
    let header = at + 2;
    if header + 40 + UDP_HEADER > frame.length() {
        return Family::None;
    }
    let ip = frame.window::<40>(header);
    let (family, udp, end) = match frame.window::<2>(at).u16::<0>() {
        IPV4 => {
            let first = ip.u8::<0>();
            let length = usize::from(first & 0x0f) * 4;
            let is_whole = ip.u16::<6>() & 0x3fff == 0;
            if first >> 4 != 4 || length < 20 || !is_whole || ip.u8::<9>() != UDP {
                return Family::None;
            }
            (Family::V4, header + length, header + usize::from(ip.u16::<2>()))
        }
        IPV6 => {
            if ip.u8::<0>() >> 4 != 6 || ip.u8::<6>() != UDP {
                return Family::None;
            }
            (Family::V6, header + 40, header + 40 + usize::from(ip.u16::<4>()))
        }
        _ => return Family::None,
    };
    let (udp, end) = (frame.forget(udp), frame.forget(end));
    // What was not copied cannot be read to its end.
    if end > frame.length() || udp + UDP_HEADER > end {
        return Family::None;
    }
    let datagram = frame.window::<UDP_HEADER>(udp);
    let length = usize::from(datagram.u16::<4>());
    if length < UDP_HEADER || udp + length > end {
        return Family::None;
    }
    let (server, client) = match family {
        Family::V4 => (SERVER, CLIENT),
        _ => (V6_SERVER, V6_CLIENT),
    };
    let to = datagram.u16::<2>();
    if to != server && to != client {
        return Family::None;
    }
    let ethernet = frame.window::<14>(0);
    let by_client = to == server;
    let other_end = if by_client { ethernet.mac::<6>() } else { ethernet.mac::<0>() };
    found.client = other_end.on_vlan(vlan).word();
    found.by_client = u32::from(by_client);
    found.at = (udp + UDP_HEADER) as u32;
    found.end = (udp + length) as u32;
    family
}

/// Where the EtherType of the packet stands, behind the tags in the frame, and on which VLAN it is.
#[inline(always)]
pub(super) fn behind_tags(frame: Copied<'_>, tag: u16) -> (usize, u16) {
    let mut at = 12;
    let mut vlan = usize::from(tag & VID_MASK);
    for _ in 0..MAX_TAGS {
        let tag = frame.window::<4>(at);
        if matches!(tag.u16::<0>(), DOT1Q | DOT1AD) {
            let inner = usize::from(tag.u16::<2>() & VID_MASK);
            if inner != 0 {
                vlan = inner;
            }
            at += 4;
        }
        (at, vlan) = (frame.forget(at), frame.forget(vlan));
    }
    (at, vlan as u16)
}
