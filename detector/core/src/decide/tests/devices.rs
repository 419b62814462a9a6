//! Devices that macvtaps are on.

use std::collections::BTreeSet;

use detector_common::{addr::Mac, settings::Mode};

use crate::{
    decide::Decision,
    model::{FindingKind, LinkKind},
    reconcile::{DevicePlan, InterfacePlan},
    testing::{BRIDGE, DEVICE, Lab},
};

fn plan(decision: &Decision) -> Option<&DevicePlan> {
    match &decision.desired.interfaces.get(&DEVICE)?.1 {
        InterfacePlan::Device(plan) => Some(plan),
        _ => None,
    }
}

/// Puts something on an interface.
fn put_on(lab: &mut Lab, below: u32, (ifindex, name, kind): (u32, &str, LinkKind), mac: u8) {
    lab.link(ifindex, name, kind, None);
    let link = lab.world.links.get_mut(&ifindex).unwrap();
    (link.lower, link.mac) = (Some(below), Some(Lab::mac(mac)));
}

#[test]
fn a_device_is_one_while_a_guest_is_on_it() {
    type Change = fn(&mut Lab);
    let cases: [(&str, Change, Option<bool>); 5] = [
        ("a physical one", |_| (), Some(true)),
        ("a bond", |lab| lab.link(DEVICE, "bond0", LinkKind::Other, None), Some(false)),
        (
            "one that is named",
            |lab| {
                lab.link(DEVICE, "bond0", LinkKind::Other, None);
                lab.world.policy.trusted = vec!["bond*".to_owned()];
            },
            Some(true),
        ),
        ("nobody's macvtap", |lab| lab.world.policy.bridges.push("!vnet1".to_owned()), None),
        ("one that has it to itself", |lab| lab.macvtap(1, LinkKind::MacvtapPassthrough), None),
    ];
    for (name, change, trusted) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.macvtap(1, LinkKind::Macvtap);
        change(&mut lab);
        let decision = lab.decide();
        let expect = trusted.map(|trusted| DevicePlan { trusted, senders: None });
        assert_eq!(plan(&decision).cloned(), expect, "{name}");
    }
}

/// What comes back from outside by design is not defended; what else is on a device is, and on a bridge.
#[test]
fn a_macvtaps_mac_is_defended_unless_it_is_reflected() {
    for (kind, defended) in [(LinkKind::Macvtap, true), (LinkKind::MacvtapVepa, false)] {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.macvtap(1, kind);
        lab.settle();
        let held = &lab.kernel.state.interfaces[&Lab::port(1)];
        let expect: BTreeSet<_> = defended.then_some((Lab::mac(1), 0)).into_iter().collect();
        assert_eq!(held.defended, expect, "{kind:?}");
    }
}

#[test]
fn who_is_known_on_a_closed_device() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.macvtap(1, LinkKind::Macvtap);
    lab.world.links.get_mut(&DEVICE).unwrap().mac = Some(Lab::mac(40));
    put_on(&mut lab, DEVICE, (81, "vlan7", LinkKind::Other), 41);
    put_on(&mut lab, 81, (82, "mv0", LinkKind::Other), 42);
    put_on(&mut lab, DEVICE, (83, "macvtap9", LinkKind::Macvtap), 43);
    put_on(&mut lab, DEVICE, (84, "macvtap8", LinkKind::MacvtapVepa), 44);
    put_on(&mut lab, 99, (85, "elsewhere", LinkKind::Other), 45);
    lab.world.policy.known_senders = vec![Lab::mac(46)];
    assert_eq!(plan(&lab.decide()).unwrap().senders, None, "unless it is asked for");

    lab.world.policy.closed_devices = vec!["eth*".to_owned()];
    let known: BTreeSet<Mac> = [40, 41, 42, 46].map(Lab::mac).into();
    assert_eq!(plan(&lab.decide()).unwrap().senders, Some(known));

    // A bridge on it speaks under any MAC.
    lab.world.links.get_mut(&82).unwrap().master = Some(BRIDGE);
    let decision = lab.decide();
    assert_eq!(plan(&decision).unwrap().senders, None);
    let told = |kind| decision.findings.iter().any(|finding| finding.key.kind == kind);
    assert!(told(FindingKind::EnforcementImpaired), "{:#?}", decision.findings);
}
