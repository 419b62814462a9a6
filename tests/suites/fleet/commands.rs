//! What a host is asked by way of its fleet.

use detector_core::fleet::subject::{self, Holder};
use detector_tests::daemon::Daemon;
use detector_tests::nats::{Nats, name};
use detector_tests::scene::{PATIENCE, Scene};
use serde_json::{Value, json};

use super::{await_that, daemon};

const ONE: &str = "00000000-0000-4000-8000-000000000001";
const TWO: &str = "00000000-0000-4000-8000-000000000002";

fn quarantine() -> Value {
    json!({ "quarantine-add": { "target": { "vm": "a" }, "reason": "incident 42" } })
}

#[test]
fn a_command_is_carried_out_once_in_the_name_of_who_asks() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let mut daemon = daemon(&scene, &nats, "role = \"operate\"\n");
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let monitor = nats.monitor().unwrap();
    await_that(&daemon, "the host", || monitor.value("detector-hosts", "h1"));
    let status = monitor.command("h1", ONE, &json!({ "status": {} })).unwrap();
    assert_eq!(status["ok"]["status"]["mode"], "enforce", "{status}");

    let done = monitor.command("h1", TWO, &quarantine()).unwrap();
    assert!(done["ok"]["quarantine"].is_object(), "{done}");
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    let records = |daemon: &Daemon<'_>| {
        daemon.ask(&["audit", "list", "--limit", "0"]).unwrap().json["records"].clone()
    };
    let asked = |records: &Value| -> Vec<Value> {
        let all = records.as_array().unwrap().clone();
        let is = |one: &Value| one["kind"] == "action-asked" && one["to"] == "quarantine-add";
        all.into_iter().filter(is).collect()
    };
    let before = asked(&records(&daemon));
    let who = json!({ "type": "fleet", "monitor": "desk", "user": "alice", "command": TWO });
    assert_eq!((before.len(), &before[0]["who"]), (1, &who), "{before:?}");
    // The same one again, as after an answer that was lost.
    assert_eq!(monitor.command("h1", TWO, &quarantine()).unwrap(), done);
    assert_eq!(asked(&records(&daemon)).len(), 1);
    // Also over a restart: the audit has it.
    daemon.kill().unwrap();
    daemon.run().unwrap();
    let again = await_that(&daemon, "an answer", || monitor.command("h1", TWO, &quarantine()).ok());
    let why = again["error"]["message"].as_str().unwrap_or_default();
    assert!(why.contains("audit"), "{again}");
    assert_eq!(asked(&records(&daemon)).len(), 1);
    // More than the role allows, and what nobody asks from elsewhere.
    let more = json!({ "mode-change": { "change": { "observe": {} }, "reason": "x" } });
    for (id, request, code) in [
        ("00000000-0000-4000-8000-000000000003", more, "forbidden"),
        (
            "00000000-0000-4000-8000-000000000004",
            json!({ "admit": { "name": "a", "op": "start", "xml": "" } }),
            "bad-request",
        ),
        ("00000000-0000-4000-8000-000000000005", json!({ "quarantine-watch": {} }), "bad-request"),
        ("00000000-0000-4000-8000-000000000006", json!({ "teleport": {} }), "bad-request"),
    ] {
        let answer = monitor.command("h1", id, &request).unwrap();
        assert_eq!(answer["error"]["code"], code, "{request}: {answer}");
    }
    assert_eq!(daemon.ask(&["status"]).unwrap().json["mode"], "enforce");
    let denied = records(&daemon)
        .as_array()
        .unwrap()
        .iter()
        .any(|one| one["kind"] == "denied" && one["who"]["user"] == "alice");
    assert!(denied);
}

