//! IPv4 (RFC 791), as far as it asserts an identity.

use super::{ASK_WHOLE, Claim, Reach, dhcp};
use crate::{frame::Frame, reason::Reason};

const UDP: u8 = 17;
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

#[inline(always)]
pub(super) fn parse<R: Reach>(
    frame: Frame<'_>,
    at: usize,
    claim: &mut Claim,
) -> Result<(), Reason> {
    let header = frame.window::<20>(at).ok_or(Reason::Truncated)?;
    let source = header.v4::<12>();
    if !R::WHOLE && header.u8::<0>() != 0x45 {
        return Err(ASK_WHOLE);
    }
    // Without [`Reach::WHOLE`] it falls under 0/8.
    let unspecified = R::WHOLE && source == 0;
    if !unspecified {
        claim.set_v4(source);
    }

    let header_length = usize::from(header.u8::<0>() & 0x0f) * 4;
    let total_length = usize::from(header.u16::<2>());
    if header.u8::<0>() >> 4 != 4
        || header_length < 20
        || total_length < header_length
        || at + total_length > frame.length()
    {
        return Err(Reason::Ipv4Malformed);
    }
    if !unspecified && is_nobodys(source) {
        return Err(Reason::Ipv4Source);
    }

    let fragment = header.u16::<6>();
    let first = fragment & FRAGMENT_OFFSET == 0;
    if header.u8::<9>() == UDP && first {
        if total_length - header_length < dhcp::UDP_HEADER {
            return Err(if fragment & MORE_FRAGMENTS == 0 {
                Reason::Ipv4Malformed
            } else {
                Reason::Ipv4Fragment
            });
        }
        let datagram = dhcp::Datagram {
            at: at + header_length,
            end: at + total_length,
            fragmented: fragment & MORE_FRAGMENTS != 0,
            unspecified,
        };
        dhcp::inspect_v4::<R>(frame, datagram, claim)
    } else if unspecified {
        Err(Reason::Ipv4Source)
    } else {
        Ok(())
    }
}

/// 0/8, loopback, multicast and reserved addresses (RFC 6890) are nobody's source.
#[inline(always)]
const fn is_nobodys(source: u32) -> bool {
    let [first, ..] = source.to_ne_bytes();
    first.wrapping_sub(1) >= 223 || first == 127
}
