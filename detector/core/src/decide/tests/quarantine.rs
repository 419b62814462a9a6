//! Quarantine: what it reaches, and that it stays.

use detector_common::{
    port::flags,
    quarantine::{Cause, NOTE_BYTES},
    settings::Mode,
};

use crate::{
    decide::{Outcome, PortStatus, VmStatus},
    model::QuarantineTarget,
    reconcile::Action,
    testing::{BASE, Lab, MINUTE, UNKNOWN},
};

/// Invariant 11: a VM that has become what it should be stays quarantined until a person lifts it.
#[test]
fn quarantine_is_sticky() {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.base(1, UNKNOWN);
    let (decision, _) = lab.settle();
    assert_eq!(decision.vms[&Lab::uuid(1)].status, VmStatus::Quarantined);
    let target = QuarantineTarget::Vm(Lab::uuid(1));
    let record = decision.desired.quarantines[&target].clone();
    assert_eq!(record.cause, Cause::Verdict);
    assert!(!record.note.is_empty() && record.note.len() <= NOTE_BYTES);

    lab.base(1, BASE);
    for _ in 0..3 {
        lab.pass(MINUTE);
        let (decision, actions) = lab.settle();
        assert_eq!(actions, []);
        let vm = &decision.vms[&Lab::uuid(1)];
        assert_eq!(vm.status, VmStatus::Quarantined);
        assert!(vm.requirements.iter().all(|one| one.outcome == Outcome::Met));
        assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Isolated);
        assert_eq!(decision.desired.quarantines[&target], record);
    }

    lab.kernel.apply(&Action::LiftQuarantine(target));
    let (decision, _) = lab.settle();
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted);
}

/// In observe mode a denial ends with its reason, and is recorded once the mode is enforce.
#[test]
fn observe_mode_records_nothing() {
    let mut lab = Lab::with_vms(Mode::Observe, 1);
    lab.base(1, UNKNOWN);
    let (decision, _) = lab.settle();
    assert_eq!(decision.vms[&Lab::uuid(1)].status, VmStatus::Denied);
    assert!(lab.kernel.slot(Lab::port(1)).has(flags::ISOLATED));
    assert!(lab.kernel.state.quarantines.is_empty());

    let mut enforced = lab.clone();
    enforced.switch(Mode::Enforce);
    enforced.settle();
    assert_eq!(enforced.kernel.state.quarantines.len(), 1);

    lab.base(1, BASE);
    let (decision, _) = lab.settle();
    assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Granted);
}

#[test]
fn each_target_reaches_its_ports() {
    type Case = (&'static str, fn(&Lab) -> QuarantineTarget, [bool; 3]);
    let cases: &[Case] = &[
        ("port", |lab| lab.port_target(1), [true, false, false]),
        ("mac", |_| QuarantineTarget::Mac(Lab::mac(2)), [false, true, false]),
        ("vm", |_| QuarantineTarget::Vm(Lab::uuid(3)), [false, false, true]),
        ("another", |_| QuarantineTarget::Vm(Lab::uuid(9)), [false, false, false]),
        (
            "an earlier life of the port",
            |_| QuarantineTarget::Port { ifindex: Lab::port(1), instance: 77 },
            [false, false, false],
        ),
    ];
    for mode in [Mode::Observe, Mode::Enforce] {
        for (name, target, isolated) in cases {
            let mut lab = Lab::with_vms(mode, 3);
            lab.settle();
            lab.quarantine(target(&lab));
            let (decision, _) = lab.settle();
            for (n, isolated) in (1..).zip(isolated) {
                let slot = lab.kernel.slot(Lab::port(n));
                let expect = flags::ISOLATED | flags::ISOLATED_BY_OPERATOR;
                assert_eq!(slot.flags == expect, *isolated, "{name}: vm{n}");
                assert_eq!(slot.has(flags::GRANTED), !isolated, "{name}: vm{n}");
                let status = decision.ports[&Lab::port(n)].status;
                assert_eq!(status == PortStatus::Isolated, *isolated, "{name}: vm{n}");
            }
        }
    }
}

/// Also a VM with two NICs loses both with the VM, and one with its MAC.
#[test]
fn a_vm_is_more_than_a_mac() {
    for (target, both) in
        [(QuarantineTarget::Vm(Lab::uuid(1)), true), (QuarantineTarget::Mac(Lab::mac(2)), false)]
    {
        let mut lab = Lab::with_vms(Mode::Enforce, 2);
        let second = lab.manager().vms.remove(&Lab::uuid(2)).unwrap();
        lab.vm(1).nics.extend(second.nics);
        lab.settle();
        lab.quarantine(target);
        let (decision, _) = lab.settle();
        assert_eq!(decision.ports[&Lab::port(1)].status == PortStatus::Isolated, both);
        assert_eq!(decision.ports[&Lab::port(2)].status, PortStatus::Isolated);
    }
}

/// What is isolated stays so while no source says whose port it is.
#[test]
fn isolation_outlives_its_vm_in_the_inventory() {
    for target in [QuarantineTarget::Vm(Lab::uuid(1)), QuarantineTarget::Mac(Lab::mac(1))] {
        let mut lab = Lab::with_vms(Mode::Observe, 2);
        lab.quarantine(target);
        lab.settle();
        let before = lab.kernel.slot(Lab::port(1));
        assert!(before.has(flags::ISOLATED_BY_OPERATOR));

        lab.manager().vms.clear();
        let (decision, actions) = lab.settle();
        assert_eq!(actions, []);
        assert_eq!(decision.ports[&Lab::port(1)].status, PortStatus::Isolated);

        lab.kernel.apply(&Action::LiftQuarantine(target));
        lab.settle();
        assert_eq!(lab.kernel.slot(Lab::port(1)).flags, 0, "mute, since no source knows it");
    }
}
