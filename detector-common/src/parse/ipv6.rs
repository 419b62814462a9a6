//! IPv6 (RFC 8200) with a bounded walk of its extension headers.

use super::{
    ASK_WHOLE, Claim, Reach, dhcp, nd,
    protocol::{self, TCP, UDP},
};
use crate::{
    addr::Address,
    frame::{Frame, opaque},
    reason::Reason,
};

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const ICMPV6: u8 = 58;
const DESTINATION_OPTIONS: u8 = 60;

/// Length of a TCP header without options in bytes.
const TCP_HEADER: usize = 20;

/// Extension headers that are walked. Real traffic has one or two.
const MAX_HEADERS: usize = 4;
/// Offset of the last header that is read, so that what follows it lies within
/// [`crate::frame::MAX_OFFSET`].
const MAX_CHAIN: usize = 320;

/// What the walk has found so far behind the IPv6 header.
#[derive(Clone, Copy)]
struct Upper {
    protocol: u8,
    at: usize,
    /// The packet is one of several fragments.
    fragmented: bool,
    /// It is a fragment other than the first, which has no upper-layer header.
    later_fragment: bool,
}

impl Upper {
    /// See [`Frame::forget`].
    #[inline(always)]
    fn forget(self, frame: Frame<'_>) -> Self {
        let word = self.at
            | usize::from(self.protocol) << 16
            | usize::from(self.fragmented) << 24
            | usize::from(self.later_fragment) << 25;
        let word = frame.forget(word);
        Self {
            protocol: (word >> 16) as u8,
            at: word & 0xffff,
            fragmented: word & 1 << 24 != 0,
            later_fragment: word & 1 << 25 != 0,
        }
    }
}

#[inline(always)]
pub(super) fn parse<R: Reach>(
    frame: Frame<'_>,
    at: usize,
    claim: &mut Claim,
) -> Result<(), Reason> {
    let header = frame.window::<40>(at).ok_or(Reason::Truncated)?;
    let source = header.v6::<8>();
    let next = header.u8::<6>();
    if !R::WHOLE && (source.is_special() || !matches!(next, TCP | UDP | ICMPV6)) {
        return Err(ASK_WHOLE);
    }
    let unspecified = source == Address::UNSPECIFIED;
    if !unspecified {
        claim.set_v6(source);
    }
    let end = at + 40 + usize::from(header.u16::<4>());
    if header.u8::<0>() >> 4 != 6 || end > frame.length() {
        return Err(Reason::Ipv6Malformed);
    }
    // IPv4-mapped addresses never appear on a wire (RFC 4038, section 4.2), and maps keep IPv4 there.
    if source.is_v6_multicast() || source == Address::LOOPBACK || source.is_mapped() {
        return Err(Reason::Ipv6Source);
    }

    let upper = if R::WHOLE {
        walk(frame, at + 40, end, next)?.forget(frame)
    } else {
        Upper { protocol: next, at: at + 40, fragmented: false, later_fragment: false }
    };
    if upper.later_fragment {
        return if unspecified { Err(Reason::Ipv6Source) } else { Ok(()) };
    }
    match upper.protocol {
        ICMPV6 => {
            if upper.at + 4 > end {
                return Err(short(&upper));
            }
            let message = nd::Message {
                at: upper.at,
                end,
                hop_limit: header.u8::<7>(),
                fragmented: upper.fragmented,
                unspecified,
            };
            nd::inspect::<R>(frame, message, claim)
        }
        _ if unspecified => Err(Reason::Ipv6Source),
        UDP if upper.at + dhcp::UDP_HEADER > end => Err(short(&upper)),
        UDP => dhcp::inspect_v6::<R>(frame, upper.at, end, claim),
        // The first fragment holds the whole chain, up to the transport header (RFC 7112).
        TCP if upper.fragmented && upper.at + TCP_HEADER > end => Err(Reason::Ipv6Fragment),
        _ => {
            if R::WHOLE {
                claim.roles |= protocol::role(upper.protocol);
            }
            Ok(())
        }
    }
}

/// Why an upper-layer header that is cut off is refused.
const fn short(upper: &Upper) -> Reason {
    if upper.fragmented { Reason::Ipv6Fragment } else { Reason::Ipv6Malformed }
}

#[inline(always)]
fn walk(frame: Frame<'_>, at: usize, end: usize, first: u8) -> Result<Upper, Reason> {
    let mut upper = Upper { protocol: first, at, fragmented: false, later_fragment: false };
    let mut left = opaque(MAX_HEADERS);
    while left > 0 {
        left -= 1;
        upper = upper.forget(frame);
        if !is_extension(upper.protocol) {
            return Ok(upper);
        }
        if upper.at > MAX_CHAIN {
            return Err(Reason::Ipv6HeaderChain);
        }
        if upper.at + 8 > end {
            return Err(short(&upper));
        }
        let header = frame.window_behind::<8>(upper.at).ok_or(Reason::Truncated)?;
        let units = usize::from(header.u8::<1>());
        match upper.protocol {
            FRAGMENT => {
                let field = header.u16::<2>();
                let (offset, more) = (field & 0xfff8, field & 1);
                // An atomic fragment is a whole packet (RFC 6946).
                upper.fragmented |= offset != 0 || more != 0;
                if offset != 0 {
                    upper.later_fragment = true;
                    return Ok(upper);
                }
                upper.at += 8;
            }
            // The header has 12 bytes at least (RFC 4302, section 2.2).
            AUTHENTICATION if units == 0 => return Err(Reason::Ipv6Malformed),
            AUTHENTICATION => upper.at += (units + 2) * 4,
            _ => upper.at += (units + 1) * 8,
        }
        upper.protocol = header.u8::<0>();
        if upper.at > end {
            return Err(short(&upper));
        }
    }
    if is_extension(upper.protocol) { Err(Reason::Ipv6HeaderChain) } else { Ok(upper) }
}

const fn is_extension(protocol: u8) -> bool {
    // Mobility, HIP and Shim6 have the common format too (IANA, IPv6 extension header types).
    matches!(
        protocol,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS | 135 | 139 | 140
    )
}
