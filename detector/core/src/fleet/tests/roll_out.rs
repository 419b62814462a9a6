//! What a roll-out does next, by what hosts say.

mod late;

use std::{collections::BTreeMap, time::Duration};

use super::name;
use crate::{
    fleet::{
        Name,
        message::{Announcement, HostState, PolicyState, RefusedBundle, Time, Unfit, Version},
        roll_out::{BadPlan, Heard, Plan, Progress, RollOut, Stage},
    },
    model::Digest,
};

const OLD: Version = Version { number: 1, sha256: Digest([1; 32]) };
const NEW: Version = Version { number: 2, sha256: Digest([2; 32]) };

fn at(seconds: i64) -> Time {
    Time::from_second(1_800_000_000 + seconds).unwrap()
}

/// A host that was heard at a time, with VMs that have no network, going by a bundle.
fn heard(seconds: i64, denied: u64, in_force: Option<Version>) -> Heard {
    let state = HostState {
        at: at(seconds),
        every: 30,
        life: uuid::Uuid::nil(),
        release: String::new(),
        started: at(0),
        mode: "enforce".to_owned(),
        policy: PolicyState { in_force, ..PolicyState::default() },
        vms: BTreeMap::from([("denied".to_owned(), denied), ("approved".to_owned(), 9)]),
        ports: BTreeMap::new(),
        findings: BTreeMap::new(),
        troubles: Vec::new(),
        pages: 0,
        open_pages: None,
    };
    Heard { at: at(seconds), state }
}

fn plan() -> Plan {
    Plan { canaries: vec![name("a")], waves: vec![1000], soak: 60, patience: 120, most: 2, late: 0 }
}

fn fleet(hosts: &[(&str, Heard)]) -> BTreeMap<Name, Heard> {
    hosts.iter().map(|(host, heard)| (name(host), heard.clone())).collect()
}

/// Begun at 0 with two hosts that speak and one that has been silent for long.
fn begun() -> RollOut {
    let hosts = fleet(&[
        ("a", heard(0, 1, Some(OLD))),
        ("b", heard(0, 0, Some(OLD))),
        ("c", heard(-1000, 0, Some(OLD))),
    ]);
    let announced = Announcement::to_all(OLD);
    RollOut::begin((NEW, plan()), Some(&announced), &hosts, ("alice".to_owned(), at(0))).unwrap()
}

