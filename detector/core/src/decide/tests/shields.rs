//! Floods, and which of them get a shield.

use std::time::Duration;

use detector_common::settings::Mode;

use crate::{
    model::{FindingKind, QuarantineTarget, Shield},
    testing::{Lab, UNKNOWN},
};

#[test]
fn what_is_cut_off_and_floods_gets_a_shield() {
    type Case = (&'static str, Mode, fn(&mut Lab), bool);
    let by_operator: fn(&mut Lab) = |lab| lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
    let by_verdict: fn(&mut Lab) = |lab| lab.base(1, UNKNOWN);
    let nothing: fn(&mut Lab) = |_| ();
    let forgotten: fn(&mut Lab) = |lab| {
        lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
        lab.settle();
        lab.manager().vms.remove(&Lab::uuid(1));
    };
    let cases: &[Case] = &[
        ("granted", Mode::Enforce, nothing, false),
        ("by verdict", Mode::Enforce, by_verdict, true),
        ("by verdict, observed", Mode::Observe, by_verdict, false),
        ("by a person", Mode::Enforce, by_operator, true),
        ("by a person, observed", Mode::Observe, by_operator, true),
        ("its VM forgotten", Mode::Enforce, forgotten, true),
    ];
    for (name, mode, change, shielded) in cases {
        let mut lab = Lab::with_vms(*mode, 2);
        lab.settle();
        change(&mut lab);
        lab.settle();
        lab.floods(1);
        let (decision, _) = lab.settle();
        let shield = |lab: &Lab, n| lab.kernel.state.interfaces[&Lab::port(n)].shield;
        assert_eq!(shield(&lab, 1) == Shield::On, *shielded, "{name}");
        assert_eq!(shield(&lab, 2), Shield::Off, "{name}");
        let floods: Vec<_> =
            decision.findings.iter().filter(|f| f.key.kind == FindingKind::Flood).collect();
        let [flood] = floods[..] else { panic!("{name}: {floods:?}") };
        assert!(flood.title.contains("120000 frames a second"), "{name}: {}", flood.title);
        assert_eq!(flood.title.contains("a shield is on"), *shielded, "{name}: {}", flood.title);

        // A load of another life is nobody's.
        let mut other = lab.clone();
        other.world.loads.get_mut(&Lab::port(1)).unwrap().instance += 1;
        let (decision, _) = other.settle();
        assert!(decision.findings.iter().all(|f| f.key.kind != FindingKind::Flood), "{name}");
        assert_eq!(shield(&other, 1), Shield::Off, "{name}");

        let load = lab.world.loads.get_mut(&Lab::port(1)).unwrap();
        let now = lab.world.now;
        load.sample(&lab.world.policy.flood, now, now + Duration::from_secs(10), 10);
        lab.settle();
        assert_eq!(shield(&lab, 1), Shield::Off, "{name}: the flood is over");
    }
}

#[test]
fn a_shield_goes_with_the_quarantine() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    let target = QuarantineTarget::Vm(Lab::uuid(1));
    lab.quarantine(target);
    lab.settle();
    lab.floods(1);
    lab.settle();
    lab.kernel.apply(&crate::reconcile::Action::LiftQuarantine(target));
    let (decision, _) = lab.settle();
    assert_eq!(lab.kernel.state.interfaces[&Lab::port(1)].shield, Shield::Off);
    assert_eq!(decision.findings.len(), 1, "it still floods");
}

#[test]
fn an_interface_that_takes_no_shield_is_asked_once() {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
    lab.settle();
    lab.kernel.state.interfaces.get_mut(&Lab::port(1)).unwrap().shield = Shield::Refused;
    lab.floods(1);
    let (decision, actions) = lab.settle();
    assert_eq!(actions, []);
    let told = format!("{:?}", decision.findings);
    assert!(told.contains("not possible on this port"), "{told}");
}
