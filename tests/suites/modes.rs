//! Observing and enforcing, for good and for a while: what is provisional ends in the kernel, whoever is dead by
//! then.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "modes/places.rs"]
mod places;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use detector_tests::daemon::Daemon;
use detector_tests::flow::Flow;
use detector_tests::frames::{self, Station};
use detector_tests::order::in_order;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, same, stream, vm};
use detector_tests::tap::Tap;
use detector_tests::wait;
use serde_json::Value;

const A: Station = Station::number(10);
const HELD: Station = Station::number(11);
const DENIED: Station = Station::number(20);
const STRAY: Station = Station::number(99);

fn inventory() -> Vec<String> {
    let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
    vec![vm("a", "tap-a", A), vm("held", "tap-h", HELD), denied]
}

fn said(daemon: &Daemon<'_>, words: &[&str]) -> Value {
    let answer = daemon.ask(words).unwrap();
    assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    answer.json
}

/// The restart of a host: nothing of what was pinned is left.
fn reboot(scene: &Scene, daemon: &mut Daemon<'_>) {
    daemon.kill().unwrap();
    let pins = scene.host().inside("/sys/fs/bpf/detector".as_ref());
    std::fs::remove_dir_all(pins).unwrap();
    daemon.run().unwrap();
}

fn mode(daemon: &Daemon<'_>) -> (String, String) {
    let status = daemon.ask(&["status"]).unwrap().json;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&status["mode"]), text(&status["mode_detail"]["standing"]))
}

fn quarantined(daemon: &Daemon<'_>) -> BTreeSet<(String, String)> {
    let list = said(daemon, &["quarantine", "list"]);
    let entries = list["quarantines"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    entries.map(|entry| (text(&entry["name"]), text(&entry["cause"]))).collect()
}

fn pair(name: &str, cause: &str) -> (String, String) {
    (name.to_owned(), cause.to_owned())
}

/// The numbers of the first and the last frame of the longest silence, both not heard.
fn silence(scene: &Scene, station: Station) -> std::ops::Range<u64> {
    Flow::of(&scene.outside().unwrap(), station.mac).longest_gap()
}

/// Whoever enforces over the network that it cuts off gets it back, with the daemon dead and without any doing;
/// only what people have quarantined stays cut off.
#[test]
fn nobody_confirms_and_the_daemon_is_dead() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("observe", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let held = scene.plug_granted(&daemon, "tap-h").unwrap();
    let denied = scene.plug("tap-d").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    said(&daemon, &["quarantine", "add", "vm", "held", "--reason", "by hand"]);
    let taps = [(&a, A), (&held, HELD), (&denied, DENIED), (&stray, STRAY)];
    let (mut begun, mut dead) = (0, 0);
    let sent =
        stream(&taps, |more| {
            begun = more(50);
            let within = format!("{}s", wait::scaled(Duration::from_secs(3)).as_secs());
            let answer = said(&daemon, &["enforce", "--confirm-within", &within]);
            assert_eq!(
                (&answer["standing"], &answer["source"]),
                (&"provisional".into(), &"daemon".into())
            );
            let both = BTreeSet::from([pair("denied", "verdict"), pair("held", "operator")]);
            wait::until("the quarantine", PATIENCE, || {
                Ok((quarantined(&daemon) == both).then_some(()))
            })
            .unwrap();
            daemon.kill().unwrap();
            dead = more(50);
            let heard = |station: Station| {
                let frames = scene.outside().unwrap();
                Flow::of(&frames, station.mac).last_seq().is_some_and(|last| last > dead)
            };
            for station in [DENIED, STRAY] {
                wait::until("the end in the kernel", PATIENCE, || Ok(heard(station).then_some(())))
                    .unwrap();
            }
            more(50);
        });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    for station in [DENIED, STRAY] {
        let gap = silence(&scene, station);
        assert!(
            gap.start > begun && gap.start < dead && gap.end > dead,
            "{gap:?}: {begun}, {dead}"
        );
    }
    let frames = scene.outside().unwrap();
    assert_eq!(Flow::of(&frames, HELD.mac).last_seq(), None, "a person's stays");

    daemon.run().unwrap();
    daemon.await_finding("enforcing-lapsed", "", PATIENCE).unwrap();
    assert_eq!(quarantined(&daemon), BTreeSet::from([pair("held", "operator")]));
    assert_eq!(mode(&daemon), ("observe".into(), "confirmed".into()));
    let refused = daemon.ask(&["enforce", "confirm"]).unwrap();
    assert_eq!(refused.code, 1);
    assert!(refused.complaint.contains("is over"), "{refused:?}");
}

/// Streams from a tap that nobody knows, and says of each frame whether it is heard.
fn is_heard(scene: &Scene, stray: &Tap, number: u64) -> bool {
    let frame = beat(STRAY, number);
    stray.send(&frame).unwrap();
    wait::pause(SILENCE);
    scene.copies_outside(&frame).unwrap() > 0
}

#[test]
fn what_is_confirmed_outlives_its_time_and_the_host_and_what_is_not_does_not() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("observe", &inventory()).unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    assert!(is_heard(&scene, &stray, 1));

    said(&daemon, &["enforce", "--confirm-within", "1h"]);
    assert!(!is_heard(&scene, &stray, 2));
    reboot(&scene, &mut daemon);
    assert_eq!(mode(&daemon), ("observe".into(), "confirmed".into()), "it was not confirmed");
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    assert!(is_heard(&scene, &stray, 3));

    said(&daemon, &["enforce", "--confirm-within", "2s", "--reason", "incident 42"]);
    let confirmed = said(&daemon, &["enforce", "confirm"]);
    assert_eq!((&confirmed["mode"], &confirmed["until"]), (&"enforce".into(), &Value::Null));
    wait::pause(Duration::from_secs(3));
    assert!(!is_heard(&scene, &stray, 4), "its time is over, and it was confirmed");
    reboot(&scene, &mut daemon);
    assert_eq!(mode(&daemon), ("enforce".into(), "confirmed".into()));
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    assert!(!is_heard(&scene, &stray, 5));

    said(&daemon, &["break-glass", "--for", "1h", "--reason", "the network is down"]);
    assert!(is_heard(&scene, &stray, 6));
    reboot(&scene, &mut daemon);
    assert_eq!(mode(&daemon), ("enforce".into(), "confirmed".into()), "the glass is mended");
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    assert!(!is_heard(&scene, &stray, 7));
}

