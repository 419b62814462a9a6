//! The gate of an uplink: nobody outside has the MAC of a guest of this host.

use std::sync::atomic::{AtomicU64, Ordering};

use detector_tests::daemon::Daemon;
use detector_tests::family::{self, Family};
use detector_tests::frames::{self, BROADCAST, Station};
use detector_tests::order::in_order;
use detector_tests::packet::PacketSocket;
use detector_tests::scene::{HOST_IP, PATIENCE, SILENCE, Scene, beat, hears, same, vm};
use detector_tests::tap::Tap;
use detector_tests::wait;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
/// Somebody who is really outside.
const OUTER: Station = Station::number(50);
/// A virtual router, which is on several hosts in turn: no NIC's own.
const SHARED: Station = Station { mac: [0, 0, 0x5e, 0, 1, 5], ..Station::number(5) };

/// Whether the frame gets from outside to the tap, before one that follows it.
fn gets_in(beyond: &PacketSocket, tap: &Tap, frame: &[u8]) -> bool {
    static NUMBER: AtomicU64 = AtomicU64::new(1_000);
    let follows = beat(OUTER, NUMBER.fetch_add(1, Ordering::Relaxed));
    tap.drain().unwrap();
    in_order(|| {
        beyond.send(frame).unwrap();
        beyond.send(&follows).unwrap();
    });
    let before = tap.until("what follows", PATIENCE, &follows).unwrap();
    before.iter().any(|f| same(f, frame))
}

fn clones_counted(daemon: &Daemon<'_>) -> u64 {
    let uplink = daemon.ask(&["port", "show", "up0"]).unwrap().json;
    uplink["counters"]["from"]["mac-of-local-guest"].as_u64().unwrap_or(0)
}

fn inventory() -> Vec<String> {
    vec![vm("victim", "tap-a", A), vm("b", "tap-b", B)]
}

#[test]
fn a_guests_mac_does_not_come_in_from_outside() {
    let scene = Scene::new().unwrap();
    let beyond = scene.beyond().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(gets_in(&beyond, &b, &beat(A, 1)), "before its VM is here, it is somewhere else");
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();

    let mut clones = vec![frames::rarp(A.mac)];
    for family in Family::BOTH {
        clones.extend([
            family.beat(A, 3),
            family.announcement(A),
            family.udp(A, (B.mac, B.ip), (1, 2), b"clone"),
            frames::tagged(&family.beat(A, 2), 7),
        ]);
    }
    for frame in &clones {
        assert!(!gets_in(&beyond, &b, frame), "{frame:x?}");
    }
    assert_eq!(clones_counted(&daemon), clones.len() as u64);
    let finding = daemon.await_finding("mac-clone", "victim", PATIENCE).unwrap().to_string();
    assert!(finding.contains("up0") && finding.contains("detector explain victim"), "{finding}");
    assert_eq!(scene.place_of(A.mac).unwrap().as_deref(), Some("tap-a"));

    for family in Family::BOTH {
        let unicast = family.udp(OUTER, (B.mac, B.ip), (1, 2), b"x");
        for frame in [family.beat(OUTER, 1), family.beat(SHARED, 1), unicast] {
            assert!(gets_in(&beyond, &b, &frame), "{frame:x?}");
        }
    }
    a.send(&beat(A, 9)).unwrap();
    scene.await_outside("the VM itself", &beat(A, 9)).unwrap();

    drop(a);
    wait::until("the MAC to be free", PATIENCE, || {
        Ok(gets_in(&beyond, &b, &beat(A, 10)).then_some(()))
    })
    .unwrap();
    // It was given up, and not found astray.
    assert_eq!(daemon.complaints().unwrap(), [] as [serde_json::Value; 0]);
}

#[test]
fn neither_does_the_host_hear_it() {
    let scene = Scene::new().unwrap();
    let beyond = scene.beyond().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let network = scene.host().network();
    family::give_addresses(network, "br0", HOST_IP).unwrap();
    let bridge = scene.mac("br0").unwrap();
    for family in Family::BOTH {
        let ears = family.ears(network, detector_guest::PORT).unwrap();
        let say = |from: Station| {
            let to = (bridge, HOST_IP);
            beyond.send(&family.udp(from, to, (7, detector_guest::PORT), b"hello")).unwrap();
        };
        say(A);
        assert!(!hears(&ears, SILENCE), "{family:?}");
        say(OUTER);
        assert!(hears(&ears, PATIENCE), "{family:?}");
        // Nor does it get out of the host again by another way.
        let reflected = family.udp(A, (BROADCAST, HOST_IP), (1, 2), b"reflected");
        beyond.send(&reflected).unwrap();
        wait::pause(SILENCE);
        assert_eq!(scene.copies_outside(&reflected).unwrap(), 0, "{family:?}");
    }
}

#[test]
fn observing_lets_a_clone_in_and_says_so() {
    let scene = Scene::new().unwrap();
    let beyond = scene.beyond().unwrap();
    let daemon = scene.daemon("observe", &inventory()).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(gets_in(&beyond, &b, &beat(A, 1)), "observed");
    assert_eq!(clones_counted(&daemon), 1);
    daemon.await_finding("mac-clone", "victim", PATIENCE).unwrap();
}
