//! The configuration and the other files, read again while frames flow.

use detector_tests::daemon::LAB_TEMPLATE;
use detector_tests::scene::{PATIENCE, Scene, beat, stream, vm};
use detector_tests::wait;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{A, STRAY};

fn keys(kept: &Value) -> Vec<&str> {
    kept.as_array().unwrap().iter().map(|kept| kept["key"].as_str().unwrap()).collect()
}

#[test]
fn what_can_change_changes_and_what_cannot_is_named() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();

    let nothing = daemon.ask(&["reload"]).unwrap();
    assert_eq!(nothing.code, 0, "{nothing:?}");
    assert_eq!(nothing.json["changed"], serde_json::json!([]));
    assert_eq!(nothing.json["vms"], 1);
    assert_eq!(nothing.json["templates"], 1);

    // The stray port is an uplink from now on, and its frames go out.
    let text = daemon.configuration().unwrap();
    let changed = text.replace("[\"up0\"]", "[\"up0\", \"stray0\"]");
    let changed = changed.replacen("[paths]", "[admission]\ntimeout = \"7s\"\n[paths]", 1);
    daemon.write_configuration(&changed).unwrap();
    let answer = daemon.ask(&["reload"]).unwrap();
    assert_eq!(answer.code, 3, "one key waits: {answer:?}");
    assert_eq!(answer.json["changed"], serde_json::json!(["network.uplinks"]));
    assert_eq!(keys(&answer.json["kept"]), ["admission.timeout"]);
    daemon.await_port("stray0", "gate", PATIENCE).unwrap();
    stray.send(&beat(STRAY, 1)).unwrap();
    scene.await_outside("a frame of the new uplink", &beat(STRAY, 1)).unwrap();
}

/// A configuration with a slip, and with each reload under a stream: nothing is lost, and nothing changes.
#[test]
fn what_is_broken_changes_nothing_and_names_the_line() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let right = daemon.configuration().unwrap();
    let sent = stream(&[(&a, A)], |more| {
        more(50);
        let wrong = right.replace("bridges = [\"br0\"]", "bridges = [\"nothing\"]\nuplink = 7");
        daemon.write_configuration(&wrong).unwrap();
        // A template is taken away in the same breath: that is the files' own word, and not this reload's.
        let answer = daemon.ask(&["reload"]).unwrap();
        assert_eq!(answer.code, 1, "{answer:?}");
        let refused = answer.json["refused"].as_str().unwrap();
        let line = wrong.lines().position(|line| line.starts_with("uplink")).unwrap() + 1;
        assert!(refused.contains(&format!("detector.toml:{line}:1: ")), "{refused}");
        assert!(refused.contains("uplink"), "{refused}");
        let finding = daemon.await_finding("entry-rejected", "detector.toml", PATIENCE).unwrap();
        assert!(finding["title"].as_str().unwrap().contains(&format!(":{line}:")), "{finding}");
        let health = daemon.ask(&["health"]).unwrap();
        assert_eq!((health.code, &health.json["status"]), (3, &Value::from("degraded")));
        more(50);
        daemon.write_configuration(&right).unwrap();
        assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
        daemon.await_no_finding("entry-rejected", PATIENCE).unwrap();
        assert_eq!(daemon.ask(&["health"]).unwrap().code, 0);
        more(50);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
}

#[test]
fn a_signal_reloads_and_ends_nothing() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let pid = daemon.pid().unwrap();
    let text = daemon.configuration().unwrap();
    daemon.write_configuration(&text.replace("[\"up0\"]", "[\"up0\", \"up1\"]")).unwrap();
    daemon.write_template("more.toml", &LAB_TEMPLATE.replace("\"lab\"", "\"more\"")).unwrap();
    daemon.signalled(Signal::SIGHUP).unwrap();
    wait::until("the reload in the log", PATIENCE, || {
        let log = std::fs::read_to_string(daemon.log())?;
        Ok(log
            .lines()
            .any(|line| line.contains("read again") && line.contains("network.uplinks"))
            .then_some(()))
    })
    .unwrap();
    assert_eq!(daemon.ask(&["status"]).unwrap().json["templates"], 2);
    assert_eq!(daemon.pid().unwrap(), pid);
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("a frame after the reload", &beat(A, 1)).unwrap();
}
