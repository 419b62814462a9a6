//! Invariant 12: the same world leads to the same decision, and the order in which it was told does
//! not matter.

use std::sync::Arc;

use detector_common::{reason::Reason, settings::Mode};

use crate::{
    decide::{
        Decision, decide, decide_and_act,
        policy::{DEFAULT, Rules},
    },
    model::Template,
    testing::{Lab, MINUTE, STALE, UNKNOWN},
};

fn busy() -> Lab {
    let mut lab = Lab::with_vms(Mode::Enforce, 9);
    lab.settle();
    for id in ["debian-12-b", "debian-12-a"] {
        let twin = Template { id: id.to_owned(), ..lab.template("debian-12").clone() };
        lab.world.registry.templates.push(twin);
    }
    lab.base(2, UNKNOWN);
    lab.base(3, STALE);
    lab.nic(4).mac = Lab::mac(5);
    lab.nic(6).port = Some("vnet7".to_owned());
    lab.second_opinion(8, |vm| vm.nics[0].vlans = vec![7]);
    lab.manager().vms.remove(&Lab::uuid(9));
    for n in [1, 2, 3] {
        lab.sees(1, Lab::mac(n), Some([192, 0, 2, n]), Reason::MacNotGranted);
    }
    lab.world.observed = lab.kernel.state.clone();
    lab
}

#[test]
fn the_same_world_leads_to_the_same_decision() {
    let lab = busy();
    let first = format!("{:?}", decide(&lab.world));
    for _ in 0..3 {
        assert_eq!(format!("{:?}", decide(&lab.world)), first);
        assert_eq!(format!("{:?}", decide(&lab.world.clone())), first);
    }
}

#[test]
fn order_does_not_matter() {
    let lab = busy();
    let first = decide(&lab.world);
    let mut world = lab.world.clone();
    world.registry.templates.reverse();
    world.registry.templates.iter_mut().for_each(|template| template.images.reverse());
    world.seen.values_mut().for_each(|seen| seen.reverse());
    let second = decide(&world);
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
}

/// What is handed out to be acted upon is the decision, without its findings; those of a decision that
/// does not stand are never drawn.
#[test]
fn acting_comes_before_telling() {
    let lab = busy();
    let whole = decide(&lab.world);
    assert!(!whole.findings.is_empty());
    for stands in [true, false] {
        let mut handed = None;
        let after = decide_and_act(&lab.world, |decision| {
            handed = Some(format!("{decision:?}"));
            stands
        });
        let bare = Decision { findings: Vec::new(), wake_at: None, ..whole.clone() };
        assert_eq!(handed, Some(format!("{bare:?}")));
        assert_eq!(after.findings.is_empty(), !stands);
    }
}

/// The policy is asked when what it is asked of has changed, and when time makes a difference.
#[test]
fn what_has_not_changed_is_not_evaluated_again() {
    let mut lab = Lab::with_vms(Mode::Enforce, 20);
    let rules = Arc::new(Rules::parse(DEFAULT).unwrap());
    lab.world.rules.rules = rules.clone();
    lab.settle();
    assert_eq!(rules.evaluations(), 20);
    lab.sees(1, Lab::mac(2), Some([192, 0, 2, 2]), Reason::MacNotGranted);
    lab.pass(MINUTE);
    lab.decide();
    assert_eq!(rules.evaluations(), 20);
    lab.base(3, STALE);
    lab.decide();
    assert_eq!(rules.evaluations(), 21);
    lab.pass(60 * MINUTE);
    let decision = lab.decide();
    assert_eq!(rules.evaluations(), 21 + 19, "their template has expired");
    assert_eq!(decision.vms[&Lab::uuid(1)].rules, ["template-unexpired"]);
}
