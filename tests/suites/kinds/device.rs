//! The device that macvtaps are on: what comes in by it under their MACs is nobody's, whoever else speaks by it
//! goes on, and out of one that is closed nobody speaks whom nobody knows.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Instant;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::dhcp::{DISCOVER, Message};
use detector_tests::ears::Ears;
use detector_tests::needs::found;
use detector_tests::scene::{HOST_IP, interface_mac};

use super::*;

/// The device of a macvtap in bridge mode.
const DEVICE: &str = "low-bridge";
const C: Station = Station::number(12);
const STRAY: Station = Station::number(99);
const ORPHAN: Station = Station::number(98);

/// A daemon that knows a VM on each of two macvtaps.
fn start<'a>(scene: &'a Scene, mode: &'static str, network: &str) -> Daemon<'a> {
    let settings = Settings {
        mode,
        inventory: [vm("victim", "macvtap0", A), vm("b", "macvtap1", B)].concat(),
        network: network.to_owned(),
        more: "unknown_port_grace = \"200ms\"\n".to_owned(),
        ..Settings::default()
    };
    Daemon::start(scene.host(), &settings).unwrap()
}

/// Two macvtaps in this mode on one device, by which the host speaks too.
fn pair(scene: &Scene, daemon: &Daemon<'_>, mode: &str) -> (Macvtap, Tap, String) {
    let a = macvtap(scene, "macvtap0", mode, A.mac);
    let device = format!("low-{mode}");
    let b = macvtap_on(scene, &device, "macvtap1", mode, B.mac);
    detector_tests::family::give_addresses(scene.host().network(), &device, HOST_IP).unwrap();
    for port in ["macvtap0", "macvtap1"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    daemon.await_port(&device, "gate", PATIENCE).unwrap();
    (a, b, device)
}

fn clones_counted(daemon: &Daemon<'_>, device: &str) -> u64 {
    let device = daemon.ask(&["port", "show", device]).unwrap().json;
    assert_eq!(device["role"], "device", "{device:#}");
    device["counters"]["from"]["mac-of-local-guest"].as_u64().unwrap_or(0)
}

/// Whether the frame gets from outside to the tap, before one of somebody else's that follows it.
fn gets_in(beyond: &PacketSocket, tap: &Tap, frame: &[u8], follows: &[u8]) -> bool {
    tap.drain().unwrap();
    in_order(|| {
        beyond.send(frame).unwrap();
        beyond.send(follows).unwrap();
    });
    let before = tap.until("what follows", PATIENCE, follows).unwrap();
    before.iter().any(|f| same(f, frame))
}

/// A frame to the neighbour. What is for all of them the kernel itself does not hand on in bridge mode.
fn clone(family: Family) -> Vec<u8> {
    family.udp(A, (B.mac, B.ip), (1, 2), b"clone")
}

/// What the host itself hears of a station.
fn ears(scene: &Scene) -> Ears {
    Ears::open(scene.host().network(), detector_guest::PORT).unwrap()
}

#[test]
fn a_clone_from_the_wire_is_dropped_where_it_comes_in() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    for mode in ["bridge", "private"] {
        let scene = Scene::new().unwrap();
        let mut daemon = start(&scene, "enforce", "");
        let ears = ears(&scene);
        let (a, b, device) = pair(&scene, &daemon, mode);
        for family in Family::BOTH {
            assert!(
                !gets_in(&a.beyond, &b, &clone(family), &family.beat(FAR, 1)),
                "{mode} {family:?}"
            );
            a.beyond.send(&family.beat(A, 1)).unwrap();
        }
        wait::until("the clones to be counted", PATIENCE, || {
            Ok((clones_counted(&daemon, &device) == 4).then_some(()))
        })
        .unwrap();
        let finding = daemon.await_finding("mac-clone", "victim", PATIENCE).unwrap();
        assert_eq!(finding["severity"], "high", "{finding}");
        assert!(finding["evidence"].to_string().contains(&device), "{finding}");

        // The host hears whoever is really outside, and is heard.
        wait::until("the host to hear it", PATIENCE, || {
            Ok((ears.heard(FAR.ip.into())? > 0).then_some(()))
        })
        .unwrap();
        assert_eq!(ears.heard(A.ip.into()).unwrap(), 0, "{mode}");
        assert_the_host_is_heard(&scene, &device, &a, 7);

        // Nor does any come in while the daemon is dead.
        daemon.kill().unwrap();
        assert!(!gets_in(&a.beyond, &b, &clone(Family::V4), &beat(FAR, 2)), "{mode}: killed");
        daemon.run().unwrap();
        assert!(!gets_in(&a.beyond, &b, &clone(Family::V4), &beat(FAR, 3)), "{mode}: back");

        // With the guests it goes, and the host has its device for itself again.
        let network = scene.host().network();
        for port in ["macvtap0", "macvtap1"] {
            network.ip(&format!("link del {port}")).unwrap();
        }
        wait::until("the device to be let go", PATIENCE, || {
            Ok(daemon.ask(&["port", "show", &device])?.json.is_null().then_some(()))
        })
        .unwrap();
        a.beyond.send(&beat(A, 4)).unwrap();
        wait::until("the host to hear it", PATIENCE, || {
            Ok((ears.heard(A.ip.into())? > 0).then_some(()))
        })
        .unwrap();
        assert_eq!(daemon.complaints().unwrap(), [] as [serde_json::Value; 0], "{mode}");
    }
}

