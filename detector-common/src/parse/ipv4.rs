//! IPv4 (RFC 791), as far as it asserts an identity.

use super::{ASK_WHOLE, Claim, Reach, dhcp};
use crate::{
    frame::{Frame, Window},
    reason::Reason,
};

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
    // Nobody takes a packet whose header does not add up. A guest may have the host write a checksum
    // to where it likes after the verdict: were that the source, the header would not add up then.
    if !adds_up::<R>(frame, at, header, header_length)? {
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

/// Whether the header's checksum is right (RFC 1071; the order of the bytes does not matter to it).
#[inline(always)]
fn adds_up<R: Reach>(
    frame: Frame<'_>,
    at: usize,
    header: Window<'_, 20>,
    length: usize,
) -> Result<bool, Reason> {
    let mut sum = u64::from(header.v4::<0>())
        + u64::from(header.v4::<4>())
        + u64::from(header.v4::<8>())
        + u64::from(header.v4::<12>())
        + u64::from(header.v4::<16>());
    if R::WHOLE {
        for option in (20..60).step_by(4).take_while(|option| *option < length) {
            let word = frame.window_behind::<4>(at + option).ok_or(Reason::Truncated)?;
            sum += u64::from(word.v4::<0>());
        }
    }
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    Ok(sum == 0xffff)
}

/// 0/8, loopback, multicast and reserved addresses (RFC 6890) are nobody's source.
#[inline(always)]
const fn is_nobodys(source: u32) -> bool {
    let [first, ..] = source.to_ne_bytes();
    first.wrapping_sub(1) >= 223 || first == 127
}
