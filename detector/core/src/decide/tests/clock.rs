//! A clock that is set does not end anything by itself.

use detector_common::settings::Mode;

use crate::{
    decide::{PortStatus, VmStatus, decide},
    model::{FindingKind, Skew, TemplateStatus},
    testing::{Lab, MINUTE},
};

const NAME: &str = "debian-12";
const HOUR: i64 = 3_600_000;

const KEPT: (VmStatus, PortStatus) = (VmStatus::Pending, PortStatus::Kept);
const MUTE: (VmStatus, PortStatus) = (VmStatus::Pending, PortStatus::Pending);
const GRANTED: (VmStatus, PortStatus) = (VmStatus::Approved, PortStatus::Granted);
const DENIED: (VmStatus, PortStatus) = (VmStatus::Denied, PortStatus::Isolated);

/// VM 1 in force, VM 2 that starts after the clock was doubted.
fn lab(least: i64, most: i64) -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 1);
    lab.settle();
    lab.world.skew = Skew { least, most, says: most, doubted: Some(lab.world.now) };
    lab.add_vm(2);
    lab
}

fn status(lab: &mut Lab, n: u8) -> (VmStatus, PortStatus) {
    let decision = lab.decide();
    (decision.vms[&Lab::uuid(n)].status, decision.ports[&Lab::port(n)].status)
}

/// The template expires in one hour.
#[test]
fn an_expiry_that_only_one_clock_knows_of_is_not_known() {
    let cases = [
        ("both before", -HOUR, HOUR - 1, GRANTED, GRANTED),
        ("set forward", 0, 2 * HOUR, KEPT, MUTE),
        ("just so", 0, HOUR, KEPT, MUTE),
        ("both after", HOUR, 3 * HOUR, DENIED, DENIED),
    ];
    for (name, least, most, first, second) in cases {
        let mut lab = lab(least, most);
        assert_eq!((status(&mut lab, 1), status(&mut lab, 2)), (first, second), "{name}");
        let (decision, _) = lab.settle();
        assert_eq!(decision.desired.quarantines.is_empty(), first != DENIED, "{name}");
        let told = decision.findings.iter().any(|one| one.key.kind == FindingKind::ClockJumped);
        assert!(told, "{name}: {:?}", decision.findings);
        // Nothing is left of it once the clock is right.
        lab.world.skew = Skew::default();
        if first != DENIED {
            lab.settle();
            assert_eq!((status(&mut lab, 1), status(&mut lab, 2)), (GRANTED, GRANTED), "{name}");
        }
    }
}

/// It ends when the earlier of both says so.
#[test]
fn time_goes_on_while_the_clock_is_doubted() {
    let mut lab = lab(0, 2 * HOUR);
    let end = lab.world.now + 60 * MINUTE;
    assert_eq!(lab.decide().wake_at, Some(end));
    lab.pass(60 * MINUTE);
    assert_eq!((status(&mut lab, 1), status(&mut lab, 2)), (DENIED, DENIED));
}

#[test]
fn a_grace_period_lasts_while_either_clock_says_so() {
    for (least, most, expected) in [(0, 2 * HOUR, KEPT), (-2 * HOUR, 0, KEPT), (HOUR, HOUR, DENIED)]
    {
        let mut lab = lab(least, most);
        lab.world.policy.revoked_grace = 60 * MINUTE;
        let now = lab.world.now;
        let template = lab.template(NAME);
        (template.status, template.since, template.expires) =
            (TemplateStatus::Revoked, Some(now), None);
        assert_eq!(status(&mut lab, 1), expected, "{least} {most}");
        assert_eq!(status(&mut lab, 2), DENIED, "nobody new");
        let decision = decide(&lab.world);
        let told = decision.findings.iter().any(|one| one.key.kind == FindingKind::RevokedTemplate);
        assert_eq!(told, expected == KEPT);
    }
}
