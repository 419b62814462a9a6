//! What a VM does, as findings say, may cost it its place: by the policy, in the next decision.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use detector_common::{reason::Reason, settings::Mode};

use crate::{
    decide::{
        Guard, VmStatus,
        policy::{DEFAULT, Rules},
    },
    model::{BlastLimits, FindingKind},
    testing::Lab,
};

const HONEST: &str = "@id(\"honest\") @sentence(\"It speaks as itself.\")
    forbid (principal, action == Action::\"join\", resource)
    when { principal has findings && principal.findings.contains(\"foreign-identity\") };\n";

fn lab(text: &str) -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 2);
    lab.world.rules.rules = Arc::new(Rules::parse(&format!("{text}{DEFAULT}")).unwrap());
    lab.settle();
    lab.sees(1, Lab::mac(9), None, Reason::MacNotGranted);
    lab.settle();
    lab
}

/// As the daemon does before each decision.
fn next(lab: &mut Lab) -> [VmStatus; 2] {
    lab.world.conduct = lab.decide().conduct();
    lab.settle();
    let decision = lab.decide();
    [1, 2].map(|number| decision.vms[&Lab::uuid(number)].status)
}

#[test]
fn a_finding_leads_to_what_a_rule_says_and_to_nothing_without() {
    assert_eq!(next(&mut lab("")), [VmStatus::Approved; 2]);
    let mut lab = lab(HONEST);
    assert_eq!(lab.decide().vms[&Lab::uuid(1)].status, VmStatus::Approved, "in the next decision");
    assert_eq!(next(&mut lab), [VmStatus::Quarantined, VmStatus::Approved]);
    // It stays so when the finding is over, and may be released then.
    lab.world.seen.clear();
    assert_eq!(next(&mut lab), [VmStatus::Quarantined, VmStatus::Approved]);
    let decision = lab.decide();
    assert_eq!(decision.vms[&Lab::uuid(1)].verdict, VmStatus::Approved);
    assert!(decision.conduct().is_empty());
}

#[test]
fn the_guard_holds_who_would_be_cut_off_by_a_finding() {
    let mut lab = lab(HONEST);
    let window = Duration::from_secs(600);
    lab.world.policy.blast = Some(BlastLimits { vms: 0, percent: 100, window });
    lab.world.conduct = lab.decide().conduct();
    let decision = lab.decide();
    let guard = &decision.vms[&Lab::uuid(1)].guard;
    assert!(matches!(guard, Guard::Held(hold) if hold.grounds.contains("honest")), "{guard:?}");
    assert_eq!(decision.vms[&Lab::uuid(2)].guard, Guard::Clear);
}

/// What follows from a verdict leads to none, or one would keep itself up.
#[test]
fn no_verdict_rests_on_itself() {
    let conduct: BTreeSet<_> = FindingKind::OF_CONDUCT.into();
    for kind in [FindingKind::RogueVm, FindingKind::MacClone, FindingKind::BlastRadius] {
        assert!(!conduct.contains(&kind), "{kind:?}");
    }
}
