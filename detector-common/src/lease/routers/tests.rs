use super::*;
use crate::{
    frame::{COPY_BYTES, COPY_SLACK},
    lease::read,
    samples::*,
};

const ICMP6: u8 = 58;
const NEAR: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn with<T>(frame: &[u8], look: impl FnOnce(Copied<'_>) -> T) -> T {
    let mut bytes = [0xa5; COPY_BYTES + COPY_SLACK];
    bytes[..frame.len()].copy_from_slice(frame);
    look(Copied::new(&bytes, frame.len()))
}

/// The last numbers of the routers that a lease with these options names.
fn named(options: &[u8]) -> Vec<u8> {
    let mut message = dhcp(2, MAC_A)[..236].to_vec();
    message[16..20].copy_from_slice(&[192, 0, 2, 7]);
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 5, 54, 4, 192, 0, 2, 1, 51, 4, 0, 0, 0, 60]);
    message.extend(options);
    let packet = ipv4([192, 0, 2, 1], UDP, &udp(67, 68, &message));
    let frame = ethernet(MAC_A, MAC_B, &[], 0x0800, &packet);
    with(&frame, |frame| {
        let (mut said, mut found) = (Exchange::NOTHING, Vec::new());
        read(frame, 0, &mut said);
        routers(frame, &said, |router| found.push(router.to_ne_bytes()[3]));
        found
    })
}

#[test]
fn routers_that_a_server_names() {
    let list = |count: u8| {
        let addresses: Vec<u8> = (1..=count).flat_map(|last| [192, 0, 2, last]).collect();
        [&[3, 4 * count], &addresses[..]].concat()
    };
    let default = [0, 192, 0, 2, 9];
    let net = [20, 10, 1, 16, 192, 0, 2, 8];
    let host = [32, 10, 1, 2, 3, 192, 0, 2, 7];
    let routes = |routes: &[&[u8]]| {
        let value = routes.concat();
        [&[121, value.len() as u8], &value[..]].concat()
    };
    let cases: &[(&str, Vec<u8>, &[u8])] = &[
        ("none", vec![], &[]),
        ("one", list(1), &[1]),
        ("four, and no more", list(6), &[1, 2, 3, 4]),
        ("a part of one", vec![3, 6, 192, 0, 2, 1, 192, 0], &[1]),
        ("the first list", [list(1), list(2)].concat(), &[1]),
        ("routes", routes(&[&default, &net, &host]), &[9, 8, 7]),
        ("both", [list(1), routes(&[&net])].concat(), &[1, 8]),
        ("a route that cannot be", routes(&[&default, &[33, 1, 2, 3, 4, 5], &net]), &[9]),
        ("half of one", routes(&[&default, &net[..6]]), &[9]),
        ("a router without an end", vec![3, 4, 192, 0], &[]),
        ("sixteen routes", routes(&[&default[..]; 20]), &[9; 16]),
    ];
    for (name, options, expect) in cases {
        assert_eq!(named(options), *expect, "{name}");
    }
}

#[test]
fn routers_that_advertise_themselves() {
    let message = |kind: u8, code: u8, length: usize| {
        let mut message = vec![kind, code, 0, 0, 64, 0, 0x07, 0x08];
        message.resize(length, 0);
        message
    };
    let usual = ipv6(NEAR, ICMP6, 255, &message(134, 0, 16));
    let told = Some(Advertised { router: Address::from_bytes(NEAR), vlan: 0, seconds: 1800 });
    let on = |vlan| told.map(|told| Advertised { vlan, ..told });
    let frame = |tags: &[(u16, u16)], packet: &[u8]| ethernet(MAC_A, MAC_B, tags, 0x86dd, packet);
    let other = ipv6([0x20; 16], ICMP6, 255, &message(134, 0, 16));
    let cases = [
        ("as usual", frame(&[], &usual), 0, told),
        ("on a VLAN", frame(&[(0x8100, 5)], &usual), 0, on(5)),
        ("with a tag in the metadata", frame(&[], &usual), 7, on(7)),
        ("passed on", frame(&[], &ipv6(NEAR, ICMP6, 254, &message(134, 0, 16))), 0, None),
        ("a solicitation", frame(&[], &ipv6(NEAR, ICMP6, 255, &message(133, 0, 16))), 0, None),
        ("another code", frame(&[], &ipv6(NEAR, ICMP6, 255, &message(134, 1, 16))), 0, None),
        ("too short", frame(&[], &ipv6(NEAR, ICMP6, 255, &message(134, 0, 15))), 0, None),
        ("no neighbour", frame(&[], &other), 0, None),
        ("UDP", frame(&[], &ipv6(NEAR, UDP, 255, &message(134, 0, 16))), 0, None),
        ("ARP", arp_frame(), 0, None),
    ];
    for (name, frame, tag, expect) in cases {
        assert_eq!(with(&frame, |frame| advertised(frame, tag)), expect, "{name}");
        let may_be = may_be_advertisement(Frame::new(&frame));
        assert!(may_be || expect.is_none(), "{name} is overlooked");
    }
    assert!(!may_be_advertisement(Frame::new(&arp_frame())));
}

fn arp_frame() -> Vec<u8> {
    let frame = from_a(0x0806, &arp(1, MAC_A, [192, 0, 2, 1]));
    frame[..42].to_vec()
}
