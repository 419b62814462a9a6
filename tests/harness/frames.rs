//! Frames that a guest may send, and some that it may not.

use std::net::{Ipv4Addr, Ipv6Addr};

use detector_guest::Mac;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperation, MutableArpPacket};
use pnet_packet::ethernet::{EtherType, EtherTypes, MutableEthernetPacket};
use pnet_packet::icmpv6::{Icmpv6Types, MutableIcmpv6Packet};
use pnet_packet::ip::{IpNextHeaderProtocol, IpNextHeaderProtocols};
use pnet_packet::ipv4::{self, MutableIpv4Packet};
use pnet_packet::ipv6::MutableIpv6Packet;
use pnet_packet::udp::MutableUdpPacket;

pub const BROADCAST: Mac = [0xff; 6];

const ETHERNET: usize = 14;

/// Who sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    pub mac: Mac,
    pub ip: Ipv4Addr,
}

impl Station {
    /// 52:54:00:00:00:*number* at 192.0.2.*number*.
    pub const fn number(number: u8) -> Self {
        Self { mac: [0x52, 0x54, 0, 0, 0, number], ip: Ipv4Addr::new(192, 0, 2, number) }
    }

    /// The IPv6 address that goes with its IPv4 address.
    pub const fn ip6(&self) -> Ipv6Addr {
        ip6(self.ip)
    }

    /// The link-local address that is made of the MAC.
    pub fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac;
        let pair = |high: u8, low: u8| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(0xfe80, 0, 0, 0, pair(a ^ 2, b), pair(c, 0xff), pair(0xfe, d), pair(e, f))
    }
}

/// The IPv6 address that goes with an IPv4 address: 2001:db8:: and the four bytes of it.
pub const fn ip6(ip: Ipv4Addr) -> Ipv6Addr {
    let [a, b, c, d] = ip.octets();
    let (high, low) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, high, low)
}

/// "Who has `target`?", or an announcement when that is the sender's own address.
pub fn arp(from: Station, target: Ipv4Addr) -> Vec<u8> {
    arp_packet(EtherTypes::Arp, 1, from.mac, from.ip, [0; 6], target)
}

/// What QEMU sends for a guest that has just arrived.
pub fn rarp(mac: Mac) -> Vec<u8> {
    let nobody = Ipv4Addr::UNSPECIFIED;
    arp_packet(EtherTypes::Rarp, 3, mac, nobody, mac, nobody)
}

