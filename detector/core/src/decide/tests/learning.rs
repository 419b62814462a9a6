//! Ports that learn addresses: what they know at the start, what nobody may learn, what is told.

use std::net::IpAddr;

use detector_common::{
    addr::Address,
    learned::{Origin, OwnerKey},
    port::flags,
    reason::Reason,
    settings::Mode,
};

use crate::{
    decide::Decision,
    model::{AddressRule, FindingKind, KnownLease, Learned, LinkKind},
    reconcile::{Action, SeedEntry},
    testing::{BRIDGE, Lab, MINUTE, UPLINK},
};

fn lab() -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 3);
    lab.nic(1).rule = Some(AddressRule::Dhcp);
    lab.nic(2).addresses = vec!["192.0.2.2/24".parse().unwrap(), "2001:db8::2/64".parse().unwrap()];
    lab.world.addresses = ["192.0.2.1", "127.0.0.1", "::1"].map(|one| one.parse().unwrap()).into();
    lab.world.policy.protected = vec!["192.0.2.254".parse().unwrap()];
    lab
}

fn lease(lab: &Lab, address: &str, seconds: i64) -> KnownLease {
    let at = lab.world.now.0.checked_add_signed(seconds * 1000).unwrap();
    KnownLease {
        mac: Lab::mac(1),
        vlan: 0,
        bridge: None,
        address: address.parse().unwrap(),
        expires: Some(crate::model::Timestamp(at)),
        from_file: false,
    }
}

fn taught(actions: &[Action]) -> Vec<SeedEntry> {
    let seeds = actions.iter().filter_map(|action| match action {
        Action::Teach { seeds, .. } => Some(seeds.clone()),
        _ => None,
    });
    seeds.flatten().collect()
}

#[test]
fn living_leases_of_the_nic_come_with_its_grant() {
    let mut lab = lab();
    let good = lease(&lab, "192.0.2.10", 60);
    lab.world.leases = vec![
        good.clone(),
        KnownLease { from_file: true, ..good.clone() },
        lease(&lab, "192.0.2.11", 0),
        KnownLease { mac: Lab::mac(2), ..lease(&lab, "192.0.2.12", 60) },
        KnownLease { vlan: 5, ..lease(&lab, "192.0.2.13", 60) },
        KnownLease { bridge: Some("br9".to_owned()), ..lease(&lab, "192.0.2.14", 60) },
        KnownLease {
            bridge: Some("br0".to_owned()),
            expires: None,
            ..lease(&lab, "2001:db8::10", 0)
        },
        lease(&lab, "127.0.0.1", 60),
    ];
    let (_, actions) = lab.settle();
    let seeds = taught(&actions);
    let told: Vec<_> = seeds.iter().map(|seed| (seed.address, seed.origin, seed.expires)).collect();
    let v6 = Address::from("2001:db8::10".parse::<std::net::Ipv6Addr>().unwrap());
    assert_eq!(
        told,
        [
            (v6.bytes(), Origin::Restored as u32, None),
            (Address::mapped([192, 0, 2, 10]).bytes(), Origin::LeaseFile as u32, good.expires),
        ]
    );
    assert!(seeds.iter().all(|seed| seed.scope == BRIDGE && seed.mac == Lab::mac(1).0));
    assert_eq!(lab.kernel.slot(Lab::port(1)).scope(), BRIDGE);

    // Once only: what the port has from then on the kernel knows better.
    lab.world.leases.push(lease(&lab, "192.0.2.15", 60));
    lab.nic(1).router = true;
    assert_eq!(taught(&lab.settle().1), []);
    // Another life of it begins anew.
    lab.kernel.forget(Lab::port(1));
    lab.pass(MINUTE * 2);
    assert_eq!(taught(&lab.settle().1).len(), 1, "the one without end");
}

#[test]
fn what_comes_first_needs_no_lease() {
    let mut lab = lab();
    lab.nic(1).rule = Some(AddressRule::FirstCome);
    lab.world.leases = vec![lease(&lab, "192.0.2.10", 60)];
    assert_eq!(taught(&lab.settle().1), []);
    assert!(lab.kernel.slot(Lab::port(1)).has(flags::FIRST_COME));
}

/// Guests on one device are on one network; one whose device is elsewhere has its addresses to itself.
#[test]
fn macvtaps_share_the_addresses_of_their_device() {
    let mut lab = lab();
    for (n, lower) in [(1, Some(UPLINK)), (2, Some(UPLINK)), (3, None)] {
        lab.nic(n).rule = Some(AddressRule::FirstCome);
        let link = lab.world.links.get_mut(&Lab::port(n)).unwrap();
        (link.kind, link.master, link.lower) = (LinkKind::Macvtap, None, lower);
    }
    lab.settle();
    let scopes = [1, 2, 3].map(|n| lab.kernel.slot(Lab::port(n)).scope());
    assert_eq!(scopes, [UPLINK, UPLINK, Lab::port(3)]);
}

