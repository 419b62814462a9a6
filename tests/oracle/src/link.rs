//! Ethernet, VLAN tags, ARP and RARP.

use std::net::{IpAddr, Ipv4Addr};

use detector_common::reason::Reason;
use etherparse::{
    ArpHardwareId, ArpPacketSlice, EtherType, Ethernet2HeaderSlice, SingleVlanHeaderSlice,
};

use crate::{Arrival, Said, ipv4, ipv6};

const DOT1Q: u16 = 0x8100;
const TAG_TYPES: [u16; 4] = [DOT1Q, 0x88a8, 0x9100, 0x9200];
/// IEEE 802.1Q, table 9-2: reserved, granted to nobody.
const NO_VLAN: u16 = 4095;

pub(crate) fn read(arrival: &Arrival) -> Said {
    let frame = &arrival.bytes[..];
    let mut said = Said::default();
    let Ok(header) = Ethernet2HeaderSlice::from_slice(frame) else {
        said.breaks(Reason::Truncated);
        return said;
    };
    said.mac = header.source();
    if said.mac[0] & 1 == 1 || said.mac == [0; 6] {
        said.breaks(Reason::SourceMacInvalid);
    }
    let to = header.destination();
    if to[..5] == [0x01, 0x80, 0xc2, 0, 0] && to[5] <= 0x0f {
        said.breaks(Reason::LinkLocalDestination);
    }

    // At most two tags, and only the outermost may name a VLAN, as 802.1Q.
    let mut tags = 0;
    if let Some((protocol, tci)) = arrival.tag {
        tags = 1;
        let id = tci & 0x0fff;
        said.vlan = if id != 0 && protocol != DOT1Q { NO_VLAN } else { id };
    }
    let (mut kind, mut at) = (header.ether_type().0, 14);
    while TAG_TYPES.contains(&kind) {
        if tags == 2 {
            said.breaks(Reason::VlanTags);
            return said;
        }
        let Ok(tag) = SingleVlanHeaderSlice::from_slice(&frame[at..]) else {
            said.breaks(Reason::Truncated);
            return said;
        };
        match tag.vlan_identifier().value() {
            0 => {}
            id if kind == DOT1Q && tags == 0 => said.vlan = id,
            _ => said.breaks(Reason::VlanTags),
        }
        said.odd_tag |= !matches!(kind, DOT1Q | 0x88a8);
        (kind, at, tags) = (tag.ether_type().0, at + 4, tags + 1);
    }

    match EtherType(kind) {
        EtherType(length) if length < 0x0600 => said.breaks(Reason::Llc),
        EtherType::ARP => arp(&mut said, &frame[at..], &[1, 2]),
        EtherType(0x8035) => arp(&mut said, &frame[at..], &[3]),
        EtherType::IPV4 => ipv4::read(&mut said, arrival, at),
        EtherType::IPV6 => ipv6::read(&mut said, arrival, at),
        _ => said.breaks(Reason::EtherTypeUnknown),
    }
    said
}

/// ARP or RARP, of which these operations are for a guest.
fn arp(said: &mut Said, packet: &[u8], operations: &[u16]) {
    const REVERSE: u16 = 3;
    if packet.len() < 28 {
        return said.breaks(Reason::Truncated);
    }
    let arp = match ArpPacketSlice::from_slice(packet) {
        Ok(arp)
            if arp.hw_addr_type() == ArpHardwareId::ETHERNET
                && arp.proto_addr_type() == EtherType::IPV4
                && (arp.hw_addr_size(), arp.proto_addr_size()) == (6, 4) =>
        {
            arp
        }
        _ => return said.breaks(Reason::ArpMalformed),
    };
    let operation = arp.operation().0;
    if !operations.contains(&operation) {
        said.breaks(Reason::ArpMalformed);
    }
    said.names(arp.sender_hw_addr(), Reason::ArpSenderMac);
    if operation == REVERSE && arp.target_hw_addr() != arp.sender_hw_addr() {
        said.breaks(Reason::ArpSenderMac);
    }
    let mut sender = [0; 4];
    sender.copy_from_slice(arp.sender_protocol_addr());
    let sender = Ipv4Addr::from(sender);
    if !sender.is_unspecified() {
        said.source = Some((IpAddr::V4(sender), Reason::ArpSenderAddress));
        if !ipv4::is_somebodys(sender) {
            said.breaks(Reason::ArpSenderAddress);
        }
    } else if operation == 2 {
        said.breaks(Reason::ArpSenderAddress);
    }
}