/// A frame from the host's own network stack, by the device.
fn assert_the_host_is_heard(scene: &Scene, device: &str, outside: &Macvtap, seq: u64) {
    let own = Station { mac: interface_mac(scene.host().network(), device).unwrap(), ip: HOST_IP };
    let frame = beat(own, seq);
    PacketSocket::open(scene.host().network(), device).unwrap().send(&frame).unwrap();
    outside.outside.await_frame("the host", PATIENCE, |f| same(&f.bytes, &frame)).unwrap();
}

/// In VEPA mode guests hear each other by way of the switch outside, which hands back what they say.
#[test]
fn what_a_switch_hands_back_in_vepa_mode_is_no_clone() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = start(&scene, "enforce", "");
    let (a, b, device) = pair(&scene, &daemon, "vepa");
    let own = beat(A, 1);
    a.tap.send(&own).unwrap();
    a.outside.await_frame("a", PATIENCE, |f| same(&f.bytes, &own)).unwrap();
    assert!(gets_in(&a.beyond, &b, &own, &beat(FAR, 1)), "reflected");
    assert_eq!(clones_counted(&daemon, &device), 0);
}

#[test]
fn observing_lets_a_clone_in_by_a_device_and_says_so() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = start(&scene, "observe", "");
    let (a, b, device) = pair(&scene, &daemon, "bridge");
    assert!(gets_in(&a.beyond, &b, &clone(Family::V4), &beat(FAR, 1)), "observed");
    assert_eq!(clones_counted(&daemon, &device), 1);
    daemon.await_finding("mac-clone", "victim", PATIENCE).unwrap();
}

/// The kernel hands what guests on one device say to each other in by the device, like what comes from outside.
#[test]
fn neighbours_on_one_device_speak_with_each_other() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = start(&scene, "enforce", "");
    let (a, b, device) = pair(&scene, &daemon, "bridge");
    for family in Family::BOTH {
        let frame = family.udp(B, (A.mac, A.ip), (1, 2), b"to a neighbour");
        b.send(&frame).unwrap();
        a.tap.until("the neighbour's", PATIENCE, &frame).unwrap();
    }
    assert_eq!(clones_counted(&daemon, &device), 0);
}

/// In bridge mode guests on one device reach each other inside of it: there the neighbour's own guard is what
/// holds.
#[test]
fn a_clone_next_door_is_caught_by_its_own_guard() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = start(&scene, "enforce", "");
    let (a, b, device) = pair(&scene, &daemon, "bridge");
    for family in Family::BOTH {
        a.tap.drain().unwrap();
        in_order(|| {
            for stolen in STOLEN.map(|one| Station { ip: one.ip, mac: A.mac }) {
                // A guard that drops says so to whoever writes into a macvtap.
                let _ = b.send(&family.beat(stolen, 1));
            }
            b.send(&family.beat(B, 1)).unwrap();
        });
        let heard = a.tap.until("its own", PATIENCE, &family.beat(B, 1)).unwrap();
        let cloned = |f: &&Vec<u8>| f.get(6..12) == Some(&A.mac[..]);
        assert_eq!(heard.iter().filter(cloned).count(), 0, "{family:?}");
    }
    daemon.await_finding("foreign-identity", "macvtap1", PATIENCE).unwrap();
    assert_eq!(clones_counted(&daemon, &device), 0, "inside");
    let own = a.outside.frames().unwrap();
    assert!(!own.iter().any(|frame| frame.source() == Some(A.mac)), "nor outside");
}