#[test]
fn with_the_daemon_dead_the_pins_are_changed() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    daemon.freeze().unwrap();
    // It lives, and holds the pins: nobody goes behind its back.
    let locked = daemon.ask(&["break-glass", "--for", "1h", "--reason", "x"]).unwrap();
    daemon.resume().unwrap();
    assert_eq!(locked.code, 1, "{locked:?}");
    daemon.kill().unwrap();

    let confirm = daemon.ask(&["enforce", "confirm"]).unwrap();
    assert_eq!(confirm.code, 1, "{confirm:?}");
    assert!(confirm.complaint.contains("nothing to confirm"), "{confirm:?}");
    let enforce = daemon.ask(&["enforce"]).unwrap();
    assert_eq!(enforce.code, 1, "to begin needs somebody who judges: {enforce:?}");
    let glass = daemon.ask(&["break-glass", "--for", "3s", "--reason", "incident 42"]).unwrap();
    assert_eq!((glass.code, &glass.json["source"]), (0, &"pins".into()), "{glass:?}");
    assert!(glass.complaint.contains("pinned maps"), "{glass:?}");
    assert!(is_heard(&scene, &stray, 1));
    let mut number = 1;
    wait::until("the end in the kernel", PATIENCE, || {
        number += 1;
        Ok((!is_heard(&scene, &stray, number)).then_some(()))
    })
    .unwrap();

    said(&daemon, &["break-glass", "--for", "1h", "--reason", "incident 43"]);
    daemon.run().unwrap();
    let finding = daemon.await_finding("break-glass", "incident 43", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "critical");
    assert!(finding["title"].as_str().unwrap().contains("uid 0"), "{finding}");
    assert!(is_heard(&scene, &stray, number + 1));
    said(&daemon, &["enforce"]);
    assert!(!is_heard(&scene, &stray, number + 2));
    daemon.terminate().unwrap();
    said(&daemon, &["observe"]);
    reboot_dead(&scene);
    daemon.run().unwrap();
    assert_eq!(mode(&daemon).0, "observe", "what is said without a daemon is kept too");
}

/// The same while no daemon runs.
fn reboot_dead(scene: &Scene) {
    let pins = scene.host().inside("/sys/fs/bpf/detector".as_ref());
    std::fs::remove_dir_all(pins).unwrap();
}

