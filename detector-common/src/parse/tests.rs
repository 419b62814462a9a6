use super::{Claim, MetaTag, Whole, parse};
use crate::{
    addr::{Address, Mac},
    claim::Family,
    frame::Frame,
    port::flags,
    reason::Reason::{self, *},
    samples::*,
};

fn read(frame: &[u8], tag: MetaTag) -> (Result<(), Reason>, Claim) {
    let mut claim = Claim::default();
    let result = parse(Frame::new(frame), tag, &mut claim, &Whole);
    (result, claim)
}

/// Parses each frame of a table, untagged in metadata.
fn check(table: &[(&str, Vec<u8>, Result<(), Reason>)]) {
    for (name, frame, expect) in table {
        assert_eq!(read(frame, MetaTag::default()).0, *expect, "{name}");
    }
}

fn in_metadata(tci: u16) -> MetaTag {
    MetaTag::of(Q, tci)
}

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

#[test]
fn tags() {
    let none = MetaTag::default();
    type Case = (&'static str, MetaTag, &'static [(u16, u16)], Result<u16, Reason>);
    let cases: &[Case] = &[
        ("untagged", none, &[], Ok(0)),
        ("priority", none, &[(Q, 0)], Ok(0)),
        ("priority with its bits", none, &[(Q, 0xf000)], Ok(0)),
        ("VLAN", none, &[(Q, 0xe005)], Ok(5)),
        ("service VLAN", none, &[(AD, 5)], Err(VlanTags)),
        ("service VLAN in metadata", MetaTag::of(AD, 5), &[], Ok(4095)),
        ("service priority in metadata", MetaTag::of(AD, 0xe000), &[], Ok(0)),
        ("old tag type", none, &[(0x9100, 5)], Err(VlanTags)),
        ("older tag type", none, &[(0x9200, 5)], Err(VlanTags)),
        ("two priority tags", none, &[(AD, 0), (Q, 0)], Ok(0)),
        ("VLAN, then priority", none, &[(Q, 5), (Q, 0)], Ok(5)),
        ("priority, then VLAN", none, &[(Q, 0), (Q, 5)], Err(VlanTags)),
        ("two VLANs", none, &[(AD, 5), (Q, 6)], Err(VlanTags)),
        ("the second the lowest", none, &[(AD, 5), (Q, 1)], Err(VlanTags)),
        ("the same VLAN twice", none, &[(AD, 5), (Q, 5)], Err(VlanTags)),
        ("three priority tags", none, &[(AD, 0), (Q, 0), (Q, 0)], Err(VlanTags)),
        ("five tags", none, &[(AD, 0), (Q, 0), (AD, 0), (Q, 0), (AD, 0)], Err(VlanTags)),
        ("metadata", in_metadata(0xe005), &[], Ok(5)),
        ("metadata, priority", in_metadata(0xe000), &[], Ok(0)),
        ("metadata and data", in_metadata(5), &[(Q, 0)], Ok(5)),
        ("metadata, then data", in_metadata(0), &[(Q, 5)], Err(VlanTags)),
        ("metadata and data differ", in_metadata(5), &[(Q, 6)], Err(VlanTags)),
        ("metadata and two", in_metadata(0), &[(Q, 0), (Q, 0)], Err(VlanTags)),
        ("a TCI without a tag", MetaTag { present: false, tci: 5 }, &[], Ok(0)),
    ];
    for (name, tag, tags, expect) in cases {
        let frame = ethernet(MAC_B, MAC_A, tags, 0x0800, &ipv4(IP_A, TCP, &[0; 20]));
        let (result, claim) = read(&frame, *tag);
        assert_eq!(result.map(|()| claim.station.vlan()), *expect, "{name}");
        assert_eq!(claim.station.mac(), Mac(MAC_A), "{name}");
        if result.is_ok() {
            assert_eq!((claim.ethertype, claim.source), (0x0800, mapped(IP_A)), "{name}");
        }
    }
}

