//! Who was late: hosts in a soak, and who drives it with what it has become.

use super::*;

/// Each soak is broken by hosts that are silent in it, until it is stopped: after how many, and why.
fn broken_by(roll_out: &RollOut, silent: impl Fn(usize) -> Vec<String>) -> (usize, String) {
    let mut roll_out = roll_out.clone();
    for soak in 1..1000 {
        roll_out.stage = Stage::Soaking { wave: 1, since: at(0) };
        let progress = Progress {
            waiting: silent(soak).iter().map(|host| name(host)).collect(),
            ..Progress::default()
        };
        let stage = roll_out.next(&progress, at(10), seconds(10)).unwrap();
        if let Stage::Halted { why, .. } = stage {
            return (soak, why);
        }
        roll_out = roll_out.moved_to(stage, &progress);
        assert!(serde_json::to_string(&roll_out.broken).unwrap().len() < 5000);
    }
    panic!("it is never over: {roll_out:?}");
}

#[test]
fn who_breaks_soak_after_soak_stops_it() {
    let text = str::to_owned;
    let (soaks, why) = broken_by(&begun(), |_| vec![text("b")]);
    assert!(soaks == 3 && why.starts_with("b went by it, and 3 times"), "{soaks} {why}");
    // Whoever else is silent at that time.
    let (soaks, why) = broken_by(&begun(), |soak| vec![format!("a{soak}"), text("b")]);
    assert!(soaks <= 66, "{soaks} {why}");
    // Each of many once.
    let (soaks, why) = broken_by(&begun(), |soak| vec![format!("a{soak}")]);
    assert!(soaks == 65 && why.starts_with("64 hosts"), "{soaks} {why}");
    // A whole rack at once is one break, and the next wave has all of its own.
    let rack = Progress {
        waiting: (0..300).map(|number| name(&format!("r{number}"))).collect(),
        ..Progress::default()
    };
    let soaking = |wave| Stage::Soaking { wave, since: at(0) };
    let spreading = |wave| Stage::Spreading { wave, since: at(0) };
    let broken = RollOut { stage: soaking(0), ..begun() }.moved_to(spreading(0), &rack);
    assert_eq!(broken.broken.len(), 1);
    let soaks = broken.moved_to(soaking(0), &Progress::default());
    assert_eq!(soaks.broken.len(), 1);
    assert!(soaks.moved_to(spreading(1), &Progress::default()).broken.is_empty());
    // Where so many may be late nothing is broken.
    let lenient = RollOut { plan: Plan { late: 1, ..plan() }, stage: soaking(1), ..begun() };
    let one = Progress { waiting: vec![name("b")], ..Progress::default() };
    assert_eq!(lenient.next(&one, at(10), seconds(10)), None);
}

#[test]
fn what_it_has_become_is_announced_whoever_was_late() {
    let third = Version { number: 3, sha256: Digest([3; 32]) };
    let at_stage = |stage| RollOut { stage, ..begun() };
    let spreading = begun().announcement();
    let halted = at_stage(Stage::Halted { wave: 0, at: at(1), why: String::new() });
    let done = at_stage(Stage::Done { at: at(1) });
    let (is_halted, is_done) = (halted.announcement(), done.announcement());
    let all = Announcement::to_all(third);
    let of = |withdrawn: &[Version], others| Announcement {
        hosts: vec![name("b")],
        withdrawn: withdrawn.to_vec(),
        others,
        ..all.clone()
    };
    for (what, roll_out, announced, later, due) in [
        ("under way", &begun(), Some(&all), true, Some(&spreading)),
        ("told", &halted, Some(&is_halted), true, None),
        ("nobody was told", &halted, Some(&spreading), false, Some(&is_halted)),
        ("somebody was late", &halted, Some(&spreading), true, Some(&is_halted)),
        ("the same where it is done", &done, Some(&spreading), true, Some(&is_done)),
        ("nothing was ever", &done, None, false, Some(&is_done)),
        ("offered since", &done, Some(&all), true, None),
        ("offered before", &done, Some(&all), false, Some(&is_done)),
        ("and stays withdrawn", &halted, Some(&of(&[NEW], Some(OLD))), true, None),
        (
            "offered by who did not know of it",
            &halted,
            Some(&of(&[], Some(NEW))),
            true,
            Some(&of(&[NEW], Some(OLD))),
        ),
    ] {
        assert_eq!(roll_out.due(announced, later).as_ref(), due, "{what}");
    }
}