/// What a server beyond the device leases is learned, and what a neighbour does that has the role; one that only
/// plays the server is believed nowhere, though observing lets what it says go by.
#[test]
fn a_neighbour_without_the_role_leases_nothing() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let server = vm("c", "macvtap2", C).replace("addresses", "dhcp_server = true\naddresses");
    let learner = vm("victim", "macvtap0", A).replace("addresses", "rule = \"dhcp\"\n#");
    let settings = Settings {
        mode: "observe",
        inventory: [learner, vm("b", "macvtap1", B), server].concat(),
        ..Settings::default()
    };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let (a, b, device) = pair(&scene, &daemon, "bridge");
    let c = macvtap_on(&scene, &device, "macvtap2", "bridge", C.mac);
    daemon.await_port("macvtap2", "granted", PATIENCE).unwrap();
    let cases = [
        ("without the role", Some(&b), B, false),
        ("with the role", Some(&c), C, true),
        ("beyond the device", None, FAR, true),
    ];
    for (number, (who, neighbour, server, expect)) in (1..).zip(cases) {
        let leased = Ipv4Addr::new(192, 0, 2, 100 + number);
        a.tap.send(&Message::new(DISCOVER, number.into(), A.mac).from_client()).unwrap();
        let reply = Message::ack(number.into(), A.mac, leased, 600).from_server(server);
        neighbour.map_or_else(|| a.beyond.send(&reply), |tap| tap.send(&reply)).unwrap();
        a.tap.until("the reply", PATIENCE, &reply).unwrap();
        let port = daemon.ask(&["port", "show", "macvtap0"]).unwrap().json;
        assert_eq!(port["learned"].to_string().contains(&leased.to_string()), expect, "{who}");
    }
}

/// A device beside them in the host's namespace, such as a container's or a virtual router's, before it moves.
fn macvlan(scene: &Scene, name: &str, mac: [u8; 6]) -> PacketSocket {
    let network = scene.host().network();
    let mac = detector_tests::guest::hex(mac);
    let add = format!("link add link {DEVICE} name {name} address {mac} type macvlan mode bridge");
    network.ip(&add).unwrap();
    network.ip(&format!("link set {name} addrgenmode none")).unwrap();
    network.ip(&format!("link set {name} up")).unwrap();
    PacketSocket::open(network, name).unwrap()
}

fn is_heard(it: &Macvtap, what: &str, frame: &[u8], send: impl Fn(&[u8])) {
    wait::until(what, PATIENCE, || {
        send(frame);
        let heard = it.outside.frames()?;
        Ok(heard.iter().any(|f| same(&f.bytes, frame)).then_some(()))
    })
    .unwrap();
}