#[test]
fn ethernet_header() {
    let ip = ipv4(IP_A, TCP, &[0; 20]);
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &ip].concat();
    let tag_behind_snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 0x81, 0, 0, 5, 8, 0][..], &ip].concat();
    let to = |mac| ethernet(mac, MAC_A, &[], 0x0800, &ip);
    let from = |mac| ethernet(MAC_B, mac, &[], 0x0800, &ip);
    check(&[
        ("empty", vec![], Err(Truncated)),
        ("runt", from(MAC_A)[..13].to_vec(), Err(Truncated)),
        ("header only", from(MAC_A)[..14].to_vec(), Err(Truncated)),
        ("tag cut off", ethernet(MAC_B, MAC_A, &[], Q, &[0, 5, 8]), Err(Truncated)),
        ("second tag cut off", ethernet(MAC_B, MAC_A, &[(Q, 0)], Q, &[0]), Err(Truncated)),
        ("source multicast", from([1, 0, 0x5e, 0, 0, 1]), Err(SourceMacInvalid)),
        ("source broadcast", from(BROADCAST), Err(SourceMacInvalid)),
        ("source zero", from([0; 6]), Err(SourceMacInvalid)),
        ("to the bridge group", to([1, 0x80, 0xc2, 0, 0, 0]), Err(LinkLocalDestination)),
        ("LLDP", to([1, 0x80, 0xc2, 0, 0, 0x0e]), Err(LinkLocalDestination)),
        ("beyond the bridge's own", to([1, 0x80, 0xc2, 0, 0, 0x10]), Ok(())),
        ("to everybody", to(BROADCAST), Ok(())),
        ("LLC", from_a(46, &snap), Err(Llc)),
        ("largest length", from_a(0x05ff, &snap), Err(Llc)),
        ("LLC behind a tag", ethernet(MAC_B, MAC_A, &[(Q, 0)], 46, &snap), Err(Llc)),
        ("tag behind SNAP", from_a(46, &tag_behind_snap), Err(Llc)),
        ("smallest type", from_a(0x0600, &ip), Err(EtherTypeUnknown)),
        ("MPLS", from_a(0x8847, &ip), Err(EtherTypeUnknown)),
        ("802.1X", from_a(0x888e, &ip), Err(EtherTypeUnknown)),
    ]);
}

#[test]
fn address_resolution() {
    let changed = |at: usize, to: u8| {
        let mut packet = arp(1, MAC_A, IP_A);
        packet[at] = to;
        from_a(0x0806, &packet)
    };
    let request = from_a(0x0806, &arp(1, MAC_A, IP_A));
    let padded = [&request[..], &[0; 18]].concat();
    let reverse = |operation: u8, mac| {
        let mut packet = rarp(mac, ANY);
        packet[7] = operation;
        from_a(0x8035, &packet)
    };
    check(&[
        ("request", request.clone(), Ok(())),
        ("padded", padded, Ok(())),
        ("cut short", request[..request.len() - 1].to_vec(), Err(Truncated)),
        ("reply", from_a(0x0806, &arp(2, MAC_A, IP_A)), Ok(())),
        ("probe", from_a(0x0806, &arp(1, MAC_A, ANY)), Ok(())),
        ("reply for nobody", from_a(0x0806, &arp(2, MAC_A, ANY)), Err(ArpSenderAddress)),
        ("other sender", from_a(0x0806, &arp(1, MAC_B, IP_A)), Err(ArpSenderMac)),
        ("probe by another", from_a(0x0806, &arp(1, MAC_B, ANY)), Err(ArpSenderMac)),
        ("operation 0", from_a(0x0806, &arp(0, MAC_A, IP_A)), Err(ArpMalformed)),
        ("reverse request as ARP", from_a(0x0806, &arp(3, MAC_A, IP_A)), Err(ArpMalformed)),
        ("hardware", changed(1, 6), Err(ArpMalformed)),
        ("protocol", changed(3, 6), Err(ArpMalformed)),
        ("hardware length", changed(4, 8), Err(ArpMalformed)),
        ("protocol length", changed(5, 16), Err(ArpMalformed)),
        ("self-announcement", reverse(3, MAC_A), Ok(())),
        ("announcement of another", reverse(3, MAC_B), Err(ArpSenderMac)),
        ("a question about another", from_a(0x8035, &arp(3, MAC_A, ANY)), Err(ArpSenderMac)),
        (
            "an address of nobody's",
            from_a(0x0806, &arp(1, MAC_A, [127, 0, 0, 1])),
            Err(ArpSenderAddress),
        ),
        ("reverse reply", reverse(4, MAC_A), Err(ArpMalformed)),
        ("ARP request as RARP", reverse(1, MAC_A), Err(ArpMalformed)),
    ]);
    let (_, claim) = read(&request, MetaTag::default());
    assert_eq!((claim.family, claim.source), (Family::V4, mapped(IP_A)));
    let (_, probe) = read(&from_a(0x0806, &arp(1, MAC_A, ANY)), MetaTag::default());
    assert_eq!((probe.family, probe.source), (Family::None, Address::UNSPECIFIED));
}