#[test]
fn it_goes_on_wave_by_wave_while_it_does_no_harm() {
    let spreading = |wave, since| Stage::Spreading { wave, since: at(since) };
    let soaking = |wave, since| Stage::Soaking { wave, since: at(since) };
    let new = |seconds, denied| heard(seconds, denied, Some(NEW));
    let old = |seconds| heard(seconds, 0, Some(OLD));
    let refused = |seconds| {
        let mut host = old(seconds);
        host.state.policy.refused =
            Some(RefusedBundle { version: 2, sha256: Some(NEW.sha256), why: "no".to_owned() });
        host
    };
    let halts = |why: &'static str| Err(why);
    for (what, stage, now, a, b, expected) in [
        ("nobody has it yet", spreading(0, 0), 10, old(5), old(5), Ok(None)),
        ("the first has it", spreading(0, 0), 10, new(5, 1), old(5), Ok(Some(soaking(0, 10)))),
        ("it soaks", soaking(0, 10), 69, new(60, 1), old(60), Ok(None)),
        ("it has", soaking(0, 10), 70, new(60, 1), old(60), Ok(Some(spreading(1, 70)))),
        ("others are waited for", spreading(1, 70), 99, new(90, 1), old(90), Ok(None)),
        ("all have it", spreading(1, 70), 99, new(90, 1), new(90, 0), Ok(Some(soaking(1, 99)))),
        (
            "done",
            soaking(1, 99),
            159,
            new(150, 1),
            new(150, 0),
            Ok(Some(Stage::Done { at: at(159) })),
        ),
        ("two lost theirs, and may", soaking(0, 10), 20, new(15, 3), old(15), Ok(None)),
        ("three did", soaking(0, 10), 20, new(15, 4), old(15), halts("3 more VMs have")),
        (
            "also while it spreads",
            spreading(1, 70),
            80,
            new(75, 2),
            new(75, 2),
            halts("3 more VMs"),
        ),
        (
            "who does not go by it counts not",
            soaking(0, 10),
            20,
            new(15, 1),
            heard(15, 9, Some(OLD)),
            Ok(None),
        ),
        (
            "one that had fewer makes up for none",
            spreading(1, 70),
            80,
            new(75, 0),
            new(75, 3),
            halts("3 more VMs"),
        ),
        ("refused", spreading(0, 0), 10, refused(5), old(5), halts("a does not take it: no")),
        (
            "refused by one whose turn it is not",
            spreading(0, 0),
            10,
            new(5, 1),
            refused(5),
            Ok(Some(soaking(0, 10))),
        ),
        ("in no time", spreading(0, 0), 120, old(115), old(115), halts("a did not go by it")),
        (
            "silent in a soak",
            soaking(0, 10),
            200,
            new(100, 1),
            old(190),
            Ok(Some(spreading(0, 200))),
        ),
        (
            "or so it seems to who begins to look",
            soaking(0, 10),
            19,
            new(-100, 1),
            old(15),
            Ok(None),
        ),
        (
            "and goes by another in it",
            soaking(0, 10),
            20,
            old(15),
            old(15),
            Ok(Some(spreading(0, 20))),
        ),
    ] {
        let roll_out = RollOut { stage, ..begun() };
        let progress = roll_out.progress(&fleet(&[("a", a), ("b", b)]), at(now));
        let next = roll_out.next(&progress, at(now), seconds(now - since(&roll_out.stage)));
        match expected {
            Ok(expected) => assert_eq!(next, expected, "{what}"),
            Err(words) => match next {
                Some(Stage::Halted { why, .. }) => assert!(why.contains(words), "{what}: {why}"),
                other => panic!("{what}: {other:?}"),
            },
        }
    }
    for stage in
        [Stage::Done { at: at(1) }, Stage::Halted { wave: 0, at: at(1), why: String::new() }]
    {
        let over = RollOut { stage, ..begun() };
        assert_eq!(over.next(&Progress::default(), at(9999), seconds(9999)), None);
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap())
}

/// When a stage began.
fn since(stage: &Stage) -> i64 {
    let (Stage::Spreading { since, .. } | Stage::Soaking { since, .. }) = stage else { return 0 };
    since.as_second() - at(0).as_second()
}

#[test]
fn only_what_somebody_has_watched_is_time_without_harm_or_time_to_take_it() {
    let soaking = Stage::Soaking { wave: 0, since: at(0) };
    let spreading = Stage::Spreading { wave: 0, since: at(0) };
    let (new, old) = (heard(9990, 1, Some(NEW)), heard(9990, 1, Some(OLD)));
    for (stage, a, watched, goes_on) in [
        (&soaking, &new, 59, false),
        (&soaking, &new, 60, true),
        (&spreading, &old, 119, false),
        (&spreading, &old, 120, true),
    ] {
        let roll_out = RollOut { stage: stage.clone(), ..begun() };
        let progress = roll_out.progress(&fleet(&[("a", a.clone())]), at(9999));
        let next = roll_out.next(&progress, at(9999), seconds(watched));
        assert_eq!(next.is_some(), goes_on, "{stage:?} {watched}");
    }
}

#[test]
fn so_many_hosts_may_be_late_as_the_plan_says() {
    let stage = Stage::Spreading { wave: 1, since: at(0) };
    let roll_out =
        |late| RollOut { plan: Plan { late, ..plan() }, stage: stage.clone(), ..begun() };
    let one = fleet(&[("a", heard(110, 1, Some(NEW))), ("b", heard(110, 0, Some(OLD)))]);
    for (late, watched, expected) in
        [(0, 119, None), (0, 120, Some("halted")), (1, 119, None), (1, 120, Some("soaking"))]
    {
        let roll_out = roll_out(late);
        let next = roll_out.next(&roll_out.progress(&one, at(120)), at(120), seconds(watched));
        let next = next.map(|next| match next {
            Stage::Soaking { wave: 1, .. } => "soaking",
            Stage::Halted { .. } => "halted",
            other => panic!("{other:?}"),
        });
        assert_eq!(next, expected, "{late} {watched}");
    }
    // And it soaks with one that is late.
    let soaks = RollOut { stage: Stage::Soaking { wave: 1, since: at(0) }, ..roll_out(1) };
    let next = soaks.next(&soaks.progress(&one, at(120)), at(120), seconds(120));
    assert_eq!(next, Some(Stage::Done { at: at(120) }));
}

