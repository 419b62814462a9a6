//! What people say of findings, and what helps them: who is behind one.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use detector_common::samples::{BROADCAST, UDP, dhcp, ethernet, ipv4, udp};
use detector_tests::artefacts;
use detector_tests::daemon::Daemon;
use detector_tests::frames::Station;
use detector_tests::link;
use detector_tests::scene::{PATIENCE, Scene, beat};
use serde_json::Value;

use super::{await_that, place, settings};

fn lines(scene: &Scene) -> Vec<String> {
    let text = std::fs::read_to_string(scene.host().path("alerts.jsonl")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn daemon(scene: &Scene) -> Daemon<'_> {
    let log = scene.host().path("alerts.jsonl");
    let sinks = format!("[[alerts.file]]\nname = \"file\"\npath = {log:?}\n");
    Daemon::start(scene.host(), &settings(&sinks)).unwrap()
}

/// A DHCP client's first message, with the options that it wants and its vendor class.
fn discover(client: Station) -> Vec<u8> {
    let mut message = dhcp(1, client.mac)[..236].to_vec();
    message.extend([0x63, 0x82, 0x53, 0x63, 53, 1, 1, 55, 4, 1, 3, 6, 15, 60, 8]);
    message.extend(b"MSFT 5.0\xff");
    let packet = ipv4([0; 4], UDP, &udp(68, 67, &message));
    ethernet(BROADCAST, client.mac, &[], 0x0800, &packet)
}

fn finding(daemon: &Daemon<'_>, port: &str) -> Option<Value> {
    let list = daemon.ask(&["finding", "list"]).unwrap().json;
    let mut found = list["findings"].as_array().unwrap().iter();
    found.find(|one| one["kind"] == "unknown-port" && one.to_string().contains(port)).cloned()
}

#[test]
fn what_was_said_outlasts_the_daemon_and_ends_when_it_should() {
    let scene = Scene::new().unwrap();
    let mut daemon = daemon(&scene);
    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    let id = finding(&daemon, "stray0").unwrap()["id"].as_str().unwrap().to_owned();
    let ack = daemon.ask(&["finding", "ack", &id, "--reason", "I am on it"]).unwrap();
    assert_eq!((ack.code, &ack.json["mark"]["user"]), (0, &Value::from("root")), "{ack:?}");
    await_that(&daemon, "it to be told", || {
        place(&lines(&scene), &["I am on it", "\"status\":\"In Progress\""]).is_some()
    });
    let kind = ["finding", "suppress", "unknown-port", "--for", "1h", "--reason", "a test"];
    let suppressed = daemon.ask(&kind).unwrap();
    assert_eq!(suppressed.code, 0, "{suppressed:?}");
    await_that(&daemon, "the suppression to be told", || {
        place(&lines(&scene), &["\"status\":\"Suppressed\""]).is_some()
    });

    daemon.kill().unwrap();
    daemon.run().unwrap();
    let _second = scene.plug("stray1").unwrap();
    daemon.await_finding("unknown-port", "stray1", PATIENCE).unwrap();
    await_that(&daemon, "the marks", || {
        let [one, other] =
            ["stray0", "stray1"].map(|port| finding(&daemon, port).unwrap_or_default());
        one["acknowledged"]["why"] == "I am on it" && other["suppressed"]["why"] == "a test"
    });
    let shown = daemon.show(&["finding", "show", &id]).unwrap();
    assert!(shown.contains("T1564.006") && shown.contains("I am on it"), "{shown}");
    assert_eq!(place(&lines(&scene), &["stray1"]), None, "nobody is told of what is suppressed");
    let end = daemon.ask(&["finding", "unsuppress", "unknown-port"]).unwrap();
    assert_eq!(end.code, 0, "{end:?}");
    await_that(&daemon, "what was hidden", || place(&lines(&scene), &["stray1"]).is_some());
    // One for a moment ends by itself, and one for what is not there is refused.
    let id = finding(&daemon, "stray1").unwrap()["id"].as_str().unwrap().to_owned();
    daemon.ask(&["finding", "suppress", &id, "--for", "1s", "--reason", "x"]).unwrap();
    await_that(&daemon, "it to be told again", || {
        let lines = lines(&scene);
        let suppressed = place(&lines, &["stray1", "\"status\":\"Suppressed\""]);
        suppressed.is_some_and(|at| place(&lines[at..], &["\"activity_id\":1", "stray1"]).is_some())
    });
    for (words, says) in [
        (&["finding", "ack", "nothing", "--reason", "x"][..], "detector finding list"),
        (&["finding", "suppress", "rogue-vm", "--for", "9000d", "--reason", "x"], "366 days"),
        (&["finding", "suppress", "rogue-vm", "--for", "1h", "--reason", " "], "reason"),
        (&["finding", "unsuppress", "rogue-vm"], "not suppressed"),
    ] {
        let answer = daemon.ask(words).unwrap();
        assert!(answer.code == 1 && answer.complaint.contains(says), "{words:?}: {answer:?}");
    }
    // What has ended and comes again has not been seen to.
    drop(stray);
    await_that(&daemon, "its end", || finding(&daemon, "stray0").is_none());
}

#[test]
fn an_alert_says_who_holds_the_tap_and_what_came_first() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene);
    let host = scene.host();
    let mut command = Command::new(artefacts::holder().unwrap());
    command.args(["tap", "held0"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = host.spawn(&mut command).unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    host.network().ip("link set held0 up").unwrap();
    link::enslave(host.network(), "held0", "br0").unwrap();
    await_that(&daemon, "who holds it", || {
        place(&lines(&scene), &["held0", "\"process\":", "of root (0)", "tap held0"]).is_some()
    });
    holder.kill().unwrap();
    holder.wait().unwrap();

    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    stray.send(&beat(Station::number(99), 1)).unwrap();
    await_that(&daemon, "what it sent first", || {
        let layers = "\"layer\":[\"Ethernet: ";
        let says =
            ["stray0", "\"first frame\":\"an IPv4 packet from ", layers, "\"UDP: ", "\"vendor\":"];
        place(&lines(&scene), &says).is_some()
    });
    // What it asks for is heard though its frames are dropped.
    await_that(&daemon, "what it asks for", || {
        stray.send(&discover(Station::number(99))).unwrap();
        let says = "wants options 1,3,6,15, vendor class \\\"MSFT 5.0\\\"";
        place(&lines(&scene), &["stray0", says]).is_some()
    });
}
