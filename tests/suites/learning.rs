//! Addresses that ports learn: from DHCP and DHCPv6 servers, by coming first, and from nobody else.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::Ipv4Addr;

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::dhcp::{
    self, ACK, DECLINE, DISCOVER, INFORM, Message, NAK, OFFER, RELEASE, REQUEST, Server,
};
use detector_tests::family::Family;
use detector_tests::frames::{self, Station};
use detector_tests::guest::hex;
use detector_tests::order::in_order;
use detector_tests::scene::{HOST_IP, PATIENCE, Scene, beat, same, vm};
use detector_tests::tap::Tap;
use detector_tests::wait;
use serde_json::Value;

#[path = "learning/adopted.rs"]
mod adopted;
#[path = "learning/arrivals.rs"]
mod arrivals;
#[path = "learning/first_come.rs"]
mod first_come;
#[path = "learning/kept.rs"]
mod kept;
#[path = "learning/routers.rs"]
mod routers;
#[path = "learning/v6.rs"]
mod v6;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
/// A DHCP server beyond the uplink.
const SERVER: Station = Station { mac: [2, 2, 2, 2, 2, 2], ip: Ipv4Addr::new(192, 0, 2, 2) };
const LEASED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 99);
const ID: u32 = 0x1234_5678;

/// An entry of the static inventory: a VM with one NIC that learns by the rule.
fn learner(name: &str, port: &str, station: Station, rule: &str, more: &str) -> String {
    format!(
        "[[vm]]\nname = \"{name}\"\ntemplate = \"lab\"\n[[vm.nic]]\nmac = \"{}\"\n\
         port = \"{port}\"\nrule = \"{rule}\"\n{more}\n",
        hex(station.mac)
    )
}

fn at(station: Station, ip: Ipv4Addr) -> Station {
    Station { ip, ..station }
}

/// What the port has learned, by address.
fn learned(daemon: &Daemon<'_>, port: &str) -> Vec<Value> {
    let answer = daemon.ask(&["port", "show", port]).unwrap();
    answer.json["learned"].as_array().cloned().unwrap_or_default()
}

fn addresses(daemon: &Daemon<'_>, port: &str) -> Vec<String> {
    let learned = learned(daemon, port);
    learned.iter().map(|one| one["address"].as_str().unwrap().to_owned()).collect()
}

fn count(daemon: &Daemon<'_>, port: &str, reason: &str) -> u64 {
    let answer = daemon.ask(&["port", "show", port]).unwrap();
    answer.json["counters"]["from"][reason].as_u64().unwrap_or(0)
}

/// Whether a frame of the station gets out, told by one that follows from somebody who may speak.
fn passes(scene: &Scene, tap: &Tap, station: Station, witness: (&Tap, Station), seq: u64) -> bool {
    passes_over(Family::V4, scene, tap, station, witness, seq)
}

fn passes_over(
    family: Family,
    scene: &Scene,
    tap: &Tap,
    station: Station,
    (other, known): (&Tap, Station),
    seq: u64,
) -> bool {
    let frame = family.beat(station, seq);
    in_order(|| {
        tap.send(&frame).unwrap();
        other.send(&beat(known, seq)).unwrap();
    });
    scene.await_outside("the witness", &beat(known, seq)).unwrap();
    scene.copies_outside(&frame).unwrap() == 1
}