#[test]
fn another_bundle_of_the_same_number_that_was_refused_is_another_one() {
    let refuses = |sha256| {
        let mut host = heard(5, 1, Some(OLD));
        let refused = RefusedBundle { version: 2, sha256, why: "no".to_owned() };
        host.state.policy.refused = Some(refused);
        begun().progress(&fleet(&[("a", host)]), at(10)).refused.len()
    };
    // At whatever length that host says so: it is stopped.
    let mut host = heard(5, 1, Some(OLD));
    let why = "\u{1b}x".repeat(100_000);
    host.state.policy.refused = Some(RefusedBundle { version: 2, sha256: None, why });
    let progress = begun().progress(&fleet(&[("a", host)]), at(10));
    let stage = begun().next(&progress, at(10), seconds(0)).unwrap();
    assert!(serde_json::to_string(&RollOut { stage, ..begun() }).unwrap().len() < 10_000);
    let others = [refuses(Some(OLD.sha256)), refuses(Some(NEW.sha256)), refuses(None)];
    assert_eq!(others, [0, 1, 1]);
}

#[test]
fn a_host_that_was_away_is_not_waited_for_and_its_vms_count_when_it_is_back() {
    let roll_out = RollOut { stage: Stage::Spreading { wave: 1, since: at(0) }, ..begun() };
    let c = |denied| ("c", heard(5, denied, Some(NEW)));
    let rest = || [("a", heard(5, 1, Some(NEW))), ("b", heard(5, 0, Some(NEW)))];
    let stands = |more: Vec<(&str, Heard)>| {
        let progress = roll_out.progress(&fleet(&[rest().to_vec(), more].concat()), at(10));
        (progress.hosts, progress.waiting.len(), progress.cut_off)
    };
    assert_eq!(stands(vec![]), (2, 0, 0));
    assert_eq!(stands(vec![c(3)]), (2, 0, 3));
    // Of a host that nobody knew there is nothing to compare with.
    assert_eq!(stands(vec![("d", heard(5, 7, Some(NEW)))]), (2, 0, 0));
}

#[test]
fn what_was_stopped_or_is_done_is_taken_back_and_shows_who_still_has_it() {
    let done = RollOut { stage: Stage::Done { at: at(1) }, ..begun() };
    for stage in [begun().stage, Stage::Soaking { wave: 1, since: at(0) }, done.stage] {
        let stage = RollOut { stage, ..begun() }.halt("enough", at(9)).unwrap();
        let halted = RollOut { stage, ..begun() };
        assert_eq!(halted.announcement().withdrawn, [NEW]);
        assert_eq!(halted.announcement().version_for(&name("a")), Some(OLD));
        assert_eq!(halted.halt("once more", at(10)), None);
        let mut stays = heard(5, 1, Some(NEW));
        let why = "it was withdrawn, and stays".to_owned();
        let refused = RefusedBundle { version: 2, sha256: Some(NEW.sha256), why };
        stays.state.policy.refused = Some(refused);
        // One that took it later than it was waited for, too.
        let hosts = [("a", stays), ("b", heard(5, 0, Some(OLD))), ("d", heard(5, 0, Some(NEW)))];
        let progress = halted.progress(&fleet(&hosts), at(10));
        assert_eq!((progress.hosts, progress.waiting), (2, vec![name("a"), name("d")]));
        assert_eq!(progress.refused.len(), 1);
    }
}

