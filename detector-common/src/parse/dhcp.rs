//! DHCP (RFC 2131) and DHCPv6 (RFC 8415): who plays the server, and whose address a client asks
//! for.

use super::{ASK_WHOLE, Claim, Reach};
use crate::{frame::Frame, port::flags, reason::Reason};

/// Length of a UDP header in bytes.
pub(super) const UDP_HEADER: usize = 8;

const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
const V6_CLIENT_PORT: u16 = 546;
const BOOT_REQUEST: u8 = 1;

/// A UDP datagram over IPv4 at `at`. Without a source address only a DHCP client may speak.
#[inline(always)]
pub(super) fn inspect_v4<R: Reach>(
    frame: Frame<'_>,
    at: usize,
    unspecified: bool,
    claim: &mut Claim,
) -> Result<(), Reason> {
    let udp = frame.window::<4>(at).ok_or(Reason::Truncated)?;
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
    let message = frame.window::<34>(at + UDP_HEADER).ok_or(Reason::DhcpMalformed)?;
    if message.u8::<0>() != BOOT_REQUEST {
        // A reply towards a relay.
        claim.roles |= flags::DHCP_SERVER;
        return Ok(());
    }
    if message.u16::<1>() != 0x0106 {
        return Err(Reason::DhcpMalformed);
    }
    if message.mac::<28>().same_mac(claim.station) { Ok(()) } else { Err(Reason::DhcpClientMac) }
}

/// A UDP datagram over IPv6 at `at`.
#[inline(always)]
pub(super) fn inspect_v6(frame: Frame<'_>, at: usize, claim: &mut Claim) -> Result<(), Reason> {
    let udp = frame.window::<4>(at).ok_or(Reason::Truncated)?;
    if udp.u16::<2>() == V6_CLIENT_PORT {
        claim.roles |= flags::DHCP_SERVER;
    }
    Ok(())
}
