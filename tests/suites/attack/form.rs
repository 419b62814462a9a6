//! What is refused whoever sends it, and what only a NIC with the role may send.

use detector_common::samples::{
    AUTHENTICATION, BROADCAST, DESTINATION_OPTIONS, FRAGMENT, ICMP, ICMPV6, IGMP, IP_A, IP6_A,
    IP6_B, LOCAL_A, MAC_A, MAC_B, MAC_VIRTUAL, PIM, TCP, UDP, VRRP, arp, dhcp, ethernet, extension,
    fragment, from_a, icmp6, icmpv6, ipv4, ipv4_fragment, ipv6, link_layer, neighbour, rarp,
    tagged, tcp4, udp,
};

use super::{Row, row};

const Q: u16 = 0x8100;

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    from_a(0x0800, &ipv4(IP_A, protocol, payload))
}

fn v6(next: u8, payload: &[u8]) -> Vec<u8> {
    from_a(0x86dd, &ipv6(IP6_A, next, 255, payload))
}

fn changed(mut frame: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    frame[at] = to;
    frame
}

fn to(mac: [u8; 6]) -> Vec<u8> {
    ethernet(mac, MAC_A, &[], 0x0800, &ipv4(IP_A, TCP, &[0; 20]))
}

fn with_tags(tags: &[(u16, u16)]) -> Vec<u8> {
    ethernet(BROADCAST, MAC_A, tags, 0x0800, &ipv4(IP_A, TCP, &[0; 20]))
}

/// Behind so many headers of options.
fn nested(depth: usize, next: u8, payload: &[u8]) -> Vec<u8> {
    let (next, payload) = (0..depth).fold((next, payload.to_vec()), |(next, payload), _| {
        (DESTINATION_OPTIONS, extension(next, 0, &payload))
    });
    v6(next, &payload)
}

