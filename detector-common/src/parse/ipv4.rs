//! IPv4 (RFC 791), as far as it asserts an identity.

use super::{
    ASK_WHOLE, Claim, Reach, dhcp,
    protocol::{self, TCP, UDP},
};
use crate::{
    frame::{Frame, Window},
    port::flags,
    reason::Reason,
};

const ICMP: u8 = 1;
const IGMP: u8 = 2;
/// Length of the shortest ICMP and IGMP messages in bytes.
const CONTROL: usize = 8;
const ICMP_REDIRECT: u8 = 5;
/// RFC 1256.
const ICMP_ROUTER_ADVERTISEMENT: u8 = 9;
/// What a member of a group says: reports of IGMPv1, v2 and v3, and that it leaves (RFC 9776). All
/// else in IGMP is for routers.
const IGMP_OF_MEMBERS: [u8; 4] = [0x12, 0x16, 0x17, 0x22];
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
    let protocol = header.u8::<9>();
    if !R::WHOLE && (header.u8::<0>() != 0x45 || !matches!(protocol, TCP | UDP)) {
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
    let payload_length = total_length - header_length;
    if protocol == UDP && first {
        if payload_length < dhcp::UDP_HEADER {
            return Err(short(fragment));
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
    } else if R::WHOLE {
        claim.roles |= protocol::role(protocol);
        if first && matches!(protocol, ICMP | IGMP) {
            if payload_length < CONTROL {
                return Err(short(fragment));
            }
            let kind =
                frame.window_behind::<4>(at + header_length).ok_or(Reason::Truncated)?.u8::<0>();
            if is_of_routers(protocol, kind) {
                claim.roles |= flags::ROUTER;
            }
        }
        Ok(())
    } else {
        Ok(())
    }
}

/// Why a message that is cut off is refused.
const fn short(fragment: u16) -> Reason {
    if fragment & MORE_FRAGMENTS == 0 { Reason::Ipv4Malformed } else { Reason::Ipv4Fragment }
}

/// Whether an ICMP or IGMP message of this type is a router's.
#[inline(always)]
fn is_of_routers(protocol: u8, kind: u8) -> bool {
    if protocol == ICMP {
        matches!(kind, ICMP_REDIRECT | ICMP_ROUTER_ADVERTISEMENT)
    } else {
        !IGMP_OF_MEMBERS.contains(&kind)
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
    // At most 15 words, so now below 2^32 + 15, and then below 2^17: of the multiples of 0xffff, which
    // are what a right header adds up to, two are left.
    sum = (sum & 0xffff_ffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    Ok(sum == 0xffff || sum == 0x1fffe)
}

/// 0/8, loopback, multicast and reserved addresses (RFC 6890) are nobody's source. Takes the address as
/// it lies in memory.
#[inline(always)]
pub const fn is_nobodys(source: u32) -> bool {
    let [first, ..] = source.to_ne_bytes();
    first.wrapping_sub(1) >= 223 || first == 127
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::Whole;

    /// The sum as RFC 1071 has it, 16 bits at a time.
    fn ones_complement(header: &[u8]) -> u16 {
        header.chunks(2).fold(0, |sum: u16, pair| {
            let (sum, carry) = sum.overflowing_add(u16::from_be_bytes([pair[0], pair[1]]));
            sum + u16::from(carry)
        })
    }

    #[test]
    fn headers_add_up_as_the_rfc_has_it() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        for round in 0..100_000 {
            let length = 20 + (round % 11) * 4;
            // Extreme bytes too, whose sums carry most.
            let mut header: Vec<u8> = (0..length)
                .map(|_| match random() % 4 {
                    0 => 0xff,
                    1 => 0,
                    _ => random() as u8,
                })
                .collect();
            header[0] = 0x45;
            if round % 2 == 0 {
                header[10..12].fill(0);
                let missing = !ones_complement(&header);
                header[10..12].copy_from_slice(&missing.to_be_bytes());
            }
            let frame = Frame::new(&header);
            let window = frame.window::<20>(0).unwrap();
            let expect = ones_complement(&header) == 0xffff;
            assert_eq!(adds_up::<Whole>(frame, 0, window, length), Ok(expect), "{header:02x?}");
            assert!(expect || round % 2 == 1);
        }
    }
}
