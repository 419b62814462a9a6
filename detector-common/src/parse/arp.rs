//! ARP (RFC 826, RFC 5227) and RARP (RFC 903) for IPv4 over Ethernet.

use super::Claim;
use super::ipv4::is_nobodys;
use crate::{
    claim::Family,
    frame::{Frame, Window},
    port::flags,
    reason::Reason,
};

const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const REVERSE_REQUEST: u16 = 3;
const HARDWARE_ETHERNET: u16 = 1;
const PROTOCOL_IPV4: u16 = 0x0800;

/// An ARP packet. Sender 0.0.0.0 is a probe, and only a request can be one.
#[inline(always)]
pub(super) fn parse(frame: Frame<'_>, at: usize, claim: &mut Claim) -> Result<(), Reason> {
    let packet = read_sender(frame, at, claim)?;
    match (packet.u16::<6>(), claim.family) {
        (REQUEST, _) | (REPLY, Family::V4) => Ok(()),
        (REPLY, _) => Err(Reason::ArpSenderAddress),
        _ => Err(Reason::ArpMalformed),
    }
}

/// A RARP packet: QEMU announces a migrated or restored guest with a reverse request for itself, and
/// for nobody else.
#[inline(always)]
pub(super) fn parse_reverse(frame: Frame<'_>, at: usize, claim: &mut Claim) -> Result<(), Reason> {
    let packet = read_sender(frame, at, claim)?;
    if packet.u16::<6>() != REVERSE_REQUEST {
        Err(Reason::ArpMalformed)
    } else if packet.mac::<18>().same_mac(packet.mac::<8>()) {
        Ok(())
    } else {
        Err(Reason::ArpSenderMac)
    }
}

/// Reads the sender into the claim and returns the packet.
#[inline(always)]
fn read_sender<'a>(
    frame: Frame<'a>,
    at: usize,
    claim: &mut Claim,
) -> Result<Window<'a, 28>, Reason> {
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
    let station = packet.mac::<8>();
    if !station.same_mac(claim.station) {
        // An active router answers for a virtual one under its own MAC (RFC 9568, section 8.1.2).
        if !station.is_virtual_router() {
            return Err(Reason::ArpSenderMac);
        }
        claim.roles |= flags::VRRP;
    }
    if sender != 0 && is_nobodys(sender) { Err(Reason::ArpSenderAddress) } else { Ok(packet) }
}
