//! What must go through, or people turn protection off.

use detector_common::samples::{
    ALL_NODES, ANY, ANY6, BROADCAST, DESTINATION_OPTIONS, FRAGMENT, ICMP, ICMPV6, IGMP, IP_A,
    IP6_A, IP6_B, LOCAL_A, MAC_A, MAC_B, MAC_VIRTUAL, PIM, TCP, UDP, VRRP, arp, dhcp, ethernet,
    extension, fragment, from_a, icmp6, icmpv6, ipv4, ipv4_fragment, ipv6, link_layer, neighbour,
    option, rarp, tagged, tcp4, tcp6, udp,
};

use super::{IP_R, IP_SHARED, IP6_SHARED, MAC_R, Row, row};

/// The link-local address of [`MAC_R`].
const LOCAL_R: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0x50, 0x54, 0, 0xff, 0xfe, 0, 0, 0x0c];
/// The MAC of virtual router 51 over IPv6.
const MAC_VIRTUAL6: [u8; 6] = [0, 0, 0x5e, 0, 2, 51];

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    from_a(0x86dd, &ipv6(IP6_A, next, 64, payload))
}

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(1514, 0);
    frame
}

fn tagged6(tags: &[(u16, u16)]) -> Vec<u8> {
    ethernet(MAC_B, MAC_A, tags, 0x86dd, &ipv6(IP6_A, TCP, 64, &[0; 20]))
}

fn from_r(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, MAC_R, &[], ethertype, payload)
}

fn virtually(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, MAC_VIRTUAL, &[], ethertype, payload)
}

fn virtually6(packet: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, MAC_VIRTUAL6, &[], 0x86dd, packet)
}

pub(super) fn rows() -> Vec<Row> {
    let two_tags =
        ethernet(MAC_B, MAC_A, &[(0x88a8, 0), (0x8100, 0)], 0x0800, &ipv4(IP_A, TCP, &[0; 20]));
    let to_nodes = ethernet(
        [0x33, 0x33, 0, 0, 0, 1],
        MAC_A,
        &[],
        0x86dd,
        &ipv6(LOCAL_A, ICMPV6, 255, &neighbour(136, IP6_A, &[link_layer(2, MAC_A)])),
    );
    debug_assert_eq!(ALL_NODES[0], 0xff);
    let datagram = udp(5, 6, &[1; 8]);
    let of_a: Vec<(&str, Vec<u8>)> = vec![
        ("IPv4", tcp4(MAC_A, IP_A)),
        ("IPv4, padded to the MTU", padded(tcp4(MAC_A, IP_A))),
        ("IPv4 behind a priority tag", tagged(0)),
        ("IPv4 behind two priority tags", two_tags),
        ("IPv6 behind a priority tag", tagged6(&[(0x8100, 0)])),
        ("IPv6 behind two priority tags", tagged6(&[(0x88a8, 0), (0x8100, 0)])),
        ("echo", from_a(0x0800, &ipv4(IP_A, ICMP, &[8, 0, 0, 0, 0, 0, 0, 0]))),
        ("IGMP report", from_a(0x0800, &ipv4(IP_A, IGMP, &[0x22, 0, 0, 0, 0, 0, 0, 0]))),
        ("IGMP leave", from_a(0x0800, &ipv4(IP_A, IGMP, &[0x17, 0, 0, 0, 0, 0, 0, 0]))),
        ("first fragment", from_a(0x0800, &ipv4_fragment(IP_A, UDP, 0x2000, &datagram))),
        ("later fragment", from_a(0x0800, &ipv4_fragment(IP_A, UDP, 2, &[3; 16]))),
        ("ARP request", from_a(0x0806, &arp(1, MAC_A, IP_A))),
        ("ARP reply", from_a(0x0806, &arp(2, MAC_A, IP_A))),
        ("ARP probe", from_a(0x0806, &arp(1, MAC_A, ANY))),
        ("self-announcement", from_a(0x8035, &rarp(MAC_A, ANY))),
        ("DHCP discover", from_a(0x0800, &ipv4(ANY, UDP, &udp(68, 67, &dhcp(1, MAC_A))))),
        ("DHCP renewal", from_a(0x0800, &ipv4(IP_A, UDP, &udp(68, 67, &dhcp(1, MAC_A))))),
        ("DHCPv6 solicit", from_a(0x86dd, &ipv6(LOCAL_A, UDP, 1, &udp(546, 547, &[1, 0, 0, 1])))),
        ("IPv6", tcp6(MAC_A, IP6_A)),
        ("IPv6, padded to the MTU", padded(tcp6(MAC_A, IP6_A))),
        ("IPv6 link-local", tcp6(MAC_A, LOCAL_A)),
        ("IPv6 echo", icmp6(IP6_A, &icmpv6(128, 0, &[0; 4]))),
        ("IPv6 behind options", v6(DESTINATION_OPTIONS, &extension(UDP, 1, &datagram))),
        ("IPv6, atomic fragment", v6(FRAGMENT, &fragment(UDP, 0, false, &datagram))),
        ("IPv6, first fragment", v6(FRAGMENT, &fragment(UDP, 0, true, &datagram))),
        ("IPv6, later fragment", v6(FRAGMENT, &fragment(UDP, 2, false, &[3; 16]))),
        ("duplicate address detection", icmp6(ANY6, &neighbour(135, IP6_A, &[option(14, 1)]))),
        ("the same, link-local", icmp6(ANY6, &neighbour(135, LOCAL_A, &[]))),
        ("MLDv2 report of nobody", icmp6(ANY6, &icmpv6(143, 0, &[0; 4]))),
        ("MLDv2 report", icmp6(LOCAL_A, &icmpv6(143, 0, &[0; 4]))),
        (
            "router solicitation",
            icmp6(LOCAL_A, &icmpv6(133, 0, &[&[0; 4], &link_layer(1, MAC_A)[..]].concat())),
        ),
        ("neighbour solicitation", icmp6(IP6_A, &neighbour(135, IP6_B, &[link_layer(1, MAC_A)]))),
        (
            "neighbour advertisement",
            icmp6(IP6_A, &neighbour(136, IP6_A, &[option(14, 1), link_layer(2, MAC_A)])),
        ),
        ("unsolicited advertisement to all nodes", to_nodes),
    ];
    let a = of_a.into_iter().map(|(name, frame)| row(name, "tap-a", frame, "granted"));
    let r = of_roles().into_iter().map(|(name, frame)| row(name, "tap-r", frame, "granted"));
    a.chain(r).collect()
}

