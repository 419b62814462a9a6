//! ARP (RFC 826, RFC 5227) and RARP (RFC 903) for IPv4 over Ethernet.

use super::Claim;
use crate::{claim::Family, frame::Frame, reason::Reason};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const REVERSE_REQUEST: u16 = 3;
const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;

/// An ARP packet. Sender 0.0.0.0 is a probe, and only a request can be one.
#[inline(always)]
pub(super) fn parse(frame: Frame<'_>, at: usize, claim: &mut Claim) -> Result<(), Reason> {
    let operation = read_sender(frame, at, claim)?;
    match (operation, claim.family) {
        (REQUEST, _) | (REPLY, Family::V4) => Ok(()),
        (REPLY, _) => Err(Reason::ArpSenderAddress),
        _ => Err(Reason::ArpMalformed),
    }
}

/// A RARP packet: QEMU announces a migrated or restored guest with a reverse request for itself.
#[inline(always)]
pub(super) fn parse_reverse(frame: Frame<'_>, at: usize, claim: &mut Claim) -> Result<(), Reason> {
    match read_sender(frame, at, claim)? {
        REVERSE_REQUEST => Ok(()),
        _ => Err(Reason::ArpMalformed),
    }
}

/// Reads the sender into the claim and returns the operation.
#[inline(always)]
fn read_sender(frame: Frame<'_>, at: usize, claim: &mut Claim) -> Result<u16, Reason> {
    let packet = frame.window::<28>(at).ok_or(Reason::Truncated)?;
    if packet.u16::<0>() != HARDWARE_ETHERNET
        || packet.u16::<2>() != PROTOCOL_IPV4
        || packet.u16::<4>() != 0x0604
    {
        return Err(Reason::ArpMalformed);
    }
    let sender = packet.v4::<14>();
    if sender != 0 {
        claim.set_v4(sender);
    }
    if packet.mac::<8>().same_mac(claim.station) {
        Ok(packet.u16::<6>())
    } else {
        Err(Reason::ArpSenderMac)
    }
}
