//! How much verdicts may take away before a person has looked at it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use detector_common::settings::Mode;
use uuid::Uuid;

use crate::{
    decide::{
        Guard, Losers, PortStatus, VmStatus, admit,
        policy::{DEFAULT, Rules},
    },
    model::{
        BlastLimits, FindingKind, Mitigations, PowerState, QuarantineTarget, Rejected, Severity,
        TemplateStatus, Timestamp, Word,
    },
    testing::{Lab, MINUTE, UNKNOWN},
};

const WINDOW: Duration = Duration::from_secs(600);
const LIMITS: BlastLimits = BlastLimits { vms: 2, percent: 100, window: WINDOW };
const TEMPLATE: &str = "debian-12";

fn lab(count: u8, limits: BlastLimits) -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, count);
    lab.world.policy.blast = Some(limits);
    lab.template(TEMPLATE).expires = None;
    lab.settle();
    lab
}

fn revoke(lab: &mut Lab) {
    lab.template(TEMPLATE).status = TemplateStatus::Revoked;
}

/// As the daemon does: nothing more is taken before it is written down.
fn settle(lab: &mut Lab) {
    for _ in 0..4 {
        let (decision, _) = lab.settle();
        if decision.mitigations == lab.world.recorded.mitigations {
            return;
        }
        lab.world.recorded.mitigations = decision.mitigations;
    }
    panic!("never comes to rest");
}

fn of(lab: &mut Lab, status: PortStatus) -> Vec<u8> {
    let decision = lab.decide();
    (1..=30)
        .filter(|n| decision.ports.get(&Lab::port(*n)).is_some_and(|one| one.status == status))
        .collect()
}

/// How many are cut off, and how many are held.
fn count(lab: &mut Lab) -> (usize, usize) {
    (of(lab, PortStatus::Isolated).len(), of(lab, PortStatus::Kept).len())
}

fn says(lab: &mut Lab, n: u8, approves: bool) {
    let at = lab.world.now;
    let held = &mut lab.world.recorded.mitigations.held;
    let hold = held.get_mut(&Lab::uuid(n)).expect("it is held");
    hold.word = Some(Word { approves, uid: 1000, at, why: "looked at".to_owned() });
}

#[test]
fn the_stricter_limit_holds() {
    let limits = |vms, percent| BlastLimits { vms, percent, window: WINDOW };
    // (VMs, percent, of how many, so many)
    let cases = [
        (10, 25, 100, 10),
        (10, 25, 39, 9),
        (10, 25, 8, 2),
        (10, 25, 4, 1),
        (10, 25, 3, 1),
        (10, 25, 0, 1),
        (10, 100, 3, 3),
        (0, 100, 3, 0),
        (10, 0, 100, 0),
        (u32::MAX, 100, 7, 7),
    ];
    for (vms, percent, total, allowed) in cases {
        assert_eq!(limits(vms, percent).allowed(total), allowed, "{vms} {percent} % of {total}");
    }
}

