//! A frame in words, a line for each layer. All that is said of it are numbers and addresses, so that no guest chooses
//! what is in a line.

use std::net::{Ipv4Addr, Ipv6Addr};

use detector_common::addr::Mac;
use etherparse::{
    ArpOperation, ArpPacketSlice, EtherType, Ethernet2Slice, IpNumber, LaxIpv4Slice, LaxIpv6Slice,
    LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, LinkSlice, TcpSlice, TransportSlice, VlanId,
    err::packet::SliceError,
};

use crate::model::RefusedFrame;

/// What the beginning of the frame says.
pub fn layers(frame: &RefusedFrame) -> Vec<String> {
    let Ok(packet) = LaxSlicedPacket::from_ethernet(&frame.head) else {
        return vec![format!("{} bytes, too few for Ethernet", frame.head.len())];
    };
    let mut lines = Vec::new();
    if let Some(LinkSlice::Ethernet2(header)) = &packet.link {
        lines.push(ethernet(header));
        if frame.claim.vlan != 0
            && VlanId::try_new(frame.claim.vlan).is_ok()
            && !is_tagged(header.ether_type())
        {
            lines.push(format!("802.1Q: VLAN {}", frame.claim.vlan));
        }
    }
    lines.extend(packet.link_exts.iter().map(extension));
    lines.extend(packet.net.as_ref().map(|net| match net {
        LaxNetSlice::Ipv4(packet) => ipv4(packet),
        LaxNetSlice::Ipv6(packet) => ipv6(packet),
        LaxNetSlice::Arp(packet) => arp(packet),
    }));
    lines.extend(packet.transport.as_ref().map(transport));
    if let Some((error, layer)) = &packet.stop_err {
        let why = match error {
            SliceError::Len(_) => "not whole",
            _ => "malformed",
        };
        lines.push(format!("{layer}: {why}"));
    }
    lines
}

fn ethernet(header: &Ethernet2Slice<'_>) -> String {
    let (from, to) = (Mac(header.source()), Mac(header.destination()));
    match header.ether_type() {
        EtherType(length) if length < 0x0600 => {
            format!("802.3: {from} to {to}, {length} bytes of LLC")
        }
        kind => format!("Ethernet: {from} to {to}, {}", ether_type(kind)),
    }
}

fn is_tagged(kind: EtherType) -> bool {
    [
        EtherType::VLAN_TAGGED_FRAME,
        EtherType::PROVIDER_BRIDGING,
        EtherType::VLAN_DOUBLE_TAGGED_FRAME,
    ]
    .contains(&kind)
}

fn ether_type(kind: EtherType) -> String {
    match kind {
        EtherType::IPV4 => "IPv4".to_owned(),
        EtherType::IPV6 => "IPv6".to_owned(),
        EtherType::ARP => "ARP".to_owned(),
        EtherType::VLAN_TAGGED_FRAME => "802.1Q".to_owned(),
        EtherType::PROVIDER_BRIDGING => "802.1ad".to_owned(),
        EtherType::MACSEC => "MACsec".to_owned(),
        EtherType(other) => format!("EtherType {other:#06x}"),
    }
}

fn extension(extension: &LaxLinkExtSlice<'_>) -> String {
    match extension {
        LaxLinkExtSlice::Vlan(tag) => {
            let (vlan, priority) =
                (tag.vlan_identifier().value(), tag.priority_code_point().value());
            format!("802.1Q: VLAN {vlan}, priority {priority}, {}", ether_type(tag.ether_type()))
        }
        LaxLinkExtSlice::Macsec(_) => "MACsec".to_owned(),
    }
}

fn ipv4(packet: &LaxIpv4Slice<'_>) -> String {
    let header = packet.header();
    let (from, to) = (header.source_addr(), header.destination_addr());
    let fragment = if packet.is_payload_fragmented() { ", a fragment" } else { "" };
    format!(
        "IPv4: {from} to {to}, {}, TTL {}, {} bytes{fragment}",
        protocol(packet.payload_ip_number()),
        header.ttl(),
        header.total_len(),
    )
}

fn ipv6(packet: &LaxIpv6Slice<'_>) -> String {
    let header = packet.header();
    let (from, to) = (header.source_addr(), header.destination_addr());
    let fragment = if packet.is_payload_fragmented() { ", a fragment" } else { "" };
    format!(
        "IPv6: {from} to {to}, {}, hop limit {}, {} bytes behind the header{fragment}",
        protocol(packet.payload().ip_number),
        header.hop_limit(),
        header.payload_length(),
    )
}

fn protocol(number: IpNumber) -> String {
    number.keyword_str().map_or_else(|| format!("protocol {}", number.0), str::to_owned)
}

fn arp(packet: &ArpPacketSlice<'_>) -> String {
    let what = match packet.operation() {
        ArpOperation::REQUEST => "request".to_owned(),
        ArpOperation::REPLY => "reply".to_owned(),
        ArpOperation(other) => format!("operation {other}"),
    };
    let sender = (hardware(packet.sender_hw_addr()), address(packet.sender_protocol_addr()));
    let target = (hardware(packet.target_hw_addr()), address(packet.target_protocol_addr()));
    format!("ARP: {what}, sender {} {}, target {} {}", sender.0, sender.1, target.0, target.1)
}

fn hardware(bytes: &[u8]) -> String {
    match bytes.try_into() {
        Ok(mac) => Mac(mac).to_string(),
        Err(_) => format!("({} bytes)", bytes.len()),
    }
}

fn address(bytes: &[u8]) -> String {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Ipv4Addr::from(bytes).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(bytes) => Ipv6Addr::from(bytes).to_string(),
        Err(_) => format!("({} bytes)", bytes.len()),
    }
}

fn transport(segment: &TransportSlice<'_>) -> String {
    match segment {
        TransportSlice::Udp(datagram) => format!(
            "UDP: {} to {}, {} bytes",
            datagram.source_port(),
            datagram.destination_port(),
            datagram.length(),
        ),
        TransportSlice::Tcp(segment) => {
            format!(
                "TCP: {} to {}{}",
                segment.source_port(),
                segment.destination_port(),
                flags(segment)
            )
        }
        TransportSlice::Icmpv4(message) => {
            format!("ICMP: type {}, code {}", message.type_u8(), message.code_u8())
        }
        TransportSlice::Icmpv6(message) => {
            format!("ICMPv6: type {}, code {}", message.type_u8(), message.code_u8())
        }
        TransportSlice::Igmp(_) => "IGMP".to_owned(),
    }
}

fn flags(segment: &TcpSlice<'_>) -> String {
    let all = [
        (segment.syn(), "SYN"),
        (segment.ack(), "ACK"),
        (segment.fin(), "FIN"),
        (segment.rst(), "RST"),
        (segment.psh(), "PSH"),
        (segment.urg(), "URG"),
    ];
    all.iter().filter(|(set, _)| *set).map(|(_, name)| format!(" {name}")).collect()
}

#[cfg(test)]
mod tests;
