use detector_common::{
    addr::{Mac, Station},
    port::flags,
};

use crate::{
    reconcile::{AddressSet, Identity, Learning, LearningRule, compile::compile},
    testing::Lab,
};

fn identity(mac: Mac, vlan: u16, v4: Option<&[&str]>, v6: Option<&[&str]>) -> Identity {
    let only = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let only6 = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Identity {
        mac,
        vlan,
        v4: v4.map_or(AddressSet::Any, |texts| AddressSet::Only(only(texts))),
        v6: v6.map_or(AddressSet::Any, |texts| AddressSet::Only(only6(texts))),
        learns: None,
        dhcp_server: false,
        router: true,
        vrrp: false,
    }
}

#[test]
fn one_identity_fits_the_slot() {
    use flags::{GRANTED, ROUTER, V4, V6};
    /// IPv4, IPv6, flags, and the lengths of the two masks.
    type Case = (Option<&'static [&'static str]>, Option<&'static [&'static str]>, u32, [u32; 2]);
    let own = "fe80::5054:ff:fe00:101/128";
    assert_eq!(
        own.parse::<ipnet::Ipv6Net>().unwrap().addr().octets(),
        Station::new(Lab::mac(1), 0).link_local().bytes()
    );
    let cases: &[Case] = &[
        (None, None, V4 | V6, [0, 0]),
        (Some(&[]), Some(&[]), 0, [0, 0]),
        (Some(&["192.0.2.1/32"]), Some(&[]), V4, [32, 0]),
        (Some(&["192.0.2.0/24"]), None, V4 | V6, [24, 0]),
        (None, Some(&["2001:db8::/64"]), V4 | V6, [0, 64]),
        (Some(&[]), Some(&["fe80::5054:ff:fe00:101/128"]), 0, [0, 0]),
        (Some(&[]), Some(&["2001:db8::1/128", "fe80::5054:ff:fe00:101/128"]), V6, [0, 128]),
    ];
    for (v4, v6, expect, [mask4, mask6]) in cases {
        let (slot, entries) = compile(&[identity(Lab::mac(1), 7, *v4, *v6)]);
        assert_eq!(entries, [], "{v4:?} {v6:?}");
        assert_eq!(slot.flags, GRANTED | ROUTER | expect, "{v4:?} {v6:?}");
        assert_eq!((slot.mac, slot.vlan), (Lab::mac(1).0, 7));
        assert_eq!(u32::from_be_bytes(slot.v4_mask).count_ones(), *mask4);
        assert_eq!(u128::from_be_bytes(slot.v6_mask).count_ones(), *mask6);
        assert_eq!(u128::from_be_bytes(slot.v6) & !u128::from_be_bytes(slot.v6_mask), 0);
    }
}

/// A frame may be compared as it lies in memory with what is one address of an untagged station's own
/// MAC, and somebody's.
#[test]
fn what_may_be_compared() {
    use flags::{EXACT_V4, EXACT_V6};
    let a = Lab::mac(1);
    let group = Mac([1, 0, 0x5e, 0, 0, 1]);
    let one: (Option<&[&str]>, Option<&[&str]>) =
        (Some(&["192.0.2.1/32"]), Some(&["2001:db8::1/128"]));
    let cases = [
        (a, 0, one, EXACT_V4 | EXACT_V6),
        (a, 7, one, 0),
        (group, 0, one, 0),
        (Mac::ZERO, 0, one, 0),
        (a, 0, (None, None), 0),
        (a, 0, (Some(&[][..]), Some(&[][..])), 0),
        (a, 0, (Some(&["192.0.2.0/31"][..]), Some(&["2001:db8::/127"][..])), 0),
        (a, 0, (Some(&["0.0.0.0/32"][..]), Some(&["::/128"][..])), 0),
        (a, 0, (Some(&["127.0.0.1/32"][..]), Some(&["::1/128"][..])), 0),
        (a, 0, (Some(&["224.0.0.1/32"][..]), Some(&["ff02::1/128"][..])), 0),
        (a, 0, (Some(&["255.255.255.255/32"][..]), Some(&["::ffff:192.0.2.1/128"][..])), 0),
    ];
    for (mac, vlan, (v4, v6), expect) in cases {
        let (slot, _) = compile(&[identity(mac, vlan, v4, v6)]);
        assert_eq!(slot.flags & (EXACT_V4 | EXACT_V6), expect, "{mac} {vlan} {v4:?} {v6:?}");
    }
}

