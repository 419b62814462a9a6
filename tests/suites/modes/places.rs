//! Bridges and VMs that are only observed.

use std::collections::BTreeSet;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, same};
use detector_tests::wait;
use serde_json::Value;

use super::{A, DENIED, STRAY, inventory, pair, play, quarantined, said};

/// With rules for bridges and VMs on a host that enforces: who is heard outside, and by a neighbour.
#[test]
fn a_bridge_or_a_vm_is_observed_while_the_host_enforces() {
    let bridge = "[[modes]]\nbridge = \"br0\"\nmode = \"observe\"\n";
    let denied = "[[modes]]\nvm = \"denied\"\nmode = \"observe\"\n";
    let strict = "[[modes]]\nvm = \"denied\"\nmode = \"enforce\"\n";
    let cases: [(&str, Vec<&str>, [bool; 2]); 4] = [
        ("nothing said", vec![], [false, false]),
        ("the bridge", vec![bridge], [true, true]),
        ("the VM", vec![denied], [true, false]),
        ("the stricter word", vec![bridge, strict], [false, true]),
    ];
    for (name, rules, heard) in cases {
        let scene = Scene::new().unwrap();
        let more = format!("unknown_port_grace = \"200ms\"\n{}", rules.concat());
        let settings = Settings { inventory: inventory().concat(), more, ..Settings::default() };
        let daemon = Daemon::start(scene.host(), &settings).unwrap();
        let a = scene.plug_granted(&daemon, "tap-a").unwrap();
        let denied = scene.plug("tap-d").unwrap();
        let stray = scene.plug("stray0").unwrap();
        for (port, status, observed) in
            [("tap-d", "isolated", heard[0]), ("stray0", "pending", heard[1])]
        {
            let there = wait::until("the port", PATIENCE, || {
                let shown = daemon.ask(&["port", "show", port])?.json;
                let fits = shown["status"] == status && shown["observed"] == observed;
                Ok(fits.then_some(()))
            });
            there.unwrap_or_else(|error| panic!("{name}: {port}: {error:#}"));
        }
        a.drain().unwrap();
        let frames = vec![(&denied, beat(DENIED, 1)), (&stray, beat(STRAY, 2))];
        let expect: BTreeSet<_> = (0..2).filter(|number| heard[*number]).collect();
        assert_eq!(play(&scene, &frames, &(&a, beat(A, 3))), expect, "{name}: outside");
        let reply = beat(Station::number(77), 4);
        let at_a = a.drain().unwrap();
        let came = |frame: &[u8]| at_a.iter().any(|one| same(one, frame));
        let by_a: BTreeSet<_> = (0..2).filter(|number| came(&frames[*number].1)).collect();
        assert_eq!(by_a, expect, "{name}: a neighbour");
        // What is sent to it arrives there as well.
        denied.drain().unwrap();
        scene.beyond().unwrap().send(&reply).unwrap();
        a.await_frame("the reply", PATIENCE, |frame| same(frame, &reply)).unwrap();
        wait::pause(SILENCE);
        let at_denied = denied.drain().unwrap();
        assert_eq!(at_denied.iter().any(|one| same(one, &reply)), heard[0], "{name}: to it");
        let by_verdict = quarantined(&daemon).contains(&pair("denied", "verdict"));
        assert_eq!(by_verdict, !heard[0], "{name}: what is only observed is not recorded");
        said(&daemon, &["quarantine", "add", "vm", "denied", "--reason", "by hand"]);
        assert_eq!(
            play(&scene, &frames[..1], &(&a, beat(A, 5))),
            BTreeSet::new(),
            "{name}: a person's"
        );
        assert_eq!(daemon.complaints().unwrap(), Vec::<Value>::new(), "{name}");
    }
}
