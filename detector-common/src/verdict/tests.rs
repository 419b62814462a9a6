use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{Grants, passes_at_a_glance, settle, vet, vet_plain};
use crate::{
    addr::{Address, Mac, Station},
    frame::Frame,
    parse::{Claim, MetaTag},
    port::{Grant, GrantKey, PortSlot, PrefixKey, Role, flags},
    reason::Reason::{self, *},
    samples::*,
};

/// The maps of one test. A prefix is kept with its length in bytes.
#[derive(Default)]
struct Listed {
    grants: BTreeMap<GrantKey, Grant>,
    prefixes: Vec<(PrefixKey, usize)>,
}

impl Listed {
    fn mac(mut self, mac: [u8; 6], vlan: u16, flags: u32) -> Self {
        self.grants.insert(key(mac, vlan, [0; 16]), Grant { flags });
        self
    }

    fn address(mut self, mac: [u8; 6], vlan: u16, address: [u8; 16]) -> Self {
        self.grants.insert(key(mac, vlan, address), Grant::default());
        self
    }

    fn prefix(mut self, mac: [u8; 6], vlan: u16, address: [u8; 16], bytes: usize) -> Self {
        let GrantKey { ifindex, instance, .. } = key(mac, vlan, address);
        self.prefixes.push((
            PrefixKey {
                ifindex: ifindex.to_ne_bytes(),
                instance: instance.to_ne_bytes(),
                mac: Mac(mac),
                vlan: vlan.to_ne_bytes(),
                address,
            },
            bytes,
        ));
        self
    }
}

impl Grants for Listed {
    fn grant(&self, key: &GrantKey) -> Option<Grant> {
        self.grants.get(key).copied()
    }

    fn prefix(&self, key: &PrefixKey) -> Option<Grant> {
        let scope = |key: &PrefixKey| PrefixKey { address: [0; 16], ..*key };
        self.prefixes
            .iter()
            .any(|(entry, bytes)| {
                scope(entry) == scope(key) && entry.address[..*bytes] == key.address[..*bytes]
            })
            .then(Grant::default)
    }
}

fn key(mac: [u8; 6], vlan: u16, address: [u8; 16]) -> GrantKey {
    GrantKey { ifindex: 3, instance: 9, mac: Mac(mac), vlan, address }
}

/// A port that is granted A's MAC and addresses, untagged.
fn port_a() -> PortSlot {
    PortSlot {
        ifindex: 3,
        instance: 9,
        id: 1,
        role: Role::Guest as u8,
        flags: flags::GRANTED | flags::V4 | flags::V6,
        mac: Mac(MAC_A),
        v4: IP_A,
        v4_mask: [255; 4],
        v6: v6(IP6_A),
        v6_mask: v6([255; 16]),
        ..PortSlot::VACANT
    }
}

fn judged(slot: &PortSlot, more: &Listed, tag: MetaTag, frame: &[u8]) -> Reason {
    vet(Frame::new(frame), tag, slot, more, &mut Claim::default())
}

fn check(slot: &PortSlot, more: &Listed, table: &[(&str, Vec<u8>, Reason)]) {
    for (name, frame, expect) in table {
        assert_eq!(judged(slot, more, MetaTag::default(), frame), *expect, "{name}");
    }
}

#[test]
fn one_identity() {
    check(&port_a(), &Listed::default(), &table());
}

/// What most frames are must be judged at first sight, or the guard is slow.
#[test]
fn common_frames_are_plain() {
    let echo = icmp6(IP6_A, &icmpv6(128, 0, &[0; 4]));
    let udp4 = from_a(0x0800, &ipv4(IP_A, UDP, &udp(5, 53, &[0; 20])));
    let arp = from_a(0x0806, &arp(1, MAC_A, IP_A));
    let cases: &[(Vec<u8>, Option<Reason>)] = &[
        (tcp4(MAC_A, IP_A), Some(Granted)),
        (tcp6(MAC_A, IP6_A), Some(Granted)),
        (udp4, Some(Granted)),
        (arp, Some(Granted)),
        (echo, Some(Granted)),
        (tcp4(MAC_B, IP_A), Some(MacNotGranted)),
        (tcp4(MAC_A, IP_B), Some(Ipv4Source)),
        (tagged(0), None),
        (icmp6(IP6_A, &neighbour(136, IP6_A, &[])), None),
    ];
    for (frame, expect) in cases {
        let frame = Frame::new(frame);
        let none = Listed::default();
        let reason = vet_plain(frame, MetaTag::default(), &port_a(), &none, &mut Claim::default());
        assert_eq!(reason, *expect);
    }
}

