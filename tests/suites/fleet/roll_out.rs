//! A bundle in waves: stopped and taken back where it cuts off VMs, and gone on with by whoever comes next.

use std::collections::BTreeMap;
use std::process::{Child, Command};

use detector_core::fleet::message::{HostState, PolicyState, Time, Version, seal};
use detector_core::fleet::subject::{self, Holder};
use detector_tests::host::Host;
use detector_tests::nats::{Member, Nats, name};
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::{artefacts, wait};
use serde_json::Value;

use super::bundles::{LENIENT, STRICT};
use super::{await_that, daemon};

/// What a host without VMs says that goes by this bundle.
pub(super) fn says(member: &Member, host: &str, in_force: Option<Version>) {
    let state = HostState {
        at: Time::now(),
        every: 3600,
        life: uuid::Uuid::nil(),
        release: "0".to_owned(),
        started: Time::now(),
        mode: "enforce".to_owned(),
        policy: PolicyState { in_force, ..PolicyState::default() },
        vms: BTreeMap::new(),
        ports: BTreeMap::new(),
        findings: BTreeMap::new(),
        troubles: Vec::new(),
        pages: 0,
        open_pages: None,
    };
    let said = seal(&name("lab").unwrap(), &name(host).unwrap(), &state).unwrap();
    let said = String::from_utf8(said).unwrap();
    wait::until("it to be kept", PATIENCE, || {
        Ok(member.keeps_this(&subject::key(subject::HOSTS, host), &said).then_some(()))
    })
    .unwrap();
}

/// Runs a roll-out in another process.
pub(super) fn drive(nats: &Nats<'_>, host: &Host, words: &[&str]) -> Child {
    let mut command = Command::new(artefacts::detector().unwrap());
    command.args(["fleet", "policy", "roll-out"]).args(words);
    command.arg("--dir").arg(nats.directory());
    host.spawn(&mut command).unwrap()
}

#[test]
fn a_bundle_that_cuts_off_vms_is_taken_back_and_a_good_one_comes_in_waves() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let nats = Nats::found(host).unwrap();
    let trusted = nats.key("trusted").unwrap();
    let daemon = daemon(&scene, &nats, &format!("trusted_keys = [{trusted:?}]\n"));
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let monitor = nats.monitor().unwrap();
    let holder = Holder::Host(name("h2").unwrap());
    let other = nats.connect(&holder, &nats.enrol(&holder).unwrap()).unwrap();
    let in_force = || {
        let policy = monitor.value(subject::HOSTS, "h1")?["body"]["policy"].take();
        serde_json::from_value::<Option<Version>>(policy["in_force"].clone()).ok()
    };
    let runs = |number: u64| in_force()?.filter(|version| version.number == number);
    let sealed = |version, policy| {
        let path = nats.bundle((version, policy, "trusted")).unwrap();
        path.display().to_string()
    };
    let roll_out = |words: &[&str]| nats.office(&[&["policy", "roll-out"], words].concat());
    let status = || -> Value {
        let words = ["status", "--output", "json"];
        serde_json::from_str(&roll_out(&words).unwrap()).unwrap()
    };
    await_that(&daemon, "the host", in_force);
    nats.office(&["policy", "offer", &sealed(1, LENIENT)]).unwrap();
    let first = await_that(&daemon, "version 1", || runs(1));
    says(&other, "h2", Some(first));

    // One that cuts off the VM of the first host: it is stopped there, and the host goes back.
    let strict = sealed(2, STRICT);
    let plan = ["--canary", "h1", "--wave", "100%", "--soak", "1s", "--most", "0"];
    let start = |path: &str, more: &[&str]| roll_out(&[&["start", path], &plan[..], more].concat());
    let waves = start(&strict, &["--dry-run", "--output", "json"]).unwrap();
    let waves: Value = serde_json::from_str(&waves).unwrap();
    assert_eq!(waves, serde_json::json!([["h1"], ["h2"]]));
    assert!(runs(1).is_some(), "nothing has begun");
    let stopped = start(&strict, &[]).unwrap_err().to_string();
    assert!(stopped.contains("no network on the hosts that go by it"), "{stopped}");
    assert_eq!(status()["roll_out"]["stage"]["stage"], "halted");
    await_that(&daemon, "version 1 again", || runs(1));
    // By which the VM may be let back; a quarantine is a person's to lift.
    let release = ["quarantine", "release", "vm", "a"];
    assert_eq!(daemon.ask(&release).unwrap().code, 0);
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    // It does not come back.
    let again = start(&strict, &[]).unwrap_err().to_string();
    assert!(again.contains("withdrawn"), "{again}");

    // Nor where somebody announces it past that.
    let withdrawn =
        monitor.value(subject::POLICY, subject::ANNOUNCED).unwrap()["body"]["withdrawn"][0].take();
    let said = serde_json::json!({ "v": 1, "fleet": "lab", "from": "desk", "body": { "version": withdrawn } });
    let steward = nats.steward().unwrap();
    steward.run(steward.client.publish(subject::NEWS, said.to_string().into())).unwrap();
    daemon.await_finding("fleet-refused", "was given back", PATIENCE).unwrap();
    assert!(runs(1).is_some());

    // A good one; whoever drives it is killed when the first host has it.
    let good = sealed(3, LENIENT);
    let mut driver = drive(&nats, host, &[&["start", &good], &plan[..]].concat());
    let third = await_that(&daemon, "version 3", || runs(3));
    await_that(&daemon, "the second wave", || {
        let status = status();
        (status["roll_out"]["stage"]["wave"] == 1 && status["progress"]["waiting"][0] == "h2")
            .then_some(())
    });
    driver.kill().unwrap();
    driver.wait().unwrap();
    let complaint = nats.office(&["policy", "offer", &good]).unwrap_err().to_string();
    assert!(complaint.contains("under way"), "{complaint}");
    says(&other, "h2", Some(third));
    let ended = roll_out(&["continue"]).unwrap();
    assert!(ended.contains("for every host"), "{ended}");
    assert_eq!(status()["roll_out"]["stage"]["stage"], "done");
    assert!(runs(3).is_some());
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}
