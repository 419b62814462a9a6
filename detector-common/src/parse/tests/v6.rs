//! IPv6 and what it carries.

use super::*;

/// [`IP_A`] as an IPv6 address.
const MAPPED: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7];

fn packet(source: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
    from_a(0x86dd, &ipv6(source, next, 255, payload))
}

/// The same message behind each of the headers that may come first.
fn nest(depth: usize, payload: &[u8]) -> (u8, Vec<u8>) {
    (0..depth).fold((TCP, payload.to_vec()), |(next, payload), _| {
        (DESTINATION_OPTIONS, extension(next, 0, &payload))
    })
}

#[test]
fn headers() {
    let plain = |source| packet(source, TCP, &[0; 20]);
    let mut version = plain(IP6_A);
    version[14] = 0x40;
    let padded = [&plain(IP6_A)[..], &[0; 1400]].concat();
    let (four, within) = nest(4, &[0; 20]);
    let (five, beyond) = nest(5, &[0; 20]);
    let options =
        |units, payload: &[u8]| packet(IP6_A, DESTINATION_OPTIONS, &extension(UDP, units, payload));
    let authentication = |payload: &[u8]| {
        let header = [&[UDP, 4][..], &[0; 22], payload].concat();
        packet(IP6_A, AUTHENTICATION, &header)
    };
    let lying = {
        let mut frame = options(0, &udp(5, 6, &[]));
        frame[14 + 40 + 1] = 9;
        frame
    };
    let loopback = Address::LOOPBACK.bytes();
    check(&[
        ("plain", plain(IP6_A), Ok(())),
        ("padded to the MTU", padded, Ok(())),
        ("header cut off", plain(IP6_A)[..53].to_vec(), Err(Truncated)),
        ("payload cut off", plain(IP6_A)[..73].to_vec(), Err(Ipv6Malformed)),
        ("version 4", version, Err(Ipv6Malformed)),
        ("multicast source", plain(ALL_NODES), Err(Ipv6Source)),
        ("loopback", plain(loopback), Err(Ipv6Source)),
        ("mapped IPv4", plain(MAPPED), Err(Ipv6Source)),
        ("unspecified", plain(ANY6), Err(Ipv6Source)),
        ("options, then UDP", options(0, &udp(5, 6, &[])), Ok(())),
        ("long options, then UDP", options(30, &udp(5, 6, &[])), Ok(())),
        ("authentication, then UDP", authentication(&udp(5, 6, &[])), Ok(())),
        (
            "authentication without length",
            packet(IP6_A, AUTHENTICATION, &[0; 24]),
            Err(Ipv6Malformed),
        ),
        ("authentication, UDP cut off", authentication(&[0; 7]), Err(Ipv6Malformed)),
        ("options longer than the packet", lying, Err(Ipv6Malformed)),
        ("no room for an extension", packet(IP6_A, 0, &[6, 0, 0]), Err(Ipv6Malformed)),
        ("no room for UDP", packet(IP6_A, UDP, &[0; 7]), Err(Ipv6Malformed)),
        ("no room for ICMPv6", packet(IP6_A, ICMPV6, &[0; 3]), Err(Ipv6Malformed)),
        ("as many headers as are walked", packet(IP6_A, four, &within), Ok(())),
        ("one more", packet(IP6_A, five, &beyond), Err(Ipv6HeaderChain)),
        (
            "headers that go on too long",
            packet(IP6_A, 0, &extension(60, 40, &extension(UDP, 0, &udp(5, 6, &[])))),
            Err(Ipv6HeaderChain),
        ),
    ]);
}

#[test]
fn fragments() {
    let part = |source, next, offset, more, payload: &[u8]| {
        packet(source, FRAGMENT, &fragment(next, offset, more, payload))
    };
    let advertisement = neighbour(136, IP6_A, &[]);
    let split_chain = part(IP6_A, DESTINATION_OPTIONS, 0, true, &[UDP, 1, 0, 0, 0, 0, 0, 0]);
    check(&[
        ("atomic", part(IP6_A, UDP, 0, false, &udp(5, 6, &[])), Ok(())),
        ("atomic, UDP cut off", part(IP6_A, UDP, 0, false, &[0; 7]), Err(Ipv6Malformed)),
        ("first", part(IP6_A, UDP, 0, true, &udp(5, 6, &[])), Ok(())),
        ("first, UDP cut off", part(IP6_A, UDP, 0, true, &[0; 7]), Err(Ipv6Fragment)),
        ("first, chain cut off", split_chain, Err(Ipv6Fragment)),
        ("first, TCP cut off", part(IP6_A, TCP, 0, true, &[0; 16]), Err(Ipv6Fragment)),
        ("later", part(IP6_A, UDP, 9, true, &[0; 4]), Ok(())),
        ("last", part(IP6_A, UDP, 9, false, &[]), Ok(())),
        ("later, from nobody", part(ANY6, UDP, 9, false, &[]), Err(Ipv6Source)),
        ("ND, atomic", part(IP6_A, ICMPV6, 0, false, &advertisement), Ok(())),
        ("ND, first", part(IP6_A, ICMPV6, 0, true, &advertisement), Err(NdFragmented)),
        ("echo, first", part(IP6_A, ICMPV6, 0, true, &icmpv6(128, 0, &[0; 4])), Ok(())),
    ]);
    // The role shows behind extension headers and in a first fragment as well.
    for frame in [
        part(IP6_A, UDP, 0, true, &udp(547, 546, &[])),
        packet(IP6_A, DESTINATION_OPTIONS, &extension(UDP, 2, &udp(547, 546, &[]))),
    ] {
        let (result, claim) = read(&frame, MetaTag::default());
        assert_eq!((result, claim.roles), (Ok(()), flags::DHCP_SERVER));
    }
}

