//! What is in force stays until a verdict takes it away, and is never inherited.

use detector_common::{addr::Mac, port::flags, settings::Mode};

use crate::{
    decide::PortStatus,
    model::{Evidence, FindingKind, LinkKind, PowerState, Unsettled},
    testing::{BRIDGE, Lab, MINUTE, UNKNOWN},
};

const MODES: [Mode; 2] = [Mode::Observe, Mode::Enforce];

/// Invariant 7: no loss of a source takes anything away.
#[test]
fn losing_a_source_changes_nothing() {
    type Case = (&'static str, fn(&mut Lab), PortStatus);
    let cases: &[Case] = &[
        ("the source is lost", Lab::lose, PortStatus::Granted),
        ("one VM is not listed", |lab| drop(lab.manager().vms.pop_first()), PortStatus::Kept),
        ("the inventory is empty", |lab| lab.manager().vms.clear(), PortStatus::Kept),
        ("there is no source", |lab| lab.world.sources.clear(), PortStatus::Kept),
        (
            "the source is lost and has forgotten all",
            |lab| {
                lab.lose();
                lab.manager().vms.clear();
            },
            PortStatus::Kept,
        ),
        (
            "the manifests cannot be read",
            |lab| {
                lab.world.registry.templates.clear();
                lab.world.registry.lost = Some("i/o error".to_owned());
            },
            PortStatus::Kept,
        ),
        (
            "a manifest is not known",
            |lab| {
                lab.world.registry.templates.clear();
                lab.world.registry.incomplete = Some("a.toml: odd".to_owned());
            },
            PortStatus::Kept,
        ),
        (
            "its settings cannot be read",
            |lab| lab.source("inventory.toml").unsettled = Unsettled::Nics([Lab::mac(1)].into()),
            PortStatus::Kept,
        ),
        (
            "whose settings cannot be read is not known",
            |lab| lab.source("inventory.toml").unsettled = Unsettled::Any,
            PortStatus::Kept,
        ),
        (
            "its latest description is refused",
            |lab| lab.manager().outdated = [Lab::uuid(1)].into(),
            PortStatus::Granted,
        ),
        ("the evidence is read anew", |lab| lab.world.evidence.clear(), PortStatus::Kept),
        (
            "its medium cannot be read",
            |lab| lab.evidence(1, Some(Evidence::Unreadable("i/o error".to_owned()))),
            PortStatus::Kept,
        ),
    ];
    for mode in MODES {
        for (name, lose, status) in cases {
            let mut lab = Lab::with_vms(mode, 3);
            lab.nic(1).addresses =
                vec!["192.0.2.1/32".parse().unwrap(), "192.0.2.9/32".parse().unwrap()];
            lab.settle();
            lose(&mut lab);
            lab.pass(MINUTE);
            let (decision, actions) = lab.settle();
            assert_eq!(actions, [], "{name}");
            assert_eq!(decision.ports[&Lab::port(1)].status, *status, "{name}");
        }
    }
}

/// Restrictions that cannot be read must not be left out of a grant.
#[test]
fn a_nic_whose_settings_cannot_be_read_is_granted_nothing_new() {
    for (unsettled, status) in [
        (Unsettled::Any, PortStatus::Pending),
        (Unsettled::Nics([Lab::mac(2)].into()), PortStatus::Pending),
        (Unsettled::Nics([Lab::mac(3)].into()), PortStatus::Granted),
    ] {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        lab.source("inventory.toml").unsettled = unsettled.clone();
        let (decision, _) = lab.settle();
        assert_eq!(decision.ports[&Lab::port(2)].status, status, "{unsettled:?}");
    }
}

/// A manifest that is not known costs its own VMs their start, and nobody else anything.
#[test]
fn an_unknown_manifest_denies_nobody_and_holds_up_nobody_else() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.base(2, UNKNOWN);
    lab.world.registry.incomplete = Some("b.toml: odd".to_owned());
    let (decision, _) = lab.settle();
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted);
    assert_eq!(decision.ports[&Lab::port(2)].status, PortStatus::Pending);
    assert_eq!(lab.world.observed.quarantines.len(), 0);
    lab.world.registry.incomplete = None;
    let (decision, _) = lab.settle();
    assert_eq!(decision.ports[&Lab::port(2)].status, PortStatus::Isolated);
}

