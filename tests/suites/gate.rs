//! The gate: a tap that nobody has judged reaches nobody, whenever it was born; the host's own
//! traffic and that of granted ports goes on.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::family::{self, Family};
use detector_tests::frames::{self, Station};
use detector_tests::guest::hex;
use detector_tests::scene::{HOST_IP, PATIENCE, SILENCE, Scene, beat, hears, same, vm};
use detector_tests::tap::{Header, Tap};
use detector_tests::{scene, wait};

#[path = "gate/clone.rs"]
mod clone;
#[path = "gate/newborn.rs"]
mod newborn;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const STRAY: Station = Station::number(99);
/// Beyond the uplink; the host routes to it.
const BEYOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
const EARS: u16 = detector_guest::PORT;

fn inventory() -> Vec<String> {
    vec![vm("a", "tap-a", A), vm("b", "tap-b", B)]
}

/// What a tap achieves that sends whatever it can.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reach {
    outside: bool,
    neighbour: bool,
    host: bool,
    routed: bool,
    stolen: bool,
}

const EVERYTHING: Reach =
    Reach { outside: true, neighbour: true, host: true, routed: true, stolen: true };
const NOTHING: Reach =
    Reach { outside: false, neighbour: false, host: false, routed: false, stolen: false };

/// Lets the host route either family, and lets it know the way beyond the bridge.
fn let_the_host_route(scene: &Scene) {
    let network = scene.host().network();
    family::forward(network).unwrap();
    family::give_addresses(network, "br0", HOST_IP).unwrap();
    for family in Family::BOTH {
        let beyond = family.address(BEYOND);
        network.ip(&format!("neigh replace {beyond} lladdr 02:be:00:00:00:01 dev br0")).unwrap();
    }
}

/// Sends from the stray tap to the neighbour, outwards, to the host and by way of the host, and
/// under the neighbour's MAC, over IPv4 and over IPv6. Each has to reach as far as is expected.
fn assert_reach(scene: &Scene, stray: &Tap, neighbour: &Tap, expected: Reach, when: &str) {
    for family in Family::BOTH {
        let reached = reach(scene, family, stray, neighbour, &expected);
        assert_eq!(reached, expected, "{family:?}, {when}");
    }
}

fn reach(scene: &Scene, family: Family, stray: &Tap, neighbour: &Tap, expected: &Reach) -> Reach {
    static NUMBER: AtomicU64 = AtomicU64::new(1_000);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let ears = family.ears(scene.host().network(), EARS).unwrap();
    // Wherever it was believed to be, it is here.
    neighbour.send(&beat(A, number)).unwrap();
    scene.await_outside("the neighbour", &beat(A, number)).unwrap();
    neighbour.drain().unwrap();
    let before = scene.outside().unwrap().len();
    let bridge = scene.mac("br0").unwrap();
    let shout = family.beat(STRAY, number);
    // From an address that is not the bridge's own network's, so that only the way matters.
    let routed = family.udp(STRAY, (bridge, BEYOND), (7, 7), b"routed");
    let to_host = family.udp(STRAY, (bridge, HOST_IP), (7, EARS), b"host");
    let theft = family.announcement(Station { mac: A.mac, ..STRAY });
    while hears(&ears, Duration::ZERO) {}
    for frame in [&shout, &routed, &to_host, &theft] {
        stray.send(frame).unwrap();
    }
    let mut reached = NOTHING;
    let mut look = || -> anyhow::Result<Reach> {
        let outside = scene.outside()?.split_off(before);
        reached.outside |= outside.iter().any(|f| same(&f.bytes, &shout));
        reached.neighbour |= neighbour.drain()?.iter().any(|f| same(f, &shout));
        reached.host |= ears.recv_from(&mut [0; 64]).is_ok();
        reached.routed |= outside.iter().any(|f| f.bytes.ends_with(b"routed"));
        reached.stolen |= scene.place_of(A.mac)?.as_deref() == Some(stray.name());
        Ok(reached)
    };
    // What is to come may take its time; what is not is listened for afterwards.
    wait::until("what it reaches", PATIENCE, || Ok((look()? == *expected).then_some(())))
        .with_context(|| format!("{family:?}"))
        .unwrap();
    wait::pause(SILENCE);
    look().unwrap()
}

#[test]
fn without_the_daemon_a_tap_reaches_everybody() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let a = scene.plug("tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_reach(&scene, &stray, &a, EVERYTHING, "unguarded");
}

#[test]
fn a_tap_that_nobody_knows_reaches_nobody() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_reach(&scene, &stray, &a, NOTHING, "at once");
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_reach(&scene, &stray, &a, NOTHING, "guarded");
}

#[test]
fn a_tap_born_while_the_daemon_is_dead_reaches_nobody() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    daemon.kill().unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_reach(&scene, &stray, &a, NOTHING, "with the daemon dead");
    for family in Family::BOTH {
        a.send(&family.beat(A, 1)).unwrap();
        scene.await_outside("the granted one", &family.beat(A, 1)).unwrap();
    }
    daemon.run().unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_reach(&scene, &stray, &a, NOTHING, "with the daemon back");
    // The name is known, but the port of that name is judged by its own VM, not by the stray's past.
    drop(stray);
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    b.send(&beat(B, 2)).unwrap();
    scene.await_outside("b", &beat(B, 2)).unwrap();
}

