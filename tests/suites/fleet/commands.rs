//! What a host is asked by way of its fleet.

use detector_tests::nats::Nats;
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
    let daemon = daemon(&scene, &nats, "role = \"operate\"\n");
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let monitor = nats.monitor().unwrap();
    await_that(&daemon, "the host", || monitor.value("detector-hosts", "h1"));
    let status = monitor.command("h1", ONE, &json!({ "status": {} })).unwrap();
    assert_eq!(status["ok"]["status"]["mode"], "enforce", "{status}");

    let done = monitor.command("h1", TWO, &quarantine()).unwrap();
    assert!(done["ok"]["quarantine"].is_object(), "{done}");
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    let records =
        || daemon.ask(&["audit", "list", "--limit", "0"]).unwrap().json["records"].clone();
    let asked = |records: &Value| -> Vec<Value> {
        let all = records.as_array().unwrap().clone();
        let is = |one: &Value| one["kind"] == "action-asked" && one["to"] == "quarantine-add";
        all.into_iter().filter(is).collect()
    };
    let before = asked(&records());
    let who = json!({ "type": "fleet", "monitor": "desk", "user": "alice", "command": TWO });
    assert_eq!((before.len(), &before[0]["who"]), (1, &who), "{before:?}");
    // The same one again, as after an answer that was lost.
    assert_eq!(monitor.command("h1", TWO, &quarantine()).unwrap(), done);
    assert_eq!(asked(&records()).len(), 1);
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
    let denied = records()
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
    assert_eq!(monitor.ask("detector.command.h1", &later.to_string()), None);
    let finding = daemon.await_finding("fleet-refused", "version 2", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "medium");
    for junk in ["", "{}", "\u{0}", &"[".repeat(100_000)] {
        assert_eq!(monitor.ask("detector.command.h1", junk), None);
    }
    let status = monitor.command("h1", TWO, &json!({ "vm-list": {} })).unwrap();
    assert!(status["ok"]["vms"].is_array(), "{status}");
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}