#[test]
fn a_revoked_template_cuts_off_so_many_and_the_others_wait_for_a_person() {
    let mut lab = lab(10, LIMITS);
    revoke(&mut lab);
    // Nothing is taken before it is written down that it is.
    let (decision, actions) = lab.settle();
    assert!(actions.is_empty(), "{actions:?}");
    assert_eq!((decision.mitigations.taken.len(), decision.mitigations.held.len()), (2, 8));
    settle(&mut lab);
    assert_eq!(count(&mut lab), (2, 8));
    let finding = blast(&mut lab).expect("it is told");
    assert_eq!(finding.severity, Severity::Critical);
    let text = format!("{finding:?}");
    assert!(text.contains("8 VMs would be cut off") && text.contains("vm9"), "{text}");

    // It does not go on by itself once the window is over: somebody has to look.
    lab.pass(WINDOW + MINUTE);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (2, 8));
    // Neither do limits that are stricter.
    for limits in [BlastLimits { vms: 1, ..LIMITS }, BlastLimits { window: WINDOW * 2, ..LIMITS }] {
        lab.world.policy.blast = Some(limits);
        settle(&mut lab);
        assert_eq!(count(&mut lab), (2, 8));
    }
    // A person lets one go, leaves another, and the others go once the limit is raised.
    says(&mut lab, 5, true);
    says(&mut lab, 6, false);
    settle(&mut lab);
    assert_eq!(of(&mut lab, PortStatus::Isolated), [1, 2, 5]);
    lab.world.policy.blast = Some(BlastLimits { vms: 20, ..LIMITS });
    settle(&mut lab);
    assert_eq!(of(&mut lab, PortStatus::Kept), [6]);
    let finding = blast(&mut lab).expect("what is left as it is is told, too");
    assert_eq!(finding.severity, Severity::Medium);

    // Approved again it is as before, and whoever was cut off stays quarantined.
    lab.template(TEMPLATE).status = TemplateStatus::Approved;
    settle(&mut lab);
    assert_eq!(of(&mut lab, PortStatus::Granted), [6]);
    assert!(lab.world.recorded.mitigations.held.is_empty());
    assert!(blast(&mut lab).is_none());
    assert_eq!(lab.decide().vms[&Lab::uuid(1)].status, VmStatus::Quarantined);
}

fn blast(lab: &mut Lab) -> Option<crate::model::Finding> {
    let found = lab.decide().findings.into_iter();
    found.into_iter().find(|one| one.key.kind == FindingKind::BlastRadius)
}

#[test]
fn what_is_restored_in_time_leaves_all_as_before() {
    let mut lab = lab(10, BlastLimits { vms: 0, ..LIMITS });
    revoke(&mut lab);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (0, 10));
    lab.template(TEMPLATE).status = TemplateStatus::Approved;
    settle(&mut lab);
    assert_eq!(of(&mut lab, PortStatus::Granted).len(), 10);
    // Nothing that a person said before holds for the next time.
    revoke(&mut lab);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (0, 10));
}

/// Who was never let in, whom a person cuts off, and whoever is started anew has nothing to keep.
#[test]
fn what_the_guard_is_not_about() {
    let mut lab = lab(4, BlastLimits { vms: 0, ..LIMITS });
    revoke(&mut lab);
    lab.add_vm(5);
    lab.base(5, UNKNOWN);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (1, 4), "a VM that was never let in is cut off");
    lab.quarantine(QuarantineTarget::Vm(Lab::uuid(1)));
    let port = lab.port_target(2);
    lab.quarantine(port);
    lab.kernel.forget(Lab::port(3));
    settle(&mut lab);
    assert_eq!(of(&mut lab, PortStatus::Kept), [4]);
    assert_eq!(of(&mut lab, PortStatus::Isolated), [1, 2, 3, 5]);
    assert!(lab.world.recorded.mitigations.taken.is_empty(), "nothing of it counts");
    let held: Vec<_> = lab.world.recorded.mitigations.held.keys().copied().collect();
    assert_eq!(held, [Lab::uuid(4)], "the others have nothing to keep");
}

#[test]
fn observing_takes_nothing_and_holds_nothing() {
    let mut lab = lab(4, BlastLimits { vms: 0, ..LIMITS });
    lab.switch(Mode::Observe);
    lab.settle();
    revoke(&mut lab);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (4, 0));
    assert!(blast(&mut lab).is_none());
}

/// What cannot be counted is not done; what people want is.
#[test]
fn without_a_record_nothing_is_taken_but_by_a_person() {
    let mut lab = lab(4, LIMITS);
    revoke(&mut lab);
    let why = Rejected { place: "mitigations.json".to_owned(), why: "no space left".to_owned() };
    lab.world.recorded.lost = Some(why);
    let (decision, actions) = lab.settle();
    assert!(actions.is_empty() && decision.mitigations.taken.is_empty());
    assert!(format!("{:?}", blast(&mut lab)).contains("no space left"));
    lab.world.recorded.lost = None;
    // Nobody knows what was taken before: then there is no room until the window is over.
    lab.world.recorded.mitigations.blind_until = Some(lab.world.now + WINDOW);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (0, 4));
    lab.pass(WINDOW);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (0, 4), "who is held waits for a person all the same");
    lab.add_vm(5);
    lab.template(TEMPLATE).status = TemplateStatus::Approved;
    settle(&mut lab);
    revoke(&mut lab);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (2, 3));
}