/// One that learns anywhere fits the slot too; one that is bound is listed.
#[test]
fn learning_is_compiled() {
    use flags::{FIRST_COME, GRANTED, LEARNS, MORE_GRANTS, MORE_PREFIXES, ROUTER, ROUTES};
    let learns = |rule, mut identity: Identity| {
        identity.learns = Some(Learning { scope: 0x0102_0304, ..Learning::new(rule) });
        identity
    };
    let (one, two) = (Lab::mac(1), Lab::mac(2));
    let dhcp = learns(LearningRule::Dhcp, identity(one, 7, None, None));
    let first = learns(LearningRule::FirstCome, identity(two, 0, None, None));
    let (slot, entries) = compile(std::slice::from_ref(&dhcp));
    assert_eq!((slot.flags, entries), (GRANTED | ROUTER | ROUTES | LEARNS, vec![]));
    let host = Identity { router: false, ..dhcp.clone() };
    assert_eq!(compile(&[host]).0.flags, GRANTED | LEARNS);
    assert_eq!(slot.v4, 0x0102_0304_u32.to_ne_bytes());
    let (slot, _) = compile(std::slice::from_ref(&first));
    assert_eq!(slot.flags, GRANTED | ROUTER | ROUTES | LEARNS | FIRST_COME);

    let bound =
        learns(LearningRule::FirstCome, identity(one, 0, Some(&["192.0.2.1/32"]), Some(&[])));
    let (slot, entries) = compile(&[bound]);
    assert_eq!(slot.flags, GRANTED | MORE_GRANTS | MORE_PREFIXES | LEARNS | FIRST_COME | ROUTES);
    let told: Vec<_> = entries.iter().map(|entry| (entry.prefix, entry.flags)).collect();
    assert_eq!(told, [(None, ROUTER | LEARNS), (None, 0), (Some(64), 0)]);

    // On a port with both the stricter rule holds for both.
    let (slot, entries) = compile(&[dhcp, first]);
    assert_eq!(slot.flags, GRANTED | MORE_GRANTS | LEARNS | ROUTES);
    assert!(entries.iter().all(|entry| entry.flags & LEARNS != 0), "{entries:?}");
}

#[test]
fn more_than_one_is_listed() {
    use flags::{GRANTED, MORE_GRANTS, MORE_PREFIXES, ROUTER, V4, V6};
    let (one, two) = (Lab::mac(1), Lab::mac(2));
    let own = "fe80::5054:ff:fe00:101/128";
    let many =
        identity(one, 0, Some(&["192.0.2.1/32", "198.51.100.0/24"]), Some(&["2001:db8::/64", own]));
    let (slot, entries) = compile(&[many]);
    assert_eq!(slot.flags, GRANTED | MORE_GRANTS | MORE_PREFIXES);
    let told: Vec<_> = entries.iter().map(|entry| (entry.prefix, entry.flags)).collect();
    assert_eq!(told, [(None, ROUTER), (None, 0), (Some(120), 0), (Some(64), 0)]);

    let (slot, entries) =
        compile(&[identity(one, 0, None, None), identity(two, 5, Some(&[]), None)]);
    assert_eq!((slot.flags, slot.mac), (GRANTED | MORE_GRANTS, one.0));
    let told: Vec<_> = entries.iter().map(|entry| (entry.mac, entry.vlan, entry.flags)).collect();
    assert_eq!(told, [(one.0, 0, ROUTER | V4 | V6), (two.0, 5, ROUTER | V6)]);
}