#[test]
fn ipv4_header() {
    let changed = |at: usize, to: u8| {
        let mut packet = ipv4(IP_A, TCP, &[0; 20]);
        packet[at] = to;
        from_a(0x0800, &packet)
    };
    let plain = |source| from_a(0x0800, &ipv4(source, TCP, &[0; 20]));
    let padded = [&plain(IP_A)[..], &[0; 1440]].concat();
    let with_options = {
        let mut packet = ipv4(IP_A, UDP, &[&[1; 4], &udp(5, 6, &[])[..]].concat());
        packet[0] = 0x46;
        from_a(0x0800, &summed(packet))
    };
    let mut other_options = with_options.clone();
    other_options[34] = 0;
    let part = |field, payload: &[u8]| from_a(0x0800, &ipv4_fragment(IP_A, UDP, field, payload));
    check(&[
        ("plain", plain(IP_A), Ok(())),
        ("padded to the MTU", padded, Ok(())),
        ("header cut off", plain(IP_A)[..33].to_vec(), Err(Truncated)),
        ("total length beyond the frame", plain(IP_A)[..53].to_vec(), Err(Ipv4Malformed)),
        ("version 6", changed(0, 0x65), Err(Ipv4Malformed)),
        ("header length 16", changed(0, 0x44), Err(Ipv4Malformed)),
        ("header longer than the packet", changed(0, 0x4f), Err(Ipv4Malformed)),
        ("total length below the header", changed(3, 19), Err(Ipv4Malformed)),
        ("source 0.1.2.3", plain([0, 1, 2, 3]), Err(Ipv4Source)),
        ("source unspecified", plain(ANY), Err(Ipv4Source)),
        ("loopback", plain([127, 0, 0, 1]), Err(Ipv4Source)),
        ("multicast", plain([224, 0, 0, 1]), Err(Ipv4Source)),
        ("limited broadcast", plain([255; 4]), Err(Ipv4Source)),
        ("highest unicast", plain([223, 255, 255, 255]), Ok(())),
        ("a source that was changed", changed(15, IP_A[3] ^ 1), Err(Ipv4Malformed)),
        ("options that were changed", other_options, Err(Ipv4Malformed)),
        ("options", with_options, Ok(())),
        ("no room for UDP", part(0, &[0; 7]), Err(Ipv4Malformed)),
        ("tiny first fragment", part(0x2000, &[0; 7]), Err(Ipv4Fragment)),
        ("first fragment", part(0x2000, &udp(5, 6, &[])), Ok(())),
        ("later fragment", part(0x0001, &[0; 4]), Ok(())),
        ("no room for ICMP", from_a(0x0800, &ipv4(IP_A, ICMP, &[8; 7])), Err(Ipv4Malformed)),
    ]);
    // What looks like ports in a later fragment is payload.
    let (result, claim) = read(&part(0x2001, &udp(67, 68, &[])), MetaTag::default());
    assert_eq!((result, claim.roles), (Ok(()), 0));
}