#[test]
fn without_a_role_it_only_looks_and_another_version_is_not_read() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let daemon = daemon(&scene, &nats, "");
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let monitor = nats.monitor().unwrap();
    await_that(&daemon, "the host", || monitor.value("detector-hosts", "h1"));
    let answer = monitor.command("h1", ONE, &quarantine()).unwrap();
    assert_eq!(answer["error"]["code"], "forbidden", "{answer}");

    let later = json!({ "v": 2, "fleet": "lab", "from": "desk", "body": {
        "id": TWO, "who": "alice", "request": { "status": {} } } });
    assert_eq!(monitor.ask("detector.command.h1.desk", &later.to_string()), None);
    let finding = daemon.await_finding("fleet-refused", "version 2", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "medium");
    for junk in ["", "{}", "\u{0}", &"[".repeat(100_000)] {
        assert_eq!(monitor.ask("detector.command.h1.desk", junk), None);
    }
    let status = monitor.command("h1", TWO, &json!({ "vm-list": {} })).unwrap();
    assert!(status["ok"]["vms"].is_array(), "{status}");
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}

/// Whoever has one monitor speaks for no other, and has no host speak elsewhere.
#[test]
fn a_monitor_is_answered_where_it_listens_and_asks_in_no_other_name() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let daemon = daemon(&scene, &nats, "role = \"operate\"\n");
    let monitor = nats.monitor().unwrap();
    let other = Holder::Monitor(name("other").unwrap());
    let other = nats.connect(&other, &nats.enrol(&other).unwrap()).unwrap();
    await_that(&daemon, "the host", || monitor.value(subject::HOSTS, "h1"));
    let asks = |from: &str| {
        json!({ "v": 1, "fleet": "lab", "from": from, "body": {
            "id": ONE, "who": "mallory", "request": { "status": {} } } })
        .to_string()
    };
    other.await_refusal("detector.command.h1.desk").unwrap();
    // It says that it is another one.
    assert_eq!(other.ask("detector.command.h1.other", &asks("desk")), None);
    daemon.await_finding("fleet-refused", "from desk", PATIENCE).unwrap();
    // It would have the host answer where the host itself speaks.
    let before = monitor.kept(subject::FINDINGS).unwrap().len();
    for reply in ["detector.finding.h1", "$KV.detector-hosts.h1", "_INBOX.monitor.desk.x"] {
        let to = "detector.command.h1.other";
        let said = other.client.publish_with_reply(to, reply, asks("other").into());
        other.run(said).unwrap();
    }
    other.run(other.client.flush()).unwrap();
    await_that(&daemon, "each to be refused", || {
        let log = std::fs::read_to_string(daemon.log()).unwrap();
        (log.matches("would not go").count() == 3).then_some(())
    });
    assert_eq!(monitor.command("h1", ONE, &json!({ "status": {} })).unwrap()["error"], Value::Null);
    let state = monitor.value(subject::HOSTS, "h1").unwrap();
    assert!(state["body"]["mode"].is_string(), "{state}");
    let answers = monitor.bodies(subject::FINDINGS).unwrap();
    assert!(answers.iter().skip(before).all(|body| body["alert"].is_string()), "{answers:?}");
}

#[test]
fn where_several_have_to_approve_the_fleet_is_not_several() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let more = "role = \"administer\"\n[remediation]\napprovals = 2\n";
    let daemon = daemon(&scene, &nats, more);
    let monitor = nats.monitor().unwrap();
    await_that(&daemon, "the host", || monitor.value(subject::HOSTS, "h1"));
    let digest = "0".repeat(64);
    let (patched, digests) = (json!({ "patched": {} }), json!([digest]));
    for (id, request) in [
        (ONE, json!({ "remediate-approve": { "vm": "a", "digests": digests, "reason": "x" } })),
        (
            TWO,
            json!({ "remediate-start": {
                "vm": "a", "outcome": patched, "reason": "x", "digests": digests } }),
        ),
    ] {
        let answer = monitor.command("h1", id, &request).unwrap();
        assert_eq!(answer["error"]["code"], "forbidden", "{answer}");
        assert!(answer.to_string().contains("2 people"), "{answer}");
    }
}
