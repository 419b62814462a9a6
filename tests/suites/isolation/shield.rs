//! The shield goes onto a port that is cut off and floods, and comes off by itself.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use detector_tests::flow::Flow;
use serde_json::Value;

use super::*;

/// A flood is a thousand frames a second here: the machine may be busy.
const LIMITS: &str = "[flood]\nabove = 1000\nafter = \"1s\"\nbelow = 500\ncalm = \"2s\"\n";

/// Whether a shield is on the port, as the kernel says: native, or `None`.
fn shield_of(scene: &Scene, port: &str) -> Option<&'static str> {
    let shown = scene.host().network().ip(&format!("-details link show dev {port}")).unwrap();
    [" xdpgeneric", " xdp"].into_iter().find(|mode| shown.contains(*mode))
}

fn await_shield(scene: &Scene, port: &str, on: bool) {
    wait::until(&format!("the shield of {port} to be {on}"), PATIENCE * 3, || {
        Ok((shield_of(scene, port).is_some() == on).then_some(()))
    })
    .unwrap();
}

/// The open findings about floods.
fn floods(daemon: &Daemon<'_>) -> Vec<Value> {
    let listed = daemon.ask(&["finding", "list"]).unwrap().json;
    let findings = listed["findings"].as_array().unwrap().iter();
    findings.filter(|finding| finding["kind"] == "flood").cloned().collect()
}

/// Floods from the tap, while something happens that can ask how many frames have been sent.
fn flooding(tap: &Tap, station: Station, during: impl FnOnce(&AtomicU64)) {
    let (stop, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                tap.send(&beat(station, number)).unwrap();
            }
        });
        let stop = StopOnDrop(&stop);
        during(&sent);
        drop(stop);
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_shield_comes_stays_through_a_crash_and_goes() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), denied("rogue", "tap-d", DENIED)];
    let mut daemon = daemon(&scene, "enforce", &vms, LIMITS);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let rogue = scene.plug("tap-d").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    // One that is not cut off floods without a shield.
    flooding(&a, B, |_| {
        daemon.await_finding("flood", "tap-a", PATIENCE * 3).unwrap();
        assert_eq!(shield_of(&scene, "tap-a"), None);
    });

    flooding(&rogue, DENIED, |sent| {
        await_shield(&scene, "tap-d", true);
        assert_eq!(shield_of(&scene, "tap-d"), Some(" xdp"), "native, never generic");
        let told = wait::until("the finding to name the shield", PATIENCE, || {
            Ok(floods(&daemon).into_iter().find(|f| f["title"].to_string().contains("shield")))
        });
        let told = told.unwrap();
        assert!(told["title"].to_string().contains("frames a second"), "{told}");
        let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
        assert_eq!((&shown["shield"], &shown["isolation"]), (&true.into(), &"drop".into()));

        // What was claimed is remembered, and every frame that is dropped is counted.
        assert!(shown["sightings"].to_string().contains("port-isolated"), "{shown}");
        let before = (counted(&daemon, "tap-d", "port-isolated"), sent.load(Ordering::Relaxed));
        wait::until("more frames", PATIENCE, || {
            Ok((sent.load(Ordering::Relaxed) > before.1 + 1000).then_some(()))
        })
        .unwrap();
        assert!(counted(&daemon, "tap-d", "port-isolated") >= before.0 + 1000);

        // The others notice nothing.
        a.send(&beat(A, 1)).unwrap();
        scene.await_outside("a", &beat(A, 1)).unwrap();

        daemon.kill().unwrap();
        assert_eq!(shield_of(&scene, "tap-d"), Some(" xdp"), "with the daemon dead");
        let pinned = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
        assert_eq!((&pinned["source"], &pinned["shield"]), (&"pins".into(), &true.into()));
        daemon.run().unwrap();
        assert_eq!(shield_of(&scene, "tap-d"), Some(" xdp"), "found again");
        assert_eq!(daemon.ask(&["port", "show", "tap-d"]).unwrap().json["shield"], true);
    });
    await_shield(&scene, "tap-d", false);
    wait::until("the flood to be over", PATIENCE, || Ok(floods(&daemon).is_empty().then_some(())))
        .unwrap();
    assert_eq!(daemon.ask(&["port", "show", "tap-d"]).unwrap().json["status"], "isolated");
    // The frame is the guard's again.
    let before = counted(&daemon, "tap-d", "port-isolated");
    rogue.send(&beat(DENIED, 0)).unwrap();
    assert_eq!(counted(&daemon, "tap-d", "port-isolated"), before + 1);
    assert_eq!(scene.outside().unwrap().iter().filter(|f| f.bytes[6..12] == DENIED.mac).count(), 0);
}

#[test]
fn who_is_released_is_heard_at_once() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene, "observe", &[vm("a", "tap-a", A)], LIMITS);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let target = ["vm", "a"];
    let add = [&["quarantine", "add"], &target[..], &["--reason", "a test"]].concat();
    assert_eq!(daemon.ask(&add).unwrap().code, 0);
    flooding(&a, A, |sent| {
        // A person's quarantine is carried out in observe mode too, and so is its shield.
        await_shield(&scene, "tap-a", true);
        let released = [&["quarantine", "release"], &target[..]].concat();
        assert_eq!(daemon.ask(&released).unwrap().code, 0);
        let from_now = sent.load(Ordering::Relaxed) + 1;
        // Not this very one: where a flood goes to, a busy machine drops some of it.
        wait::until("the next frames", PATIENCE, || {
            let arrived = Flow::of(&scene.outside()?, A.mac).stream(from_now, from_now + 1_000);
            Ok((arrived.arrived > 0).then_some(()))
        })
        .unwrap();
        assert_eq!(shield_of(&scene, "tap-a"), None);
    });
}