/// Until its guard is attached a new macvtap is heard on the wire: how long, is measured here. Out of a device
/// that is closed it never is.
#[test]
fn out_of_a_closed_device_only_known_senders_speak() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    const NAMED: Station = Station::number(60);
    const CONTAINER: Station = Station::number(61);
    const LATE: Station = Station::number(62);
    let closed = format!(
        "closed_devices = [\"low-*\"]\nknown_senders = [\"{}\"]",
        detector_tests::guest::hex(NAMED.mac)
    );
    for network in ["", &closed] {
        let scene = Scene::new().unwrap();
        let mut daemon = start(&scene, "enforce", network);
        let (a, _b, device) = pair(&scene, &daemon, "bridge");
        let heard = |station: Station| {
            let frames = a.outside.frames().unwrap();
            frames.iter().filter(|frame| frame.source() == Some(station.mac)).count()
        };
        let begun = Instant::now();
        let stray = macvtap_on(&scene, &device, "macvtap9", "bridge", STRAY.mac);
        let mut lasted = begun.elapsed();
        wait::until("its guard", PATIENCE, || {
            // It may be full, or its guard there.
            let _ = stray.send(&beat(STRAY, 1));
            let frames = heard(STRAY);
            let port = daemon.ask(&["port", "show", "macvtap9"])?.json;
            if port["status"] == "pending" {
                return Ok(Some(()));
            }
            if frames > 0 {
                lasted = begun.elapsed();
            }
            Ok(None)
        })
        .unwrap();
        daemon.await_finding("unknown-port", "macvtap9", PATIENCE).unwrap();
        if network.is_empty() {
            found(&format!("a new macvtap was heard for {lasted:?} at most"));
            continue;
        }
        assert_eq!(heard(STRAY), 0, "from its first frame on");

        // Whoever is known is heard: guests, the host, what is on the device, who was named.
        assert_only_own_at(
            2,
            |f| a.tap.send(f).unwrap_or_default(),
            || a.outside.frames().unwrap(),
        );
        assert_the_host_is_heard(&scene, &device, &a, 7);
        let beside = macvlan(&scene, "mv0", CONTAINER.mac);
        // Whoever sends what is dropped is told.
        let send = |from: &PacketSocket, frame: &[u8]| from.send(frame).unwrap_or_default();
        is_heard(&a, "a container", &beat(CONTAINER, 1), |frame| send(&beside, frame));
        let raw = PacketSocket::open(scene.host().network(), &device).unwrap();
        raw.send(&beat(NAMED, 1)).unwrap();
        is_heard(&a, "who was named", &beat(NAMED, 1), |_| ());
        send(&raw, &beat(Station::number(63), 1));

        // What is new while the daemon is dead is mute, for good or bad.
        daemon.kill().unwrap();
        let another = macvtap_on(&scene, &device, "macvtap8", "bridge", ORPHAN.mac);
        another.send(&beat(ORPHAN, 2)).unwrap_or_default();
        let late = macvlan(&scene, "mv1", LATE.mac);
        send(&late, &beat(LATE, 1));
        is_heard(&a, "the guest", &beat(A, 9), |frame| a.tap.send(frame).unwrap());
        assert_eq!((heard(ORPHAN), heard(LATE)), (0, 0), "while the daemon is dead");
        assert_eq!(heard(Station::number(63)), 0, "whom nobody knows");
        daemon.run().unwrap();
        is_heard(&a, "what came late", &beat(LATE, 2), |frame| send(&late, frame));
        assert_eq!((heard(STRAY), heard(ORPHAN)), (0, 0));

        // What is bridged there speaks under any MAC: the device stays open, and that is told.
        let network = scene.host().network();
        link::bridge(network, "br9").unwrap();
        network.ip("link set mv1 master br9").unwrap();
        daemon.await_finding("enforcement-impaired", &device, PATIENCE).unwrap();
        is_heard(&a, "whom nobody knows", &beat(Station::number(63), 2), |f| send(&raw, f));
    }
}

/// What is routed from a device goes on while macvtaps come to it and go.
#[test]
fn a_device_that_is_routed_from_stays_so() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = start(&scene, "enforce", "trusted = [\"low-*\"]");
    let network = scene.host().network();
    let far = NetNs::new().unwrap();
    link::cable((network, DEVICE), (&far, "far0")).unwrap();
    network.ip(&format!("address add 198.51.100.1/24 dev {DEVICE}")).unwrap();
    far.ip("address add 198.51.100.2/24 dev far0").unwrap();
    far.ip("route add 192.0.2.0/24 via 198.51.100.1").unwrap();
    network.ip("route add 203.0.113.0/24 via 198.51.100.2").unwrap();
    detector_tests::family::forward(network).unwrap();
    let from = far.run(|| Ok(UdpSocket::bind("198.51.100.2:0")?)).unwrap();
    let to = scene.far().run(|| Ok(UdpSocket::bind("0.0.0.0:4000")?)).unwrap();
    to.set_nonblocking(true).unwrap();
    scene.far().ip("address add 192.0.2.77/24 dev far0").unwrap();
    scene.far().ip("route add 198.51.100.0/24 via 192.0.2.1").unwrap();
    let arrives = |what: &str| {
        wait::until(what, PATIENCE, || {
            from.send_to(b"routed", "192.0.2.77:4000")?;
            let mut buffer = [0; 16];
            Ok(to.recv_from(&mut buffer).ok().map(drop))
        })
        .unwrap();
    };
    let role = |wanted: &str| {
        wait::until(wanted, PATIENCE, || {
            let port = daemon.ask(&["port", "show", DEVICE])?.json;
            Ok((port["role"] == wanted).then(|| port["instance"].clone()))
        })
        .unwrap()
    };
    let instance = role("trusted");
    arrives("before");
    let _a = macvtap_on(&scene, DEVICE, "macvtap0", "bridge", A.mac);
    daemon.await_port("macvtap0", "granted", PATIENCE).unwrap();
    assert_eq!(role("device"), instance, "it is turned in place");
    arrives("beside a macvtap");
    network.ip("link del macvtap0").unwrap();
    assert_eq!(role("trusted"), instance);
    arrives("after it");
}
