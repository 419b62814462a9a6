use super::*;
use crate::samples::{
    IP_A, IP_B, IP6_A, IP6_B, MAC_A, MAC_B, arp, ethernet, extension, fragment, icmpv6,
    ipv4_fragment, ipv6, summed, udp,
};

const A4: Address = Address::mapped(IP_A);
const B4: Address = Address::mapped(IP_B);
const A6: Address = Address::from_bytes(IP6_A);
const B6: Address = Address::from_bytes(IP6_B);
const SOLICITED: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 8];

fn key(address: Address, asked: Asked) -> Option<Service> {
    Some(Service::new(address, asked))
}

#[test]
fn a_key_says_what_it_is_for() {
    for asked in
        [Asked::Neighbour, Asked::Tcp(443), Asked::Udp(0xffff), Asked::Icmp(8), Asked::IcmpV6(255)]
    {
        assert_eq!(Service::new(B6, asked).asked(), Some(asked));
    }
    let foreign = Service::of(B6, 47, 0);
    assert_eq!((foreign.asked(), Service::of(B6, 0, 1).asked()), (None, None));
}

/// Whom the frame is for, and whom it is from.
fn ends(frame: &[u8]) -> [Option<Service>; 2] {
    [true, false].map(|outwards| other_end(Frame::new(frame), outwards))
}

fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ethernet(MAC_B, MAC_A, &[], 0x0800, &ipv4_fragment(IP_A, protocol, 0x4000, payload))
}

fn v6(to: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = ipv6(IP6_A, next, 255, payload);
    packet[24..40].copy_from_slice(&to);
    ethernet(MAC_B, MAC_A, &[], 0x86dd, &packet)
}

fn solicitation(to: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    v6(to, ICMPV6, &icmpv6(135, 0, &[&[0; 4], &target[..]].concat()))
}

#[test]
fn the_other_end_is_told_for_certain_or_not_at_all() {
    let ask = udp(40_000, 53, b"question");
    let tcp = [&ask[..4], &[0; 16]].concat();
    let both = |to, from| [to, from];
    let nobody = [None, None];
    let mut options = ipv4_fragment(IP_A, UDP, 0, &[&[1; 4], &ask[..]].concat());
    options[0] = 0x46;
    let mut short = ipv4_fragment(IP_A, UDP, 0, &ask);
    short[2..4].copy_from_slice(&27_u16.to_be_bytes());
    let question = ethernet(MAC_B, MAC_A, &[], 0x0806, &arp(1, MAC_A, IP_A));
    let mut reverse = question.clone();
    reverse[13] = 0x07;
    let cases = [
        ("ARP", question, both(key(B4, Asked::Neighbour), key(A4, Asked::Neighbour))),
        ("another EtherType", reverse, nobody),
        (
            "UDP over IPv4",
            v4(UDP, &ask),
            both(key(B4, Asked::Udp(53)), key(A4, Asked::Udp(40_000))),
        ),
        ("TCP", v4(TCP, &tcp), both(key(B4, Asked::Tcp(53)), key(A4, Asked::Tcp(40_000)))),
        ("ICMP", v4(1, &[8; 8]), both(key(B4, Asked::Icmp(8)), key(A4, Asked::Icmp(8)))),
        ("IGMP", v4(2, &[0x16; 8]), nobody),
        (
            "options",
            ethernet(MAC_B, MAC_A, &[], 0x0800, &summed(options)),
            both(key(B4, Asked::Udp(53)), key(A4, Asked::Udp(40_000))),
        ),
        ("ports behind the packet", ethernet(MAC_B, MAC_A, &[], 0x0800, &summed(short)), nobody),
        (
            "a tag in the frame",
            ethernet(MAC_B, MAC_A, &[(0x8100, 7)], 0x0800, &ipv4_fragment(IP_A, UDP, 0, &ask)),
            both(key(B4, Asked::Udp(53)), key(A4, Asked::Udp(40_000))),
        ),
        (
            "two of them",
            ethernet(MAC_B, MAC_A, &[(0x8100, 0); 2], 0x0800, &ipv4_fragment(IP_A, UDP, 0, &ask)),
            nobody,
        ),
        (
            "a first fragment",
            ethernet(MAC_B, MAC_A, &[], 0x0800, &ipv4_fragment(IP_A, UDP, 0x2000, &ask)),
            nobody,
        ),
        (
            "a later one",
            ethernet(MAC_B, MAC_A, &[], 0x0800, &ipv4_fragment(IP_A, UDP, 3, &ask)),
            nobody,
        ),
        (
            "UDP over IPv6",
            v6(IP6_B, UDP, &ask),
            both(key(B6, Asked::Udp(53)), key(A6, Asked::Udp(40_000))),
        ),
        ("behind an extension header", v6(IP6_B, 60, &extension(UDP, 0, &ask)), nobody),
        ("an atomic fragment", v6(IP6_B, 44, &fragment(UDP, 0, false, &ask)), nobody),
        (
            "a solicitation to all who may be it",
            solicitation(SOLICITED, IP6_B),
            both(key(B6, Asked::Neighbour), key(A6, Asked::Neighbour)),
        ),
        (
            "to itself",
            solicitation(IP6_B, IP6_B),
            both(key(B6, Asked::Neighbour), key(A6, Asked::Neighbour)),
        ),
        ("to another", solicitation(IP6_A, IP6_B), both(None, key(A6, Asked::Neighbour))),
        (
            "an advertisement",
            v6(IP6_B, ICMPV6, &icmpv6(136, 0, &[0; 20])),
            both(key(B6, Asked::Neighbour), key(A6, Asked::Neighbour)),
        ),
        (
            "an echo request",
            v6(IP6_B, ICMPV6, &icmpv6(128, 0, &[0; 4])),
            both(key(B6, Asked::IcmpV6(128)), key(A6, Asked::IcmpV6(128))),
        ),
        (
            "a solicitation that ends early",
            solicitation(SOLICITED, IP6_B)[..70].to_vec(),
            both(None, key(A6, Asked::Neighbour)),
        ),
    ];
    for (name, frame, expect) in &cases {
        assert_eq!(ends(frame), *expect, "{name}");
        // Nothing is read beyond the end.
        for length in 0..frame.len() {
            ends(&frame[..length]);
        }
    }
}
