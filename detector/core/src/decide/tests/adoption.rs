//! Guests that spoke before their ports were guarded: what is believed of them, and for how long.

use std::{net::IpAddr, time::Duration};

use detector_common::{learned::Origin, port::flags, settings::Mode};

use crate::{
    model::{AddressRule, KnownLease, Neighbour, PowerState},
    reconcile::{Action, SeedEntry, mapped},
    testing::{BRIDGE, Lab, MINUTE},
};

const DAY: u32 = 24 * 60 * 60;

/// Three VMs that learn by the rule; the ports of the first two are adopted.
fn lab(mode: Mode, rule: AddressRule) -> Lab {
    let mut lab = Lab::with_vms(mode, 3);
    (1..=3).for_each(|n| lab.nic(n).rule = Some(rule));
    lab.world.adoption.ports = [Lab::port(1), Lab::port(2)].into();
    lab.world.adoption.since = lab.world.now;
    lab
}

fn neighbour(n: u8, vlan: u16, address: &str) -> Neighbour {
    Neighbour { bridge: BRIDGE, vlan, mac: Lab::mac(n), address: address.parse().unwrap() }
}

fn taught(actions: &[Action]) -> Vec<SeedEntry> {
    let seeds = actions.iter().filter_map(|action| match action {
        Action::Teach { seeds, .. } => Some(seeds.clone()),
        _ => None,
    });
    seeds.flatten().collect()
}

/// What the ports of a lab are taught in the end.
fn seeds(lab: &mut Lab) -> Vec<(u8, String)> {
    let seeds = taught(&lab.settle().1);
    let text = |seed: &SeedEntry| std::net::Ipv6Addr::from(seed.address).to_canonical().to_string();
    seeds.iter().map(|seed| (seed.mac[5], text(seed))).collect()
}