/// A person who leaves a VM as it is means what it fails, and nothing else.
#[test]
fn a_word_is_about_what_was_known() {
    let mut lab = lab(3, BlastLimits { vms: 0, ..LIMITS });
    revoke(&mut lab);
    settle(&mut lab);
    says(&mut lab, 1, false);
    settle(&mut lab);
    assert_eq!(blast(&mut lab).unwrap().severity, Severity::Critical);
    for n in [2, 3] {
        says(&mut lab, n, false);
    }
    settle(&mut lab);
    assert_eq!(blast(&mut lab).unwrap().severity, Severity::Medium);
    lab.base(1, UNKNOWN);
    settle(&mut lab);
    let decision = lab.decide();
    let held = decision.vms[&Lab::uuid(1)].guard.held().unwrap();
    assert_eq!(held.word, None, "{held:?}");
    assert_eq!(blast(&mut lab).unwrap().severity, Severity::Critical);
}

/// A source that is silent for a moment, as at each start, makes nobody forget; neither does an empty list.
#[test]
fn what_is_not_listed_at_present_is_not_forgotten() {
    let mut lab = lab(3, LIMITS);
    revoke(&mut lab);
    settle(&mut lab);
    let known = lab.world.recorded.mitigations.clone();
    assert_eq!((known.taken.len(), known.held.len()), (2, 1));
    let vms = std::mem::take(&mut lab.manager().vms);
    lab.lose();
    settle(&mut lab);
    assert_eq!(lab.world.recorded.mitigations, known);
    lab.manager().health = crate::model::Health::Healthy;
    settle(&mut lab);
    assert_eq!(lab.world.recorded.mitigations, known);
    lab.manager().vms = vms;
    settle(&mut lab);
    assert_eq!((lab.world.recorded.mitigations.clone(), count(&mut lab)), (known, (2, 1)));
}

/// Who was cut off without being stopped is not stopped with all others by the next rule.
#[test]
fn power_is_taken_from_so_many_too() {
    let mut lab = lab(4, BlastLimits { vms: 4, ..LIMITS });
    revoke(&mut lab);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (4, 0));
    lab.pass(WINDOW);
    settle(&mut lab);
    lab.world.policy.blast = Some(LIMITS);
    const HOLD: &str =
        "@id(\"hold\") permit (principal, action == Action::\"shut-down\", resource);\n";
    lab.world.rules.rules = Arc::new(Rules::parse(&format!("{HOLD}{DEFAULT}")).unwrap());
    settle(&mut lab);
    let guarded =
        |lab: &mut Lab| lab.decide().vms.values().filter(|one| one.guard != Guard::Clear).count();
    assert_eq!(guarded(&mut lab), 2);
    lab.world.stopped = [3, 4].map(Lab::uuid).into();
    for n in [1, 2] {
        lab.vm(n).power = PowerState::Paused;
    }
    settle(&mut lab);
    assert_eq!(guarded(&mut lab), 0, "there is nothing left to take");
    // Whoever is cut off as he comes is stopped at once.
    lab.add_vm(5);
    let (decision, _) = lab.settle();
    assert_eq!(decision.vms[&Lab::uuid(5)].guard, Guard::Clear);
}

/// What is wrong with one VM does not wait for what is wrong with all.
#[test]
fn a_denial_of_its_own_comes_before_those_of_many() {
    let mut lab = lab(9, BlastLimits { vms: 1, ..LIMITS });
    revoke(&mut lab);
    lab.base(9, UNKNOWN);
    settle(&mut lab);
    assert_eq!(of(&mut lab, PortStatus::Isolated), [9]);
}

