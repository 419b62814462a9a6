//! Modes that end by themselves, and what goes with them.

use detector_common::{port::flags, quarantine::Cause, settings::Mode};

use crate::{
    decide::Decision,
    model::{FindingKind, Maintenance, ModeScope, QuarantineTarget, Severity, Ticks, World},
    reconcile::Action,
    testing::{BASE, BRIDGE, Lab, MINUTE, UNKNOWN, UPLINK},
};
use uuid::Uuid;

fn kinds(decision: &Decision) -> Vec<FindingKind> {
    let loosens = |kind: &FindingKind| {
        use FindingKind::{BreakGlass, EnforcingLapsed, Maintenance};
        matches!(kind, BreakGlass | EnforcingLapsed | Maintenance)
    };
    decision.findings.iter().map(|finding| finding.key.kind).filter(loosens).collect()
}

/// One that is denied, one that a person has quarantined, and one that is approved; enforcing provisionally.
fn on_trial() -> Lab {
    let mut lab = Lab::with_vms(Mode::Observe, 3);
    lab.base(1, UNKNOWN);
    lab.settle();
    assert!(lab.kernel.state.quarantines.is_empty());
    let until = lab.world.now + MINUTE;
    lab.switch_until(Mode::Enforce, Some(until));
    lab.quarantine(QuarantineTarget::Vm(Lab::uuid(2)));
    lab.settle();
    assert_eq!(lab.kernel.mode(), Some(Mode::Enforce));
    let denied = &lab.kernel.state.quarantines[&QuarantineTarget::Vm(Lab::uuid(1))];
    assert_eq!((denied.cause, denied.provisional), (Cause::Verdict, true));
    lab
}

fn quarantined(lab: &Lab) -> Vec<(QuarantineTarget, bool)> {
    lab.kernel.state.quarantines.values().map(|one| (one.target, one.provisional)).collect()
}

const DENIED: QuarantineTarget = QuarantineTarget::Vm(Uuid::from_u128(1));
const BY_OPERATOR: QuarantineTarget = QuarantineTarget::Vm(Uuid::from_u128(2));

#[test]
fn a_lapse_takes_with_it_what_verdicts_have_quarantined_and_nothing_else() {
    let mut lab = on_trial();
    lab.pass(MINUTE);
    assert_eq!(lab.kernel.mode(), Some(Mode::Observe), "without anybody's doing");
    let (decision, _) = lab.settle();
    assert_eq!(quarantined(&lab), [(BY_OPERATOR, false)]);
    assert_eq!(kinds(&decision), [FindingKind::EnforcingLapsed]);
    let record = &lab.kernel.state.mode.as_ref().unwrap().record;
    assert_eq!((record.mode, record.until), (Mode::Observe, None), "written down");
    assert!(lab.kernel.slot(Lab::port(2)).has(flags::ISOLATED_BY_OPERATOR));
    // It is told until somebody says what to do.
    lab.pass(30 * MINUTE);
    assert_eq!(kinds(&lab.settle().0), [FindingKind::EnforcingLapsed]);
    lab.switch(Mode::Observe);
    assert_eq!(kinds(&lab.settle().0), []);
}

#[test]
fn a_rollback_does_the_same() {
    let mut lab = on_trial();
    lab.switch(Mode::Observe);
    let (decision, actions) = lab.settle();
    assert!(matches!(&actions[0], Action::SetMode(record) if record.mode == Mode::Observe));
    assert_eq!(quarantined(&lab), [(BY_OPERATOR, false)]);
    assert_eq!(kinds(&decision), []);
}

#[test]
fn confirmed_it_stays_and_so_does_what_was_quarantined() {
    let mut lab = on_trial();
    lab.switch(Mode::Enforce);
    lab.settle();
    assert_eq!(quarantined(&lab), [(DENIED, false), (BY_OPERATOR, false)]);
    lab.pass(30 * MINUTE);
    lab.base(1, BASE);
    lab.settle();
    assert_eq!(lab.kernel.mode(), Some(Mode::Enforce));
    assert_eq!(quarantined(&lab), [(DENIED, false), (BY_OPERATOR, false)]);
    // Observing later lifts nothing that was confirmed.
    lab.switch(Mode::Observe);
    lab.settle();
    assert_eq!(quarantined(&lab), [(DENIED, false), (BY_OPERATOR, false)]);
}

#[test]
fn broken_glass_is_loud_records_nothing_and_mends_itself() {
    let mut lab = Lab::with_vms(Mode::Enforce, 3);
    lab.settle();
    let until = lab.world.now + MINUTE;
    lab.switch_until(Mode::Observe, Some(until));
    lab.base(1, UNKNOWN);
    let (decision, _) = lab.settle();
    assert_eq!(quarantined(&lab), []);
    assert_eq!(kinds(&decision), [FindingKind::BreakGlass]);
    let finding =
        decision.findings.iter().find(|one| one.key.kind == FindingKind::BreakGlass).unwrap();
    assert_eq!(finding.severity, Severity::Critical);
    assert!(finding.title.contains("uid 1000") && finding.title.contains("a test"), "{finding:?}");
    lab.pass(MINUTE);
    let (decision, _) = lab.settle();
    assert_eq!(
        (lab.kernel.mode(), quarantined(&lab)),
        (Some(Mode::Enforce), vec![(DENIED, false)])
    );
    assert_eq!(kinds(&decision), []);
}

