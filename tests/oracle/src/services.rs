//! Whom a frame in the sandbox is for, or from, a second time: by the rules in docs/configuration.md.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detector_common::services::Asked;
use etherparse::{ArpPacketSlice, Ethernet2HeaderSlice, Ipv4HeaderSlice, Ipv6HeaderSlice};

/// Whom the frame is for (`outwards`), or from, and what is asked there.
pub fn other_end(frame: &[u8], outwards: bool) -> Option<(IpAddr, Asked)> {
    let ethernet = Ethernet2HeaderSlice::from_slice(frame).ok()?;
    let (kind, packet) = match ethernet.ether_type().0 {
        0x8100 => (u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?]), frame.get(18..)?),
        kind => (kind, frame.get(14..)?),
    };
    match kind {
        0x0806 => arp(packet, outwards),
        0x0800 => v4(packet, outwards),
        0x86dd => v6(packet, outwards),
        _ => None,
    }
}

fn arp(packet: &[u8], outwards: bool) -> Option<(IpAddr, Asked)> {
    let arp = ArpPacketSlice::from_slice(packet).ok()?;
    let kinds = (arp.hw_addr_type().0, arp.proto_addr_type().0);
    if kinds != (1, 0x0800) || (arp.hw_addr_size(), arp.proto_addr_size()) != (6, 4) {
        return None;
    }
    let address = if outwards { arp.target_protocol_addr() } else { arp.sender_protocol_addr() };
    let address: [u8; 4] = address.try_into().ok()?;
    Some((Ipv4Addr::from(address).into(), Asked::Neighbour))
}

fn v4(packet: &[u8], outwards: bool) -> Option<(IpAddr, Asked)> {
    if packet.first()? & 0x0f < 5 || packet.len() < 20 || packet[0] >> 4 != 4 {
        return None;
    }
    let length = usize::from(packet[0] & 0x0f) * 4;
    // The last header has to be there; options that are not are of no interest otherwise.
    let upper = packet.get(length..length + 8)?;
    let header = Ipv4HeaderSlice::from_slice(packet).ok()?;
    let whole = !header.more_fragments() && header.fragments_offset().value() == 0;
    if !whole || usize::from(header.total_len()) < length + 8 {
        return None;
    }
    let address = if outwards { header.destination_addr() } else { header.source_addr() };
    let asked = match header.protocol().0 {
        6 => Asked::Tcp(port(upper, outwards)),
        17 => Asked::Udp(port(upper, outwards)),
        1 => Asked::Icmp(upper[0]),
        _ => return None,
    };
    Some((address.into(), asked))
}

fn v6(packet: &[u8], outwards: bool) -> Option<(IpAddr, Asked)> {
    let header = Ipv6HeaderSlice::from_slice(packet).ok()?;
    let upper = packet.get(40..48)?;
    if header.payload_length() < 8 {
        return None;
    }
    let to = header.destination_addr();
    let address = if outwards { to } else { header.source_addr() };
    let asked = match header.next_header().0 {
        6 => Asked::Tcp(port(upper, outwards)),
        17 => Asked::Udp(port(upper, outwards)),
        58 if outwards && upper[0] == 135 => {
            let target: [u8; 16] = packet.get(48..64)?.try_into().ok()?;
            let target = Ipv6Addr::from(target);
            let fits = to.is_multicast() || to == target;
            return fits.then_some((target.into(), Asked::Neighbour));
        }
        58 if matches!(upper[0], 135 | 136) => Asked::Neighbour,
        58 => Asked::IcmpV6(upper[0]),
        _ => return None,
    };
    Some((address.into(), asked))
}

/// The port of whoever is not the guest.
fn port(upper: &[u8], outwards: bool) -> u16 {
    let at = if outwards { 2 } else { 0 };
    u16::from_be_bytes([upper[at], upper[at + 1]])
}
