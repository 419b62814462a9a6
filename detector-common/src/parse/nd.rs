//! ICMPv6: Neighbour Discovery (RFC 4861), and what may speak without a source address.

use super::{ASK_WHOLE, Claim, Reach};
use crate::{
    addr::Address,
    frame::{Frame, opaque},
    port::flags,
    reason::Reason,
};

const MLD_QUERY: u8 = 130;
const MLD_REPORT: u8 = 131;
const MLD_DONE: u8 = 132;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const MLDV2_REPORT: u8 = 143;
/// RFC 4286; snooping bridges take the sender for a router.
const MULTICAST_ROUTER_ADVERTISEMENT: u8 = 151;
const MULTICAST_ROUTER_TERMINATION: u8 = 153;

const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Options that are read; a message with more is refused. Senders use one or two.
const MAX_OPTIONS: usize = 4;

/// Where an ICMPv6 message lies, and what its IPv6 header says.
#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) at: usize,
    /// Where the IPv6 payload ends.
    pub(super) end: usize,
    pub(super) hop_limit: u8,
    pub(super) fragmented: bool,
    /// The IPv6 source is `::`.
    pub(super) unspecified: bool,
}

#[inline(always)]
pub(super) fn inspect<R: Reach>(
    frame: Frame<'_>,
    message: Message,
    claim: &mut Claim,
) -> Result<(), Reason> {
    let header = frame.window::<4>(message.at).ok_or(Reason::Truncated)?;
    let kind = header.u8::<0>();
    match kind {
        MLD_QUERY..=REDIRECT | MULTICAST_ROUTER_ADVERTISEMENT | MULTICAST_ROUTER_TERMINATION
            if !R::WHOLE =>
        {
            return Err(ASK_WHOLE);
        }
        ROUTER_SOLICITATION..=REDIRECT => {}
        MLD_REPORT | MLD_DONE | MLDV2_REPORT => return Ok(()),
        MLD_QUERY | MULTICAST_ROUTER_ADVERTISEMENT | MULTICAST_ROUTER_TERMINATION => {
            claim.roles |= flags::ROUTER;
            return if message.unspecified { Err(Reason::Ipv6Source) } else { Ok(()) };
        }
        _ if message.unspecified => return Err(Reason::Ipv6Source),
        _ => return Ok(()),
    }

    if message.fragmented {
        return Err(Reason::NdFragmented);
    }
    if message.hop_limit != 255 {
        return Err(Reason::NdHopLimit);
    }
    if header.u8::<1>() != 0 {
        return Err(Reason::NdMalformed);
    }
    let options = match kind {
        ROUTER_SOLICITATION => message.at + 8,
        NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT => {
            if message.at + 24 > message.end {
                return Err(Reason::NdMalformed);
            }
            let target = frame.window_behind::<24>(message.at).ok_or(Reason::Truncated)?.v6::<8>();
            let is_nobodys = target == Address::UNSPECIFIED || target == Address::LOOPBACK;
            if is_nobodys || target.is_v6_multicast() || target.is_mapped() {
                return Err(Reason::NdMalformed);
            }
            // A solicitation asks for somebody else's address, but without a source it announces
            // the sender's own (RFC 4862, section 5.4.2).
            if kind == NEIGHBOUR_ADVERTISEMENT || message.unspecified {
                claim.target = target;
            }
            message.at + 24
        }
        _ => {
            claim.roles |= flags::ROUTER;
            return if message.unspecified { Err(Reason::Ipv6Source) } else { Ok(()) };
        }
    };
    if kind == NEIGHBOUR_ADVERTISEMENT && message.unspecified {
        return Err(Reason::Ipv6Source);
    }
    check_options(frame, options, message.end, claim)
}

/// Every link-layer address option must be the sender's, or a virtual router's for which it speaks.
#[inline(always)]
fn check_options(frame: Frame<'_>, at: usize, end: usize, claim: &mut Claim) -> Result<(), Reason> {
    let mut at = at;
    let mut left = opaque(MAX_OPTIONS);
    while left > 0 {
        left -= 1;
        at = frame.forget(at);
        if at == end {
            return Ok(());
        }
        if at + 8 > end {
            return Err(Reason::NdMalformed);
        }
        let option = frame.window_behind::<8>(at).ok_or(Reason::Truncated)?;
        let units = usize::from(option.u8::<1>());
        if units == 0 {
            return Err(Reason::NdMalformed);
        }
        if matches!(option.u8::<0>(), SOURCE_LINK_LAYER | TARGET_LINK_LAYER) {
            let station = option.mac::<2>();
            if units != 1 {
                return Err(Reason::NdLinkLayer);
            }
            if !station.same_mac(claim.station) {
                // An active router answers for a virtual one (RFC 9568, section 8.2.2).
                if !station.is_virtual_router() {
                    return Err(Reason::NdLinkLayer);
                }
                claim.roles |= flags::VRRP;
            }
        }
        at += units * 8;
    }
    if at == end { Ok(()) } else { Err(Reason::NdMalformed) }
}
