//! What is decided and done is on record, can be verified, and nothing that happens to the record changes what is in
//! force.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "audit/faults.rs"]
mod faults;
#[path = "audit/proof.rs"]
mod proof;

use std::path::PathBuf;

use detector_tests::daemon::{Daemon, LAB_TEMPLATE};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, vm};
use detector_tests::tap::Tap;
use detector_tests::wait;
use serde_json::Value;

const A: Station = Station::number(10);
const DENIED: Station = Station::number(20);
const STRAY: Station = Station::number(99);
/// Reorders what follows on a terminal that obeys it.
const REASON: &str = "incident 42 \u{202e}";

fn inventory() -> Vec<String> {
    let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
    vec![vm("a", "tap-a", A), denied]
}

fn said(daemon: &Daemon<'_>, words: &[&str]) -> Value {
    let answer = daemon.ask(words).unwrap();
    assert_eq!(answer.code, 0, "{words:?}: {answer:?}");
    answer.json
}

fn database(scene: &Scene) -> PathBuf {
    scene.host().path("state/audit.db")
}

fn records(daemon: &Daemon<'_>) -> Vec<Value> {
    let list = said(daemon, &["audit", "list", "--limit", "0"]);
    list["records"].as_array().unwrap().clone()
}

/// Waits until there is a record of this kind that leads to this.
fn await_record(daemon: &Daemon<'_>, kind: &str, about: &str, to: &str) -> Value {
    wait::until(&format!("the record {kind} {about} {to}"), PATIENCE, || {
        let found = records(daemon).into_iter().rfind(|record| {
            let subject = &record["subject"];
            record["kind"] == kind
                && (subject["id"] == about || subject["name"] == about)
                && record["to"].as_str().is_some_and(|text| text.starts_with(to))
        });
        Ok(found)
    })
    .unwrap()
}

/// The latest action of this name, and its outcome.
fn action(daemon: &Daemon<'_>, name: &str) -> (Value, Value) {
    let records = records(daemon);
    let asked = |record: &&Value| record["kind"] == "action-asked" && record["to"] == name;
    let asked = records.iter().rfind(asked).unwrap_or_else(|| panic!("{name}: {records:?}"));
    let outcome = records.iter().find(|record| record["of"] == asked["seq"]);
    (asked.clone(), outcome.unwrap_or_else(|| panic!("{name} has no outcome: {records:?}")).clone())
}

/// Nothing is wrong with the chain.
fn assert_verifies(daemon: &Daemon<'_>) {
    let answer = daemon.ask(&["audit", "verify"]).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    assert_eq!(answer.json["faults"], serde_json::json!([]));
    assert!(answer.json["records"].as_u64().unwrap() > 0);
}

/// The granted port works, and a tap that nobody knows does not.
fn assert_in_force(scene: &Scene, a: &Tap, stray: &Tap, number: u64) {
    stray.send(&beat(STRAY, number)).unwrap();
    a.send(&beat(A, number)).unwrap();
    scene.await_outside("the granted one", &beat(A, number)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(STRAY, number)).unwrap(), 0, "the stray one");
}