#[test]
fn neighbour_discovery() {
    const NONE: Address = Address::UNSPECIFIED;
    let nd = |source, message: &[u8]| packet(source, ICMPV6, message);
    let mut cut = neighbour(136, IP6_A, &[]);
    cut.pop();
    let a = || link_layer(1, MAC_A);
    let b = || link_layer(2, MAC_B);
    let nonce = || option(14, 1);
    let with = |options: &[Vec<u8>]| nd(LOCAL_A, &neighbour(135, IP6_B, options));
    let long_own = [&[1, 2], &MAC_A[..], &[0; 8]].concat();
    let hop = |message: &[u8]| from_a(0x86dd, &ipv6(LOCAL_A, ICMPV6, 254, message));
    let own = v6(IP6_A);
    let cases: &[(&str, Vec<u8>, Result<Address, Reason>)] = &[
        ("solicitation of another", nd(LOCAL_A, &neighbour(135, IP6_B, &[])), Ok(NONE)),
        ("advertisement", nd(IP6_A, &neighbour(136, IP6_A, &[])), Ok(own)),
        ("advertisement for another", nd(IP6_A, &neighbour(136, IP6_B, &[])), Ok(v6(IP6_B))),
        ("duplicate address detection", nd(ANY6, &neighbour(135, IP6_A, &[])), Ok(own)),
        ("the same with a nonce", nd(ANY6, &neighbour(135, IP6_A, &[nonce()])), Ok(own)),
        ("advertisement from nobody", nd(ANY6, &neighbour(136, IP6_A, &[])), Err(Ipv6Source)),
        ("hop limit", hop(&neighbour(135, IP6_B, &[])), Err(NdHopLimit)),
        ("hop limit of a router", hop(&icmpv6(134, 0, &[0; 12])), Err(NdHopLimit)),
        ("code", nd(LOCAL_A, &icmpv6(135, 1, &[1; 20])), Err(NdMalformed)),
        ("target cut off", nd(LOCAL_A, &cut), Err(NdMalformed)),
        ("no target", nd(LOCAL_A, &neighbour(135, ANY6, &[])), Err(NdMalformed)),
        ("IPv4 as target", nd(LOCAL_A, &neighbour(136, MAPPED, &[])), Err(NdMalformed)),
        ("multicast target", nd(LOCAL_A, &neighbour(136, ALL_NODES, &[])), Err(NdMalformed)),
        ("own link layer", with(&[a()]), Ok(NONE)),
        ("own link layer, last", with(&[nonce(), option(14, 3), a()]), Ok(NONE)),
        ("another's link layer", with(&[b()]), Err(NdLinkLayer)),
        ("another's link layer, second", with(&[a(), b()]), Err(NdLinkLayer)),
        ("another's link layer, last", with(&[nonce(), nonce(), nonce(), b()]), Err(NdLinkLayer)),
        ("as many options as are read", with(&[nonce(), nonce(), nonce(), a()]), Ok(NONE)),
        ("one more", with(&[nonce(), nonce(), nonce(), nonce(), a()]), Err(NdMalformed)),
        ("option of no length", with(&[option(14, 0)]), Err(NdMalformed)),
        ("option cut off", with(&[vec![14, 1, 0, 0]]), Err(NdMalformed)),
        ("option beyond the packet", with(&[vec![14, 2, 0, 0, 0, 0, 0, 0]]), Err(NdMalformed)),
        ("long link layer", with(&[option(1, 2)]), Err(NdLinkLayer)),
        ("long but own", with(&[long_own]), Err(NdLinkLayer)),
        ("router solicitation", nd(LOCAL_A, &icmpv6(133, 0, &[0; 4])), Ok(NONE)),
        ("the same from nobody", nd(ANY6, &icmpv6(133, 0, &[0; 4])), Ok(NONE)),
        (
            "router solicitation for another",
            nd(LOCAL_A, &icmpv6(133, 0, &[&[0; 4], &link_layer(1, MAC_B)[..]].concat())),
            Err(NdLinkLayer),
        ),
        ("multicast report from nobody", nd(ANY6, &icmpv6(143, 0, &[0; 4])), Ok(NONE)),
        ("old report from nobody", nd(ANY6, &icmpv6(131, 0, &[0; 20])), Ok(NONE)),
        ("done from nobody", nd(ANY6, &icmpv6(132, 0, &[0; 20])), Ok(NONE)),
        ("echo from nobody", nd(ANY6, &icmpv6(128, 0, &[0; 4])), Err(Ipv6Source)),
        ("echo", nd(IP6_A, &icmpv6(128, 0, &[0; 4])), Ok(NONE)),
    ];
    for (name, frame, expect) in cases {
        let (result, claim) = read(frame, MetaTag::default());
        assert_eq!(result.map(|()| claim.target), *expect, "{name}");
        if result.is_ok() {
            assert_eq!(claim.roles, 0, "{name}");
        }
    }
}

#[test]
fn routers() {
    for kind in [130, 134, 137, 151, 153] {
        for headers in 0..4 {
            let message = icmpv6(kind, 0, &[0; 36]);
            let (next, payload) = (0..headers).fold((ICMPV6, message), |(next, payload), _| {
                (DESTINATION_OPTIONS, extension(next, 0, &payload))
            });
            let (result, claim) = read(&packet(LOCAL_A, next, &payload), MetaTag::default());
            assert_eq!((result, claim.roles), (Ok(()), flags::ROUTER), "{kind} at {headers}");
            let (result, _) = read(&packet(ANY6, next, &payload), MetaTag::default());
            assert_eq!(result, Err(Ipv6Source), "{kind} from nobody");
        }
    }
}
