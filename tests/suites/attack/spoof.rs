//! An identity of another's, each frame three ways: under a MAC that nobody knows, under the own MAC
//! with another's address, and as a clone of a MAC that is granted to another port.

use detector_common::samples::{
    ANY, ANY6, BROADCAST, DESTINATION_OPTIONS, FRAGMENT, ICMPV6, IP_A, IP_B, IP6_A, IP6_B, LOCAL_A,
    LOCAL_B, MAC_A, MAC_B, TCP, UDP, arp, dhcp, ethernet, extension, fragment, icmpv6, ipv4,
    ipv4_fragment, ipv6, link_layer, neighbour, rarp, summed, udp,
};

use super::{Row, UNKNOWN};

/// Somebody's addresses.
struct Who {
    mac: [u8; 6],
    v4: [u8; 4],
    v6: [u8; 16],
    local: [u8; 16],
}

const A: Who = Who { mac: MAC_A, v4: IP_A, v6: IP6_A, local: LOCAL_A };
const B: Who = Who { mac: MAC_B, v4: IP_B, v6: IP6_B, local: LOCAL_B };

/// A frame under a MAC that claims to be somebody, and the reason for which the own MAC may not.
type Attempt = (&'static str, &'static str, fn([u8; 6], &Who) -> Vec<u8>);

fn v4(mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, mac, &[], 0x0800, packet)
}

fn v6(mac: [u8; 6], packet: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, mac, &[], 0x86dd, packet)
}

/// An ICMPv6 message with the address that goes with the MAC.
fn own6(mac: [u8; 6], message: &[u8]) -> Vec<u8> {
    v6(mac, &ipv6(IP6_A, ICMPV6, 255, message))
}

fn tagged(mac: [u8; 6], who: &Who, tags: &[(u16, u16)]) -> Vec<u8> {
    ethernet(BROADCAST, mac, tags, 0x0800, &ipv4(who.v4, TCP, &[0; 20]))
}

fn tagged6(mac: [u8; 6], who: &Who, tags: &[(u16, u16)]) -> Vec<u8> {
    ethernet(BROADCAST, mac, tags, 0x86dd, &ipv6(who.v6, TCP, 64, &[0; 20]))
}

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