pub(super) fn rows() -> Vec<Row> {
    let plain = || tcp4(MAC_A, IP_A);
    let ip = ipv4(IP_A, TCP, &[0; 20]);
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ip].concat();
    let snap6 =
        [&[0xaa, 0xaa, 3, 0, 0, 0, 0x86, 0xdd][..], &ipv6(IP6_A, TCP, 64, &[0; 20])].concat();
    let snap_arp = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6][..], &arp(1, MAC_A, IP_A)].concat();
    let tag_behind_snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0, 0, 0, 8, 0][..], &ip].concat();
    let advertisement = neighbour(136, IP6_A, &[link_layer(2, MAC_A)]);
    let routed = from_a(0x86dd, &ipv6(IP6_A, ICMPV6, 254, &advertisement));
    let reply = udp(67, 68, &dhcp(2, MAC_B));
    let reply6 = udp(547, 546, &[2, 0, 0, 1]);
    let ra = icmpv6(134, 0, &[0; 12]);
    let control = |kind| [kind, 0, 0, 0, 0, 0, 0, 0];
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        // Tags.
        ("a VLAN", tagged(7), "vlan-not-granted"),
        ("the VLAN that does not exist", tagged(4095), "vlan-not-granted"),
        ("a service VLAN", with_tags(&[(0x88a8, 7)]), "vlan-not-granted"),
        ("a VLAN behind a priority tag", with_tags(&[(Q, 0), (Q, 7)]), "vlan-tags"),
        ("VLAN in VLAN", with_tags(&[(0x88a8, 7), (Q, 8)]), "vlan-tags"),
        ("an old tag with a VLAN", with_tags(&[(0x9100, 7)]), "vlan-tags"),
        ("three tags", with_tags(&[(Q, 0), (Q, 0), (Q, 0)]), "vlan-tags"),
        // LLC, and what is unknown.
        ("SNAP with IPv4", from_a(snap.len() as u16, &snap), "llc"),
        ("SNAP with IPv6", from_a(snap6.len() as u16, &snap6), "llc"),
        ("SNAP with ARP", from_a(snap_arp.len() as u16, &snap_arp), "llc"),
        ("a tag behind SNAP", from_a(tag_behind_snap.len() as u16, &tag_behind_snap), "llc"),
        ("spanning tree's LLC", from_a(38, &[0x42; 38]), "llc"),
        ("LLDP's type", from_a(0x88cc, &[0; 46]), "ethertype-unknown"),
        ("MPLS", from_a(0x8847, &[0; 46]), "ethertype-unknown"),
        ("802.1X", from_a(0x888e, &[0; 46]), "ethertype-unknown"),
        // Short, or lying about it.
        ("no more than addresses", plain()[..14].to_vec(), "truncated"),
        ("half an ARP", from_a(0x0806, &arp(1, MAC_A, IP_A)[..16]), "truncated"),
        ("half an IPv4 header", plain()[..30].to_vec(), "truncated"),
        ("half an IPv6 header", v6(TCP, &[0; 20])[..40].to_vec(), "truncated"),
        ("a header of 16 bytes", changed(plain(), 14, 0x44), "ipv4-malformed"),
        ("shorter than its header", changed(plain(), 17, 19), "ipv4-malformed"),
        ("longer than it is", changed(plain(), 16, 5), "ipv4-malformed"),
        ("a checksum that is wrong", changed(plain(), 24, 0xff), "ipv4-malformed"),
        ("IPv6 longer than it is", changed(v6(TCP, &[0; 20]), 18, 5), "ipv6-malformed"),
        (
            "a first fragment without ports",
            from_a(0x0800, &ipv4_fragment(IP_A, UDP, 0x2000, &[0; 4])),
            "ipv4-fragment",
        ),
        // ARP.
        ("another sender's MAC", from_a(0x0806, &arp(1, MAC_B, IP_A)), "arp-sender-mac"),
        ("another sender's MAC in a reply", from_a(0x0806, &arp(2, MAC_B, IP_A)), "arp-sender-mac"),
        ("an ARP reply of nobody", from_a(0x0806, &arp(2, MAC_A, [0; 4])), "arp-sender-address"),
        (
            "ARP for another hardware",
            changed(from_a(0x0806, &arp(1, MAC_A, IP_A)), 15, 6),
            "arp-malformed",
        ),
        ("a RARP reply", changed(from_a(0x8035, &rarp(MAC_A, [0; 4])), 21, 4), "arp-malformed"),
        // Neighbour Discovery and extension headers.
        ("ND that was routed", routed, "nd-hop-limit"),
        (
            "ND in a fragment",
            v6(FRAGMENT, &fragment(ICMPV6, 0, true, &advertisement)),
            "nd-fragmented",
        ),
        ("a target that is cut off", icmp6(IP6_A, &advertisement[..20]), "nd-malformed"),
        (
            "an option without length",
            icmp6(IP6_A, &neighbour(136, IP6_A, &[vec![2, 0, 0, 0, 0, 0, 0, 0]])),
            "nd-malformed",
        ),
        (
            "more options than are read",
            icmp6(IP6_A, &neighbour(135, IP6_B, &vec![vec![14, 1, 0, 0, 0, 0, 0, 0]; 5])),
            "nd-malformed",
        ),
        ("more headers than are read", nested(5, UDP, &udp(5, 6, &[])), "ipv6-header-chain"),
        (
            "a chain cut into fragments",
            v6(FRAGMENT, &fragment(DESTINATION_OPTIONS, 0, true, &[UDP, 1, 0, 0, 0, 0, 0, 0])),
            "ipv6-fragment",
        ),
        (
            "a TCP header cut into fragments",
            v6(FRAGMENT, &fragment(TCP, 0, true, &[0; 16])),
            "ipv6-fragment",
        ),
        (
            "ports cut into fragments",
            v6(FRAGMENT, &fragment(UDP, 0, true, &[0; 4])),
            "ipv6-fragment",
        ),
        (
            "a header beyond the packet",
            v6(DESTINATION_OPTIONS, &changed(extension(UDP, 0, &[0; 8]), 1, 9)),
            "ipv6-malformed",
        ),
        ("an authentication header of no length", v6(AUTHENTICATION, &[0; 24]), "ipv6-malformed"),
        // Addresses that are nobody's.
        ("multicast source", from_a(0x0800, &ipv4([224, 0, 0, 1], TCP, &[0; 20])), "ipv4-source"),
        ("loopback source", from_a(0x0800, &ipv4([127, 0, 0, 1], TCP, &[0; 20])), "ipv4-source"),
        ("no source", from_a(0x0800, &ipv4([0; 4], TCP, &[0; 20])), "ipv4-source"),
        ("no IPv6 source", from_a(0x86dd, &ipv6([0; 16], TCP, 64, &[0; 20])), "ipv6-source"),
        // Special MACs and destinations.
        ("a group as source", changed(plain(), 6, 0x53), "source-mac-invalid"),
        (
            "no MAC at all",
            {
                let mut frame = plain();
                frame[6..12].fill(0);
                frame
            },
            "source-mac-invalid",
        ),
        ("to the bridges", to([1, 0x80, 0xc2, 0, 0, 0]), "link-local-destination"),
        ("pause frames", to([1, 0x80, 0xc2, 0, 0, 1]), "link-local-destination"),
        ("to LLDP's listeners", to([1, 0x80, 0xc2, 0, 0, 0x0e]), "link-local-destination"),
        ("a virtual router's MAC", tcp4(MAC_VIRTUAL, IP_A), "mac-not-granted"),
        // Roles.
        ("router advertisement", icmp6(LOCAL_A, &ra), "router-role"),
        ("router advertisement behind headers", nested(3, ICMPV6, &ra), "router-role"),
        ("IPv6 redirect", icmp6(LOCAL_A, &icmpv6(137, 0, &[0; 36])), "router-role"),
        ("MLD query", icmp6(LOCAL_A, &icmpv6(130, 0, &[0; 20])), "router-role"),
        ("multicast router advertisement", icmp6(LOCAL_A, &icmpv6(151, 0, &[0; 4])), "router-role"),
        ("ICMP redirect", v4(ICMP, &control(5)), "router-role"),
        ("IPv4 router advertisement", v4(ICMP, &control(9)), "router-role"),
        ("IGMP query", v4(IGMP, &control(0x11)), "router-role"),
        ("PIM", v4(PIM, &control(0x20)), "router-role"),
        ("VRRP", v4(VRRP, &control(0x31)), "vrrp-role"),
        ("VRRP over IPv6", v6(VRRP, &control(0x31)), "vrrp-role"),
        ("ARP for a virtual router", from_a(0x0806, &arp(2, MAC_VIRTUAL, IP_A)), "vrrp-role"),
        (
            "a virtual router's link layer",
            icmp6(IP6_A, &neighbour(136, IP6_A, &[link_layer(2, MAC_VIRTUAL)])),
            "vrrp-role",
        ),
        ("DHCP reply", v4(UDP, &reply), "dhcp-server-role"),
        ("DHCP reply to a relay", v4(UDP, &udp(67, 67, &dhcp(2, MAC_B))), "dhcp-server-role"),
        (
            "DHCP in a fragment",
            from_a(0x0800, &ipv4_fragment(IP_A, UDP, 0x2000, &udp(68, 67, &dhcp(1, MAC_A)))),
            "ipv4-fragment",
        ),
        ("half a DHCP request", v4(UDP, &udp(68, 67, &dhcp(1, MAC_A)[..20])), "dhcp-malformed"),
        ("DHCPv6 reply", v6(UDP, &reply6), "dhcp-server-role"),
        ("DHCPv6 reply behind headers", nested(2, UDP, &reply6), "dhcp-server-role"),
    ];
    table.into_iter().map(|(name, frame, reason)| row(name, "tap-a", frame, reason)).collect()
}
