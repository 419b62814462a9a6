//! Frames for the tests, built from the outside in: a header takes its payload.

use std::{vec, vec::Vec};

use crate::{
    addr::Address,
    reason::Reason::{self, *},
};

pub const MAC_A: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0a];
pub const MAC_B: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x0b];
/// The MAC of virtual router 51.
pub const MAC_VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
pub const BROADCAST: [u8; 6] = [0xff; 6];
pub const IP_A: [u8; 4] = [192, 0, 2, 7];
pub const IP_B: [u8; 4] = [192, 0, 2, 8];
pub const ANY: [u8; 4] = [0; 4];
pub const IP6_A: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xa];
pub const IP6_B: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xb];
/// The link-local address of [`MAC_A`].
pub const LOCAL_A: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x0a];
pub const LOCAL_B: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x0b];
pub const ANY6: [u8; 16] = [0; 16];
pub const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

pub const ICMP: u8 = 1;
pub const IGMP: u8 = 2;
pub const TCP: u8 = 6;
pub const UDP: u8 = 17;
pub const ICMPV6: u8 = 58;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const DESTINATION_OPTIONS: u8 = 60;
pub const PIM: u8 = 103;
pub const VRRP: u8 = 112;

pub fn mapped(v4: [u8; 4]) -> Address {
    Address::mapped(v4)
}

pub fn v6(bytes: [u8; 16]) -> Address {
    Address::from_bytes(bytes)
}

/// An Ethernet frame from `from`, with `tags` as pairs of tag type and priority-and-VLAN.
pub fn ethernet(
    to: [u8; 6],
    from: [u8; 6],
    tags: &[(u16, u16)],
    ethertype: u16,
    payload: &[u8],
) -> Vec<u8> {
    let mut frame = [to, from].concat();
    for (kind, tci) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tci.to_be_bytes());
    }
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    frame
}

/// An untagged frame from [`MAC_A`] to [`MAC_B`].
pub fn from_a(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(MAC_B, MAC_A, &[], ethertype, payload)
}

pub fn arp(operation: u16, sender: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(operation.to_be_bytes());
    packet.extend(sender);
    packet.extend(address);
    packet.extend([0; 6]);
    packet.extend(IP_B);
    packet
}

/// A RARP request for the sender's own MAC, as QEMU sends it.
pub fn rarp(sender: [u8; 6], address: [u8; 4]) -> Vec<u8> {
    let mut packet = arp(3, sender, address);
    packet[18..24].copy_from_slice(&sender);
    packet
}

/// An IPv4 header without options before `payload`.
pub fn ipv4(source: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_fragment(source, protocol, 0, payload)
}

/// The same with the field of fragment flags and offset.
pub fn ipv4_fragment(source: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + payload.len() as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(IP_B);
    packet.extend(payload);
    summed(packet)
}

/// An IPv4 packet with the checksum that its header should have.
pub fn summed(mut packet: Vec<u8>) -> Vec<u8> {
    packet[10..12].fill(0);
    let header = &packet[..usize::from(packet[0] & 0x0f) * 4];
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    packet[10..12].copy_from_slice(&(!sum as u16).to_be_bytes());
    packet
}

pub fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut datagram = from.to_be_bytes().to_vec();
    datagram.extend(to.to_be_bytes());
    datagram.extend((8 + payload.len() as u16).to_be_bytes());
    datagram.extend([0, 0]);
    datagram.extend(payload);
    datagram
}

/// The part of a DHCPv4 message that is read, and a little more.
pub fn dhcp(operation: u8, client: [u8; 6]) -> Vec<u8> {
    let mut message = vec![operation, 1, 6, 0];
    message.resize(28, 0);
    message.extend(client);
    message.resize(240, 0);
    message
}

pub fn ipv6(source: [u8; 16], next: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next, hop_limit]);
    packet.extend(source);
    packet.extend(ALL_NODES);
    packet.extend(payload);
    packet
}

/// An extension header of `8 * (units + 1)` bytes before `payload`.
pub fn extension(next: u8, units: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, units];
    header.resize(8 * (usize::from(units) + 1), 0);
    header.extend(payload);
    header
}

/// A fragment header before `payload`; `offset` in units of eight bytes.
pub fn fragment(next: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![next, 0];
    header.extend((offset << 3 | u16::from(more)).to_be_bytes());
    header.extend([0, 0, 0, 1]);
    header.extend(payload);
    header
}

/// An ICMPv6 message: four bytes, then `body`.
pub fn icmpv6(kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0];
    message.extend(body);
    message
}

/// A Neighbour Discovery message with a target: 135 solicitation, 136 advertisement.
pub fn neighbour(kind: u8, target: [u8; 16], options: &[Vec<u8>]) -> Vec<u8> {
    icmpv6(kind, 0, &[&[0; 4], &target[..], &options.concat()].concat())
}

/// A link-layer address option: 1 source, 2 target.
pub fn link_layer(kind: u8, mac: [u8; 6]) -> Vec<u8> {
    [&[kind, 1], &mac[..]].concat()
}

/// A Neighbour Discovery option of `8 * units` bytes that holds no address.
pub fn option(kind: u8, units: u8) -> Vec<u8> {
    let mut option = vec![kind, units];
    option.resize((8 * usize::from(units)).max(8), 0);
    option
}

pub fn tcp4(mac: [u8; 6], source: [u8; 4]) -> Vec<u8> {
    ethernet(MAC_B, mac, &[], 0x0800, &ipv4(source, TCP, &[0; 20]))
}

pub fn tcp6(mac: [u8; 6], source: [u8; 16]) -> Vec<u8> {
    ethernet(MAC_B, mac, &[], 0x86dd, &ipv6(source, TCP, 64, &[0; 20]))
}