fn maintain(world: &mut World) {
    let mut record = world.observed.mode.clone().unwrap().record;
    let until = Ticks((world.now + MINUTE).0);
    record.maintenance = Some(Maintenance { until, deed: record.deed.clone() });
    world.asked = Some(record);
}

#[test]
fn under_maintenance_denials_are_findings_only() {
    let mut lab = Lab::with_vms(Mode::Enforce, 3);
    lab.base(2, UNKNOWN);
    lab.settle();
    maintain(&mut lab.world);
    lab.settle();
    let before = [1, 2, 3].map(|n| lab.kernel.slot(Lab::port(n)));
    lab.base(1, UNKNOWN);
    lab.add_vm(4);
    lab.base(4, UNKNOWN);
    lab.add_vm(5);
    let (decision, _) = lab.settle();
    assert_eq!(kinds(&decision), [FindingKind::Maintenance]);
    let rogues = decision.findings.iter().filter(|one| one.key.kind == FindingKind::RogueVm);
    assert_eq!(rogues.count(), 3);
    assert_eq!([1, 2, 3].map(|n| lab.kernel.slot(Lab::port(n))), before, "it stays in force");
    assert_eq!(quarantined(&lab), [(BY_OPERATOR, false)], "from before");
    assert_eq!(lab.kernel.slot(Lab::port(4)).flags, 0, "nothing new without a verdict");
    assert!(lab.kernel.slot(Lab::port(5)).has(flags::GRANTED), "with one");
    lab.pass(MINUTE);
    let (decision, _) = lab.settle();
    assert_eq!(kinds(&decision), []);
    let all = [1, 2, 4].map(|n| (QuarantineTarget::Vm(Lab::uuid(n)), false));
    assert_eq!(quarantined(&lab), all);
    assert_eq!(lab.kernel.state.mode.as_ref().unwrap().record.maintenance, None);
}

/// Which of the interfaces are observed: bridge, uplink, and ports 1 to 3.
fn observed(lab: &Lab) -> [bool; 5] {
    let ifindexes = [BRIDGE, UPLINK, Lab::port(1), Lab::port(2), Lab::port(3)];
    ifindexes.map(|ifindex| lab.kernel.slot(ifindex).has(flags::OBSERVED))
}

#[test]
fn bridges_and_vms_are_observed_by_themselves_and_the_stricter_word_holds() {
    use Mode::{Enforce, Observe};
    let bridge = |name: &str| ModeScope::Bridge(name.to_owned());
    let vm = |name: &str| ModeScope::Vm(name.to_owned());
    let first = Lab::uuid(1).to_string();
    type Case<'a> = (&'a [(ModeScope, Mode)], [bool; 5]);
    let cases: &[Case<'_>] = &[
        (&[], [false; 5]),
        (&[(bridge("br0"), Observe)], [true; 5]),
        (&[(bridge("br*"), Observe)], [true; 5]),
        (&[(bridge("br1"), Observe)], [false; 5]),
        (&[(vm("vm1"), Observe)], [false, false, true, false, false]),
        (&[(vm(&first), Observe)], [false, false, true, false, false]),
        (&[(bridge("br0"), Observe), (vm("vm1"), Enforce)], [true, true, false, true, true]),
        (&[(bridge("br0"), Enforce), (vm("vm1"), Observe)], [false; 5]),
        (&[(vm("vm1"), Observe), (vm(&first), Enforce)], [false; 5]),
    ];
    for (rules, expect) in cases {
        let mut lab = Lab::with_vms(Enforce, 3);
        lab.base(1, UNKNOWN);
        for (of, mode) in *rules {
            lab.rule(of.clone(), *mode);
        }
        lab.settle();
        assert_eq!(observed(&lab), *expect, "{rules:?}");
        // The denied one is quarantined where that is carried out.
        assert_eq!(quarantined(&lab).is_empty(), expect[2], "{rules:?}");
        assert!(lab.kernel.slot(Lab::port(1)).has(flags::ISOLATED), "the verdict is the same");
        lab.world.policy.modes.clear();
        lab.settle();
        assert_eq!((observed(&lab), quarantined(&lab)), ([false; 5], vec![(DENIED, false)]));
    }
}

/// A host that observes does so everywhere.
#[test]
fn no_bridge_enforces_by_itself() {
    let mut lab = Lab::with_vms(Mode::Observe, 3);
    lab.base(1, UNKNOWN);
    lab.rule(ModeScope::Bridge("br0".to_owned()), Mode::Enforce);
    lab.settle();
    assert_eq!((lab.kernel.mode(), quarantined(&lab)), (Some(Mode::Observe), vec![]));
}