#[test]
fn only_what_hosts_would_take_follows() {
    let version = |number, text| Version { number, sha256: Digest([text; 32]) };
    let all = Announcement::to_all(version(5, 5));
    let some = Announcement { hosts: vec![name("a")], others: Some(version(4, 4)), ..all.clone() };
    let withdrawn =
        Announcement { withdrawn: vec![version(7, 7)], ..Announcement::to_all(version(5, 5)) };
    for (announced, next, expected) in [
        (&all, version(6, 6), Ok(())),
        (&all, version(5, 5), Err(BadPlan::Already(5))),
        (&all, version(5, 9), Err(Unfit::OtherText(5).into())),
        (&all, version(4, 4), Err(Unfit::Older(5).into())),
        (&some, version(5, 5), Ok(())),
        (&withdrawn, version(7, 7), Err(Unfit::Withdrawn(7).into())),
        (&withdrawn, version(7, 9), Err(Unfit::OtherText(7).into())),
        (&withdrawn, version(6, 6), Err(Unfit::Older(7).into())),
        (&withdrawn, version(8, 8), Ok(())),
    ] {
        let hosts = fleet(&[("a", heard(0, 0, None))]);
        let by = ("alice".to_owned(), at(0));
        let begun = RollOut::begin((next, plan()), Some(announced), &hosts, by).map(drop);
        assert_eq!(begun, expected, "{announced:?} {next:?}");
    }
    // Where some are offered another one the others are to have what they were.
    let next = some.followed_by(version(6, 6), vec![name("b")]);
    let told = |host| next.version_for(&name(host)).map(|version| version.number);
    assert_eq!((told("a"), told("b")), (Some(4), Some(6)));
    assert_eq!(all.followed_by(version(6, 6), vec![]).others, None);
}

#[test]
fn hosts_are_told_what_is_theirs_at_each_stage() {
    let told = |stage: Stage, host: &str| {
        let announcement = RollOut { stage, ..begun() }.announcement();
        announcement.version_for(&name(host)).map(|version| version.number)
    };
    let stage = |wave| Stage::Spreading { wave, since: at(0) };
    let halted = || Stage::Halted { wave: 1, at: at(0), why: String::new() };
    for (stage, a, b) in [
        (stage(0), 2, 1),
        (Stage::Soaking { wave: 0, since: at(0) }, 2, 1),
        (stage(1), 2, 2),
        (Stage::Done { at: at(0) }, 2, 2),
        (halted(), 1, 1),
    ] {
        assert_eq!(
            (told(stage.clone(), "a"), told(stage.clone(), "b")),
            (Some(a), Some(b)),
            "{stage:?}"
        );
    }
    let over = RollOut { stage: halted(), ..begun() }.announcement();
    assert_eq!(over.withdrawn, [NEW]);
    // Where there was none before, there is none after.
    let first = RollOut { before: None, stage: halted(), ..begun() }.announcement();
    assert_eq!((first.version_for(&name("a")), first.settled()), (None, None));
    // The next one remembers, and does not go back to what was withdrawn.
    let third = Version { number: 3, sha256: Digest([3; 32]) };
    let hosts = fleet(&[("a", heard(0, 0, None))]);
    let next =
        RollOut::begin((third, plan()), Some(&first), &hosts, (String::new(), at(0))).unwrap();
    assert_eq!((next.before, next.withdrawn), (None, vec![NEW]));
}

#[test]
fn a_plan_that_is_none_is_refused() {
    let waves = |waves: &[u16]| Plan { waves: waves.to_vec(), ..plan() };
    for bad in [&[][..], &[0, 1000], &[500], &[500, 500, 1000], &[500, 100, 1000], &[1000, 2000]] {
        assert!(matches!(waves(bad).check(), Err(BadPlan::Waves(_))), "{bad:?}");
    }
    assert_eq!(waves(&[100, 500, 1000]).check(), Ok(()));
    assert_eq!(Plan { patience: 0, ..plan() }.check(), Err(BadPlan::NoTime));
    let silent = fleet(&[("a", heard(-1000, 0, None))]);
    let begun = RollOut::begin((NEW, plan()), None, &silent, (String::new(), at(0)));
    assert_eq!(begun, Err(BadPlan::Silent(name("a"))));
    // Nobody of whom nothing is heard shows whether a bundle does harm.
    let unnamed = || Plan { canaries: Vec::new(), waves: vec![1, 1000], ..plan() };
    let one = fleet(&[("a", heard(0, 0, None))]);
    for hosts in [silent, one, fleet(&[])] {
        let begun = RollOut::begin((NEW, unnamed()), None, &hosts, (String::new(), at(0)));
        assert_eq!(begun, Err(BadPlan::Nobody));
    }
}
