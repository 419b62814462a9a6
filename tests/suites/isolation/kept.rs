//! Quarantines outlive the maps: a restart of the host, or a change of their schema.

use detector_tests::flow::Flow;
use detector_tests::guest::hex;
use detector_tests::scene::stream;

use super::*;

/// Waits until what is written down says this, or says it no more.
fn await_kept(scene: &Scene, text: &str, there: bool) {
    let path = scene.host().path("state/quarantines.json");
    wait::until(&format!("{text:?} to be kept: {there}"), PATIENCE, || {
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        Ok((kept.contains(text) == there).then_some(()))
    })
    .unwrap();
}

/// Takes for another boot what was written in this one.
fn change_boot(scene: &Scene) {
    let path = scene.host().path("state/quarantines.json");
    let kept = std::fs::read_to_string(&path).unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let changed = kept.replace(boot.trim_end(), "of-another-boot");
    assert_ne!(changed, kept);
    std::fs::write(&path, changed).unwrap();
}

#[test]
fn a_quarantine_outlives_the_vm_and_the_host() {
    let mac = hex(A.mac);
    for (kind, name, by_hand) in
        [("vm", "a", false), ("mac", mac.as_str(), false), ("mac", mac.as_str(), true)]
    {
        let scene = Scene::new().unwrap();
        let vms = [vm("a", "tap-a", A), vm("b", "tap-b", B)];
        let mut daemon = daemon(&scene, "enforce", &vms, "");
        let a = scene.plug_granted(&daemon, "tap-a").unwrap();
        if by_hand {
            daemon.kill().unwrap();
        }
        let add = ["quarantine", "add", kind, name, "--reason", "incident 42"];
        assert_eq!(daemon.ask(&add).unwrap().code, 0);
        await_kept(&scene, "incident 42", true);
        drop(a);
        if !by_hand {
            // The VM is started anew.
            let a = scene.plug("tap-a").unwrap();
            daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
            drop(a);
            daemon.kill().unwrap();
        }
        // The host is.
        scene.host().forget_pins().unwrap();
        change_boot(&scene);
        daemon.run().unwrap();
        let [a, b] = ["tap-a", "tap-b"].map(|name| scene.plug(name).unwrap());
        let sent = stream(&[(&a, A), (&b, B)], |more| {
            daemon.await_port("tap-b", "granted", PATIENCE).unwrap();
            daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
            more(50);
        });
        let last = sent - 1;
        scene.await_stream(B.mac, last - 40, last).unwrap();
        assert_eq!(Flow::of(&scene.outside().unwrap(), A.mac).len(), 0, "{kind} {name}");
        let listed = daemon.ask(&["quarantine", "list"]).unwrap().json;
        assert_eq!(listed["quarantines"][0]["note"], "incident 42", "{listed}");

        assert_eq!(daemon.ask(&["quarantine", "release", kind, name]).unwrap().code, 0);
        daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
        await_kept(&scene, "incident 42", false);
    }
}

/// The maps are given up while VMs run, as for another release; then the host is started anew.
#[test]
fn a_port_is_recognised_while_it_lives_and_its_end_is_told() {
    let scene = Scene::new().unwrap();
    let mut daemon = daemon(&scene, "enforce", &[vm("a", "tap-a", A)], "");
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let add = ["quarantine", "add", "port", "tap-a", "--reason", "incident 42"];
    assert_eq!(daemon.ask(&add).unwrap().code, 0);
    await_kept(&scene, "incident 42", true);
    daemon.kill().unwrap();
    scene.host().forget_pins().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    a.send(&beat(A, 1)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(A, 1)).unwrap(), 0);

    daemon.kill().unwrap();
    scene.host().forget_pins().unwrap();
    change_boot(&scene);
    daemon.run().unwrap();
    let ended = daemon.await_finding("quarantine-ended", "tap-a", PATIENCE).unwrap();
    assert!(ended.to_string().contains("incident 42"), "{ended}");
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    await_kept(&scene, "incident 42", false);
}

#[test]
fn what_cannot_be_read_admits_nobody_until_a_person_has_seen_to_it() {
    let scene = Scene::new().unwrap();
    let mut daemon = daemon(&scene, "enforce", &[vm("a", "tap-a", A)], "");
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    daemon.kill().unwrap();
    let path = |name: &str| scene.host().path(&format!("state/{name}"));
    std::fs::write(path("quarantines.json"), "{\"boot\":").unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    assert!(!path("quarantines.damaged").exists(), "the maps hold what there is");

    daemon.kill().unwrap();
    scene.host().forget_pins().unwrap();
    std::fs::write(path("quarantines.json"), "{\"boot\":").unwrap();
    daemon.run().unwrap();
    let lost = daemon.await_finding("source-lost", "quarantines.damaged", PATIENCE).unwrap();
    assert!(lost["title"].as_str().unwrap().contains("nothing new is admitted"), "{lost}");
    daemon.await_port("tap-a", "pending", PATIENCE).unwrap();
    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-a", "pending", PATIENCE).unwrap();
    std::fs::remove_file(path("quarantines.damaged")).unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}