#[test]
fn dhcp_messages() {
    let v4 = |source, from, to, payload: &[u8]| {
        from_a(0x0800, &ipv4(source, UDP, &udp(from, to, payload)))
    };
    let v6_message =
        |from, to, message: &[u8]| from_a(0x86dd, &ipv6(LOCAL_A, UDP, 64, &udp(from, to, message)));
    let v6 = |from, to| v6_message(from, to, &[1, 0, 0, 0]);
    let first_part =
        |payload: &[u8]| from_a(0x0800, &ipv4_fragment(IP_A, UDP, 0x2000, &udp(68, 67, payload)));
    // A message in the padding is none.
    let padded = |frame: Vec<u8>| [frame, dhcp(1, MAC_A)].concat();
    let mut token_ring = dhcp(1, MAC_A);
    token_ring[1] = 6;
    let (server, client) = (flags::DHCP_SERVER, flags::DHCP_CLIENT);
    let cases: &[(&str, Vec<u8>, Result<u32, Reason>)] = &[
        ("discover", v4(ANY, 68, 67, &dhcp(1, MAC_A)), Ok(client)),
        ("renewal", v4(IP_A, 68, 67, &dhcp(1, MAC_A)), Ok(client)),
        ("for another", v4(ANY, 68, 67, &dhcp(1, MAC_B)), Err(DhcpClientMac)),
        ("renewal for another", v4(IP_A, 68, 67, &dhcp(1, MAC_B)), Err(DhcpClientMac)),
        ("hardware type", v4(ANY, 68, 67, &token_ring), Err(DhcpMalformed)),
        ("cut short", v4(ANY, 68, 67, &dhcp(1, MAC_A)[..33]), Err(DhcpMalformed)),
        ("from another port", v4(ANY, 1000, 67, &dhcp(1, MAC_A)), Err(Ipv4Source)),
        ("reply", v4(IP_A, 67, 68, &dhcp(2, MAC_B)), Ok(server)),
        ("reply from an odd port", v4(IP_A, 1000, 68, &dhcp(2, MAC_B)), Ok(server)),
        ("reply from nobody", v4(ANY, 67, 68, &dhcp(2, MAC_B)), Err(Ipv4Source)),
        ("reply to a relay", v4(IP_A, 67, 67, &dhcp(2, MAC_B)), Ok(server)),
        ("in the padding", padded(v4(ANY, 68, 67, &[])), Err(DhcpMalformed)),
        ("in the padding of a fragment", padded(first_part(&[])), Err(Ipv4Fragment)),
        ("in a fragment", first_part(&dhcp(1, MAC_A)), Err(Ipv4Fragment)),
        ("other UDP", v4(IP_A, 68, 69, &[]), Ok(0)),
        ("other UDP from nobody", v4(ANY, 68, 69, &[]), Err(Ipv4Source)),
        ("v6 solicit", v6(546, 547), Ok(client)),
        ("v6 reply", v6(547, 546), Ok(server)),
        ("v6 reply from an odd port", v6(1000, 546), Ok(server)),
        ("v6 reply to a relay", v6_message(547, 547, &[13, 0, 0, 0]), Ok(server)),
        ("v6 reply to the server port", v6_message(1000, 547, &[7, 0, 0, 0]), Ok(server)),
        ("v6 relay's own message", v6_message(547, 547, &[12, 0, 0, 0]), Ok(client)),
        ("v6 empty", padded(v6_message(546, 547, &[])), Err(DhcpMalformed)),
    ];
    for (name, frame, expect) in cases {
        let (result, claim) = read(frame, MetaTag::default());
        assert_eq!(result.map(|()| claim.roles), *expect, "{name}");
    }
}

/// Each segment would be a message of its own, and only the first has been read.
#[test]
fn dhcp_in_segments_is_refused() {
    let twice = [dhcp(1, MAC_A), dhcp(1, MAC_B)].concat();
    let v4 = from_a(0x0800, &ipv4(IP_A, UDP, &udp(68, 67, &twice)));
    let v6 = from_a(0x86dd, &ipv6(LOCAL_A, UDP, 64, &udp(546, 547, &[1, 0, 0, 0, 7, 0, 0, 0])));
    let other = from_a(0x0800, &ipv4(IP_A, UDP, &udp(5, 6, &twice)));
    for (frame, expect) in [(v4, Err(DhcpMalformed)), (v6, Err(DhcpMalformed)), (other, Ok(()))] {
        let frame = Frame::new(&frame).with_segments(true);
        assert_eq!(parse(frame, MetaTag::default(), &mut Claim::default(), &Whole), expect);
    }
}

mod v6;