#[test]
fn a_lease_is_in_force_before_the_first_frame_under_it() {
    let scene = Scene::new().unwrap();
    let _server = Server::start(scene.host()).unwrap();
    let vms = [learner("a", "tap-a", A, "dhcp", ""), vm("b", "tap-b", B)];
    let mut daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(!passes(&scene, &a, A, (&b, B), 1), "before there is a lease");
    assert_eq!(count(&daemon, "tap-a", "address-not-leased"), 1);

    let address = dhcp::lease(&a, A.mac, ID, PATIENCE).unwrap();
    let leased = at(A, address);
    // At once, and none lost.
    for seq in 10..20 {
        a.send(&beat(leased, seq)).unwrap();
    }
    a.send(&frames::arp(leased, HOST_IP)).unwrap();
    a.await_frame("the host's answer", PATIENCE, |frame| {
        frame[12..14] == [8, 6] && frame[20..22] == [0, 2]
    })
    .unwrap();
    for seq in 10..20 {
        scene.await_outside("what is sent at once", &beat(leased, seq)).unwrap();
    }
    assert!(!passes(&scene, &a, A, (&b, B), 21), "another address");
    let told = learned(&daemon, "tap-a");
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (&told[0]["address"], &told[0]["origin"]),
        (&address.to_string().into(), &"dhcp".into())
    );
    assert!(told[0]["expires"].is_string());
    let vm = daemon.ask(&["vm", "show", "a"]).unwrap().json;
    assert_eq!(vm["nics"][0]["learned"][0], address.to_string());
    assert!(daemon.show(&["explain", "tap-a"]).unwrap().contains(&address.to_string()));

    // Nobody needs the daemon for it.
    daemon.kill().unwrap();
    assert!(passes(&scene, &a, leased, (&b, B), 30), "without the daemon");
    assert_eq!(addresses(&daemon, "tap-a"), [address.to_string()], "read from the pins");
    let renewal = Message { current: address, ..Message::new(REQUEST, ID + 1, A.mac) };
    a.send(&renewal.from_client()).unwrap();
    dhcp::answer(&a, ACK, ID + 1, PATIENCE).unwrap();
    daemon.run().unwrap();
    assert!(passes(&scene, &a, leased, (&b, B), 31), "after a restart");
    assert_eq!(addresses(&daemon, "tap-a"), [address.to_string()]);

    // A lease that is given up is over at once.
    let release = Message { current: address, ..Message::new(RELEASE, ID + 2, A.mac) };
    a.send(&release.from_client()).unwrap();
    assert!(!passes(&scene, &a, leased, (&b, B), 32), "after the release");
    assert_eq!(learned(&daemon, "tap-a"), [] as [Value; 0]);
}