pub fn icmp6(source: [u8; 16], message: &[u8]) -> Vec<u8> {
    from_a(0x86dd, &ipv6(source, ICMPV6, 255, message))
}

pub fn tagged(vlan: u16) -> Vec<u8> {
    ethernet(MAC_B, MAC_A, &[(0x8100, vlan)], 0x0800, &ipv4(IP_A, TCP, &[0; 20]))
}

pub fn table() -> Vec<(&'static str, Vec<u8>, Reason)> {
    let discover = |mac, client| {
        let request = udp(68, 67, &dhcp(1, client));
        ethernet(BROADCAST, mac, &[], 0x0800, &ipv4(ANY, UDP, &request))
    };
    let reply = udp(67, 68, &dhcp(2, MAC_B));
    vec![
        ("IPv4", tcp4(MAC_A, IP_A), Granted),
        ("IPv6", tcp6(MAC_A, IP6_A), Granted),
        ("IPv6, link-local", tcp6(MAC_A, LOCAL_A), Granted),
        ("priority tag", tagged(0), Granted),
        ("padded", [&tcp4(MAC_A, IP_A)[..], &[0; 1446]].concat(), Granted),
        ("VLAN", tagged(7), VlanNotGranted),
        ("another MAC", tcp4(MAC_B, IP_A), MacNotGranted),
        ("another MAC and address", tcp6(MAC_B, IP6_B), MacNotGranted),
        ("another address", tcp4(MAC_A, IP_B), Ipv4Source),
        ("another IPv6 address", tcp6(MAC_A, IP6_B), Ipv6Source),
        ("another link-local address", tcp6(MAC_A, LOCAL_B), Ipv6Source),
        ("ARP request", from_a(0x0806, &arp(1, MAC_A, IP_A)), Granted),
        ("ARP reply", from_a(0x0806, &arp(2, MAC_A, IP_A)), Granted),
        ("ARP probe", from_a(0x0806, &arp(1, MAC_A, ANY)), Granted),
        ("ARP request for a victim", from_a(0x0806, &arp(1, MAC_A, IP_B)), ArpSenderAddress),
        ("ARP reply for a victim", from_a(0x0806, &arp(2, MAC_A, IP_B)), ArpSenderAddress),
        ("self-announcement", from_a(0x8035, &rarp(MAC_A, ANY)), Granted),
        ("the same with an address", from_a(0x8035, &rarp(MAC_A, IP_A)), Granted),
        ("with a victim's", from_a(0x8035, &rarp(MAC_A, IP_B)), ArpSenderAddress),
        ("discover", discover(MAC_A, MAC_A), Granted),
        ("discover of another", discover(MAC_B, MAC_B), MacNotGranted),
        ("server reply", from_a(0x0800, &ipv4(IP_A, UDP, &reply)), DhcpServerRole),
        (
            "DHCPv6 reply",
            from_a(0x86dd, &ipv6(LOCAL_A, UDP, 64, &udp(547, 546, &[2, 0, 0, 0]))),
            DhcpServerRole,
        ),
        ("router advertisement", icmp6(LOCAL_A, &icmpv6(134, 0, &[0; 12])), RouterRole),
        ("redirect", icmp6(LOCAL_A, &icmpv6(137, 0, &[0; 36])), RouterRole),
        ("ICMP redirect", from_a(0x0800, &ipv4(IP_A, ICMP, &[5, 0, 0, 0, 0, 0, 0, 0])), RouterRole),
        ("IGMP query", from_a(0x0800, &ipv4(IP_A, IGMP, &[0x11, 0, 0, 0, 0, 0, 0, 0])), RouterRole),
        ("IGMP report", from_a(0x0800, &ipv4(IP_A, IGMP, &[0x22, 0, 0, 0, 0, 0, 0, 0])), Granted),
        ("MLD query", icmp6(LOCAL_A, &icmpv6(130, 0, &[0; 20])), RouterRole),
        ("PIM", from_a(0x0800, &ipv4(IP_A, PIM, &[0; 8])), RouterRole),
        ("VRRP", from_a(0x0800, &ipv4(IP_A, VRRP, &[0; 8])), VrrpRole),
        ("VRRP over IPv6", from_a(0x86dd, &ipv6(LOCAL_A, VRRP, 255, &[0; 8])), VrrpRole),
        ("ARP for a virtual router", from_a(0x0806, &arp(2, MAC_VIRTUAL, IP_A)), VrrpRole),
        ("a virtual router's MAC", tcp4(MAC_VIRTUAL, IP_A), MacNotGranted),
        ("advertisement", icmp6(IP6_A, &neighbour(136, IP6_A, &[])), Granted),
        ("of the link-local address", icmp6(LOCAL_A, &neighbour(136, LOCAL_A, &[])), Granted),
        ("for a victim", icmp6(IP6_A, &neighbour(136, IP6_B, &[])), NdTarget),
        ("for a victim's link-local", icmp6(IP6_A, &neighbour(136, LOCAL_B, &[])), NdTarget),
        ("solicitation of another", icmp6(LOCAL_A, &neighbour(135, IP6_B, &[])), Granted),
        ("duplicate detection", icmp6(ANY6, &neighbour(135, IP6_A, &[])), Granted),
        ("of the link-local one", icmp6(ANY6, &neighbour(135, LOCAL_A, &[])), Granted),
        ("of a victim's", icmp6(ANY6, &neighbour(135, IP6_B, &[])), NdTarget),
        ("multicast report", icmp6(ANY6, &icmpv6(143, 0, &[0; 4])), Granted),
        ("malformed", icmp6(LOCAL_A, &icmpv6(135, 1, &[0; 20])), NdMalformed),
        ("unknown type", from_a(0x8847, &[0; 46]), EtherTypeUnknown),
    ]
}
