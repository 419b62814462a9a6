//! The daemon ends in every way there is, under a stream of frames: what is granted goes on without a
//! gap, what is not stays mute.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "restart/born.rs"]
mod born;
#[path = "restart/hook.rs"]
mod hook;

use detector_tests::daemon::Daemon;
use detector_tests::flow::Flow;
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, same, stream, vm};
use detector_tests::wait;

const A: Station = Station::number(10);
const DENIED: Station = Station::number(20);
const STRAY: Station = Station::number(99);

fn inventory() -> Vec<String> {
    let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
    vec![vm("a", "tap-a", A), denied]
}

/// Streams from three taps while `trouble` happens; every frame of the granted one has to arrive,
/// and none of the others.
fn under_a_stream(trouble: impl FnOnce(&mut Daemon<'_>)) {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let denied = scene.plug("tap-d").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    let taps = [(&a, A), (&denied, DENIED), (&stray, STRAY)];
    let sent = stream(&taps, |more| {
        more(100);
        trouble(&mut daemon);
        more(100);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    let frames = scene.outside().unwrap();
    assert_eq!(Flow::of(&frames, DENIED.mac).len(), 0, "of the denied VM");
    assert_eq!(Flow::of(&frames, STRAY.mac).len(), 0, "of the stray tap");
}

#[test]
fn kill_and_restart_lose_nothing_and_leak_nothing() {
    under_a_stream(|daemon| {
        for _ in 0..3 {
            daemon.kill().unwrap();
            daemon.run().unwrap();
        }
    });
}

#[test]
fn a_clean_stop_and_restart_lose_nothing_and_leak_nothing() {
    under_a_stream(|daemon| {
        daemon.terminate().unwrap();
        daemon.run().unwrap();
    });
}

#[test]
fn a_daemon_that_hangs_holds_up_nothing() {
    under_a_stream(|daemon| {
        daemon.freeze().unwrap();
        wait::pause(SILENCE * 3);
        daemon.resume().unwrap();
    });
}

#[test]
fn enforcing_begins_and_ends_at_once_and_costs_the_granted_nothing() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("observe", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let (mut observed, mut enforced, mut again) = (0, 0, 0);
    let sent = stream(&[(&a, A), (&stray, STRAY)], |more| {
        observed = more(100);
        daemon.switch_to("enforce");
        daemon.terminate().unwrap();
        daemon.run().unwrap();
        // One that was sent before may be counted after.
        enforced = more(2);
        let until = more(100);
        daemon.switch_to("observe");
        daemon.terminate().unwrap();
        daemon.run().unwrap();
        again = more(2);
        more(100);
        assert!(until > enforced && again > until);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    // The stray tap speaks after the granted one.
    scene.await_stream(STRAY.mac, sent - 1, sent - 1).unwrap();
    let frames = scene.outside().unwrap();
    let stray = Flow::of(&frames, STRAY.mac);
    assert_eq!(stray.stream(0, observed - 1).lost(), 0, "all arrive while it observes");
    // From the one write on none arrives, up to the other.
    let silence = stray.longest_gap();
    assert!(silence.start <= enforced && silence.end >= enforced + 100, "{silence:?}");
    assert_eq!(stray.stream(0, silence.start - 1).lost(), 0, "{silence:?}");
    assert_eq!(stray.stream(silence.end, sent - 1).lost(), 0, "{silence:?}");
    assert!(silence.end <= again, "{silence:?}, observing again at {again}");
}

#[test]
fn a_restart_keeps_instances_and_what_was_counted() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let before = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
    daemon.kill().unwrap();
    let dead = daemon.ask(&["port", "list"]).unwrap();
    assert!(dead.json.to_string().contains("tap-a"), "the pins are read: {dead:?}");
    daemon.run().unwrap();
    let after = daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    assert_eq!(before["instance"], after["instance"]);
    assert_eq!(before["ifindex"], after["ifindex"]);
}

#[test]
fn a_name_that_comes_back_is_another_instance() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let before = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
    drop(a);
    let again = scene.plug_granted(&daemon, "tap-a").unwrap();
    let after = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
    assert_ne!(before["instance"], after["instance"]);
    again.send(&beat(A, 7)).unwrap();
    scene.await_outside("the new instance", &beat(A, 7)).unwrap();
}
