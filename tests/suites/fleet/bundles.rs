//! Which bundles a host takes: signed with minisign itself, offered over NATS.

use std::path::Path;

use detector_core::fleet::subject;
use detector_tests::nats::Nats;
use detector_tests::scene::{PATIENCE, Scene};
use detector_tests::wait;

use super::{await_that, daemon};

pub(super) const LENIENT: &str =
    r#"@id("all") permit (principal, action == Action::"join", resource);"#;
pub(super) const STRICT: &str = r#"
@id("all") permit (principal, action == Action::"join", resource);
@id("nobody")
@sentence("A VM is none.")
@remedy("Wait for the next policy.")
forbid (principal, action == Action::"join", resource);
"#;

#[test]
fn a_host_takes_what_is_signed_and_newer_and_keeps_it_otherwise() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let mut nats = Nats::found(host).unwrap();
    let trusted = nats.key("trusted").unwrap();
    nats.key("stranger").unwrap();
    let mut daemon = daemon(&scene, &nats, &format!("trusted_keys = [{trusted:?}]\n"));
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let monitor = nats.monitor().unwrap();
    let policy = || Some(monitor.value(subject::HOSTS, "h1")?["body"]["policy"].take());
    let runs = |version: u32| {
        let policy = policy()?;
        (policy["in_force"]["number"] == version).then_some(policy)
    };
    await_that(&daemon, "the host", policy);
    let offer = |nats: &Nats<'_>, path: &Path| {
        nats.office(&["policy", "offer", &path.display().to_string()])
    };

    let second = nats.bundle((2, STRICT, "trusted")).unwrap();
    let verify = ["policy", "verify", &second.display().to_string(), "--key", &trusted];
    assert!(nats.detector(&verify).unwrap().contains("Version"));
    offer(&nats, &second).unwrap();
    await_that(&daemon, "version 2", || runs(2));
    // It is what VMs are judged by.
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    let shown = daemon.ask(&["policy", "show"]).unwrap().json.to_string();
    assert!(shown.contains("nobody"), "{shown}");

    // By somebody else: it is told, and what was in force stays.
    offer(&nats, &nats.bundle((3, LENIENT, "stranger")).unwrap()).unwrap();
    let finding = daemon.await_finding("fleet-refused", "not trusted", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "high");
    await_that(&daemon, "the refusal", || {
        policy().filter(|policy| policy["refused"]["version"] == 3)
    });
    assert!(runs(2).is_some());
    // An older one: nobody offers it, and put there past that no host takes it.
    let first = nats.bundle((1, LENIENT, "trusted")).unwrap();
    let complaint = offer(&nats, &first).unwrap_err().to_string();
    assert!(complaint.contains("was offered before"), "{complaint}");
    let bytes = std::fs::read(&first).unwrap();
    let opened = detector::fleet::pack::open(&bytes, None).unwrap();
    let said = serde_json::json!({ "v": 1, "fleet": "lab", "from": "desk", "body": { "version": opened.version } });
    let puts = [
        (subject::bundle(1), bytes),
        (subject::ANNOUNCED.to_owned(), said.to_string().into_bytes()),
    ];
    let steward = nats.steward().unwrap();
    for (key, bytes) in puts {
        let kept = steward.client.request(subject::key(subject::POLICY, &key), bytes.into());
        steward.run(kept).unwrap();
    }
    steward.run(steward.client.publish(subject::NEWS, said.to_string().into())).unwrap();
    await_that(&daemon, "the refusal of the older one", || {
        policy().filter(|policy| policy["refused"]["version"] == 1)
    });
    assert!(runs(2).is_some());

    // Over a restart, without the fleet.
    nats.kill().unwrap();
    daemon.kill().unwrap();
    daemon.run().unwrap();
    let shown = daemon.ask(&["policy", "show"]).unwrap().json.to_string();
    assert!(shown.contains("nobody"), "{shown}");
    // What somebody changes on the host is told.
    let path = host.path("state/fleet/2/policy.cedar");
    std::fs::write(&path, LENIENT).unwrap();
    daemon.await_finding("policy-drift", "policy.cedar", PATIENCE).unwrap();
    std::fs::write(&path, STRICT).unwrap();
    daemon.await_no_finding("policy-drift", PATIENCE).unwrap();

    // Offered while the host was away.
    nats.start().unwrap();
    daemon.terminate().unwrap();
    offer(&nats, &nats.bundle((4, LENIENT, "trusted")).unwrap()).unwrap();
    daemon.run().unwrap();
    await_that(&daemon, "version 4", || runs(4));
    wait::until("the finding to close", PATIENCE, || {
        let list = daemon.ask(&["finding", "list"])?.json.to_string();
        Ok((!list.contains("fleet-refused")).then_some(()))
    })
    .unwrap();
}