#[test]
fn a_tap_on_no_bridge_is_not_routed_into_one() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let network = scene.host().network();
    let stray = Tap::open(network, "stray0", Header::None).unwrap();
    network.ip("link set stray0 addrgenmode none up").unwrap();
    family::give_addresses(network, "stray0", Ipv4Addr::new(198, 51, 100, 1)).unwrap();
    let mac = scene::interface_mac(network, "stray0").unwrap();
    let from = Station { ip: Ipv4Addr::new(198, 51, 100, 2), ..STRAY };
    let arrives = |family: Family, payload: &'static [u8], patience| {
        stray.send(&family.udp(from, (mac, BEYOND), (7, 7), payload)).unwrap();
        wait::until("the frame", patience, || {
            let arrived = scene.outside()?.iter().any(|f| f.bytes.ends_with(payload));
            Ok(arrived.then_some(()))
        })
        .is_ok()
    };
    let before: [&[u8]; 2] = [b"before", b"before6"];
    for (family, payload) in Family::BOTH.into_iter().zip(before) {
        assert!(arrives(family, payload, PATIENCE), "{family:?}: without the daemon it is routed");
    }
    let _daemon = scene.daemon("enforce", &[]).unwrap();
    assert!(!arrives(Family::V4, b"after", SILENCE));
    assert!(!arrives(Family::V6, b"after6", SILENCE));
}

#[test]
fn a_new_bridge_is_gated_like_the_old_ones() {
    let scene = Scene::new().unwrap();
    let settings = Settings { bridges: vec!["*"], ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let network = scene.host().network();
    network.ip("link add br9 address 02:b0:00:00:00:09 type bridge mcast_snooping 0").unwrap();
    network.ip("link set br9 addrgenmode none up").unwrap();
    family::give_addresses(network, "br9", Ipv4Addr::new(203, 0, 113, 1)).unwrap();
    daemon.await_port("br9", "gate", PATIENCE).unwrap();
    let plug = |name: &str| {
        let tap = Tap::open(network, name, Header::None).unwrap();
        network.ip(&format!("link set {name} addrgenmode none up")).unwrap();
        detector_tests::link::enslave(network, name, "br9").unwrap();
        tap
    };
    // Until its own guard is attached a tap hears what is flooded.
    let guarded = plug("new0");
    daemon.await_finding("unknown-port", "new0", PATIENCE).unwrap();
    let newborn = plug("new1");
    for family in Family::BOTH {
        let ears = family.ears(network, EARS).unwrap();
        let shout = family.beat(STRAY, 1);
        newborn.send(&shout).unwrap();
        assert!(!hears(&ears, SILENCE), "{family:?}");
        assert!(!guarded.drain().unwrap().iter().any(|f| same(f, &shout)), "{family:?}");
    }
}

#[test]
fn granted_ports_the_host_and_the_outside_speak_with_each_other() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    speak_with_each_other(&scene, &daemon);
}

#[test]
fn the_stamp_may_be_carried_by_tc_index_as_well() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let settings = Settings {
        inventory: inventory().concat(),
        more: "[stamp]\ncarrier = \"tc-index\"\n".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let (a, _b) = speak_with_each_other(&scene, &daemon);
    let stray = scene.plug("stray0").unwrap();
    assert_reach(&scene, &stray, &a, NOTHING, "at once");
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_reach(&scene, &stray, &a, NOTHING, "guarded");
}

/// Plugs two granted taps; they, the host and the outside hear each other.
fn speak_with_each_other(scene: &Scene, daemon: &Daemon<'_>) -> (Tap, Tap) {
    let network = scene.host().network();
    family::give_addresses(network, "br0", HOST_IP).unwrap();
    let a = scene.plug_granted(daemon, "tap-a").unwrap();
    let b = scene.plug_granted(daemon, "tap-b").unwrap();
    let beyond = scene.beyond().unwrap();
    for family in Family::BOTH {
        let ears = family.ears(network, EARS).unwrap();
        let shout = family.beat(A, 1);
        a.send(&shout).unwrap();
        b.await_frame("a's broadcast", PATIENCE, |f| same(f, &shout)).unwrap();
        scene.await_outside("a's broadcast", &shout).unwrap();
        assert!(hears(&ears, PATIENCE), "{family:?}: the host hears it too");

        let unicast = family.udp(B, (A.mac, A.ip), (5, 6), b"to a");
        b.send(&unicast).unwrap();
        a.await_frame("b's unicast", PATIENCE, |f| same(f, &unicast)).unwrap();

        let from_outside = family.beat(Station::number(200), 3);
        beyond.send(&from_outside).unwrap();
        a.await_frame("the outside", PATIENCE, |f| same(f, &from_outside)).unwrap();
        assert!(hears(&ears, PATIENCE), "{family:?}: the host hears the outside");
    }
    let ears = scene.ears(EARS).unwrap();
    ears.send_to(b"from the host", (Ipv4Addr::new(192, 0, 2, 255), 9)).unwrap();
    let hosts = |f: &[u8]| f.ends_with(b"from the host");
    a.await_frame("the host's broadcast", PATIENCE, hosts).unwrap();
    (a, b)
}

#[test]
fn a_granted_mac_cannot_be_taken_away_by_another_granted_port() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("a", &beat(A, 1)).unwrap();
    for family in Family::BOTH {
        b.send(&family.announcement(Station { mac: A.mac, ..B })).unwrap();
        b.send(&family.announcement(A)).unwrap();
    }
    b.send(&frames::rarp(A.mac)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.place_of(A.mac).unwrap().as_deref(), Some("tap-a"), "{}", hex(A.mac));
}

#[test]
fn observing_changes_nothing_and_says_what_it_would_do() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let daemon = scene.daemon("observe", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    // What is granted keeps its place in every mode.
    let all_but_the_place = Reach { stolen: false, ..EVERYTHING };
    assert_reach(&scene, &stray, &a, all_but_the_place, "observed");
    let port = daemon.ask(&["port", "show", "stray0"]).unwrap();
    assert!(port.json["counters"]["from"]["port-pending"].as_u64() > Some(0), "{port:?}");
}
