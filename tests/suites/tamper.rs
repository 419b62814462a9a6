//! Somebody with the daemon's own capabilities tampers with what is in force, under a stream of frames:
//! it is a finding and is put back, and nothing that is not granted gets through meanwhile.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::time::{Duration, Instant};

use detector_tests::flow::Flow;
use detector_tests::frames::Station;
use detector_tests::guest::hex;
use detector_tests::order::in_order;
use detector_tests::scene::{PATIENCE, Scene, beat, same, stream, vm};
use detector_tests::{bpf, wait};
use serde_json::Value;

#[path = "tamper/cases.rs"]
mod cases;
#[path = "tamper/crime.rs"]
mod crime;

use cases::{CASES, Case};
use crime::Crime;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const DENIED: Station = Station::number(20);
const LEARNER: Station = Station::number(30);
const STRAY: Station = Station::number(99);
/// So long it may take until what somebody has done is undone and told.
const WITHIN: Duration = Duration::from_secs(1);
/// The machine may be busy with other things just then, which says nothing about the daemon.
const ATTEMPTS: usize = 3;

#[test]
fn what_is_tampered_with_is_put_back_and_told_within_a_second() {
    for case in CASES {
        if case.method.is_some_and(|method| method != bpf::method()) {
            continue;
        }
        let mut took = Vec::new();
        while took.last().is_none_or(|last| *last > wait::scaled(WITHIN)) {
            assert!(took.len() < ATTEMPTS, "{}: late each time: {took:?}", case.name);
            took.push(commit(case));
        }
        println!("{}: put back and told after {took:?}", case.name);
    }
}

/// Does it under a stream of frames; how long it takes until all is told. What is told has been put back.
fn commit(case: &Case) -> Duration {
    let name = case.name;
    let scene = Scene::new().unwrap();
    let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
    let learner = vm("learner", "tap-l", LEARNER).replace("addresses", "rule = \"first-come\"\n#");
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), denied, learner]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let learner = scene.plug_granted(&daemon, "tap-l").unwrap();
    let denied = scene.plug("tap-d").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    learner.send(&beat(LEARNER, 0)).unwrap();
    scene.await_outside("what has an address now", &beat(LEARNER, 0)).unwrap();
    let instance = || daemon.ask(&["port", "show", "tap-a"]).unwrap().json["instance"].clone();
    let before = instance();
    let crime = Crime { scene: &scene };
    let mut kept = None;
    let mut noticed = Duration::ZERO;
    let sent = stream(&[(&a, A), (&denied, DENIED), (&stray, STRAY)], |more| {
        more(50);
        let start = Instant::now();
        kept = Some((case.tamper)(&crime));
        let told = |subject: &str, what: &str| {
            let tampered = tampered(&daemon)?;
            let of = tampered.iter().map(Value::to_string).find(|text| text.contains(subject));
            Ok(of.inspect(|found| assert!(found.contains(what), "{name}: {found}")))
        };
        for (subject, what) in case.findings {
            wait::until(&format!("{what} of {subject}"), PATIENCE, || told(subject, what)).unwrap();
        }
        noticed = start.elapsed();
        more(50);
    });
    scene.await_stream(A.mac, sent - 10, sent - 1).unwrap();
    let frames = scene.outside().unwrap();
    assert_eq!(Flow::of(&frames, DENIED.mac).len(), 0, "{name}: of the denied VM");
    assert_eq!(Flow::of(&frames, STRAY.mac).len(), 0, "{name}: of the stray tap");
    assert_eq!(instance(), before, "{name}: the port is the same one");
    assert_eq!(scene.place_of(A.mac).unwrap().as_deref(), Some("tap-a"), "{name}");
    for port in ["tap-a", "tap-d", "stray0", "br0", "up0"] {
        assert!(crime.is_guarded(port), "{name}: {port}");
    }
    drop(kept);
    // What is another's cannot be learned, and what was learned or is free can.
    in_order(|| {
        learner.send(&beat(Station { ip: A.ip, ..LEARNER }, 1)).unwrap();
        learner.send(&beat(LEARNER, 2)).unwrap();
    });
    scene.await_outside("the learned address", &beat(LEARNER, 2)).unwrap();
    let stolen = beat(Station { ip: A.ip, ..LEARNER }, 1);
    assert_eq!(scene.copies_outside(&stolen).unwrap(), 0, "{name}: a's address");
    // The stray tap is judged by its guard again, not only by the gate.
    let count = || -> anyhow::Result<Option<u64>> {
        let port = daemon.ask(&["port", "show", "stray0"])?.json;
        Ok(port["counters"]["from"]["port-pending"].as_u64())
    };
    let then = count().unwrap();
    wait::until("the guard's count", PATIENCE, || {
        stray.send(&beat(STRAY, u64::MAX))?;
        Ok((count()? > then).then_some(()))
    })
    .unwrap();
    noticed
}