/// The flags of a port whose frames can be compared as they lie in memory.
fn exact() -> u32 {
    port_a().flags | flags::EXACT_V4 | flags::EXACT_V6
}

/// Most frames of most ports must pass at a glance; and a frame that differs in anything from such a
/// one must not.
#[test]
fn what_a_glance_passes() {
    let slot = PortSlot { flags: exact(), ..port_a() };
    let udp4 = |to| from_a(0x0800, &ipv4(IP_A, UDP, &udp(5, to, &[0; 20])));
    let udp6 = |to| from_a(0x86dd, &ipv6(IP6_A, UDP, 64, &udp(5, to, &[0; 20])));
    let cut = |mut frame: Vec<u8>| {
        frame.pop();
        frame
    };
    let fragment = |bits| from_a(0x0800, &ipv4_fragment(IP_A, TCP, bits, &[0; 20]));
    let changed = |at: usize, to: u8| {
        let mut packet = ipv4(IP_A, TCP, &[0; 20]);
        packet[at] = to;
        from_a(0x0800, &summed(packet))
    };
    let mut unsummed = tcp4(MAC_A, IP_A);
    unsummed[24] ^= 1;
    let to_bridge = |mut frame: Vec<u8>| {
        frame[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
        frame
    };
    let cases: &[(&str, Vec<u8>, bool)] = &[
        ("TCP over IPv4", tcp4(MAC_A, IP_A), true),
        ("TCP over IPv6", tcp6(MAC_A, IP6_A), true),
        ("UDP over IPv4", udp4(53), true),
        ("UDP over IPv6", udp6(53), true),
        ("another's MAC", tcp4(MAC_B, IP_A), false),
        ("another's IPv4 address", tcp4(MAC_A, IP_B), false),
        ("another's IPv6 address", tcp6(MAC_A, IP6_B), false),
        ("to a DHCP server", udp4(67), false),
        ("to a DHCP client", udp4(68), false),
        ("to a DHCPv6 client", udp6(546), false),
        ("to a DHCPv6 server", udp6(547), false),
        ("cut off, IPv4", cut(udp4(53)), false),
        ("cut off, IPv6", cut(udp6(53)), false),
        ("not to be fragmented", fragment(0x4000), true),
        ("more fragments", fragment(0x2000), false),
        ("a later fragment", fragment(0x0001), false),
        ("IPv4 options", changed(0, 0x46), false),
        ("shorter than its header", changed(3, 19), false),
        ("ICMP", changed(9, ICMP), false),
        ("a checksum that is wrong", unsummed, false),
        ("to the bridge", to_bridge(tcp4(MAC_A, IP_A)), false),
    ];
    for (name, frame, expect) in cases {
        assert_eq!(passes_at_a_glance(Frame::new(frame), &slot), *expect, "{name}");
    }
    for lacking in [flags::GRANTED, flags::EXACT_V4, flags::EXACT_V6] {
        let slot = PortSlot { flags: exact() & !lacking, ..slot };
        for (name, frame, _) in &cases[..4] {
            let (v4, v6) = (frame[12] == 0x08, frame[12] == 0x86);
            let expect = lacking == flags::EXACT_V6 && v4 || lacking == flags::EXACT_V4 && v6;
            assert_eq!(passes_at_a_glance(Frame::new(frame), &slot), expect, "{name}");
        }
    }
}

/// The same identity in the maps instead of the slot has the same verdicts.
#[test]
fn one_identity_listed() {
    let slot = PortSlot {
        flags: flags::GRANTED | flags::MORE_GRANTS,
        mac: Mac([2, 0, 0, 0, 0, 1]),
        ..port_a()
    };
    let listed = |vlan| {
        Listed::default()
            .mac(MAC_A, vlan, 0)
            .address(MAC_A, vlan, mapped(IP_A).bytes())
            .address(MAC_A, vlan, IP6_A)
    };
    for (name, frame, expect) in table() {
        // The slot's own MAC is another here, so that a wrong VLAN is no near miss.
        let expect = if expect == VlanNotGranted { MacNotGranted } else { expect };
        assert_eq!(judged(&slot, &listed(0), MetaTag::default(), &frame), expect, "{name}");
    }
    let metadata = MetaTag::of(0x8100, 0xa007);
    let plain = tcp4(MAC_A, IP_A);
    assert_eq!(judged(&slot, &listed(7), metadata, &plain), Granted);
    assert_eq!(judged(&slot, &listed(7), MetaTag::default(), &tagged(7)), Granted);
    assert_eq!(judged(&slot, &listed(7), MetaTag::default(), &plain), MacNotGranted);
}

#[test]
fn a_port_not_in_force_is_mute() {
    let pending = PortSlot { flags: flags::V4 | flags::V6, ..port_a() };
    let isolated = PortSlot { flags: port_a().flags | flags::ISOLATED, ..port_a() };
    let none = Listed::default();
    for (name, frame, _) in table() {
        assert_eq!(judged(&pending, &none, MetaTag::default(), &frame), PortPending, "{name}");
        assert_eq!(judged(&isolated, &none, MetaTag::default(), &frame), PortIsolated, "{name}");
    }
    // What cannot be read is not judged before it has been pulled.
    assert_eq!(judged(&pending, &none, MetaTag::default(), &[0; 13]), Truncated);
    assert_eq!(judged(&isolated, &none, MetaTag::default(), &[0; 13]), PortIsolated);
}

/// To the sandbox goes what is its own, at any address, and no role's; an exact copy of the slot that is
/// merely isolated lets nothing through.
#[test]
fn a_sandboxed_port_speaks_under_its_own_mac() {
    let any = flags::V4 | flags::V6;
    let sandboxed = PortSlot {
        flags: any | flags::ISOLATED | flags::SANDBOXED,
        v4: [0; 4],
        v4_mask: [0; 4],
        v6: v6([0; 16]),
        v6_mask: v6([0; 16]),
        ..port_a()
    };
    let isolated = PortSlot { flags: any | flags::ISOLATED, ..sandboxed };
    let free = PortSlot { flags: any | flags::GRANTED, ..sandboxed };
    let none = Listed::default();
    for (name, frame, exact) in table() {
        let expect = judged(&free, &none, MetaTag::default(), &frame);
        assert_eq!(judged(&sandboxed, &none, MetaTag::default(), &frame), expect, "{name}");
        assert_eq!(judged(&isolated, &none, MetaTag::default(), &frame), PortIsolated, "{name}");
        assert!(exact != MacNotGranted || expect == MacNotGranted, "{name}");
        let mut claim = Claim::default();
        let plain =
            vet_plain(Frame::new(&frame), MetaTag::default(), &sandboxed, &none, &mut claim);
        assert_eq!(plain, None, "{name}: nothing of it passes at first sight");
    }
    let second = PortSlot { flags: sandboxed.flags | flags::MORE_GRANTS, ..sandboxed };
    let listed = Listed::default().mac(MAC_B, 0, any);
    let frame = tcp4(MAC_B, IP_B);
    assert_eq!(judged(&second, &listed, MetaTag::default(), &frame), Granted);
}

#[test]
fn families_and_masks() {
    let with = |flags, v4_mask, prefix: u8| {
        let mut mask = [0; 16];
        mask[..usize::from(prefix) / 8].fill(255);
        let masked = |bytes: [u8; 16]| std::array::from_fn(|i| bytes[i] & mask[i]);
        PortSlot {
            flags: flags::GRANTED | flags,
            v4: std::array::from_fn(|i| IP_A[i] & [v4_mask; 4][i]),
            v4_mask: [v4_mask; 4],
            v6: v6(masked(IP6_A)),
            v6_mask: v6(mask),
            ..port_a()
        }
    };
    let cases: &[(&str, PortSlot, [Reason; 5])] = &[
        // IPv4 A, IPv4 B, IPv6 A, IPv6 B, link-local A
        ("none", with(0, 255, 128), [Ipv4Source, Ipv4Source, Ipv6Source, Ipv6Source, Granted]),
        ("any", with(flags::V4 | flags::V6, 0, 0), [Granted; 5]),
        ("any IPv4", with(flags::V4, 0, 0), [Granted, Granted, Ipv6Source, Ipv6Source, Granted]),
        ("a /64", with(flags::V6, 0, 64), [Ipv4Source, Ipv4Source, Granted, Granted, Granted]),
        ("a /128", with(flags::V6, 0, 128), [Ipv4Source, Ipv4Source, Granted, Ipv6Source, Granted]),
    ];
    for (name, slot, expect) in cases {
        let reasons = [
            tcp4(MAC_A, IP_A),
            tcp4(MAC_A, IP_B),
            tcp6(MAC_A, IP6_A),
            tcp6(MAC_A, IP6_B),
            tcp6(MAC_A, LOCAL_A),
        ]
        .map(|frame| judged(slot, &Listed::default(), MetaTag::default(), &frame));
        assert_eq!(reasons, *expect, "{name}");
    }
}

#[test]
fn roles() {
    let reply = from_a(0x0800, &ipv4(IP_A, UDP, &udp(67, 68, &dhcp(2, MAC_B))));
    let advertisement = icmp6(LOCAL_A, &icmpv6(134, 0, &[0; 12]));
    let stolen = from_a(0x0800, &ipv4(IP_B, UDP, &udp(67, 68, &dhcp(2, MAC_B))));
    let cases: &[(u32, [Reason; 3])] = &[
        (0, [DhcpServerRole, RouterRole, DhcpServerRole]),
        (flags::DHCP_SERVER, [Granted, RouterRole, Ipv4Source]),
        (flags::VRRP, [DhcpServerRole, RouterRole, DhcpServerRole]),
        (flags::ROUTER, [DhcpServerRole, Granted, DhcpServerRole]),
    ];
    for &(role, expect) in cases {
        let inline = PortSlot { flags: port_a().flags | role, ..port_a() };
        let slot =
            PortSlot { flags: flags::GRANTED | flags::MORE_GRANTS, mac: Mac::ZERO, ..port_a() };
        let listed = Listed::default().mac(MAC_A, 0, role).address(MAC_A, 0, mapped(IP_A).bytes());
        for (frame, expect) in [&reply, &advertisement, &stolen].into_iter().zip(expect) {
            assert_eq!(judged(&inline, &Listed::default(), MetaTag::default(), frame), expect);
            assert_eq!(judged(&slot, &listed, MetaTag::default(), frame), expect);
        }
    }
}

/// A virtual router has its NIC's addresses and VLAN, and nothing else.
#[test]
fn virtual_routers() {
    let slot = PortSlot { flags: port_a().flags | flags::VRRP | flags::VIRTUAL_MACS, ..port_a() };
    let on_vlan =
        |vlan| ethernet(MAC_B, MAC_VIRTUAL, &[(0x8100, vlan)], 0x0800, &ipv4(IP_A, TCP, &[0; 20]));
    let cases = [
        ("its own", tcp4(MAC_A, IP_A), Granted),
        ("VRRP", from_a(0x0800, &ipv4(IP_A, VRRP, &[0; 8])), Granted),
        ("under the virtual MAC", tcp4(MAC_VIRTUAL, IP_A), Granted),
        ("over IPv6", tcp6([0, 0, 0x5e, 0, 2, 1], IP6_A), Granted),
        ("another address", tcp4(MAC_VIRTUAL, IP_B), Ipv4Source),
        ("the virtual MAC's link-local", tcp6(MAC_VIRTUAL, v6_local(MAC_VIRTUAL)), Ipv6Source),
        ("another VLAN", on_vlan(7), VlanNotGranted),
        ("another MAC", tcp4(MAC_B, IP_A), MacNotGranted),
        ("nearly virtual", tcp4([0, 0, 0x5e, 0, 3, 1], IP_A), MacNotGranted),
        ("an answer for it", from_a(0x0806, &arp(2, MAC_VIRTUAL, IP_A)), Granted),
        ("an answer for another", from_a(0x0806, &arp(2, MAC_B, IP_A)), ArpSenderMac),
    ];
    check(&slot, &Listed::default(), &cases);
    let listed =
        PortSlot { flags: flags::GRANTED | flags::MORE_GRANTS | flags::VIRTUAL_MACS, ..slot };
    let more = Listed::default()
        .mac(MAC_A, 0, flags::VRRP)
        .address(MAC_A, 0, mapped(IP_A).bytes())
        .address(MAC_A, 0, IP6_A);
    check(&listed, &more, &cases);
    // The role is the identity's, not the port's.
    let without = Listed::default().mac(MAC_A, 0, 0).address(MAC_A, 0, mapped(IP_A).bytes());
    check(&listed, &without, &[("no role", tcp4(MAC_VIRTUAL, IP_A), VrrpRole)]);
}

fn v6_local(mac: [u8; 6]) -> [u8; 16] {
    Station::new(Mac(mac), 0).link_local().bytes()
}

/// Several identities on one port, and never one of them by halves.
#[test]
fn more_identities() {
    let slot =
        PortSlot { flags: port_a().flags | flags::MORE_GRANTS | flags::MORE_PREFIXES, ..port_a() };
    let more = Listed::default()
        .mac(MAC_A, 0, 0)
        .mac(MAC_B, 0, flags::V4)
        .mac(MAC_A, 5, 0)
        .address(MAC_A, 5, mapped(IP_B).bytes())
        .prefix(MAC_B, 0, IP6_B, 8)
        .prefix(MAC_A, 0, mapped([198, 51, 100, 0]).bytes(), 15);
    let on_vlan = |vlan, source| {
        ethernet(MAC_B, MAC_A, &[(0x8100, vlan)], 0x0800, &ipv4(source, TCP, &[0; 20]))
    };
    check(
        &slot,
        &more,
        &[
            ("inline", tcp4(MAC_A, IP_A), Granted),
            ("prefix of the inline MAC", tcp4(MAC_A, [198, 51, 100, 9]), Granted),
            ("beyond it", tcp4(MAC_A, [198, 51, 101, 9]), Ipv4Source),
            ("second MAC, any IPv4", tcp4(MAC_B, IP_A), Granted),
            ("second MAC, its prefix", tcp6(MAC_B, IP6_A), Granted),
            ("second MAC, link-local", tcp6(MAC_B, LOCAL_B), Granted),
            ("second MAC, the first's link-local", tcp6(MAC_B, LOCAL_A), Ipv6Source),
            ("first MAC, the second's prefix", tcp6(MAC_A, IP6_B), Ipv6Source),
            ("second VLAN, its address", on_vlan(5, IP_B), Granted),
            ("second VLAN, the first's address", on_vlan(5, IP_A), Ipv4Source),
            ("first VLAN, the second's address", tcp4(MAC_A, IP_B), Ipv4Source),
            ("third VLAN", on_vlan(6, IP_A), VlanNotGranted),
            ("third MAC", tcp4([2, 0, 0, 0, 0, 3], IP_A), MacNotGranted),
        ],
    );
}

/// A port that learns has what its owner's entry says, within what is granted.
#[test]
fn learned_addresses() {
    let inline = PortSlot { flags: flags::GRANTED | flags::LEARNS, ..port_a() };
    let more = flags::MORE_GRANTS | flags::MORE_PREFIXES;
    let slot = PortSlot { flags: inline.flags | more, ..port_a() };
    let bounded = Listed::default()
        .mac(MAC_A, 0, flags::LEARNS)
        .address(MAC_A, 0, mapped(IP_A).bytes())
        .address(MAC_A, 0, IP6_A)
        .prefix(MAC_A, 0, LOCAL_B, 8);
    let anywhere = Listed::default().mac(MAC_A, 0, flags::LEARNS | flags::V4 | flags::V6);
    let other_local = v6(LOCAL_B).bytes();
    let solicitation = |target| icmp6(ANY6, &neighbour(135, target, &[]));
    /// A frame, the addresses that are asked for until one is refused, and what comes of it when
    /// they are within bounds and when not.
    type Case = (&'static str, Vec<u8>, Vec<Address>, Reason);
    let cases: Vec<Case> = vec![
        ("a lease", tcp4(MAC_A, IP_A), vec![mapped(IP_A)], Granted),
        ("beyond", tcp4(MAC_A, IP_B), vec![mapped(IP_B)], Ipv4Source),
        ("ARP", from_a(0x0806, &arp(1, MAC_A, IP_A)), vec![mapped(IP_A)], Granted),
        ("ARP beyond", from_a(0x0806, &arp(2, MAC_A, IP_B)), vec![mapped(IP_B)], ArpSenderAddress),
        ("a probe", from_a(0x0806, &arp(1, MAC_A, ANY)), vec![], Granted),
        ("IPv6", tcp6(MAC_A, IP6_A), vec![v6(IP6_A)], Granted),
        ("IPv6 beyond", tcp6(MAC_A, IP6_B), vec![v6(IP6_B)], Ipv6Source),
        ("its link-local", tcp6(MAC_A, LOCAL_A), vec![], Granted),
        ("another link-local", tcp6(MAC_A, other_local), vec![v6(LOCAL_B)], Granted),
        ("duplicate detection", solicitation(IP6_A), vec![v6(IP6_A)], Granted),
        ("of what is beyond", solicitation(IP6_B), vec![v6(IP6_B)], NdTarget),
        (
            "an advertisement",
            icmp6(LOCAL_B, &neighbour(136, IP6_A, &[])),
            vec![v6(LOCAL_B), v6(IP6_A)],
            Granted,
        ),
        (
            "a server",
            from_a(0x0800, &ipv4(IP_A, UDP, &udp(67, 68, &[0; 240]))),
            vec![],
            DhcpServerRole,
        ),
    ];
    for (name, frame, addresses, within) in &cases {
        let role = *within == DhcpServerRole;
        let first = if role || addresses.is_empty() { *within } else { AddressNotLeased };
        for (slot, more) in [(&inline, &Listed::default()), (&slot, &anywhere)] {
            let reason = judged(slot, more, MetaTag::default(), frame);
            // An entry of the map says it of all its claims.
            assert!(
                reason == first || (addresses.is_empty() && reason == AddressNotLeased),
                "{name}"
            );
            assert_eq!(
                settled(slot, more, frame, &[]),
                (if role { *within } else { Granted }, addresses.clone()),
                "{name}"
            );
            for (number, refused) in addresses.iter().enumerate() {
                let (reason, asked) = settled(slot, more, frame, &[*refused]);
                assert_eq!((reason, &asked[..]), (AddressTaken, &addresses[..=number]), "{name}");
            }
        }
        assert_eq!(settled(&slot, &bounded, frame, &[]).0, *within, "{name}");
    }
    // Who does not learn is not asked about.
    let exact = Listed::default().mac(MAC_A, 0, 0).address(MAC_A, 0, mapped(IP_A).bytes());
    assert_eq!(settled(&slot, &exact, &tcp4(MAC_A, IP_A), &[mapped(IP_A)]), (Granted, vec![]));
    assert_eq!(settled(&slot, &exact, &tcp4(MAC_A, IP_B), &[]), (Ipv4Source, vec![]));
}

/// The last word where some addresses are another's, and the addresses that were asked for.
fn settled(
    slot: &PortSlot,
    more: &Listed,
    frame: &[u8],
    taken: &[Address],
) -> (Reason, Vec<Address>) {
    let asked = std::cell::RefCell::new(Vec::new());
    let mut claim = Claim::default();
    let reason = vet(Frame::new(frame), MetaTag::default(), slot, more, &mut claim);
    if reason != AddressNotLeased {
        return (reason, vec![]);
    }
    let reason = settle(&mut claim, |station, address| {
        assert_eq!(station, Station::new(Mac(MAC_A), 0));
        asked.borrow_mut().push(address);
        if taken.contains(&address) { AddressTaken } else { Granted }
    });
    let asked = asked.into_inner();
    if !reason.passes() {
        assert_eq!(Some(&claim.source), asked.last(), "the record names another address");
    }
    (reason, asked)
}

mod fuzz;
