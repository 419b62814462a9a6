//! The rules that a NIC can have: for each what it may send, and what it may not.

use detector_common::samples::{
    BROADCAST, ICMPV6, IGMP, TCP, arp, ethernet, icmpv6, ipv4, ipv6, link_layer, neighbour,
};

use super::{Guest, Row, UNKNOWN, row};

const MAC_PREFIX: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x1a];
const MAC_FIRST: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x1b];
const MAC_SECOND: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x1c];
const MAC_TRUNK: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x1d];
const MAC_ANY: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x1e];
const MAC_TAGGED: [u8; 6] = [0x52, 0x54, 0, 0, 0, 0x1f];

pub(super) const GUESTS: &[Guest] = &[
    ("tap-p", MAC_PREFIX, [192, 0, 2, 33]),
    ("tap-t", MAC_FIRST, [192, 0, 2, 51]),
    ("tap-v", MAC_TRUNK, [192, 0, 2, 61]),
    ("tap-y", MAC_ANY, [192, 0, 2, 71]),
];

pub(super) const INVENTORY: &str = r#"
[[vm]]
name = "prefixes"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:1a"
port = "tap-p"
rule = "prefix"
addresses = ["192.0.2.32/28", "198.51.100.0/25", "2001:db8:1::/64", "2001:db8:2:8000::/49"]
[[vm]]
name = "two"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:1b"
port = "tap-t"
addresses = ["192.0.2.51", "2001:db8::51"]
[[vm.nic]]
mac = "52:54:00:00:00:1c"
port = "tap-t"
addresses = ["192.0.2.52", "2001:db8::52"]
[[vm]]
name = "trunk"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:1d"
port = "tap-v"
vlans = [0, 10]
addresses = ["192.0.2.61", "2001:db8::61"]
[[vm.nic]]
mac = "52:54:00:00:00:1f"
port = "tap-v"
vlans = [11]
addresses = ["192.0.2.62", "2001:db8::62"]
[[vm]]
name = "anything"
template = "lab"
[[vm.nic]]
mac = "52:54:00:00:00:1e"
port = "tap-y"
rule = "any"
"#;

const Q: u16 = 0x8100;
const AD: u16 = 0x88a8;

type Tags<'a> = &'a [(u16, u16)];

fn v4(mac: [u8; 6], tags: Tags<'_>, source: [u8; 4]) -> Vec<u8> {
    ethernet(BROADCAST, mac, tags, 0x0800, &ipv4(source, TCP, &[0; 20]))
}

fn v6(mac: [u8; 6], tags: Tags<'_>, source: &str) -> Vec<u8> {
    ethernet(BROADCAST, mac, tags, 0x86dd, &ipv6(address(source), TCP, 64, &[0; 20]))
}

fn asks(mac: [u8; 6], sender: [u8; 4]) -> Vec<u8> {
    ethernet(BROADCAST, mac, &[], 0x0806, &arp(1, mac, sender))
}

/// An advertisement of the source itself.
fn advertises(mac: [u8; 6], source: &str) -> Vec<u8> {
    let source = address(source);
    let message = neighbour(136, source, &[link_layer(2, mac)]);
    ethernet(BROADCAST, mac, &[], 0x86dd, &ipv6(source, ICMPV6, 255, &message))
}

fn address(text: &str) -> [u8; 16] {
    text.parse::<std::net::Ipv6Addr>().unwrap().octets()
}

/// A NIC that may have any address of several networks.
fn prefixes() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mac = MAC_PREFIX;
    vec![
        ("first of the first network", v4(mac, &[], [192, 0, 2, 32]), "granted"),
        ("last of the first network", v4(mac, &[], [192, 0, 2, 47]), "granted"),
        ("before the first network", v4(mac, &[], [192, 0, 2, 31]), "ipv4-source"),
        ("behind the first network", v4(mac, &[], [192, 0, 2, 48]), "ipv4-source"),
        ("of the second network", v4(mac, &[], [198, 51, 100, 127]), "granted"),
        ("behind the second network", v4(mac, &[], [198, 51, 100, 128]), "ipv4-source"),
        ("ARP from the second network", asks(mac, [198, 51, 100, 9]), "granted"),
        ("ARP from elsewhere", asks(mac, [203, 0, 113, 9]), "arp-sender-address"),
        ("of the first IPv6 network", v6(mac, &[], "2001:db8:1::ffff"), "granted"),
        ("beside the first IPv6 network", v6(mac, &[], "2001:db8:1:1::1"), "ipv6-source"),
        ("of the second IPv6 network", v6(mac, &[], "2001:db8:2:ffff::1"), "granted"),
        ("before the second IPv6 network", v6(mac, &[], "2001:db8:2:7fff::1"), "ipv6-source"),
        ("advertisement from the second", advertises(mac, "2001:db8:2:8000::5"), "granted"),
        ("advertisement from elsewhere", advertises(mac, "2001:db8:3::5"), "ipv6-source"),
        ("another MAC in the network", v4(UNKNOWN, &[], [192, 0, 2, 33]), "mac-not-granted"),
        ("another MAC in the IPv6 one", v6(UNKNOWN, &[], "2001:db8:1::1"), "mac-not-granted"),
    ]
}