#[test]
fn a_lost_source_admits_nothing_new() {
    type Case = (&'static str, fn(&mut Lab));
    let cases: &[Case] = &[
        ("source", Lab::lose),
        ("manifests", |lab| lab.world.registry.lost = Some("i/o error".to_owned())),
    ];
    for (name, lose) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.settle();
        lose(&mut lab);
        lab.add_vm(2);
        let (decision, _) = lab.settle();
        assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted, "{name}");
        assert_eq!(decision.ports[&Lab::port(2)].status, PortStatus::Pending, "{name}");
        let kinds: Vec<_> = decision.findings.iter().map(|finding| finding.key.kind).collect();
        assert_eq!(kinds, [FindingKind::SourceLost], "{name}");
    }
}

#[test]
fn a_vm_that_another_source_lists_too_is_admitted() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.second_opinion(1, |_| ());
    lab.lose();
    let (decision, _) = lab.settle();
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted);
}

/// Invariant 6: a port that is created anew starts from nothing, whatever its name and index.
#[test]
fn nothing_is_inherited() {
    type Case = (&'static str, fn(&mut Lab), PortStatus);
    let cases: &[Case] = &[
        ("its VM is listed", |_| (), PortStatus::Granted),
        ("the source is lost", Lab::lose, PortStatus::Pending),
        ("its VM is not listed", |lab| lab.manager().vms.clear(), PortStatus::Pending),
        ("the source knows no port", |lab| lab.manager().forget_port("vnet1"), PortStatus::Pending),
        (
            "its latest description is refused",
            |lab| lab.manager().outdated = [Lab::uuid(1)].into(),
            PortStatus::Pending,
        ),
        ("the evidence is read anew", |lab| lab.world.evidence.clear(), PortStatus::Pending),
        (
            "its medium cannot be read",
            |lab| lab.evidence(1, Some(Evidence::Unreadable("i/o error".to_owned()))),
            PortStatus::Pending,
        ),
    ];
    for (name, change, status) in cases {
        let mut lab = Lab::with_vms(Mode::Enforce, 1);
        lab.settle();
        let before = lab.kernel.slot(Lab::port(1));
        lab.kernel.forget(Lab::port(1));
        change(&mut lab);
        let (decision, _) = lab.settle();
        let after = lab.kernel.slot(Lab::port(1));
        assert_ne!(before.instance, after.instance, "{name}");
        assert_eq!(decision.ports[&Lab::port(1)].status, *status, "{name}");
        assert_eq!(after.has(flags::GRANTED), *status == PortStatus::Granted, "{name}");
    }
}

/// An index that another guest's interface has now gives it nothing of the one before.
#[test]
fn a_reused_index_inherits_nothing() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.settle();
    lab.kernel.forget(Lab::port(1));
    lab.link(Lab::port(1), "vnet7", LinkKind::Tap, Some(BRIDGE));
    let (decision, _) = lab.settle();
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Pending);
    let slot = lab.kernel.slot(Lab::port(1));
    assert_eq!((slot.flags, slot.mac), (0, Mac::ZERO));
}

/// Only a positive statement takes away what is in force.
#[test]
fn statements_take_away() {
    type Case = (&'static str, fn(&mut Lab), PortStatus);
    let cases: &[Case] = &[
        ("off", |lab| lab.vm(1).power = PowerState::Off, PortStatus::Pending),
        ("another base", |lab| lab.base(1, UNKNOWN), PortStatus::Isolated),
        (
            "another MAC, while its medium is read",
            |lab| {
                lab.nic(1).mac = Lab::mac(8);
                lab.evidence(1, None);
            },
            PortStatus::Pending,
        ),
    ];
    for mode in MODES {
        for (name, change, status) in cases {
            let mut lab = Lab::with_vms(mode, 2);
            lab.settle();
            change(&mut lab);
            let (decision, _) = lab.settle();
            assert_eq!(decision.ports[&Lab::port(1)].status, *status, "{name}");
            assert_eq!(decision.ports[&Lab::port(2)].status, PortStatus::Granted, "{name}");
            assert!(!lab.kernel.slot(Lab::port(1)).has(flags::GRANTED), "{name}");
        }
    }
}
