//! Who was late: hosts in a soak, and who drives it with what it has become.

use super::*;

/// Each soak is broken by hosts that are silent in it, until it is stopped: after how many, and why. `dead` are silent before
/// it begins, too.
fn broken_by(
    roll_out: &RollOut,
    dead: &[&str],
    silent: impl Fn(usize) -> Vec<String>,
) -> (usize, String) {
    let all = |names: Vec<String>| Progress {
        waiting: dead
            .iter()
            .map(|host| name(host))
            .chain(names.iter().map(|host| name(host)))
            .collect(),
        ..Progress::default()
    };
    let mut roll_out =
        RollOut { stage: Stage::Spreading { wave: 1, since: at(0) }, ..roll_out.clone() };
    for soak in 1..1000 {
        roll_out = roll_out.moved_to(Stage::Soaking { wave: 1, since: at(0) }, &all(Vec::new()));
        let progress = all(silent(soak));
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
    let strict = begun();
    let lenient = RollOut { plan: Plan { late: 1, ..plan() }, ..begun() };
    let once = |soak: usize| format!("a{soak}");
    let text = str::to_owned;
    /// What it is about, who is dead, who is silent in each soak, and after how many it is stopped and why.
    type Case<'a> = (&'a str, &'a [&'a str], &'a dyn Fn(usize) -> Vec<String>, usize, &'a str);
    let cases: [Case<'_>; 6] = [
        ("one", &[], &|_| vec![text("b")], 3, "b went by it, and 3 times"),
        ("whoever else is", &[], &|n| vec![once(n), text("b")], 3, "b went by it"),
        ("each of many once", &[], &|n| vec![once(n)], 16, "16 times hosts"),
        ("a rack", &[], &|_| (0..300).map(once).collect(), 3, "a0 went by it"),
        // Who is dead from the beginning, as one may be, breaks nothing.
        ("beside a dead one", &["a"], &|n| vec![once(n)], 16, "16 times hosts"),
        ("one beside a dead one", &["a"], &|_| vec![text("b")], 3, "b went by it"),
    ];
    for (what, dead, silent, soaks, why) in cases {
        let roll_out = if dead.is_empty() { &strict } else { &lenient };
        let (after, said) = broken_by(roll_out, dead, silent);
        assert!(after == soaks && said.starts_with(why), "{what}: {after} {said}");
    }
    // The next wave has all of its own.
    let one = Progress { waiting: vec![name("b")], ..Progress::default() };
    let soaking = |wave| Stage::Soaking { wave, since: at(0) };
    let spreading = |wave| Stage::Spreading { wave, since: at(0) };
    let broken = RollOut { stage: soaking(0), ..begun() }.moved_to(spreading(0), &one);
    assert_eq!((broken.broken.len(), broken.breaks), (1, 1));
    let soaks = broken.moved_to(soaking(0), &Progress::default());
    assert_eq!((soaks.broken.len(), soaks.breaks), (1, 1));
    let next = soaks.moved_to(spreading(1), &Progress::default());
    assert_eq!((next.broken.len(), next.breaks), (0, 0));
    // Where so many may be late nothing is broken.
    let lenient = RollOut { stage: soaking(1), ..lenient };
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