const ATTEMPTS: &[Attempt] = &[
    ("IPv4", "ipv4-source", |mac, who| v4(mac, &ipv4(who.v4, TCP, &[0; 20]))),
    ("IPv4 with options", "ipv4-source", |mac, who| {
        let mut packet = ipv4(who.v4, UDP, &[&[1; 4], &udp(5, 6, &[])[..]].concat());
        packet[0] = 0x46;
        v4(mac, &summed(packet))
    }),
    ("IPv4, first fragment", "ipv4-source", |mac, who| {
        v4(mac, &ipv4_fragment(who.v4, UDP, 0x2000, &udp(5, 6, &[])))
    }),
    ("IPv4, later fragment", "ipv4-source", |mac, who| {
        v4(mac, &ipv4_fragment(who.v4, UDP, 1, &[0; 16]))
    }),
    ("IPv4 behind a priority tag", "ipv4-source", |mac, who| tagged(mac, who, &[(Q, 0)])),
    ("IPv4 behind two priority tags", "ipv4-source", |mac, who| {
        tagged(mac, who, &[(AD, 0), (Q, 0)])
    }),
    ("IPv4 behind five tags", "vlan-tags", |mac, who| {
        tagged(mac, who, &[(AD, 0), (Q, 0), (AD, 0), (Q, 0), (AD, 0)])
    }),
    ("ARP request", "arp-sender-address", |mac, who| {
        ethernet(BROADCAST, mac, &[], 0x0806, &arp(1, mac, who.v4))
    }),
    ("ARP reply", "arp-sender-address", |mac, who| {
        ethernet(BROADCAST, mac, &[], 0x0806, &arp(2, mac, who.v4))
    }),
    ("gratuitous ARP", "arp-sender-address", |mac, who| {
        let mut packet = arp(1, mac, who.v4);
        packet[24..28].copy_from_slice(&who.v4);
        ethernet(BROADCAST, mac, &[], 0x0806, &packet)
    }),
    ("RARP with an address", "arp-sender-address", |mac, who| {
        ethernet(BROADCAST, mac, &[], 0x8035, &rarp(mac, who.v4))
    }),
    ("RARP for a MAC", "arp-sender-mac", |mac, who| {
        ethernet(BROADCAST, mac, &[], 0x8035, &rarp(who.mac, ANY))
    }),
    ("IPv6", "ipv6-source", |mac, who| v6(mac, &ipv6(who.v6, TCP, 64, &[0; 20]))),
    ("IPv6 link-local", "ipv6-source", |mac, who| v6(mac, &ipv6(who.local, TCP, 64, &[0; 20]))),
    ("IPv6 behind options", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.v6, DESTINATION_OPTIONS, 64, &extension(UDP, 1, &udp(5, 6, &[]))))
    }),
    ("IPv6, atomic fragment", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.v6, FRAGMENT, 64, &fragment(UDP, 0, false, &udp(5, 6, &[]))))
    }),
    ("IPv6, first fragment", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.v6, FRAGMENT, 64, &fragment(UDP, 0, true, &udp(5, 6, &[]))))
    }),
    ("IPv6, later fragment", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.v6, FRAGMENT, 64, &fragment(UDP, 9, false, &[0; 16])))
    }),
    ("IPv6 behind a priority tag", "ipv6-source", |mac, who| tagged6(mac, who, &[(Q, 0xe000)])),
    ("IPv6 behind two priority tags", "ipv6-source", |mac, who| {
        tagged6(mac, who, &[(AD, 0), (Q, 0)])
    }),
    ("IPv6 behind five tags", "vlan-tags", |mac, who| {
        tagged6(mac, who, &[(AD, 0), (Q, 0), (AD, 0), (Q, 0), (AD, 0)])
    }),
    ("advertisement behind a priority tag", "nd-target", |mac, who| {
        let message = neighbour(136, who.v6, &[link_layer(2, mac)]);
        ethernet(BROADCAST, mac, &[(Q, 0)], 0x86dd, &ipv6(IP6_A, ICMPV6, 255, &message))
    }),
    ("neighbour advertisement", "nd-target", |mac, who| {
        own6(mac, &neighbour(136, who.v6, &[link_layer(2, mac)]))
    }),
    ("neighbour advertisement, link-local", "nd-target", |mac, who| {
        own6(mac, &neighbour(136, who.local, &[link_layer(2, mac)]))
    }),
    ("advertisement of a link layer", "nd-link-layer", |mac, who| {
        own6(mac, &neighbour(136, IP6_A, &[link_layer(2, who.mac)]))
    }),
    ("solicitation with a link layer", "nd-link-layer", |mac, who| {
        own6(mac, &neighbour(135, IP6_B, &[link_layer(1, who.mac)]))
    }),
    ("a link layer as the second option", "nd-link-layer", |mac, who| {
        own6(mac, &neighbour(135, IP6_B, &[link_layer(1, mac), link_layer(1, who.mac)]))
    }),
    ("router solicitation with a link layer", "nd-link-layer", |mac, who| {
        own6(mac, &icmpv6(133, 0, &[&[0; 4], &link_layer(1, who.mac)[..]].concat()))
    }),
    ("neighbour solicitation", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.v6, ICMPV6, 255, &neighbour(135, IP6_B, &[])))
    }),
    ("duplicate address detection", "nd-target", |mac, who| {
        v6(mac, &ipv6(ANY6, ICMPV6, 255, &neighbour(135, who.v6, &[])))
    }),
    ("report of a group", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.local, ICMPV6, 1, &icmpv6(143, 0, &[0; 4])))
    }),
    ("DHCP discover", "dhcp-client-mac", |mac, who| {
        v4(mac, &ipv4(ANY, UDP, &udp(68, 67, &dhcp(1, who.mac))))
    }),
    ("DHCP renewal", "dhcp-client-mac", |mac, who| {
        v4(mac, &ipv4(IP_A, UDP, &udp(68, 67, &dhcp(1, who.mac))))
    }),
    ("DHCPv6 solicit", "ipv6-source", |mac, who| {
        v6(mac, &ipv6(who.local, UDP, 1, &udp(546, 547, &[1, 0, 0, 1])))
    }),
];

pub(super) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for &(name, stolen, frame) in ATTEMPTS {
        // What is wrong with the form is seen before whose it is.
        let form = if stolen == "vlan-tags" { stolen } else { "mac-not-granted" };
        let row = |way: &str, port, frame, reason| Row {
            name: format!("{name}, {way}"),
            port,
            frame,
            reason,
        };
        // The MAC that RARP, ND options and DHCP name is then the one that is sent under.
        rows.push(row("unknown MAC", "tap-a", frame(UNKNOWN, &Who { mac: UNKNOWN, ..A }), form));
        rows.push(row("own MAC", "tap-a", frame(MAC_A, &B), stolen));
        rows.push(row("clone", "tap-b", frame(MAC_A, &A), form));
    }
    rows
}
