//! A mistake takes no host down: so many VMs lose what they have, and the others wait for a person.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use detector_core::decide::policy::DEFAULT;
use detector_tests::daemon::{Daemon, LAB_TEMPLATE, Settings};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, vm};
use detector_tests::{tap::Tap, wait};
use serde_json::Value;

const VMS: u8 = 10;
const NOBODY: &str = r#"
@id("nobody")
@sentence("No VM is called anything.")
forbid (principal, action == Action::"join", resource);
"#;

fn station(n: u8) -> Station {
    Station::number(10 + n)
}

/// Ten VMs that are granted, and so many of them may be cut off.
fn ten<'a>(scene: &'a Scene, most: u32) -> (Daemon<'a>, Vec<Tap>) {
    let vms = (0..VMS).map(|n| vm(&format!("vm{n}"), &format!("tap{n}"), station(n)));
    let settings = Settings {
        inventory: vms.collect(),
        more: format!(
            "unknown_port_grace = \"200ms\"\n[mitigation]\nmax_vms = {most}\nmax_percent = 100\nwindow = \"1h\"\n"
        ),
        ..Settings::default()
    };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let plug = |n| scene.plug_granted(&daemon, &format!("tap{n}")).unwrap();
    let taps = (0..VMS).map(plug).collect();
    (daemon, taps)
}

