//! The gate: a tap that nobody has judged reaches nobody, whenever it was born; the host's own
//! traffic and that of granted ports goes on.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::Ipv4Addr;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::{self, Station};
use detector_tests::guest::hex;
use detector_tests::scene::{HOST_IP, PATIENCE, SILENCE, Scene, beat, hears, same, vm};
use detector_tests::tap::{Header, Tap};
use detector_tests::{scene, wait};

#[path = "gate/clone.rs"]
mod clone;

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

/// Lets the host route, and lets it know the way beyond the bridge.
fn let_the_host_route(scene: &Scene) {
    let network = scene.host().network();
    let mut sysctl = network.command("sysctl");
    assert!(sysctl.args(["-qw", "net.ipv4.ip_forward=1"]).status().unwrap().success());
    network.ip(&format!("neigh replace {BEYOND} lladdr 02:be:00:00:00:01 dev br0")).unwrap();
}

/// Sends from the stray tap to the neighbour, outwards, to the host and by way of the host, and
/// under the neighbour's MAC.
fn reach(scene: &Scene, stray: &Tap, neighbour: &Tap, expected: &Reach) -> Reach {
    let ears = scene.ears(EARS).unwrap();
    neighbour.drain().unwrap();
    let before = scene.outside().unwrap().len();
    let bridge = scene.mac("br0").unwrap();
    let shout = beat(STRAY, 1);
    // From an address that is not the bridge's own network's, so that only the way matters.
    let routed = frames::udp(STRAY, (bridge, BEYOND), (7, 7), b"routed");
    let to_host = frames::udp(STRAY, (bridge, HOST_IP), (7, EARS), b"host");
    let theft = frames::arp(Station { mac: A.mac, ..STRAY }, STRAY.ip);
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
    wait::until("what it reaches", PATIENCE, || Ok((look()? == *expected).then_some(()))).unwrap();
    wait::pause(SILENCE);
    look().unwrap()
}

#[test]
fn without_the_daemon_a_tap_reaches_everybody() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let a = scene.plug("tap-a").unwrap();
    a.send(&beat(A, 0)).unwrap();
    scene.await_outside("a's first", &beat(A, 0)).unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_eq!(reach(&scene, &stray, &a, &EVERYTHING), EVERYTHING);
}

#[test]
fn a_tap_that_nobody_knows_reaches_nobody() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_eq!(reach(&scene, &stray, &a, &NOTHING), NOTHING, "at once");
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_eq!(reach(&scene, &stray, &a, &NOTHING), NOTHING, "guarded");
}

#[test]
fn a_tap_born_while_the_daemon_is_dead_reaches_nobody() {
    let scene = Scene::new().unwrap();
    let_the_host_route(&scene);
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    daemon.kill().unwrap();
    let stray = scene.plug("stray0").unwrap();
    assert_eq!(reach(&scene, &stray, &a, &NOTHING), NOTHING, "with the daemon dead");
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("the granted one", &beat(A, 1)).unwrap();
    daemon.run().unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_eq!(reach(&scene, &stray, &a, &NOTHING), NOTHING, "with the daemon back");
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
    network.ip("address add 198.51.100.1/24 dev stray0").unwrap();
    network.ip("link set stray0 addrgenmode none up").unwrap();
    let mac = scene::interface_mac(network, "stray0").unwrap();
    let from = Station { ip: Ipv4Addr::new(198, 51, 100, 2), ..STRAY };
    let arrives = |payload: &'static [u8], patience| {
        stray.send(&frames::udp(from, (mac, BEYOND), (7, 7), payload)).unwrap();
        wait::until("the frame", patience, || {
            let arrived = scene.outside()?.iter().any(|f| f.bytes.ends_with(payload));
            Ok(arrived.then_some(()))
        })
        .is_ok()
    };
    assert!(arrives(b"before", PATIENCE), "without the daemon the host routes it");
    let _daemon = scene.daemon("enforce", &[]).unwrap();
    assert!(!arrives(b"after", SILENCE));
}

#[test]
fn a_new_bridge_is_gated_like_the_old_ones() {
    let scene = Scene::new().unwrap();
    let settings = Settings { bridges: vec!["*"], ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let network = scene.host().network();
    network.ip("link add br9 address 02:b0:00:00:00:09 type bridge mcast_snooping 0").unwrap();
    network.ip("address add 203.0.113.1/24 dev br9").unwrap();
    network.ip("link set br9 addrgenmode none up").unwrap();
    daemon.await_port("br9", "gate", PATIENCE).unwrap();
    let taps = ["new0", "new1"].map(|name| {
        let tap = Tap::open(network, name, Header::None).unwrap();
        network.ip(&format!("link set {name} addrgenmode none up")).unwrap();
        detector_tests::link::enslave(network, name, "br9").unwrap();
        tap
    });
    let ears = scene.ears(EARS).unwrap();
    let shout = beat(STRAY, 1);
    taps[0].send(&shout).unwrap();
    assert!(!hears(&ears, SILENCE));
    assert!(!taps[1].drain().unwrap().iter().any(|f| same(f, &shout)));
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
    assert_eq!(reach(&scene, &stray, &a, &NOTHING), NOTHING, "at once");
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_eq!(reach(&scene, &stray, &a, &NOTHING), NOTHING, "guarded");
}

/// Plugs two granted taps; they, the host and the outside hear each other.
fn speak_with_each_other(scene: &Scene, daemon: &Daemon<'_>) -> (Tap, Tap) {
    let a = scene.plug_granted(daemon, "tap-a").unwrap();
    let b = scene.plug_granted(daemon, "tap-b").unwrap();
    let ears = scene.ears(EARS).unwrap();

    a.send(&beat(A, 1)).unwrap();
    b.await_frame("a's broadcast", PATIENCE, |f| same(f, &beat(A, 1))).unwrap();
    scene.await_outside("a's broadcast", &beat(A, 1)).unwrap();
    assert!(hears(&ears, PATIENCE), "the host hears it too");

    let unicast = frames::udp(B, (A.mac, A.ip), (5, 6), b"to a");
    b.send(&unicast).unwrap();
    a.await_frame("b's unicast", PATIENCE, |f| same(f, &unicast)).unwrap();

    let beyond = scene.beyond().unwrap();
    let from_outside = beat(Station::number(200), 3);
    beyond.send(&from_outside).unwrap();
    a.await_frame("the outside", PATIENCE, |f| same(f, &from_outside)).unwrap();
    assert!(hears(&ears, PATIENCE), "the host hears the outside");

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
    b.send(&frames::arp(Station { mac: A.mac, ..B }, A.ip)).unwrap();
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
    assert_eq!(reach(&scene, &stray, &a, &all_but_the_place), all_but_the_place);
    let port = daemon.ask(&["port", "show", "stray0"]).unwrap();
    assert!(port.json["counters"]["from"]["port-pending"].as_u64() > Some(0), "{port:?}");
}