/// A UDP datagram with a TTL of 64.
pub fn udp(from: Station, to: (Mac, Ipv4Addr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    const IPV4: usize = 20;
    const UDP: usize = 8;
    let mut frame = ethernet(EtherTypes::Ipv4, from.mac, to.0, IPV4 + UDP + payload.len());
    let rest = &mut frame[ETHERNET..];
    if let Some(mut udp) = MutableUdpPacket::new(&mut rest[IPV4..]) {
        udp.set_source(ports.0);
        udp.set_destination(ports.1);
        udp.set_length((UDP + payload.len()) as u16);
        udp.set_payload(payload);
    }
    if let Some(mut ip) = MutableIpv4Packet::new(rest) {
        ip.set_version(4);
        ip.set_header_length(5);
        ip.set_total_length((IPV4 + UDP + payload.len()) as u16);
        ip.set_ttl(64);
        ip.set_next_level_protocol(IpNextHeaderProtocols::Udp);
        ip.set_source(from.ip);
        ip.set_destination(to.1);
        ip.set_checksum(ipv4::checksum(&ip.to_immutable()));
    }
    frame
}

/// A UDP datagram over IPv6 with a hop limit of 64.
pub fn udp6(from: Station, to: (Mac, Ipv6Addr), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    const UDP: usize = 8;
    let source = from.ip6();
    let mut datagram = vec![0; UDP + payload.len()];
    if let Some(mut udp) = MutableUdpPacket::new(&mut datagram) {
        udp.set_source(ports.0);
        udp.set_destination(ports.1);
        udp.set_length((UDP + payload.len()) as u16);
        udp.set_payload(payload);
        let sum = pnet_packet::udp::ipv6_checksum(&udp.to_immutable(), &source, &to.1);
        udp.set_checksum(sum);
    }
    ipv6((from.mac, source), to, IpNextHeaderProtocols::Udp, 64, &datagram)
}

/// A router's advertisement to all nodes.
pub fn router_advertisement(from: Station) -> Vec<u8> {
    // Hop limit, flags, life time, reachable time, retransmission time.
    let body = [64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0];
    icmpv6(from, from.link_local(), Icmpv6Types::RouterAdvert.0, &body)
}

/// A neighbour's advertisement of `target`, to all nodes.
pub fn neighbour_advertisement(from: Station, source: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![0x20, 0, 0, 0];
    body.extend_from_slice(&target.octets());
    body.extend_from_slice(&[2, 1]);
    body.extend_from_slice(&from.mac);
    icmpv6(from, source, Icmpv6Types::NeighborAdvert.0, &body)
}

/// A frame of any EtherType.
pub fn other(from: Station, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = ethernet(EtherType(ethertype), from.mac, BROADCAST, payload.len());
    frame[ETHERNET..].copy_from_slice(payload);
    frame
}

/// The frame with a VLAN tag.
pub fn tagged(frame: &[u8], vlan: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend_from_slice(&[0x81, 0x00]);
    tagged.extend_from_slice(&vlan.to_be_bytes());
    tagged.extend_from_slice(&frame[12..]);
    tagged
}

fn ethernet(kind: EtherType, from: Mac, to: Mac, payload: usize) -> Vec<u8> {
    let mut frame = vec![0; ETHERNET + payload];
    if let Some(mut ethernet) = MutableEthernetPacket::new(&mut frame) {
        ethernet.set_source(from.into());
        ethernet.set_destination(to.into());
        ethernet.set_ethertype(kind);
    }
    frame
}

fn arp_packet(
    kind: EtherType,
    operation: u16,
    sender: Mac,
    sender_ip: Ipv4Addr,
    target: Mac,
    target_ip: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = ethernet(kind, sender, BROADCAST, 28);
    if let Some(mut arp) = MutableArpPacket::new(&mut frame[ETHERNET..]) {
        arp.set_hardware_type(ArpHardwareTypes::Ethernet);
        arp.set_protocol_type(EtherTypes::Ipv4);
        arp.set_hw_addr_len(6);
        arp.set_proto_addr_len(4);
        arp.set_operation(ArpOperation(operation));
        arp.set_sender_hw_addr(sender.into());
        arp.set_sender_proto_addr(sender_ip);
        arp.set_target_hw_addr(target.into());
        arp.set_target_proto_addr(target_ip);
    }
    frame
}

fn icmpv6(from: Station, source: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    const ICMP: usize = 4;
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let mut message = vec![0; ICMP + body.len()];
    if let Some(mut icmp) = MutableIcmpv6Packet::new(&mut message) {
        icmp.set_icmpv6_type(pnet_packet::icmpv6::Icmpv6Type(kind));
        icmp.set_payload(body);
        let sum = pnet_packet::icmpv6::checksum(&icmp.to_immutable(), &source, &all_nodes);
        icmp.set_checksum(sum);
    }
    let to = ([0x33, 0x33, 0, 0, 0, 1], all_nodes);
    ipv6((from.mac, source), to, IpNextHeaderProtocols::Icmpv6, 255, &message)
}

fn ipv6(
    from: (Mac, Ipv6Addr),
    to: (Mac, Ipv6Addr),
    next: IpNextHeaderProtocol,
    hop_limit: u8,
    payload: &[u8],
) -> Vec<u8> {
    const IPV6: usize = 40;
    let mut frame = ethernet(EtherTypes::Ipv6, from.0, to.0, IPV6 + payload.len());
    if let Some(mut ip) = MutableIpv6Packet::new(&mut frame[ETHERNET..]) {
        ip.set_version(6);
        ip.set_payload_length(payload.len() as u16);
        ip.set_next_header(next);
        ip.set_hop_limit(hop_limit);
        ip.set_source(from.1);
        ip.set_destination(to.1);
        ip.set_payload(payload);
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_their_names_say() {
        let a = Station::number(7);
        assert_eq!(a.link_local().to_string(), "fe80::5054:ff:fe00:7");
        let frame = arp(a, Ipv4Addr::new(192, 0, 2, 9));
        assert_eq!(frame.len(), 42);
        assert_eq!(frame[12..22], [0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[22..28], a.mac);
        assert_eq!(rarp(a.mac)[12..22], [0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3]);
        let frame = udp(a, (BROADCAST, Ipv4Addr::BROADCAST), (1, 2), b"hello");
        assert_eq!(frame[12..14], [0x08, 0x00]);
        assert!(frame.ends_with(b"hello"));
        let frame = udp6(a, (BROADCAST, ip6(Ipv4Addr::BROADCAST)), (1, 2), b"hello");
        assert_eq!((frame.len(), &frame[12..14]), (67, &[0x86, 0xdd][..]));
        assert_eq!(a.ip6().to_string(), "2001:db8::c000:207");
        let frame = udp(a, (BROADCAST, Ipv4Addr::BROADCAST), (1, 2), b"hello");
        assert_eq!(tagged(&frame, 5)[12..18], [0x81, 0x00, 0, 5, 0x08, 0x00]);
        assert_eq!(router_advertisement(a)[54], 134);
        assert_eq!(neighbour_advertisement(a, a.link_local(), a.link_local())[54], 136);
    }
}