/// A scene with a learner at `tap-a`, a witness at `tap-b`, and a server beyond the uplink.
fn with_server(mode: &'static str, check: impl FnOnce(&Scene, &Daemon<'_>, &Tap, &Tap)) {
    let scene = Scene::new().unwrap();
    let vms = [learner("a", "tap-a", A, "dhcp", ""), vm("b", "tap-b", B)];
    let daemon = scene.daemon(mode, &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    check(&scene, &daemon, &a, &b);
}

/// Sends the server's frame and waits until it has reached the guest.
fn serve(scene: &Scene, to: &Tap, frame: &[u8]) {
    scene.beyond().unwrap().send(frame).unwrap();
    to.await_frame("the server's frame", PATIENCE, |one| one.starts_with(&frame[..60])).unwrap();
}

#[test]
fn only_the_answer_to_what_was_asked_teaches() {
    with_server("enforce", |scene, daemon, a, b| {
        let leased = at(A, LEASED);
        let good = Message::ack(ID, A.mac, LEASED, 600);
        serve(scene, a, &good.from_server(SERVER));
        assert!(!passes(scene, a, leased, (b, B), 1), "unasked");

        let ask = |kind| Message { requested: Some(LEASED), ..Message::new(kind, ID, A.mac) };
        a.send(&ask(DISCOVER).from_client()).unwrap();
        let no_server = Message { server: None, ..good.clone() };
        let no_time = Message { lease: None, ..good.clone() };
        let cases = [
            ("another transaction", Message { id: ID + 1, ..good.clone() }),
            ("another client", Message { client: B.mac, ..good.clone() }),
            ("an offer", Message { kind: OFFER, ..good.clone() }),
            ("a refusal", Message { kind: NAK, ..good.clone() }),
            ("what a client says", Message { kind: REQUEST, ..good.clone() }),
            ("no server", no_server),
            ("no time", no_time),
            ("nobody's address", Message { yours: Ipv4Addr::new(127, 0, 0, 1), ..good.clone() }),
        ];
        for (seq, (name, message)) in cases.iter().enumerate() {
            serve(scene, a, &message.from_server(SERVER));
            assert!(!passes(scene, a, leased, (b, B), 10 + seq as u64), "{name}");
            assert_eq!(learned(daemon, "tap-a"), [] as [Value; 0], "{name}");
        }
        // Not in a fragment, nor with a length that is none.
        let mut fragment = good.from_server(SERVER);
        fragment[20] = 0x20;
        let mut long = good.from_server(SERVER);
        long[38..40].copy_from_slice(&0xffff_u16.to_be_bytes());
        for (seq, frame) in [(30, fragment), (31, long)] {
            scene.beyond().unwrap().send(&frame).unwrap();
            assert!(!passes(scene, a, leased, (b, B), seq), "{seq}");
        }
        serve(scene, a, &good.from_server(SERVER));
        assert!(passes(scene, a, leased, (b, B), 40), "at last");
        assert_eq!(addresses(daemon, "tap-a"), [LEASED.to_string()]);
        assert!(!passes(scene, b, at(B, LEASED), (a, leased), 41), "it is no other's");

        // What an INFORM is answered with leases nothing.
        let other = Ipv4Addr::new(192, 0, 2, 98);
        let inform = Message { current: LEASED, ..Message::new(INFORM, ID + 5, A.mac) };
        a.send(&inform.from_client()).unwrap();
        serve(scene, a, &Message::ack(ID + 5, A.mac, other, 600).from_server(SERVER));
        assert!(!passes(scene, a, at(A, other), (b, B), 42), "an INFORM");
    });
}

#[test]
fn leases_end() {
    with_server("enforce", |scene, daemon, a, b| {
        let leased = at(A, LEASED);
        let gain = |id: u32, seconds: u32, overloaded: bool| {
            let ask = Message { requested: Some(LEASED), ..Message::new(REQUEST, id, A.mac) };
            a.send(&ask.from_client()).unwrap();
            let ack = Message { overloaded, ..Message::ack(id, A.mac, LEASED, seconds) };
            serve(scene, a, &ack.from_server(SERVER));
        };
        gain(1, 5, true);
        assert!(passes(scene, a, leased, (b, B), 1), "with the time in another field");
        let mut seq = 100;
        wait::until("the lease to end", PATIENCE, || {
            seq += 1;
            Ok((!passes(scene, a, leased, (b, B), seq)).then_some(()))
        })
        .unwrap();
        wait::until("it to be told no more", PATIENCE, || {
            Ok(learned(daemon, "tap-a").is_empty().then_some(()))
        })
        .unwrap();

        gain(2, 600, false);
        assert!(passes(scene, a, leased, (b, B), 3));
        let decline = Message { requested: Some(LEASED), ..Message::new(DECLINE, 9, A.mac) };
        a.send(&decline.from_client()).unwrap();
        assert!(!passes(scene, a, leased, (b, B), 4), "declined");

        gain(3, 600, false);
        assert!(passes(scene, a, leased, (b, B), 5));
        let renewal = Message { current: LEASED, ..Message::new(REQUEST, 4, A.mac) };
        a.send(&renewal.from_client()).unwrap();
        let refusal = Message { kind: NAK, ..Message::ack(4, A.mac, Ipv4Addr::UNSPECIFIED, 1) };
        serve(scene, a, &refusal.from_server(SERVER));
        assert!(!passes(scene, a, leased, (b, B), 6), "refused");

        gain(5, u32::MAX, false);
        assert!(learned(daemon, "tap-a")[0]["expires"].is_null(), "without end");
    });
}

/// A client chooses as whom it asks, so a server can be made to give one guest's address to another.
#[test]
fn a_lease_that_lasts_is_nobody_elses() {
    let scene = Scene::new().unwrap();
    let witness = Station::number(12);
    let vms = [
        learner("a", "tap-a", A, "dhcp", ""),
        learner("b", "tap-b", B, "dhcp", ""),
        vm("c", "tap-c", witness),
    ];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let [a, b, c] =
        ["tap-a", "tap-b", "tap-c"].map(|port| scene.plug_granted(&daemon, port).unwrap());
    let lease = |tap: &Tap, id: u32, client| {
        let ask = Message { requested: Some(LEASED), ..Message::new(REQUEST, id, client) };
        tap.send(&ask.from_client()).unwrap();
        serve(&scene, tap, &Message::ack(id, client, LEASED, 600).from_server(SERVER));
    };
    lease(&a, 1, A.mac);
    assert!(passes(&scene, &a, at(A, LEASED), (&c, witness), 1), "leased");
    lease(&b, 2, B.mac);
    assert!(!passes(&scene, &b, at(B, LEASED), (&c, witness), 2), "leased once more");
    assert!(passes(&scene, &a, at(A, LEASED), (&c, witness), 3), "still its own");
    assert_eq!(addresses(&daemon, "tap-b"), [] as [String; 0]);

    let release = Message { current: LEASED, ..Message::new(RELEASE, 3, A.mac) };
    a.send(&release.from_client()).unwrap();
    lease(&b, 4, B.mac);
    assert!(passes(&scene, &b, at(B, LEASED), (&c, witness), 4), "given up, and leased anew");
}

/// A guest that plays the server is dropped where that is enforced, and believed nowhere.
#[test]
fn a_guest_is_no_server() {
    for mode in ["enforce", "observe"] {
        with_server(mode, |scene, daemon, a, b| {
            let ask = Message::new(DISCOVER, ID, A.mac);
            a.send(&ask.from_client()).unwrap();
            let forged = Message::ack(ID, A.mac, LEASED, 600).from_server(B);
            b.send(&forged).unwrap();
            if mode == "enforce" {
                b.send(&beat(B, 2)).unwrap();
                let before = a.until("b's own", PATIENCE, &beat(B, 2)).unwrap();
                assert!(!before.contains(&forged));
            } else {
                a.await_frame("the forged frame", PATIENCE, |one| *one == forged).unwrap();
            }
            assert_eq!(learned(daemon, "tap-a"), [] as [Value; 0], "{mode}");
            // In observe mode the reason is counted and the frame goes on.
            let gone = passes(scene, a, at(A, LEASED), (b, B), 1);
            assert_eq!(gone, mode == "observe", "{mode}");
            assert_eq!(count(daemon, "tap-a", "address-not-leased"), 1, "{mode}");
            assert_eq!(count(daemon, "tap-b", "dhcp-server-role"), 1, "{mode}");
        });
    }
}

/// With the role a guest is one; what it leases within bounds is to be had, what lies beyond is not.
#[test]
fn a_guest_with_the_role_is_a_server_within_bounds() {
    let scene = Scene::new().unwrap();
    let bounds = "addresses = [\"192.0.2.96/28\"]";
    let server = vm("b", "tap-b", B).replace("addresses", "dhcp_server = true\naddresses");
    let vms = [learner("a", "tap-a", A, "dhcp", bounds), server];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let beyond = Ipv4Addr::new(192, 0, 2, 120);
    for (id, address, expect) in [(1, LEASED, true), (2, beyond, false), (3, HOST_IP, false)] {
        a.send(&Message::new(DISCOVER, id, A.mac).from_client()).unwrap();
        let ack = Message::ack(id, A.mac, address, 600).from_server(B);
        b.send(&ack).unwrap();
        a.await_frame("the reply", PATIENCE, |one| *one == ack).unwrap();
        assert_eq!(passes(&scene, &a, at(A, address), (&b, B), id.into()), expect, "{address}");
    }
}

/// A guest has places of its own for what it learns, and none of anybody else's.
#[test]
fn a_full_table_hurts_nobody_else() {
    let scene = Scene::new().unwrap();
    let vms =
        [learner("a", "tap-a", A, "first-come", ""), learner("b", "tap-b", B, "first-come", "")];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    for number in 0..2_000_u16 {
        let [high, low] = number.to_be_bytes();
        a.send(&beat(at(A, Ipv4Addr::new(10, 0, high, low)), 0)).unwrap();
    }
    let finding = daemon.await_finding("learned-full", "tap-a", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "medium", "{finding}");
    assert_eq!(learned(&daemon, "tap-a").len(), 16);
    assert_eq!(count(&daemon, "tap-a", "learned-full"), 2_000 - 16);
    for number in 20..36 {
        let mine = at(B, Ipv4Addr::new(192, 0, 2, number));
        b.send(&beat(mine, u64::from(number))).unwrap();
        scene.await_outside("another port's", &beat(mine, u64::from(number))).unwrap();
    }
    assert_eq!(learned(&daemon, "tap-b").len(), 16);
    assert!(passes(
        &scene,
        &a,
        at(A, Ipv4Addr::new(10, 0, 0, 3)),
        (&b, at(B, Ipv4Addr::new(192, 0, 2, 20))),
        99
    ));
}
