//! DHCP (RFC 2131) and DHCPv6 (RFC 8415): who plays the server, and whose address a client asks
//! for.

use super::{ASK_WHOLE, Claim, Reach, window};
use crate::{frame::Frame, port::flags, reason::Reason};

/// Length of a UDP header in bytes.
pub(super) const UDP_HEADER: usize = 8;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const V6_CLIENT_PORT: u16 = 546;
const V6_SERVER_PORT: u16 = 547;
const BOOT_REQUEST: u8 = 1;
/// Where the client's hardware address ends in a DHCP message.
const CLIENT_END: usize = 34;
/// Kind and transaction of a DHCPv6 message.
const V6_HEADER: usize = 4;
/// DHCPv6 messages that only servers send: advertise, reply, reconfigure, and a reply for a relay.
const V6_OF_SERVERS: [u8; 4] = [2, 7, 10, 13];

/// Where a UDP datagram over IPv4 lies, and what its IPv4 header says.
#[derive(Clone, Copy)]
pub(super) struct Datagram {
    pub(super) at: usize,
    /// Where the IPv4 payload ends.
    pub(super) end: usize,
    /// More fragments follow.
    pub(super) fragmented: bool,
    /// The IPv4 source is 0.0.0.0.
    pub(super) unspecified: bool,
}

/// A UDP datagram over IPv4. Without a source address only a DHCP client may speak.
#[inline(always)]
pub(super) fn inspect_v4<R: Reach>(
    frame: Frame<'_>,
    datagram: Datagram,
    claim: &mut Claim,
) -> Result<(), Reason> {
    let Datagram { at, end, fragmented, unspecified } = datagram;
    let udp = window::<R, 4>(frame, at).ok_or(Reason::Truncated)?;
    let (from, to) = (udp.u16::<0>(), udp.u16::<2>());
    if !R::WHOLE && matches!(to, SERVER_PORT | CLIENT_PORT) {
        return Err(ASK_WHOLE);
    }
    if to == CLIENT_PORT {
        claim.roles |= flags::DHCP_SERVER;
        return if unspecified { Err(Reason::Ipv4Source) } else { Ok(()) };
    }
    if to != SERVER_PORT {
        return if unspecified { Err(Reason::Ipv4Source) } else { Ok(()) };
    }
    if unspecified && from != CLIENT_PORT {
        return Err(Reason::Ipv4Source);
    }
    // What is read here must be what the server reads: not the padding behind a short datagram, whose
    // rest comes in another fragment, and not the first of several that the host will cut it into.
    if fragmented {
        return Err(Reason::Ipv4Fragment);
    }
    if at + UDP_HEADER + CLIENT_END > end || frame.is_in_segments() {
        return Err(Reason::DhcpMalformed);
    }
    let message =
        frame.window_behind::<CLIENT_END>(at + UDP_HEADER).ok_or(Reason::DhcpMalformed)?;
    if message.u8::<0>() != BOOT_REQUEST {
        // A reply towards a relay.
        claim.roles |= flags::DHCP_SERVER;
        return Ok(());
    }
    if message.u16::<1>() != 0x0106 {
        return Err(Reason::DhcpMalformed);
    }
    claim.roles |= flags::DHCP_CLIENT;
    if message.mac::<28>().same_mac(claim.station) { Ok(()) } else { Err(Reason::DhcpClientMac) }
}

/// A UDP datagram over IPv6 at `at`, whose payload ends at `end`.
#[inline(always)]
pub(super) fn inspect_v6<R: Reach>(
    frame: Frame<'_>,
    at: usize,
    end: usize,
    claim: &mut Claim,
) -> Result<(), Reason> {
    let udp = window::<R, 4>(frame, at).ok_or(Reason::Truncated)?;
    match udp.u16::<2>() {
        V6_CLIENT_PORT => claim.roles |= flags::DHCP_SERVER,
        V6_SERVER_PORT if !R::WHOLE => return Err(ASK_WHOLE),
        V6_SERVER_PORT => {
            if at + UDP_HEADER + V6_HEADER > end || frame.is_in_segments() {
                return Err(Reason::DhcpMalformed);
            }
            let header =
                frame.window_behind::<V6_HEADER>(at + UDP_HEADER).ok_or(Reason::Truncated)?;
            let server = V6_OF_SERVERS.contains(&header.u8::<0>());
            claim.roles |= if server { flags::DHCP_SERVER } else { flags::DHCP_CLIENT };
        }
        _ => {}
    }
    Ok(())
}