/// A bundle that is announced and cannot be had is asked for again, whoever has died meanwhile.
#[test]
fn what_does_not_come_is_asked_for_again() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let nats = Nats::found(host).unwrap();
    let trusted = nats.key("trusted").unwrap();
    let daemon = daemon(&scene, &nats, &format!("trusted_keys = [{trusted:?}]\n"));
    let monitor = nats.monitor().unwrap();
    let runs = || {
        let state = monitor.value(subject::HOSTS, "h1")?;
        (state["body"]["policy"]["in_force"]["number"] == 2).then_some(())
    };
    await_that(&daemon, "the host", || monitor.value(subject::HOSTS, "h1"));
    let bytes = std::fs::read(nats.bundle((2, STRICT, "trusted")).unwrap()).unwrap();
    let opened = detector::fleet::pack::open(&bytes, None).unwrap();
    let said = serde_json::json!({ "v": 1, "fleet": "lab", "from": "desk", "body": { "version": opened.version } });
    let steward = nats.steward().unwrap();
    steward.run(steward.client.publish(subject::NEWS, said.to_string().into())).unwrap();
    await_that(&daemon, "it to be missed", || {
        let log = std::fs::read_to_string(daemon.log()).unwrap();
        log.contains("a bundle cannot be fetched").then_some(())
    });
    // Nobody announces it once more.
    let place = subject::key(subject::POLICY, &subject::bundle(2));
    steward.run(steward.client.request(place, bytes.into())).unwrap();
    await_that(&daemon, "version 2", runs);
}

/// A bundle that is withdrawn goes when what keeps it has passed.
#[test]
fn what_is_withdrawn_is_given_back_once_it_can_be() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let nats = Nats::found(host).unwrap();
    let trusted = nats.key("trusted").unwrap();
    let daemon = daemon(&scene, &nats, &format!("trusted_keys = [{trusted:?}]\n"));
    let monitor = nats.monitor().unwrap();
    let in_force = || {
        let mut state = monitor.value(subject::HOSTS, "h1")?;
        Some(state["body"]["policy"]["in_force"].take())
    };
    let runs = |version: u32| in_force().filter(|one| one["number"] == version);
    await_that(&daemon, "the host", in_force);
    let offer = |version: u32| {
        let path = nats.bundle((version, LENIENT, "trusted")).unwrap().display().to_string();
        nats.office(&["policy", "offer", &path]).unwrap();
        await_that(&daemon, &format!("version {version}"), || runs(version))
    };
    let (first, second) = (offer(1), offer(2));
    // For now what was before cannot be read.
    let path = host.path("detector.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, "no = \n").unwrap();
    let withdraw = serde_json::json!({ "version": first, "withdrawn": [second] });
    let said = serde_json::json!({ "v": 1, "fleet": "lab", "from": "desk", "body": withdraw });
    let steward = nats.steward().unwrap();
    steward.run(steward.client.publish(subject::NEWS, said.to_string().into())).unwrap();
    daemon.await_finding("fleet-refused", "it was withdrawn, and stays", PATIENCE).unwrap();
    // It has been another one for the moment in which that was tried.
    await_that(&daemon, "version 2 to stay", || runs(2));
    std::fs::write(&path, config).unwrap();
    await_that(&daemon, "version 1 again", || runs(1));
    daemon.await_no_finding("fleet-refused", PATIENCE).unwrap();
}