/// Two MACs behind one port, each with what is its own.
fn two_macs() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (first, second) = (MAC_FIRST, MAC_SECOND);
    vec![
        ("the first", v4(first, &[], [192, 0, 2, 51]), "granted"),
        ("the second", v4(second, &[], [192, 0, 2, 52]), "granted"),
        ("the first with the other's", v4(first, &[], [192, 0, 2, 52]), "ipv4-source"),
        ("the second with the other's", v4(second, &[], [192, 0, 2, 51]), "ipv4-source"),
        ("the first over IPv6", v6(first, &[], "2001:db8::51"), "granted"),
        ("the second over IPv6", v6(second, &[], "2001:db8::52"), "granted"),
        ("the first with the other's IPv6", v6(first, &[], "2001:db8::52"), "ipv6-source"),
        ("the second with the other's IPv6", v6(second, &[], "2001:db8::51"), "ipv6-source"),
        ("link-local of the second", v6(second, &[], "fe80::5054:ff:fe00:1c"), "granted"),
        ("link-local of the other", v6(second, &[], "fe80::5054:ff:fe00:1b"), "ipv6-source"),
        ("ARP of the second", asks(second, [192, 0, 2, 52]), "granted"),
        ("ARP for the other", asks(second, [192, 0, 2, 51]), "arp-sender-address"),
        ("a third MAC", v4(UNKNOWN, &[], [192, 0, 2, 51]), "mac-not-granted"),
    ]
}

/// A NIC without a tag and on one VLAN, and beside it one on another VLAN only. The outermost tag is in
/// the frame's metadata, further ones are in its data.
fn vlans() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let (trunk, tagged) = (MAC_TRUNK, MAC_TAGGED);
    let (own, its) = ([192, 0, 2, 61], [192, 0, 2, 62]);
    let (own6, its6) = ("2001:db8::61", "2001:db8::62");
    vec![
        ("untagged", v4(trunk, &[], own), "granted"),
        ("priority tag", v4(trunk, &[(Q, 0x6000)], own), "granted"),
        ("on its VLAN", v4(trunk, &[(Q, 10)], own), "granted"),
        ("on its VLAN with a priority", v4(trunk, &[(Q, 0xe00a)], own), "granted"),
        ("on another VLAN", v4(trunk, &[(Q, 11)], own), "vlan-not-granted"),
        ("its VLAN as a service tag", v4(trunk, &[(AD, 10)], own), "vlan-not-granted"),
        ("its VLAN in the data", v4(trunk, &[(Q, 0), (Q, 10)], own), "vlan-tags"),
        ("its VLAN twice", v4(trunk, &[(Q, 10), (Q, 10)], own), "vlan-tags"),
        ("a priority tag in its VLAN", v4(trunk, &[(Q, 10), (Q, 0)], own), "granted"),
        ("another's address on its VLAN", v4(trunk, &[(Q, 10)], its), "ipv4-source"),
        ("IPv6 untagged", v6(trunk, &[], own6), "granted"),
        ("IPv6 on its VLAN", v6(trunk, &[(Q, 10)], own6), "granted"),
        ("IPv6 on another VLAN", v6(trunk, &[(Q, 11)], own6), "vlan-not-granted"),
        ("another's IPv6 on its VLAN", v6(trunk, &[(Q, 10)], its6), "ipv6-source"),
        ("the other on its VLAN", v4(tagged, &[(Q, 11)], its), "granted"),
        // Of a MAC that is not the port's first it is not known which VLANs it has besides.
        ("the other untagged", v4(tagged, &[], its), "mac-not-granted"),
        ("the other on the first's VLAN", v4(tagged, &[(Q, 10)], its), "mac-not-granted"),
        ("the other's IPv6 on its VLAN", v6(tagged, &[(Q, 11)], its6), "granted"),
        ("the other's IPv6 untagged", v6(tagged, &[], its6), "mac-not-granted"),
    ]
}

/// A NIC that forwards for others.
fn any() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let mac = MAC_ANY;
    let group = ipv4([203, 0, 113, 5], IGMP, &[0x11, 0, 0, 0, 0, 0, 0, 0]);
    let router = ipv6(address("fe80::1"), ICMPV6, 255, &icmpv6(134, 0, &[0; 12]));
    vec![
        ("any address", v4(mac, &[], [203, 0, 113, 5]), "granted"),
        ("any IPv6 address", v6(mac, &[], "2001:db8:ffff::5"), "granted"),
        ("any link-local address", v6(mac, &[], "fe80::1234"), "granted"),
        ("ARP from any address", asks(mac, [203, 0, 113, 5]), "granted"),
        ("advertisement of any address", advertises(mac, "2001:db8:ffff::5"), "granted"),
        ("any address under another MAC", v4(UNKNOWN, &[], [203, 0, 113, 5]), "mac-not-granted"),
        ("any IPv6 under another MAC", v6(UNKNOWN, &[], "2001:db8:ffff::5"), "mac-not-granted"),
        ("any address on a VLAN", v4(mac, &[(Q, 10)], [203, 0, 113, 5]), "vlan-not-granted"),
        ("an address that is nobody's", v4(mac, &[], [224, 0, 0, 5]), "ipv4-source"),
        ("an IPv6 address that is nobody's", v6(mac, &[], "ff02::5"), "ipv6-source"),
        ("a query for groups", ethernet(BROADCAST, mac, &[], 0x0800, &group), "router-role"),
        ("router advertisement", ethernet(BROADCAST, mac, &[], 0x86dd, &router), "router-role"),
    ]
}

pub(super) fn rows() -> Vec<Row> {
    let all = [
        ("prefixes", "tap-p", prefixes()),
        ("two MACs", "tap-t", two_macs()),
        ("VLANs", "tap-v", vlans()),
        ("any", "tap-y", any()),
    ];
    all.into_iter()
        .flat_map(|(rule, port, rows)| {
            let of =
                move |(name, frame, reason)| row(&format!("{rule}: {name}"), port, frame, reason);
            rows.into_iter().map(of)
        })
        .collect()
}
