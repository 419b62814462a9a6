//! Frames that come into a tap from a worker of the kernel, and not from the process that has it open.

use detector_tests::tap::{Header, Tap};
use detector_tests::vhost::Vhost;

use super::*;

/// A tap on the bridge with virtio headers, and the worker that sends through it.
fn plug(scene: &Scene, name: &str) -> (Tap, Vhost) {
    let network = scene.host().network();
    let tap = Tap::open(network, name, Header::Virtio).unwrap();
    network.ip(&format!("link set {name} addrgenmode none up")).unwrap();
    link::enslave(network, name, "br0").unwrap();
    let worker = Vhost::over(&tap).unwrap();
    (tap, worker)
}

#[test]
fn guard_and_gate_hold_where_vhost_sends() {
    if lacks(&[Need::VhostNet]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]).unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let (a, mut worker) = plug(&scene, "tap-a");
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();

    let stolen = [Station { mac: B.mac, ip: A.ip }, Station { mac: A.mac, ip: B.ip }];
    stolen.iter().for_each(|station| worker.send(&beat(*station, 1)).unwrap());
    worker.send(&beat(A, 2)).unwrap();
    scene.await_outside("its own identity", &beat(A, 2)).unwrap();
    let heard = b.until("its own identity", PATIENCE, &beat(A, 2)).unwrap();
    wait::pause(SILENCE);
    for station in stolen {
        assert_eq!(scene.copies_outside(&beat(station, 1)).unwrap(), 0, "{station:?}");
        assert!(!heard.iter().any(|frame| same(frame, &beat(station, 1))), "{station:?}");
    }
    let shown = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
    for reason in ["mac-not-granted", "ipv4-source"] {
        assert_eq!(shown["counters"]["from"][reason], 1, "{reason}: {shown:#}");
    }
    let outer = beat(STRAY, 3);
    scene.beyond().unwrap().send(&outer).unwrap();
    a.await_frame("the outside", PATIENCE, |frame| same(frame, &outer)).unwrap();

    // One that nobody guards, and one that is quarantined, with nobody there to look after them.
    let add = ["quarantine", "add", "vm", "a", "--reason", "a test"];
    assert_eq!(daemon.ask(&add).unwrap().code, 0);
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    daemon.kill().unwrap();
    let (_stray, mut unguarded) = plug(&scene, "stray0");
    unguarded.send(&beat(STRAY, 4)).unwrap();
    unguarded.send(&frames::arp(B, STRAY.ip)).unwrap();
    worker.send(&beat(A, 5)).unwrap();
    b.send(&beat(B, 6)).unwrap();
    scene.await_outside("whoever is granted", &beat(B, 6)).unwrap();
    wait::pause(SILENCE);
    let heard = b.drain().unwrap();
    for frame in [beat(STRAY, 4), beat(A, 5)] {
        assert_eq!(scene.copies_outside(&frame).unwrap(), 0);
        assert!(!heard.iter().any(|got| same(got, &frame)));
    }
    assert_eq!(scene.place_of(B.mac).unwrap().as_deref(), Some("tap-b"));
}
