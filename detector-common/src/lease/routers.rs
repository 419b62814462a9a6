//! Who is said to be a router: by a DHCP server (RFC 2132, section 3.5; RFC 3442), and by itself (RFC 4861,
//! section 4.2).

use super::{
    Exchange,
    locate::{DOT1AD, DOT1Q, IPV6, behind_tags},
};
use crate::{
    addr::Address,
    frame::{Copied, Frame, opaque},
};

/// Addresses that are read of the option that lists routers.
const MAX_ROUTERS: usize = 4;
/// Routes that are read.
const MAX_ROUTES: usize = 16;

const ICMPV6: u8 = 58;
const ADVERTISEMENT: u8 = 134;
/// Lengths: of Ethernet, IPv6 and the fixed part of an advertisement.
const ETHERNET: usize = 14;
const HEADER: usize = 40;
const FIXED: usize = 16;
const LINK_LOCAL: u16 = 0xfe80;

/// Hands on each router that the message of this frame names, as its bytes lie in memory: of each option
/// the first of its kind counts, and as many of its entries as are read.
#[inline(always)]
pub fn routers(frame: Copied<'_>, said: &Exchange, mut name: impl FnMut(u32)) {
    let mut at = said.routers as usize;
    let end = at + said.routers_bytes as usize;
    let mut left = opaque(MAX_ROUTERS);
    while left > 0 {
        left -= 1;
        at = frame.forget(at);
        if at + 4 > end {
            break;
        }
        name(frame.window::<4>(at).v4::<0>());
        at += 4;
    }
    let mut at = said.routes as usize;
    let end = at + said.routes_bytes as usize;
    let mut left = opaque(MAX_ROUTES);
    while left > 0 {
        left -= 1;
        at = frame.forget(at);
        if at >= end {
            break;
        }
        let width = usize::from(frame.window::<1>(at).u8::<0>());
        let router = frame.forget(at + 1 + width.div_ceil(8));
        if width > 32 || router + 4 > end {
            break;
        }
        name(frame.window::<4>(router).v4::<0>());
        at = router + 4;
    }
}

/// Whether the frame can be a router's advertisement: cheap, for every frame to a port that learns. False
/// only when it is none.
#[inline(always)]
pub fn may_be_advertisement(frame: Frame<'_>) -> bool {
    if frame.length() < ETHERNET + HEADER + FIXED {
        return false;
    }
    let Some(header) = frame.window::<58>(0) else { return true };
    match header.u16::<12>() {
        IPV6 => header.u8::<20>() == ICMPV6 && header.u8::<54>() == ADVERTISEMENT,
        DOT1Q | DOT1AD => true,
        _ => false,
    }
}

/// A router that advertises itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertised {
    /// Its link-local address.
    pub router: Address,
    pub vlan: u16,
    /// How long it is a default router; 0 when it is none.
    pub seconds: u16,
}

/// The advertisement in a frame, tagged at most twice and without extension headers. `tag` is the VLAN that
/// the metadata names, 0 for none.
#[inline(always)]
pub fn advertised(frame: Copied<'_>, tag: u16) -> Option<Advertised> {
    let (at, vlan) = behind_tags(frame, tag);
    let packet = at + 2;
    if packet + HEADER + FIXED > frame.length() || frame.window::<2>(at).u16::<0>() != IPV6 {
        return None;
    }
    let ip = frame.window::<HEADER>(packet);
    // A router is a neighbour, so that nobody has passed it on.
    let near = ip.u8::<7>() == 255 && ip.u16::<8>() & 0xffc0 == LINK_LOCAL;
    let whole = usize::from(ip.u16::<4>()) >= FIXED;
    if ip.u8::<0>() >> 4 != 6 || ip.u8::<6>() != ICMPV6 || !near || !whole {
        return None;
    }
    let message = frame.window::<FIXED>(packet + HEADER);
    if message.u8::<0>() != ADVERTISEMENT || message.u8::<1>() != 0 {
        return None;
    }
    Some(Advertised { router: ip.v6::<8>(), vlan, seconds: message.u16::<6>() })
}

#[cfg(test)]
mod tests;
