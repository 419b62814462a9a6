//! Quarantines with the daemon dead: by the pinned maps alone.

use detector_tests::guest::hex;

use super::*;

/// Who has been cut off, and how it is named.
const TARGETS: [(&str, &str); 2] = [("port", "tap-a"), ("mac", "")];

/// Sends a frame each way between the tap and the outside.
fn send_both_ways(scene: &Scene, tap: &Tap, seq: u64) -> [Vec<u8>; 2] {
    let [out, back] = [A, Station::number(200)].map(|station| beat(station, seq));
    tap.drain().unwrap();
    tap.send(&out).unwrap();
    scene.beyond().unwrap().send(&back).unwrap();
    [out, back]
}

fn assert_speaks(scene: &Scene, tap: &Tap, seq: u64) {
    let [out, back] = send_both_ways(scene, tap, seq);
    scene.await_outside("what it sends", &out).unwrap();
    tap.await_frame("what it is sent", PATIENCE, |f| same(f, &back)).unwrap();
}

fn assert_mute(scene: &Scene, tap: &Tap, seq: u64) {
    let [out, back] = send_both_ways(scene, tap, seq);
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&out).unwrap(), 0, "{seq}");
    assert!(!tap.drain().unwrap().iter().any(|f| same(f, &back)), "{seq}");
}

/// What is imposed by hand holds at once and over the daemon's return, and what is lifted by hand is
/// granted as it was before; neither needs a daemon.
#[test]
fn an_operator_cuts_off_and_lets_back_without_the_daemon() {
    for (kind, name) in TARGETS {
        for mode in ["enforce", "observe"] {
            let scene = Scene::new().unwrap();
            let mut daemon = daemon(&scene, mode, &[vm("a", "tap-a", A)], "");
            let a = scene.plug_granted(&daemon, "tap-a").unwrap();
            let mac = hex(A.mac);
            let target = if name.is_empty() { mac.as_str() } else { name };
            let add = ["quarantine", "add", kind, target, "--reason", "incident 42"];
            let release = ["quarantine", "release", kind, target];
            assert_speaks(&scene, &a, 1);

            daemon.kill().unwrap();
            let said = daemon.ask(&add).unwrap();
            assert_eq!((said.code, &said.json["source"]), (0, &"pins".into()), "{said:?}");
            assert!(said.complaint.contains("cut off at once: tap-a"), "{said:?}");
            assert_mute(&scene, &a, 2);
            let said = daemon.ask(&release).unwrap();
            assert!(said.complaint.contains("granted again as before: tap-a"), "{said:?}");
            assert_speaks(&scene, &a, 3);

            assert_eq!(daemon.ask(&add).unwrap().code, 0);
            daemon.run().unwrap();
            assert_mute(&scene, &a, 4);
            daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
            let listed = daemon.ask(&["quarantine", "list"]).unwrap().json;
            assert_eq!(listed["quarantines"][0]["note"], "incident 42", "{listed}");
            assert_eq!(listed["quarantines"][0]["cause"], "operator", "{listed}");
            let released = daemon.ask(&release).unwrap();
            assert_eq!((released.code, &released.json["source"]), (0, &"daemon".into()));
            daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
            assert_speaks(&scene, &a, 5);
        }
    }
}

/// What only the daemon can know is refused, and the refusal names the way out.
#[test]
fn what_cannot_be_done_without_the_daemon_is_refused() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), denied("d", "tap-d", DENIED)];
    let mut daemon = daemon(&scene, "enforce", &vms, "");
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let d = scene.plug("tap-d").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    let listed = daemon.ask(&["quarantine", "list"]).unwrap().json;
    let rogue = listed["quarantines"][0]["target"]["vm"].as_str().unwrap().to_owned();

    let add = |kind, name| ["quarantine", "add", kind, name, "--reason", "x"].to_vec();
    let release = |kind, name| ["quarantine", "release", kind, name].to_vec();
    daemon.freeze().unwrap();
    let hung = daemon.ask(&add("port", "tap-a")).unwrap();
    assert_eq!(hung.code, 1);
    assert!(hung.complaint.contains("kill -9"), "{hung:?}");
    daemon.resume().unwrap();
    daemon.kill().unwrap();

    let stray = scene.plug("stray0").unwrap();
    let sandboxed =
        ["quarantine", "add", "port", "tap-a", "--reason", "x", "--mode", "sandbox"].to_vec();
    let cases = [
        (add("vm", "a"), "virsh domiflist"),
        (release("vm", "d"), "by UUID only"),
        (release("vm", &rogue), "only the daemon can say"),
        (add("port", "nosuch"), "no port"),
        (add("port", "stray0"), "reaches nobody"),
        (add("port", "br0"), "host's own"),
        (add("mac", "zz"), "zz"),
        (release("port", "tap-a"), "is not quarantined"),
        (sandboxed, "no sandbox"),
    ];
    for (words, expected) in cases {
        let said = daemon.ask(&words).unwrap();
        assert_eq!(said.code, 1, "{words:?}: {said:?}");
        assert!(said.complaint.contains(expected), "{words:?}: {said:?}");
    }
    // What a verdict has cut off stays so whatever is done by hand on top of it.
    for words in [add("port", "tap-d"), release("port", "tap-d")] {
        assert_eq!(daemon.ask(&words).unwrap().code, 0, "{words:?}");
        for (tap, station) in [(&d, DENIED), (&stray, Station::number(99))] {
            tap.send(&beat(station, 1)).unwrap();
            wait::pause(SILENCE);
            assert_eq!(scene.copies_outside(&beat(station, 1)).unwrap(), 0);
        }
    }
}