fn put(scene: &Scene, text: &str) {
    let new = scene.host().path("policy.new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, scene.host().path("policy.cedar")).unwrap();
}

/// The status of each guest's port.
fn ports(daemon: &Daemon<'_>) -> BTreeMap<String, String> {
    let list = daemon.ask(&["port", "list"]).unwrap().json;
    let ports = list["ports"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let ports = ports.filter(|port| port["role"] == "guest");
    ports.map(|port| (word(&port["name"]), word(&port["status"]))).collect()
}

fn are(ports: &BTreeMap<String, String>, status: &str) -> usize {
    ports.values().filter(|one| *one == status).count()
}

fn await_ports(daemon: &Daemon<'_>, isolated: usize, rest: &str) -> BTreeMap<String, String> {
    let what = format!("{isolated} ports to be isolated, and the others {rest}");
    wait::until(&what, PATIENCE, || {
        let ports = ports(daemon);
        let there =
            are(&ports, "isolated") == isolated && are(&ports, rest) == usize::from(VMS) - isolated;
        Ok(there.then_some(ports))
    })
    .unwrap()
}

/// Who is not isolated is heard outside, and nobody else.
fn assert_heard(scene: &Scene, taps: &[Tap], ports: &BTreeMap<String, String>, seq: u64) {
    for (n, tap) in (0..VMS).zip(taps) {
        tap.send(&beat(station(n), seq)).unwrap();
    }
    for n in 0..VMS {
        if ports[&format!("tap{n}")] != "isolated" {
            let frame = beat(station(n), seq);
            scene.await_outside(&format!("what VM {n} sends"), &frame).unwrap();
        }
    }
    wait::pause(SILENCE);
    for n in 0..VMS {
        let mute = ports[&format!("tap{n}")] == "isolated";
        let copies = scene.copies_outside(&beat(station(n), seq)).unwrap();
        assert_eq!(copies, usize::from(!mute), "VM {n}: {ports:?}");
    }
}

fn say(daemon: &Daemon<'_>, words: &[&str]) -> Value {
    let words = [&["mitigation"], words, &["--reason", "a test"]].concat();
    let answer = daemon.ask(&words).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    answer.json
}

#[test]
fn a_bad_policy_cuts_off_so_many_and_a_person_decides_on_the_others() {
    let scene = Scene::new().unwrap();
    let (mut daemon, taps) = ten(&scene, 3);
    let bad = scene.host().path("bad.cedar");
    std::fs::write(&bad, format!("{NOBODY}{DEFAULT}")).unwrap();
    let diff = daemon.ask(&["policy", "diff", bad.to_str().unwrap()]).unwrap();
    assert_eq!((&diff.json["losing"], &diff.json["held"]), (&10.into(), &7.into()), "{diff:?}");
    assert_eq!(daemon.ask(&["mitigation", "list"]).unwrap().code, 0, "nothing has been done");

    put(&scene, &format!("{NOBODY}{DEFAULT}"));
    let finding = daemon.await_finding("blast-radius", "host", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "critical", "{finding}");
    let cut = await_ports(&daemon, 3, "kept");
    assert_heard(&scene, &taps, &cut, 1);
    let held = cut.iter().find(|(_, status)| *status == "kept").unwrap().0.replace("tap", "vm");
    let status = daemon.show(&["status"]).unwrap();
    assert!(status.contains("Held") && status.contains("7: they fail the policy"), "{status}");
    for words in [vec!["vm", "show", &held], vec!["explain", &held], vec!["mitigation", "list"]] {
        let shown = daemon.show(&words).unwrap();
        assert!(shown.contains("too many would") || shown.contains("waits"), "{words:?}: {shown}");
    }
    assert_eq!(daemon.ask(&["health"]).unwrap().code, 3);
    let metrics = daemon.show(&["metrics"]).unwrap();
    assert!(metrics.contains("detector_vms_held 7"), "{metrics}");

    // It survives being killed, and what was held is held.
    daemon.kill().unwrap();
    assert_heard(&scene, &taps, &cut, 2);
    daemon.run().unwrap();
    assert_eq!(await_ports(&daemon, 3, "kept"), cut);
    daemon.await_finding("blast-radius", "host", PATIENCE).unwrap();
    assert_heard(&scene, &taps, &cut, 3);

    let view = say(&daemon, &["approve", &held]);
    assert_eq!(view["held"].as_array().unwrap().len(), 6, "{view}");
    assert_eq!(view["taken"].as_array().unwrap().len(), 3, "what people do does not count: {view}");
    await_ports(&daemon, 4, "kept");
    say(&daemon, &["approve", "--all"]);
    let all = await_ports(&daemon, usize::from(VMS), "kept");
    assert_heard(&scene, &taps, &all, 4);
    daemon.await_no_finding("blast-radius", PATIENCE).unwrap();
    let again = daemon.ask(&["mitigation", "approve", "--all", "--reason", "once more"]).unwrap();
    assert_eq!((again.code, again.complaint.contains("no VM waits")), (1, true), "{again:?}");
    let audit = daemon.show(&["audit", "list", "--kind", "held"]).unwrap();
    assert!(audit.contains("approved") && audit.contains("a test"), "{audit}");
}

#[test]
fn a_template_that_was_revoked_by_mistake_leaves_all_as_before() {
    let scene = Scene::new().unwrap();
    let (mut daemon, taps) = ten(&scene, 0);
    daemon.write_template("lab.toml", &LAB_TEMPLATE.replace("approved", "revoked")).unwrap();
    daemon.await_finding("blast-radius", "host", PATIENCE).unwrap();
    let kept = await_ports(&daemon, 0, "kept");
    assert_heard(&scene, &taps, &kept, 1);
    let view = say(&daemon, &["reject", "--all"]);
    assert_eq!(view["held"][0]["rejected"]["reason"], "a test", "{view}");
    assert_eq!(daemon.ask(&["mitigation", "list"]).unwrap().code, 0, "nobody waits any more");
    daemon.kill().unwrap();
    daemon.run().unwrap();
    await_ports(&daemon, 0, "kept");
    wait::until("a milder finding", PATIENCE, || {
        let list = daemon.ask(&["finding", "list"])?.json;
        let findings = list["findings"].as_array().unwrap();
        let mut of = findings.iter().filter(|finding| finding["kind"] == "blast-radius");
        Ok(of.any(|finding| finding["severity"] == "medium").then_some(()))
    })
    .unwrap();
    // A person's quarantine waits for nobody.
    let quarantined = daemon.ask(&["quarantine", "add", "vm", "vm4", "--reason", "it is bad"]);
    assert_eq!(quarantined.unwrap().code, 0);
    await_ports(&daemon, 1, "kept");

    daemon.write_template("lab.toml", LAB_TEMPLATE).unwrap();
    await_ports(&daemon, 1, "granted");
    assert_eq!(daemon.ask(&["quarantine", "release", "vm", "vm4"]).unwrap().code, 0);
    let granted = await_ports(&daemon, 0, "granted");
    assert_heard(&scene, &taps, &granted, 2);
    daemon.await_no_finding("blast-radius", PATIENCE).unwrap();
    let list = daemon.ask(&["quarantine", "list"]).unwrap().json;
    assert_eq!(list["quarantines"].as_array().unwrap().len(), 0, "{list}");
}

/// Whenever it is killed: what it has begun to count is counted, and nobody loses more than is.
#[test]
fn being_killed_at_any_moment_makes_nobody_forget() {
    let scene = Scene::new().unwrap();
    let (mut daemon, taps) = ten(&scene, 2);
    put(&scene, &format!("{NOBODY}{DEFAULT}"));
    for round in 0..8 {
        wait::pause(Duration::from_millis(40 * round));
        daemon.kill().unwrap();
        daemon.run().unwrap();
        let ports = ports(&daemon);
        assert!(are(&ports, "isolated") <= 2, "round {round}: {ports:?}");
    }
    let cut = await_ports(&daemon, 2, "kept");
    assert_heard(&scene, &taps, &cut, 1);
    // A file that cannot be read lets nobody be cut off.
    daemon.kill().unwrap();
    std::fs::write(scene.host().path("state/mitigations.json"), "{").unwrap();
    daemon.run().unwrap();
    daemon.await_finding("blast-radius", "host", PATIENCE).unwrap();
    assert_eq!(await_ports(&daemon, 2, "kept"), cut);
    assert_heard(&scene, &taps, &cut, 2);
    // People are not kept from it.
    say(&daemon, &["approve", "--all"]);
    await_ports(&daemon, usize::from(VMS), "kept");
}
