//! VMs that no quarantine of their ports holds.

use detector_common::addr::Mac;

use super::*;
use crate::{
    model::{Attachment, AttachmentKind, Nic, Vm},
    testing::Lab,
};

fn contained(outcome: Outcome, ways: Ways, deeds: &[Deed]) -> Case {
    let means = means(deeds, 1);
    let plan = plan(&outcome, &means, ways).unwrap();
    let workflow =
        Workflow::start((VM, "web"), outcome.clone(), plan, by(1000), 1, None, None).unwrap();
    let (unguarded, power) = (ways.unguarded, Some(PowerState::Paused));
    Case { workflow, means, unguarded, power, ..Case::new(outcome, deeds, 1) }
}

fn later(case: &Case, seconds: u64) -> Next {
    let now = NOW + Duration::from_secs(seconds);
    case.workflow.next(&Sight { now, ..case.sight() })
}

/// One that somebody resumes is contained again, as long as nothing else has it run.
#[test]
fn who_is_contained_and_runs_on_is_contained_again() {
    for ways in [NONE, MIXED] {
        let mut case = contained(patched(), ways, &[Deed::Contain]);
        assert!(matches!(case.run(), Next::Wait(_)));
        assert!(case.workflow.has_done(Step::Contain));
        case.power = Some(PowerState::Running);
        assert!(matches!(later(&case, 1), Next::Wait(_)), "its source may be late");
        let again = later(&case, 60);
        let Next::Redo(Step::Contain, why) = again else { panic!("{again:?}") };
        case.workflow.redo(Step::Contain, NOW + Duration::from_secs(60), why);
        assert_eq!(later(&case, 60), Next::Begin(Step::Contain));
        assert!(case.workflow.history.back().unwrap().what.contains("run on"));
        // Whoever is verified is to run.
        case.power = Some(PowerState::Off);
        case.run();
        case.approve(1, &[ROGUE]).unwrap();
        case.run();
        case.power = Some(PowerState::Running);
        assert!(matches!(later(&case, 600), Next::Wait(_)));
    }
}

/// A provisioner may have it run where it has no way out; once that has failed, nobody may.
#[test]
fn a_provisioner_has_a_vm_run_that_has_no_way_out() {
    let by_p = Outcome::Patched { provisioner: Some("p".to_owned()) };
    let mut case = contained(by_p.clone(), NONE, &[Deed::Contain, Deed::Provision]);
    while case.next() != Next::Do(Step::Provision) {
        match case.next() {
            Next::Begin(step) => case.workflow.begin(step, NOW).unwrap(),
            Next::Do(step) => {
                case.act(step);
                case.workflow.finish(step, NOW, Ok(String::new())).unwrap();
            }
            other => panic!("{other:?}"),
        }
    }
    case.power = Some(PowerState::Running);
    assert_eq!(later(&case, 60), Next::Do(Step::Provision));
    // It is given a way out meanwhile: then it is not begun once more.
    case.unguarded = true;
    assert!(waits(later(&case, 60)).contains("the VM runs for \"p\""));
    case.unguarded = false;
    case.workflow.finish(Step::Provision, NOW, Err("it hangs".to_owned())).unwrap();
    assert!(matches!(later(&case, 60), Next::Redo(Step::Contain, _)), "{:?}", later(&case, 60));
}

/// What is plugged into a VM while it is remediated is no way out of that.
#[test]
fn a_way_out_that_comes_later_is_contained_too() {
    let mut case = contained(patched(), HELD, &EVERY_DEED);
    case.power = Some(PowerState::Off);
    assert!(waits(case.run()).contains("has to approve"));
    assert!(!steps(&case.workflow).contains(&Step::Contain));
    case.power = Some(PowerState::Running);
    assert!(matches!(later(&case, 60), Next::Wait(_)), "its ports hold it");
    case.unguarded = true;
    let Next::Redo(Step::Contain, why) = later(&case, 60) else { panic!("{:?}", later(&case, 60)) };
    case.workflow.redo(Step::Contain, NOW, why);
    let order = [Step::Quarantine, Step::Evidence, Step::Contain, Step::Sandbox];
    assert_eq!(steps(&case.workflow)[..4], order);
    assert_eq!(case.next(), Next::Begin(Step::Contain));
}

#[test]
fn ways_are_what_all_sources_say() {
    use AttachmentKind::{Macvtap, UserMode};
    let lab = Lab::with_vms(detector_common::settings::Mode::Enforce, 1);
    let vm = lab.world.sources.values().find_map(|source| source.vms.get(&Lab::uuid(1))).unwrap();
    let with = |nics: &[(u8, Option<AttachmentKind>)]| {
        let nic = |(mac, unguarded): &(u8, _)| Nic {
            mac: Mac([2, 0, 0, 0, 0, *mac]),
            unguarded: *unguarded,
            ..vm.nics[0].clone()
        };
        Vm { nics: nics.iter().map(nic).collect(), ..vm.clone() }
    };
    let device = Attachment { kind: UserMode, what: "slirp".to_owned() };
    let listed = Vm { attachments: vec![device], ..with(&[(1, None)]) };
    let (plain, user) = (with(&[(1, None)]), with(&[(1, Some(UserMode))]));
    let both = with(&[(1, None), (2, Some(UserMode))]);
    let alone = Ways { guarded: false, unguarded: true, placed: false };
    let cases: &[(&str, &[&Vm], bool, Ways)] = &[
        ("none", &[&with(&[])], false, NONE),
        ("a port", &[&plain], false, HELD),
        ("user-mode", &[&user], false, alone),
        ("both", &[&both], false, MIXED),
        ("a macvtap", &[&with(&[(1, Some(Macvtap))])], false, Ways { placed: true, ..alone }),
        ("by its arguments", &[&listed], false, Ways { placed: true, ..MIXED }),
        ("by what was found", &[&plain], true, Ways { placed: true, ..MIXED }),
        ("by one of two sources", &[&plain, &user], false, alone),
    ];
    for (name, said, told, expect) in cases {
        assert_eq!(Ways::of(said.iter().copied(), *told), *expect, "{name}");
    }
}