fn keys(addresses: &[&str]) -> Vec<OwnerKey> {
    let key = |address: &&str| OwnerKey {
        address: crate::reconcile::mapped(address.parse().unwrap()),
        scope: BRIDGE,
        vlan: 0,
        pad: 0,
    };
    let mut keys: Vec<_> = addresses.iter().map(key).collect();
    keys.sort();
    keys
}

fn protected(decision: &Decision) -> Vec<OwnerKey> {
    decision.desired.protected.iter().copied().collect()
}

#[test]
fn what_is_the_networks_or_anothers_is_protected() {
    let mut lab = lab();
    let all = keys(&["192.0.2.1", "192.0.2.2", "192.0.2.254", "2001:db8::2"]);
    assert_eq!(protected(&lab.settle().0), all);
    // A source that is lost takes nothing away.
    lab.manager().vms.remove(&Lab::uuid(2));
    assert_eq!(protected(&lab.settle().0), all);
    // Where nobody learns nothing is to be protected.
    lab.nic(1).rule = Some(AddressRule::Any);
    lab.nic(3).rule = Some(AddressRule::Any);
    lab.world.observed.protected.clear();
    lab.world.links.remove(&Lab::port(2));
    assert_eq!(protected(&lab.settle().0), []);
}

/// Unless it may be the gateway itself.
#[test]
fn the_hosts_gateways_are_protected() {
    let mut lab = lab();
    let before = protected(&lab.settle().0);
    lab.world.gateways = ["192.0.2.253", "fe80::fe"].map(|one| one.parse().unwrap()).into();
    let gateways = keys(&["192.0.2.253", "fe80::fe"]);
    let mut all = [before.clone(), gateways].concat();
    all.sort();
    assert_eq!(protected(&lab.settle().0), all);
    // A router that has its address by the rule of another is none that learns it.
    lab.nic(2).router = true;
    assert_eq!(protected(&lab.settle().0), all);
    lab.nic(1).router = true;
    assert_eq!(protected(&lab.settle().0), before);
    lab.nic(1).router = false;
    assert_eq!(protected(&lab.settle().0), all);
    lab.world.gateways.clear();
    assert_eq!(protected(&lab.settle().0), before, "the route is gone");
}

#[test]
fn findings_name_both_and_close_when_it_is_settled() {
    let mut lab = lab();
    lab.nic(3).rule = Some(AddressRule::FirstCome);
    lab.settle();
    let of = |decision: &Decision, kind| {
        let finding = decision.findings.iter().find(|finding| finding.key.kind == kind);
        finding.map(|finding| format!("{} {:?}", finding.title, finding.evidence))
    };
    let learned = |lab: &Lab, n: u8, address: &str| Learned {
        instance: lab.kernel.slot(Lab::port(n)).instance,
        scope: BRIDGE,
        mac: Lab::mac(n),
        vlan: 0,
        address: address.parse::<IpAddr>().unwrap(),
        origin: Origin::Dhcp,
        since: lab.world.now,
        expires: None,
    };
    lab.sees(3, Lab::mac(3), Some([192, 0, 2, 10]), Reason::AddressTaken);
    lab.sees(3, Lab::mac(3), Some([192, 0, 2, 254]), Reason::AddressTaken);
    lab.sees(3, Lab::mac(3), Some([192, 0, 2, 20]), Reason::LearnedFull);
    lab.sees(1, Lab::mac(1), Some([192, 0, 2, 30]), Reason::AddressNotLeased);
    let owner = learned(&lab, 1, "192.0.2.10");
    lab.world.learned.insert(Lab::port(1), vec![owner]);
    let decision = lab.decide();
    let told = of(&decision, FindingKind::AddressConflict).unwrap();
    for part in ["vnet3", "vnet1", "192.0.2.10", "the network itself", "192.0.2.254"] {
        assert!(told.contains(part), "{part}: {told}");
    }
    assert!(of(&decision, FindingKind::LearnedFull).unwrap().contains("192.0.2.20"));
    assert!(of(&decision, FindingKind::ForeignIdentity).unwrap().contains("192.0.2.30"));

    // What has been leased since is no finding any more.
    let own = learned(&lab, 1, "192.0.2.30");
    lab.world.learned.insert(Lab::port(1), vec![own]);
    assert_eq!(of(&lab.decide(), FindingKind::ForeignIdentity), None);
    lab.pass(MINUTE * 11);
    assert_eq!(of(&lab.decide(), FindingKind::AddressConflict), None);
}