#[test]
fn decisions_and_actions_are_on_record_with_who_and_why() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _denied = scene.plug("tap-d").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();

    let granted = await_record(&daemon, "port", "tap-a", "granted");
    assert_eq!(granted["who"]["type"], "daemon");
    let denied = await_record(&daemon, "vm", "denied", "quarantined");
    assert!(!denied["evidence"]["not-met"].as_array().unwrap().is_empty(), "{denied}");
    assert!(denied["evidence"]["policy"][0].as_str().unwrap().starts_with("sha256:"), "{denied}");
    await_record(&daemon, "quarantine", "denied", "drop");
    await_record(&daemon, "policy", "built-in", "sha256:");

    said(&daemon, &["quarantine", "add", "vm", "a", "--reason", REASON]);
    let (asked, done) = action(&daemon, "quarantine-add");
    let who = &asked["who"];
    assert_eq!((&who["type"], &who["via"]), (&"person".into(), &"api".into()));
    assert_eq!((&who["uid"], &who["user"]), (&0.into(), &"root".into()), "{who}");
    assert!(who["pid"].as_u64().unwrap() > 0, "{who}");
    assert!(who["command"].as_str().unwrap().contains("quarantine add vm a"), "{who}");
    let login = std::fs::read_to_string("/proc/self/loginuid").unwrap_or_default();
    let login = login.trim().parse().ok().filter(|uid| *uid != u64::from(u32::MAX));
    assert_eq!(who["login_uid"].as_u64(), login);
    assert_eq!((&asked["why"], &done["kind"]), (&REASON.into(), &"action-done".into()));
    let imposed = await_record(&daemon, "quarantine", "a", "drop");
    assert_eq!(imposed["who"]["uid"], 0);
    // Asked for, done, said to be done: in this order.
    let seq = |record: &Value| record["seq"].as_u64().unwrap();
    assert!(seq(&asked) < seq(&imposed) && seq(&imposed) < seq(&done));

    let refused = daemon.ask(&["quarantine", "release", "vm", "denied"]).unwrap();
    assert_eq!(refused.code, 1, "{refused:?}");
    let (_, failed) = action(&daemon, "quarantine-release");
    assert_eq!(failed["kind"], "action-failed");
    assert!(failed["why"].as_str().unwrap().contains("does not meet the policy"), "{failed}");

    said(&daemon, &["observe", "--reason", "the switch is replaced"]);
    assert_eq!(action(&daemon, "observe").1["kind"], "action-done");
    let mode = await_record(&daemon, "mode", "mode", "observe");
    assert_eq!(mode["why"], "the switch is replaced");
    daemon.write_template("lab.toml", &LAB_TEMPLATE.replace("approved", "deprecated")).unwrap();
    await_record(&daemon, "template", "lab", "deprecated");

    assert_verifies(&daemon);
    let shown = daemon.show(&["audit", "show", &seq(&asked).to_string()]).unwrap();
    assert!(shown.contains("incident 42 \\u{202e}") && shown.contains("root"), "{shown}");
    let listed = daemon.show(&["audit", "list", "--kind", "action-asked", "--about", "a"]).unwrap();
    assert!(listed.contains("quarantine-add") && !listed.contains("observe"), "{listed}");
    let wrong = daemon.ask(&["audit", "list", "--kind", "quarantin"]).unwrap();
    assert!(wrong.code == 1 && wrong.complaint.contains("expected one of"), "{wrong:?}");
}

/// Whoever acts while no daemon lives is on record all the same, and reads it.
#[test]
fn what_is_done_to_the_pins_is_on_record() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    daemon.kill().unwrap();
    let mac = "52:54:00:00:00:77";
    said(&daemon, &["quarantine", "add", "mac", mac, "--reason", REASON]);
    said(&daemon, &["quarantine", "release", "mac", mac]);
    said(&daemon, &["break-glass", "--for", "1h", "--reason", "cut off"]);
    let failed = daemon.ask(&["quarantine", "add", "port", "nosuch", "--reason", "x"]).unwrap();
    assert_eq!(failed.code, 1);
    let hook = daemon.ask_hook("late", "<domain/>").unwrap().wait_with_output().unwrap();
    assert!(hook.status.success(), "it starts mute: {hook:?}");
    let start = await_record(&daemon, "admission", "late", "undecided, may start");
    assert_eq!(start["who"]["via"], "hook");
    for _ in 0..2 {
        for (name, kind) in [
            ("quarantine-add", "action-failed"),
            ("quarantine-release", "action-done"),
            ("break-glass", "action-done"),
        ] {
            let (asked, outcome) = action(&daemon, name);
            assert_eq!((&asked["who"]["via"], &outcome["kind"]), (&"pins".into(), &kind.into()));
        }
        assert_verifies(&daemon);
        // And the daemon goes on from there.
        daemon.run().unwrap();
    }
    let kinds: Vec<_> = records(&daemon).iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds.iter().filter(|kind| *kind == "daemon-started").count(), 3);
    assert!(!kinds.contains(&"chain-broken".into()));
}

/// Only one daemon writes: the second one does not get that far.
#[test]
fn a_second_daemon_leaves_the_record_alone() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    await_record(&daemon, "policy", "built-in", "sha256:");
    let refusal = daemon.refusal(&[], &[]).unwrap();
    assert!(refusal.contains("holds the pins"), "{refusal}");
    said(&daemon, &["quarantine", "add", "mac", "52:54:00:00:00:77", "--reason", "x"]);
    let starts = records(&daemon).iter().filter(|one| one["kind"] == "daemon-started").count();
    assert_eq!(starts, 1);
    assert_verifies(&daemon);
}