/// The findings so far that say that something was tampered with.
fn tampered(daemon: &detector_tests::daemon::Daemon<'_>) -> anyhow::Result<Vec<Value>> {
    let all = daemon.findings()?.into_iter().map(|mut line| line["finding"].take());
    Ok(all.filter(|finding| finding["kind"] == "tampered").collect())
}

/// Rules of somebody else take the stamp away, or put it on: either way nothing gets further than it
/// should, and the counters say why.
#[test]
fn rules_that_touch_the_stamp_let_nothing_through() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let tool = |words: &str| {
        let mut nft = scene.host().network().command("nft");
        assert!(nft.arg(words).status().unwrap().success(), "nft {words}");
    };
    let mark = |value: &str| {
        tool("add table bridge mine");
        // Where br_netfilter is loaded, old kernels (5.10) skip what has the priority of its own, 0.
        tool("add chain bridge mine marks { type filter hook forward priority 1; }");
        tool(&format!("add rule bridge mine marks meta mark set {value}"));
    };
    mark("0");
    for port in ["up0", "tap-b"] {
        wait::until(&format!("{port} to miss the stamp"), PATIENCE, || {
            a.send(&beat(A, 1))?;
            let shown = daemon.ask(&["port", "show", port])?.json;
            Ok((shown["counters"]["to"]["unvetted"].as_u64() > Some(0)).then_some(()))
        })
        .unwrap();
    }
    tool("flush ruleset");
    in_order(|| a.send(&beat(A, 2))).unwrap();
    scene.await_outside("without the rule", &beat(A, 2)).unwrap();
    assert_eq!(scene.copies_outside(&beat(A, 1)).unwrap(), 0, "without the stamp");
    let before = b.until("without the rule", PATIENCE, &beat(A, 2)).unwrap();
    assert!(!before.iter().any(|frame| same(frame, &beat(A, 1))), "without the stamp");

    // Nobody guards the tap, and its frames look vetted.
    mark("0x40000000");
    daemon.kill().unwrap();
    let stray = scene.plug("stray0").unwrap();
    in_order(|| {
        stray.send(&beat(STRAY, 3)).unwrap();
        a.send(&beat(A, 4)).unwrap();
    });
    scene.await_outside("what is really vetted", &beat(A, 4)).unwrap();
    let before = b.until("what is really vetted", PATIENCE, &beat(A, 4)).unwrap();
    assert!(!before.iter().any(|frame| same(frame, &beat(STRAY, 3))), "a forged stamp");
    assert_eq!(scene.copies_outside(&beat(STRAY, 3)).unwrap(), 0, "a forged stamp");
}

#[test]
fn what_is_none_of_ours_is_no_finding() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let crime = Crime { scene: &scene };
    let sent = stream(&[(&a, A)], |more| {
        let _behind = crime.go_behind("tap-a");
        more(50);
        crime.tool("nft", "add table inet mine");
        crime.tool("nft", "flush ruleset");
        crime.tool("bridge", &format!("fdb add {} dev up0 master static", hex(STRAY.mac)));
        // Longer than the daemon takes between two looks.
        more(1000);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    let findings = daemon.findings().unwrap();
    assert!(!findings.iter().any(|f| f["finding"]["kind"] == "tampered"), "{findings:?}");
}