/// What a NIC sends that has every role.
fn of_roles() -> Vec<(&'static str, Vec<u8>)> {
    let control = |kind| [kind, 0, 0, 0, 0, 0, 0, 0];
    let v4 = |protocol, payload: &[u8]| from_r(0x0800, &ipv4(IP_R, protocol, payload));
    let icmp6 = |message: &[u8]| from_r(0x86dd, &ipv6(LOCAL_R, ICMPV6, 255, message));
    let vrrp = [0x31, 51, 100, 1, 0, 1, 0, 0];
    let vrrp4 = ipv4(IP_R, VRRP, &vrrp);
    let vrrp6 = ipv6(LOCAL_R, VRRP, 255, &vrrp);
    let reply6 = udp(547, 546, &[2, 0, 0, 1]);
    let for_shared = neighbour(136, IP6_SHARED, &[link_layer(2, MAC_VIRTUAL6)]);
    vec![
        ("router advertisement", icmp6(&icmpv6(134, 0, &[0; 12]))),
        ("multicast router advertisement", icmp6(&icmpv6(151, 0, &[0; 4]))),
        ("IPv6 redirect", icmp6(&icmpv6(137, 0, &[0; 36]))),
        ("MLD query", icmp6(&icmpv6(130, 0, &[0; 20]))),
        ("MLDv2 query", icmp6(&icmpv6(130, 0, &[0; 24]))),
        ("PIM over IPv6", from_r(0x86dd, &ipv6(LOCAL_R, PIM, 1, &control(0x20)))),
        ("DHCPv6 reply", from_r(0x86dd, &ipv6(LOCAL_R, UDP, 64, &reply6))),
        ("VRRP over IPv6", from_r(0x86dd, &vrrp6)),
        ("VRRP over IPv6 under the virtual MAC", virtually6(&vrrp6)),
        ("an advertisement for the virtual router", icmp6(&for_shared)),
        ("the same under the virtual MAC", virtually6(&ipv6(IP6_SHARED, ICMPV6, 255, &for_shared))),
        ("IPv6 routed under the virtual MAC", virtually6(&ipv6(IP6_SHARED, TCP, 64, &[0; 20]))),
        ("IGMP query", v4(IGMP, &control(0x11))),
        ("ICMP redirect", v4(ICMP, &control(5))),
        ("IPv4 router advertisement", v4(ICMP, &control(9))),
        ("PIM", v4(PIM, &control(0x20))),
        ("DHCP reply", v4(UDP, &udp(67, 68, &dhcp(2, MAC_A)))),
        ("DHCP reply to a relay", v4(UDP, &udp(67, 67, &dhcp(2, MAC_A)))),
        ("VRRP", from_r(0x0800, &vrrp4)),
        ("VRRP under the virtual MAC", virtually(0x0800, &vrrp4)),
        ("ARP of the virtual router", virtually(0x0806, &arp(1, MAC_VIRTUAL, IP_SHARED))),
        ("an answer for the virtual router", from_r(0x0806, &arp(2, MAC_VIRTUAL, IP_SHARED))),
        ("routed under the virtual MAC", virtually(0x0800, &ipv4(IP_SHARED, TCP, &[0; 20]))),
    ]
}