#[test]
fn the_neighbours_of_adopted_ports_are_believed() {
    /// A name, what is different, and what is taught to whom.
    type Case = (&'static str, fn(&mut Lab), &'static [(u8, &'static str)]);
    let cases: [Case; 10] = [
        ("its own", |_| {}, &[(1, "192.0.2.1")]),
        ("not wanted", |lab| lab.world.policy.adoption.neighbours = false, &[]),
        ("of a later port", |lab| lab.world.adoption.ports = [Lab::port(2)].into(), &[]),
        ("long ago", |lab| lab.pass(Duration::from_secs(DAY.into())), &[]),
        ("on another bridge", |lab| lab.world.adoption.neighbours[0].bridge += 1, &[]),
        ("nobody's", |lab| lab.world.adoption.neighbours[0].address = [127, 0, 0, 1].into(), &[]),
        (
            "outside of its bounds",
            |lab| lab.nic(1).addresses = vec!["198.51.100.0/24".parse().unwrap()],
            &[],
        ),
        (
            "another's too",
            |lab| lab.world.adoption.neighbours.push(neighbour(2, 7, "192.0.2.1")),
            &[],
        ),
        (
            "by a VLAN device, where the bridge puts the VLAN on what it sends",
            |lab| lab.world.adoption.neighbours[0].vlan = 7,
            &[(1, "192.0.2.1")],
        ),
        (
            "leased to another",
            |lab| {
                let lease = KnownLease {
                    mac: Lab::mac(9),
                    vlan: 0,
                    bridge: None,
                    address: "192.0.2.1".parse().unwrap(),
                    expires: None,
                    from_file: true,
                };
                lab.world.leases.push(lease);
            },
            &[],
        ),
    ];
    for rule in [AddressRule::Dhcp, AddressRule::FirstCome] {
        for (name, change, expect) in cases {
            let mut lab = lab(Mode::Enforce, rule);
            lab.world.adoption.neighbours = vec![neighbour(1, 0, "192.0.2.1")];
            change(&mut lab);
            let expect: Vec<_> = expect.iter().map(|(n, text)| (*n, (*text).to_owned())).collect();
            assert_eq!(seeds(&mut lab), expect, "{name}, {rule:?}");
        }
    }
}

#[test]
fn what_is_adopted_is_bounded_and_ends_and_a_lease_comes_before_it() {
    let mut lab = lab(Mode::Enforce, AddressRule::Dhcp);
    lab.world.adoption.neighbours =
        (1..=20).map(|last| neighbour(1, 0, &format!("192.0.2.{last}"))).collect();
    let end = lab.world.now + Duration::from_secs(DAY.into());
    lab.pass(MINUTE);
    let expires = Some(lab.world.now + MINUTE);
    let leased: IpAddr = "192.0.2.3".parse().unwrap();
    let lease = KnownLease {
        mac: Lab::mac(1),
        vlan: 0,
        bridge: None,
        address: leased,
        expires,
        from_file: true,
    };
    lab.world.leases = vec![lease];
    let seeds = taught(&lab.settle().1);
    // One of the eight is leased.
    assert_eq!(seeds.len(), 8);
    for seed in seeds {
        let is_leased = seed.address == mapped(leased).bytes();
        let origin = if is_leased { Origin::LeaseFile } else { Origin::Neighbour };
        assert_eq!(seed.origin, origin as u32);
        assert_eq!(seed.expires, if is_leased { expires } else { Some(end) });
    }
}

/// Two that share a bridge: what the one has is known before the other may speak.
#[test]
fn ports_are_taught_before_any_of_them_speaks() {
    let mut lab = lab(Mode::Enforce, AddressRule::FirstCome);
    lab.world.adoption.neighbours = vec![neighbour(2, 0, "192.0.2.2")];
    let (_, actions) = lab.settle();
    let at = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).unwrap();
    let speaks = |action: &Action| matches!(action, Action::WriteSlot { slot, .. } if slot.flags & flags::GRANTED != 0);
    assert!(at(|action| matches!(action, Action::Teach { .. })) < at(speaks));
}

/// Whether the slot of a port lends addresses, and whether to a guest that has arrived.
fn lends(lab: &Lab, n: u8) -> Option<(u32, bool)> {
    let slot = lab.kernel.slot(Lab::port(n));
    (slot.lends() != 0).then(|| (slot.lends(), slot.has(flags::ARRIVED)))
}

#[test]
fn adopted_ports_are_lent_addresses_while_frames_are_observed() {
    let mut lab = lab(Mode::Observe, AddressRule::Dhcp);
    lab.settle();
    assert_eq!([1, 2, 3].map(|n| lends(&lab, n)), [Some((DAY, false)), Some((DAY, false)), None]);
    lab.world.policy.adoption.observed = false;
    lab.settle();
    assert_eq!(lends(&lab, 1), None);
    lab.world.policy.adoption.observed = true;
    lab.switch(Mode::Enforce);
    lab.settle();
    assert_eq!(lends(&lab, 1), None);
    // Who claims first has it anyway.
    lab.switch(Mode::Observe);
    lab.nic(1).rule = Some(AddressRule::FirstCome);
    lab.settle();
    assert_eq!(lends(&lab, 1), None);
}

#[test]
fn a_vm_from_another_host_is_lent_addresses_for_its_first_words() {
    let mut lab = lab(Mode::Enforce, AddressRule::Dhcp);
    lab.vm(3).power = PowerState::InTransit;
    lab.settle();
    assert_eq!(lends(&lab, 3), None, "one that leaves");
    lab.world.adoption.arrivals.insert(Lab::uuid(3), lab.world.now);
    lab.settle();
    assert_eq!([1, 3].map(|n| lends(&lab, n)), [None, Some((DAY, true))]);
    // However long the way takes.
    for _ in 0..10 {
        lab.pass(MINUTE);
        let now = lab.world.now;
        lab.world.adoption.keep_up(now, |vm| vm == Lab::uuid(3));
    }
    lab.vm(3).power = PowerState::Running;
    lab.settle();
    assert_eq!(lends(&lab, 3), Some((DAY, true)));
    lab.pass(MINUTE);
    let now = lab.world.now;
    lab.world.adoption.keep_up(now, |_| false);
    lab.settle();
    assert_eq!(lends(&lab, 3), None);
    assert!(lab.world.adoption.arrivals.is_empty());
}
