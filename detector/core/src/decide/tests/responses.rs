//! What the responses of the policy mean for ports.

use std::{sync::Arc, time::Duration};

use detector_common::settings::Mode;

use crate::{
    decide::{
        PortStatus, VmStatus,
        policy::{DEFAULT, Rules},
    },
    model::{AddressRule, FindingKind, Rejected},
    reconcile::{AddressSet, InterfacePlan, LearningRule, PortPlan},
    testing::{Lab, MINUTE, UNKNOWN},
};

const GRACE: &str = "@id(\"some-time\") @grace(\"2m\") \
                     permit (principal, action == Action::\"grace\", resource);\n";
const DHCP: &str = "@id(\"leased\") @rule(\"dhcp\") \
                    permit (principal, action == Action::\"address-rule\", \
                    resource == Network::\"br0\");\n";

fn lab(mode: Mode, rules: &str) -> Lab {
    let mut lab = Lab::with_vms(mode, 2);
    lab.world.rules.rules = Arc::new(Rules::parse(&format!("{rules}{DEFAULT}")).unwrap());
    lab.settle();
    lab
}

/// As the daemon does after each decision.
fn keep(lab: &mut Lab) {
    let decision = lab.decide();
    lab.world.graces.begun =
        decision.vms.iter().filter_map(|(uuid, one)| Some((*uuid, one.grace?.since))).collect();
}

fn status(lab: &mut Lab, n: u8) -> (VmStatus, PortStatus) {
    let decision = lab.decide();
    (decision.vms[&Lab::uuid(n)].status, decision.ports[&Lab::port(n)].status)
}

const SPARED: (VmStatus, PortStatus) = (VmStatus::Denied, PortStatus::Kept);
const CUT_OFF: (VmStatus, PortStatus) = (VmStatus::Quarantined, PortStatus::Isolated);

#[test]
fn a_denied_vm_in_force_has_its_time_and_a_new_one_has_none() {
    let mut lab = lab(Mode::Enforce, GRACE);
    let began = lab.world.now;
    lab.base(1, UNKNOWN);
    lab.add_vm(3);
    lab.base(3, UNKNOWN);
    let (decision, _) = lab.settle();
    keep(&mut lab);
    assert_eq!((status(&mut lab, 1), status(&mut lab, 3)), (SPARED, CUT_OFF));
    assert_eq!(decision.wake_at, Some(began + 2 * MINUTE));
    let told: Vec<_> = decision.findings.iter().map(|one| one.key.kind).collect();
    assert_eq!(told, [FindingKind::RogueVm, FindingKind::RogueVm], "it is told all the same");
    assert!(format!("{decision:?}").contains("keeps what is in force until"));

    // It began with the first denial, and no port of it that is new takes part.
    lab.pass(MINUTE);
    let mut second = lab.nic(1).clone();
    (second.mac, second.port) = (Lab::mac(9), Some("vnet9".to_owned()));
    lab.vm(1).nics.push(second);
    lab.link(Lab::port(9), "vnet9", crate::model::LinkKind::Tap, Some(crate::testing::BRIDGE));
    lab.settle();
    keep(&mut lab);
    assert_eq!(lab.decide().ports[&Lab::port(9)].status, PortStatus::Pending);
    assert_eq!(status(&mut lab, 1), SPARED);
    lab.pass(MINUTE);
    lab.settle();
    assert_eq!((status(&mut lab, 1), status(&mut lab, 2).0), (CUT_OFF, VmStatus::Approved));
}

#[test]
fn a_vm_that_is_started_anew_has_no_time_left() {
    let mut lab = lab(Mode::Enforce, GRACE);
    lab.base(1, UNKNOWN);
    lab.settle();
    keep(&mut lab);
    lab.pass(MINUTE);
    // Another life of its port: nothing of it is in force.
    lab.kernel.forget(Lab::port(1));
    lab.settle();
    assert_eq!(status(&mut lab, 1), CUT_OFF);
}

/// Else every restart of the daemon would begin it anew.
#[test]
fn without_a_record_there_is_no_grace() {
    let mut lab = lab(Mode::Enforce, GRACE);
    let rejected = Rejected { place: "graces.json".to_owned(), why: "damaged".to_owned() };
    lab.world.graces.lost = Some(rejected);
    lab.base(1, UNKNOWN);
    let (decision, _) = lab.settle();
    assert_eq!(status(&mut lab, 1), CUT_OFF);
    let told = decision.findings.iter().any(|one| one.key.kind == FindingKind::EntryRejected);
    assert!(told, "{:?}", decision.findings);
}

#[test]
fn observing_spends_the_time_as_well() {
    let mut lab = lab(Mode::Observe, GRACE);
    lab.base(1, UNKNOWN);
    lab.settle();
    keep(&mut lab);
    assert_eq!(status(&mut lab, 1), SPARED);
    lab.pass(2 * MINUTE + Duration::from_secs(1));
    lab.settle();
    assert_eq!(status(&mut lab, 1), (VmStatus::Denied, PortStatus::Isolated));
}

#[test]
fn the_policys_rule_takes_the_place_of_the_configured_one() {
    let mut lab = lab(Mode::Enforce, DHCP);
    lab.nic(2).addresses = vec!["192.0.2.7/32".parse().unwrap()];
    lab.add_vm(3);
    lab.nic(3).rule = Some(AddressRule::Any);
    let (decision, _) = lab.settle();
    let plan = |n: u8| match &decision.desired.interfaces[&Lab::port(n)].1 {
        InterfacePlan::Guest(PortPlan::Granted(identities)) => identities[0].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(plan(1).learns.map(|learning| learning.rule), Some(LearningRule::Dhcp));
    // What a source says goes before.
    assert!(plan(2).learns.is_none() && plan(2).v4 != AddressSet::Any);
    assert!(plan(3).learns.is_none() && plan(3).v4 == AddressSet::Any);
}