/// What a claim is, and how often it was made: port, MAC, address, reason.
type Claims = BTreeMap<[String; 4], u64>;

fn claims(preview: &Value) -> Claims {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ports = preview["ports"].as_array().unwrap().iter();
    let of_port = |port: &Value| -> Vec<_> {
        let all = port["claims"].as_array().unwrap().iter();
        let claim = |claim: &Value| {
            let key = [&port["name"], &claim["mac"], &claim["address"], &claim["reason"]].map(text);
            (key, claim["count"].as_u64().unwrap())
        };
        all.map(claim).collect()
    };
    let guests = ports.filter(|port| port["role"] == "guest");
    guests.flat_map(of_port).collect()
}

/// The frames that arrive outside, by their number in the list; the last of all shows that no more come.
fn play(scene: &Scene, frames: &[(&Tap, Vec<u8>)], last: &(&Tap, Vec<u8>)) -> BTreeSet<usize> {
    let seen = scene.outside().unwrap().len();
    in_order(|| {
        for (tap, frame) in frames {
            tap.send(frame).unwrap();
        }
        last.0.send(&last.1).unwrap();
    });
    let arrived = scene.outside_until("the last frame", seen, &last.1).unwrap();
    let came = |frame: &[u8]| arrived.iter().any(|one| same(&one.bytes, frame));
    (0..frames.len()).filter(|number| came(&frames[*number].1)).collect()
}

#[test]
fn a_dry_run_says_exactly_what_enforcing_cuts() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("observe", &inventory()).unwrap();
    let nothing = daemon.ask(&["enforce", "--dry-run"]).unwrap();
    assert_eq!((nothing.code, claims(&nothing.json).len()), (3, 0), "a VM is denied");
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let denied = scene.plug("tap-d").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    daemon.await_port("stray0", "pending", PATIENCE).unwrap();
    let spoofed_ip = Station { ip: HELD.ip, ..A };
    let spoofed_mac = Station { mac: [2, 0, 0, 0, 0, 7], ..A };
    let played: Vec<(&Tap, Vec<u8>)> = vec![
        (&a, beat(A, 1)),
        (&a, beat(spoofed_ip, 2)),
        (&a, beat(spoofed_mac, 3)),
        (&a, frames::arp(A, HELD.ip)),
        (&a, frames::arp(spoofed_ip, A.ip)),
        (&a, frames::other(A, 0x88cc, &[0; 46])),
        (&a, frames::rarp(A.mac)),
        (&a, frames::router_advertisement(A)),
        (&denied, beat(DENIED, 5)),
        (&stray, beat(STRAY, 6)),
    ];
    let all: BTreeSet<usize> = (0..played.len()).collect();
    assert_eq!(play(&scene, &played, &(&a, beat(A, 100))), all, "in observe mode all arrive");

    let preview = daemon.ask(&["enforce", "--dry-run"]).unwrap();
    assert_eq!(preview.code, 3);
    let vms = preview.json["vms"].as_array().unwrap().iter();
    let vms: Vec<_> = vms.map(|vm| (&vm["vm"]["name"], &vm["status"])).collect();
    assert_eq!(vms, [(&"denied".into(), &"denied".into())]);
    let ports = preview.json["ports"].as_array().unwrap().iter();
    let mute: BTreeSet<_> = ports
        .filter(|port| port["mute"] == true)
        .filter_map(|port| port["name"].as_str())
        .collect();
    assert_eq!(mute, BTreeSet::from(["stray0", "tap-d"]));
    let predicted = claims(&preview.json);
    let ports = preview.json["ports"].as_array().unwrap();
    assert!(ports.iter().all(|port| port["unlisted"] == 0), "it is all there is: {ports:?}");
    let text = daemon.show(&["enforce", "--dry-run"]).unwrap();
    for [port, mac, address, reason] in predicted.keys() {
        let said = [port, mac, address, reason].iter().all(|word| text.contains(word.as_str()));
        assert!(said, "{port} {mac} {address} {reason}: {text}");
    }

    said(&daemon, &["enforce", "--confirm-within", "1h"]);
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    let arrived = play(&scene, &played, &(&a, beat(A, 101)));
    let cut = played.len() - arrived.len();
    assert_eq!(
        arrived,
        BTreeSet::from([0, 3, 6]),
        "the beat, the ARP request and the announcement"
    );
    // Each of them once more, and nothing that was not foretold.
    let again = claims(&daemon.ask(&["enforce", "--dry-run"]).unwrap().json);
    let keys = |claims: &Claims| claims.keys().cloned().collect::<BTreeSet<_>>();
    assert_eq!(keys(&again), keys(&predicted));
    let once_more: u64 = again.iter().map(|(key, count)| count - predicted[key]).sum();
    assert_eq!(once_more, cut as u64, "{again:?}");
    assert_eq!(predicted.values().sum::<u64>(), cut as u64, "{predicted:?}");
}

