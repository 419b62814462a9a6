use detector_common::{claim::ClaimRecord, event::HEAD_BYTES};
use etherparse::{PacketBuilder, VlanId};
use proptest::prelude::*;

use super::*;

const FROM: [u8; 6] = [0x52, 0x54, 0, 0, 0, 1];
const TO: [u8; 6] = [0xff; 6];
const ETHERNET: &str = "52:54:00:00:00:01 to ff:ff:ff:ff:ff:ff";

fn told(head: &[u8], vlan: u16) -> Vec<String> {
    let claim = ClaimRecord { vlan, ..ClaimRecord::default() };
    layers(&RefusedFrame { instance: 1, claim, head: head[..head.len().min(HEAD_BYTES)].to_vec() })
}

fn raw(ether_type: u16, rest: &[u8]) -> Vec<u8> {
    [&TO[..], &FROM, &ether_type.to_be_bytes(), rest].concat()
}

fn build(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut frame = Vec::new();
    write(&mut frame);
    frame
}

#[test]
fn each_layer_is_a_line() {
    let ethernet = || PacketBuilder::ethernet2(FROM, TO);
    let (v4, v6) = (([10, 0, 0, 9], [10, 0, 0, 1], 64), ([0xfe; 16], [0xff; 16], 255));
    let discover = build(|to| {
        let udp = ethernet().ipv4([0; 4], [255; 4], 64).udp(68, 67);
        udp.write(to, &[0; 300]).unwrap();
    });
    let tagged = build(|to| {
        let vlan = ethernet().single_vlan(VlanId::try_new(7).unwrap());
        vlan.ipv4(v4.0, v4.1, v4.2).tcp(40_000, 443, 1, 1).syn().write(to, &[]).unwrap();
    });
    let echo = build(|to| {
        let echo = ethernet().ipv6(v6.0, v6.1, v6.2).icmpv6_echo_request(1, 2);
        echo.write(to, &[0; 8]).unwrap();
    });
    let arp =
        [&[0, 1, 8, 0, 6, 4, 0, 1][..], &FROM, &[10, 0, 0, 9], &[0; 6], &[10, 0, 0, 1]].concat();
    let odd_arp = [&[0, 1, 8, 0, 2, 1, 0, 9][..], &[1, 2], &[3], &[4, 5], &[6]].concat();
    let cases: Vec<(&str, Vec<u8>, u16, Vec<String>)> = vec![
        (
            "a DHCP client, of which the end was cut off",
            discover,
            0,
            vec![
                format!("Ethernet: {ETHERNET}, IPv4"),
                "IPv4: 0.0.0.0 to 255.255.255.255, UDP, TTL 64, 328 bytes".to_owned(),
                "UDP: 68 to 67, 308 bytes".to_owned(),
            ],
        ),
        (
            "a tag in the frame",
            tagged,
            7,
            vec![
                format!("Ethernet: {ETHERNET}, 802.1Q"),
                "802.1Q: VLAN 7, priority 0, IPv4".to_owned(),
                "IPv4: 10.0.0.9 to 10.0.0.1, TCP, TTL 64, 40 bytes".to_owned(),
                "TCP: 40000 to 443 SYN".to_owned(),
            ],
        ),
        (
            "a tag in the metadata",
            raw(0x0806, &arp),
            9,
            vec![
                format!("Ethernet: {ETHERNET}, ARP"),
                "802.1Q: VLAN 9".to_owned(),
                "ARP: request, sender 52:54:00:00:00:01 10.0.0.9, target 00:00:00:00:00:00 10.0.0.1".to_owned(),
            ],
        ),
        (
            "an ARP packet of other networks",
            raw(0x0806, &odd_arp),
            0,
            vec![
                format!("Ethernet: {ETHERNET}, ARP"),
                "ARP: operation 9, sender (2 bytes) (1 bytes), target (2 bytes) (1 bytes)".to_owned(),
            ],
        ),
        (
            "IPv6",
            echo,
            0,
            vec![
                format!("Ethernet: {ETHERNET}, IPv6"),
                "IPv6: fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe to ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff, \
                 IPv6-ICMP, hop limit 255, 16 bytes behind the header"
                    .to_owned(),
                "ICMPv6: type 128, code 0".to_owned(),
            ],
        ),
        ("LLC", raw(38, &[0x42; 38]), 0, vec![format!("802.3: {ETHERNET}, 38 bytes of LLC")]),
        (
            "of no protocol that is known",
            raw(0x88b5, &[0; 46]),
            0,
            vec![format!("Ethernet: {ETHERNET}, EtherType 0x88b5")],
        ),
        ("less than a header", vec![0; 13], 0, vec!["13 bytes, too few for Ethernet".to_owned()]),
        ("nothing", vec![], 0, vec!["0 bytes, too few for Ethernet".to_owned()]),
    ];
    for (name, head, vlan, expect) in cases {
        assert_eq!(told(&head, vlan), expect, "{name}");
    }
    let cut = told(&raw(0x0800, &[0x45, 0, 0, 20, 0]), 0);
    assert!(cut.len() == 2 && cut[1].starts_with("IP"), "what is missing is told: {cut:?}");
}

proptest! {
    /// Whatever a guest sends is told in a few short lines, which do nothing to a terminal.
    #[test]
    fn no_frame_is_told_at_length(
        kind in prop::sample::select(vec![0_u16, 0x0800, 0x86dd, 0x0806, 0x8100, 0x88a8, 0x88e5, 0xffff]),
        first in prop::sample::select(vec![0x45_u8, 0x4f, 0x60, 0x00]),
        rest in prop::collection::vec(any::<u8>(), 0..HEAD_BYTES),
        vlan in any::<u16>(),
        cut in 0..=HEAD_BYTES,
    ) {
        let mut frame = raw(kind, &[&[first][..], &rest].concat());
        frame.truncate(cut);
        let lines = told(&frame, vlan);
        prop_assert!((1..=8).contains(&lines.len()), "{lines:?}");
        for line in lines {
            prop_assert!(line.len() <= 256, "{line}");
            prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{line}");
        }
    }
}