/// A generator of numbers that a failing run can be repeated with.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Whatever comes in whatever order, within no window are there more than are allowed, and nobody loses
/// anything before it is counted.
#[test]
fn no_window_ever_has_more_than_the_limit() {
    for seed in 1..=200 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let limits = BlastLimits {
            vms: u32::try_from(random.below(5)).unwrap(),
            percent: u8::try_from(random.below(101)).unwrap(),
            window: WINDOW,
        };
        let mut lab = lab(8, limits);
        let mut cut: Vec<(Timestamp, Uuid)> = Vec::new();
        for _ in 0..25 {
            lab.pass(Duration::from_secs(random.below(400)));
            let n = 1 + u8::try_from(random.below(8)).unwrap();
            match random.below(5) {
                0 => revoke(&mut lab),
                1 => lab.template(TEMPLATE).status = TemplateStatus::Approved,
                2 => lab.base(n, UNKNOWN),
                3 => lab.base(n, crate::testing::BASE),
                // A crash: what was written down is all that is left, and a lift gives back.
                _ => {
                    let target = QuarantineTarget::Vm(Lab::uuid(n));
                    lab.kernel.state.quarantines.remove(&target);
                }
            }
            let before: BTreeSet<Uuid> = granted(&mut lab);
            let (_, actions) = lab.settle();
            assert!(
                granted(&mut lab).is_superset(&known(&before, &lab)),
                "seed {seed}: taken before it was written down: {actions:?}"
            );
            settle(&mut lab);
            let after = granted(&mut lab);
            cut.extend(before.difference(&after).map(|uuid| (lab.world.now, *uuid)));
            let recent = cut.iter().filter(|(at, _)| lab.world.now < *at + WINDOW);
            let recent: BTreeSet<_> = recent.map(|(_, uuid)| *uuid).collect();
            assert!(recent.len() <= limits.allowed(8), "seed {seed}: {recent:?} with {limits:?}");
        }
    }
}

fn granted(lab: &mut Lab) -> BTreeSet<Uuid> {
    let decision = lab.decide();
    let living = |n: &u8| {
        let status = decision.ports[&Lab::port(*n)].status;
        matches!(status, PortStatus::Granted | PortStatus::Kept)
    };
    (1..=8).filter(living).map(Lab::uuid).collect()
}

/// Those of `before` that nothing says may be taken from.
fn known(before: &BTreeSet<Uuid>, lab: &Lab) -> BTreeSet<Uuid> {
    let taken = &lab.world.recorded.mitigations.taken;
    before.iter().filter(|uuid| !taken.contains_key(*uuid)).copied().collect()
}

/// A moment that lies ahead, by a damaged file, neither counts for ever nor for nothing.
#[test]
fn moments_that_lie_ahead() {
    let mut lab = lab(4, BlastLimits { vms: 1, ..LIMITS });
    let ahead = lab.world.now + 100 * WINDOW;
    lab.world.recorded.mitigations =
        Mitigations { taken: [(Uuid::from_u128(99), ahead)].into(), ..Mitigations::default() };
    revoke(&mut lab);
    settle(&mut lab);
    assert_eq!(count(&mut lab), (0, 4));
    lab.pass(WINDOW);
    settle(&mut lab);
    assert!(lab.world.recorded.mitigations.taken.is_empty());
}

#[test]
fn who_is_counted_is_counted_once() {
    let grounds = BTreeSet::from(["a".to_owned()]);
    let losers: Losers = (1..=4).map(|n| (Lab::uuid(n), grounds.clone())).collect();
    let (mut next, now) = (Mitigations::default(), Timestamp(1));
    for _ in 0..3 {
        let room = 2 - next.taken.len();
        admit(&mut next, &losers, LIMITS, room, now);
        assert_eq!((next.taken.len(), next.held.len()), (2, 2));
    }
    let other = BlastLimits { vms: 3, ..LIMITS };
    admit(&mut next, &losers, other, 1, now);
    assert_eq!((next.taken.len(), next.held.len()), (3, 1));
}