/// Of a port that claims more than is kept a dry run does not know all, and says so.
#[test]
fn a_dry_run_that_does_not_know_all_says_so() {
    const CLAIMS: u8 = 40;
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("observe", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let spoofed = |number| beat(Station { mac: [2, 0, 0, 0, 1, number], ..A }, number.into());
    let played: Vec<(&Tap, Vec<u8>)> = (0..CLAIMS).map(|number| (&a, spoofed(number))).collect();
    play(&scene, &played, &(&a, beat(A, 100)));
    let preview = daemon.ask(&["enforce", "--dry-run"]).unwrap().json;
    let listed: u64 = claims(&preview).values().sum();
    let mut ports = preview["ports"].as_array().unwrap().iter();
    let port = ports.find(|port| port["name"] == "tap-a").unwrap();
    assert!(listed < CLAIMS.into(), "there are not as many places: {port}");
    assert_eq!(port["unlisted"], u64::from(CLAIMS) - listed, "{port}");
    let text = daemon.show(&["enforce", "--dry-run"]).unwrap();
    assert!(text.contains("This is not all of it"), "{text}");
    let shown = daemon.show(&["port", "show", "tap-a"]).unwrap();
    assert!(shown.contains("by claims that are not listed"), "{shown}");
}

#[test]
fn under_maintenance_nothing_is_taken_away_and_nothing_given() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    said(&daemon, &["maintenance", "--for", "1h", "--reason", "the images move"]);
    daemon.await_finding("maintenance", "the images move", PATIENCE).unwrap();
    // The template of all of them is gone.
    let denied = inventory().concat().replace("\"lab\"", "\"no such template\"");
    daemon.write_inventory(&denied).unwrap();
    wait::until("the denial", PATIENCE, || {
        let shown = daemon.ask(&["vm", "show", "a"])?.json;
        Ok((shown["status"] == "denied").then_some(()))
    })
    .unwrap();
    let held = scene.plug("tap-h").unwrap();
    daemon.await_port("tap-h", "pending", PATIENCE).unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("what is in force", &beat(A, 1)).unwrap();
    held.send(&beat(HELD, 2)).unwrap();
    let before = BTreeSet::from([pair("denied", "verdict")]);
    assert_eq!(quarantined(&daemon), before, "from before");
    said(&daemon, &["maintenance", "--end"]);
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    assert_eq!(scene.copies_outside(&beat(HELD, 2)).unwrap(), 0);
    let quarantines = ["a", "denied", "held"].map(|name| pair(name, "verdict"));
    assert_eq!(quarantined(&daemon), BTreeSet::from(quarantines));
}

#[test]
fn bad_requests_change_nothing() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("observe", &inventory()).unwrap();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["enforce", "confirm"], 1, "nothing to confirm"),
        (&["enforce", "rollback"], 1, "nothing to roll back"),
        (&["enforce", "--confirm-within", "25h"], 1, "1 day"),
        (&["enforce", "--confirm-within", "0s"], 2, "at least one"),
        (&["enforce", "--confirm-within", "soon"], 2, "60s"),
        (&["break-glass", "--for", "30m", "--reason", "x"], 1, "nothing is enforced"),
        (&["break-glass", "--for", "30m"], 2, "--reason"),
        (&["maintenance", "--for", "8d", "--reason", "x"], 1, "7 days"),
        (&["maintenance", "--for", "1h", "--reason", " "], 1, "--reason is empty"),
        (&["maintenance", "--end"], 1, "no maintenance"),
    ];
    for (words, code, complaint) in cases {
        let answer = daemon.ask(words).unwrap();
        assert_eq!(answer.code, *code, "{words:?}: {answer:?}");
        assert!(answer.complaint.contains(complaint), "{words:?}: {answer:?}");
        assert_eq!(mode(&daemon), ("observe".into(), "confirmed".into()), "{words:?}");
    }
}
