//! A VM between two hosts, and MACs that come in from outside.

use detector_common::{reason::Reason, settings::Mode};

use crate::{
    model::{FindingKind, PowerState, Subject},
    reconcile::Action,
    testing::{Lab, MINUTE, UPLINK},
};

fn held(lab: &Lab, n: u8) -> (usize, usize) {
    let held = &lab.kernel.state.interfaces[&Lab::port(n)];
    (held.forwarding.len(), held.defended.len())
}

/// On the side that a VM leaves as on the one that it comes to, what is granted stays granted, and
/// the MAC may be anywhere until it is clear where the guest runs.
#[test]
fn a_vm_in_transit_keeps_its_grant_and_defends_nothing() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.settle();
    assert_eq!((held(&lab, 1), held(&lab, 2)), ((1, 1), (1, 1)));
    let slot = lab.kernel.slot(Lab::port(1));

    lab.vm(1).power = PowerState::InTransit;
    let (_, actions) = lab.settle();
    let gives_way = |action: &Action| {
        matches!(action, Action::UnpinForwarding { ifindex, .. } | Action::YieldMac { ifindex, .. }
            if *ifindex == Lab::port(1))
    };
    assert!(actions.len() == 2 && actions.iter().all(gives_way), "{actions:#?}");
    assert_eq!((held(&lab, 1), held(&lab, 2)), ((0, 0), (1, 1)));
    assert_eq!(lab.kernel.slot(Lab::port(1)), slot);

    // It stays after all, or it has arrived.
    lab.vm(1).power = PowerState::Running;
    lab.settle();
    assert_eq!(held(&lab, 1), (1, 1));

    lab.vm(1).power = PowerState::InTransit;
    lab.settle();
    lab.vm(1).power = PowerState::Off;
    lab.settle();
    assert_eq!(held(&lab, 1), (0, 0));
    assert_eq!(lab.kernel.slot(Lab::port(1)).flags, 0, "and it is gone");
}

/// What is kept for want of a verdict gives way all the same: the guest may speak from the other host.
#[test]
fn what_is_kept_in_transit_defends_nothing() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.settle();
    let slot = lab.kernel.slot(Lab::port(1));
    lab.evidence(1, None);
    lab.settle();
    assert_eq!(held(&lab, 1), (1, 1), "kept");
    lab.vm(1).power = PowerState::InTransit;
    lab.settle();
    assert_eq!((held(&lab, 1), lab.kernel.slot(Lab::port(1))), ((0, 0), slot));
}

#[test]
fn a_mac_goes_from_one_port_to_another() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.settle();
    let mac = Lab::mac(1);
    lab.vm(1).power = PowerState::Off;
    lab.nic(2).mac = mac;
    lab.settle();
    assert_eq!(held(&lab, 1), (0, 0));
    let held = &lab.kernel.state.interfaces[&Lab::port(2)];
    assert_eq!(held.defended, [(mac, 0)].into());
}

#[test]
fn a_clone_names_its_victim_until_it_has_been_quiet() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.settle();
    lab.sees_at(UPLINK, Lab::mac(2), Reason::MacOfLocalGuest);
    lab.sees_at(UPLINK, Lab::mac(9), Reason::MacOfLocalGuest);
    lab.sees_at(UPLINK, Lab::mac(1), Reason::Truncated);
    let clones = |lab: &mut Lab| {
        let found = lab.decide().findings.into_iter();
        found.filter(|finding| finding.key.kind == FindingKind::MacClone).collect::<Vec<_>>()
    };
    let found = clones(&mut lab);
    let [victim, unknown] = &found[..] else { panic!("{found:#?}") };
    assert_eq!(victim.key.subject, Subject::Vm(Lab::uuid(2)));
    assert!(victim.title.contains("vm2") && victim.evidence[0].1 == "eth0", "{victim:#?}");
    assert!(matches!(unknown.key.subject, Subject::Port { ifindex: UPLINK, .. }), "{unknown:#?}");
    lab.pass(10 * MINUTE);
    assert_eq!(clones(&mut lab), []);
}
