//! The sandbox of what is no tap on a bridge: a container's interface, and a macvtap.

use std::net::Ipv4Addr;

use detector_tests::capture::{Capture, Frame};
use detector_tests::family::{self, Family};
use detector_tests::macvtap;
use detector_tests::needs::{Need, lacks};
use detector_tests::netns::NetNs;
use detector_tests::packet::{Direction, PacketSocket};
use detector_tests::scene::{HOST_IP, hears};

use super::sandbox::{Guest, MORE, OTHER, SERVICE, Sandbox, await_open, ends, speaks_both_ways};
use super::*;

impl Guest for PacketSocket {
    fn say(&self, frame: &[u8]) {
        self.send(frame).unwrap();
    }

    fn hear(&self) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2048];
        let mut frames = Vec::new();
        while let Some((length, direction)) = self.receive(&mut buffer).unwrap() {
            if direction == Direction::In {
                frames.push(buffer[..length].to_vec());
            }
        }
        frames
    }
}

/// Somebody near the sandboxed port who would reach it, or be reached by it.
struct Neighbour<'a> {
    name: &'static str,
    station: Station,
    speaks: &'a dyn Guest,
}

/// What the one under test has around it.
struct Around<'a> {
    sandbox: &'a Sandbox,
    neighbours: &'a [Neighbour<'a>],
    /// MACs of the host that its frames could be sent to.
    host: &'a [[u8; 6]],
}

/// Nothing passes between the sandboxed port and its neighbours, whoever begins.
fn assert_apart(around: &Around<'_>, guest: &impl Guest, number: u64) {
    let everyone = || around.neighbours.iter();
    guest.hear();
    everyone().for_each(|neighbour| drop(neighbour.speaks.hear()));
    for family in Family::BOTH {
        let words = number.to_be_bytes();
        guest.say(&family.beat(DENIED, number));
        guest.say(&family.announcement(DENIED));
        let macs = everyone().map(|n| n.station.mac).chain(around.host.iter().copied());
        for mac in macs {
            guest.say(&family.udp(DENIED, (mac, HOST_IP), (7, 7), &words));
        }
        // Under what is not its own it reaches not even the sandbox.
        for stolen in [Station { mac: A.mac, ..DENIED }, Station { mac: SERVICE.mac, ..DENIED }] {
            guest.say(&family.beat(stolen, number));
        }
        for Neighbour { station, speaks, .. } in everyone() {
            speaks.say(&family.beat(*station, number));
            speaks.say(&family.udp(*station, (DENIED.mac, DENIED.ip), (7, 7), &words));
            speaks.say(&family.announcement(Station { mac: station.mac, ip: DENIED.ip }));
        }
    }
    around.sandbox.await_heard("the last of it", &Family::V6.announcement(DENIED));
    wait::pause(SILENCE);
    let of = |mac: [u8; 6]| move |frame: &Vec<u8>| frame[6..12] == mac;
    for neighbour in everyone() {
        let got = neighbour.speaks.hear();
        assert!(!got.iter().any(of(DENIED.mac)), "{}: {got:02x?}", neighbour.name);
    }
    let got = guest.hear();
    for neighbour in everyone() {
        assert!(!got.iter().any(of(neighbour.station.mac)), "{}: {got:02x?}", neighbour.name);
        let heard = around.sandbox.heard.frames().unwrap();
        let leaked = heard.iter().any(|frame| frame.source() == Some(neighbour.station.mac));
        assert!(!leaked, "{} in the sandbox", neighbour.name);
    }
    for family in Family::BOTH {
        for mac in [A.mac, SERVICE.mac] {
            assert!(!around.sandbox.has_heard(&family.beat(Station { mac, ..DENIED }, number)));
        }
    }
}

/// The daemon dies, what is in force stays; its passage is lost meanwhile, and nothing is let out instead.
fn outlives_a_crash(
    scene: &Scene,
    daemon: &mut Daemon<'_>,
    around: &Around<'_>,
    guest: &impl Guest,
    name: &str,
) {
    let network = scene.host().network();
    let before = network.ip("-oneline link show").unwrap();
    daemon.kill().unwrap();
    speaks_both_ways(around.sandbox, guest, DENIED, 10);
    assert_apart(around, guest, 11);
    daemon.run().unwrap();
    await_open(daemon, name);
    speaks_both_ways(around.sandbox, guest, DENIED, 12);
    let inner = |all: &str| {
        let found = all.split([' ', '@']).find(|word| word.starts_with("dsbi"));
        found.unwrap().to_owned()
    };
    let index = |all: &str| {
        let line = all.lines().find(|line| line.contains("dsbi")).unwrap();
        line.split(':').next().unwrap().to_owned()
    };
    let after = network.ip("-oneline link show").unwrap();
    assert_eq!(index(&before), index(&after), "the passage is the one that there was");

    daemon.kill().unwrap();
    network.ip(&format!("link del {}", inner(&after))).unwrap();
    around.neighbours.iter().for_each(|neighbour| drop(neighbour.speaks.hear()));
    let lost = Family::BOTH.map(|family| family.beat(DENIED, 13));
    lost.iter().for_each(|frame| guest.say(frame));
    wait::pause(SILENCE);
    for Neighbour { name, speaks, .. } in around.neighbours {
        let got = speaks.hear();
        assert!(!got.iter().any(|frame| frame[6..12] == DENIED.mac), "{name}: {got:02x?}");
    }
    assert!(lost.iter().all(|frame| !around.sandbox.has_heard(frame)));
    daemon.run().unwrap();
    await_open(daemon, name);
    speaks_both_ways(around.sandbox, guest, DENIED, 14);
}

/// A container on the bridge speaks with the sandbox by its own network stack, and with nobody else.
#[test]
fn a_container_is_sandboxed_like_a_vm() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let network = scene.host().network();
    let inventory = [vm("a", "tap-a", A), denied("lxc1", "veth-d", DENIED)];
    let mut daemon = daemon(&scene, "enforce", &inventory, MORE);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let container = NetNs::new().unwrap();
    link::cable((network, "veth-d"), (&container, "eth0")).unwrap();
    let mac = detector_tests::guest::hex(DENIED.mac);
    container.ip(&format!("link set eth0 address {mac}")).unwrap();
    let guest = PacketSocket::open(&container, "eth0").unwrap();
    link::enslave(network, "veth-d", "br0").unwrap();
    await_open(&daemon, "veth-d");

    let beyond = scene.beyond().unwrap();
    let far = Neighbour { name: "beyond", station: Station::number(78), speaks: &beyond };
    let near = Neighbour { name: "tap-a", station: A, speaks: &a };
    let host = ["br0", "sbx0"].map(|bridge| scene.mac(bridge).unwrap());
    let around = Around { sandbox: &sandbox, neighbours: &[near, far], host: &host };
    speaks_both_ways(&sandbox, &guest, DENIED, 1);
    assert_apart(&around, &guest, 2);
    assert_eq!(
        scene.outside().unwrap().iter().filter(|f| f.source() == Some(DENIED.mac)).count(),
        0
    );

    // The stacks of both: neighbour discovery, checksums that nobody has written yet.
    family::give_addresses(&container, "eth0", Ipv4Addr::new(198, 51, 100, 20)).unwrap();
    family::give_addresses(&sandbox.service, "eth0", Ipv4Addr::new(198, 51, 100, 77)).unwrap();
    for family in Family::BOTH {
        let [asks, offers] = [&container, &sandbox.service].map(|n| family.ears(n, 4242).unwrap());
        let at = |last| (family.address(Ipv4Addr::new(198, 51, 100, last)), 4242_u16);
        asks.send_to(b"to the sandbox", at(77)).unwrap();
        assert!(hears(&offers, PATIENCE), "{family:?}: out");
        offers.send_to(b"to the container", at(20)).unwrap();
        assert!(hears(&asks, PATIENCE), "{family:?}: back");
    }
    outlives_a_crash(&scene, &mut daemon, &around, &guest, "veth-d");

    // It goes with the container.
    drop((guest, container));
    wait::until("the pair to be gone", PATIENCE, || Ok((ends(&scene) == 0).then_some(()))).unwrap();
}

/// What a macvtap's guest sends leaves the macvtap, and what comes back comes in by it; its neighbours on
/// the same device would reach it without any bridge.
#[test]
fn a_macvtap_is_sandboxed_the_other_way_round() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    for mode in ["bridge", "vepa", "private"] {
        let scene = Scene::new().unwrap();
        let sandbox = Sandbox::new(&scene);
        let network = scene.host().network();
        let inventory = [
            vm("a", "macvtap-a", A),
            denied("rogue", "macvtap-d", DENIED),
            denied("other", "macvtap-o", OTHER),
        ];
        let mut daemon = daemon(&scene, "enforce", &inventory, MORE);
        let far = NetNs::new().unwrap();
        link::cable((network, "low0"), (&far, "far0")).unwrap();
        let open = |name, station: Station| {
            macvtap::open(scene.host(), "low0", name, mode, station.mac).unwrap()
        };
        let a = open("macvtap-a", A);
        let rogue = open("macvtap-d", DENIED);
        daemon.await_port("macvtap-a", "granted", PATIENCE).unwrap();
        await_open(&daemon, "macvtap-d");
        speaks_both_ways(&sandbox, &rogue, DENIED, 1);

        let beyond = PacketSocket::open(&far, "far0").unwrap();
        let outside = Capture::start(&far, "far0").unwrap();
        let neighbours = [
            Neighbour { name: "macvtap-a", station: A, speaks: &a },
            Neighbour { name: "beyond", station: Station::number(78), speaks: &beyond },
        ];
        let host = ["br0", "sbx0", "low0"].map(|name| scene.mac(name).unwrap());
        let around = Around { sandbox: &sandbox, neighbours: &neighbours, host: &host };
        assert_apart(&around, &rogue, 2);
        outlives_a_crash(&scene, &mut daemon, &around, &rogue, "macvtap-d");

        // Two in the sandbox do not meet there either.
        let other = open("macvtap-o", OTHER);
        await_open(&daemon, "macvtap-o");
        speaks_both_ways(&sandbox, &other, OTHER, 20);
        rogue.hear();
        other.say(&Family::V4.beat(OTHER, 21));
        sandbox.await_heard("the other one", &Family::V4.beat(OTHER, 21));
        wait::pause(SILENCE);
        assert!(rogue.hear().iter().all(|frame| frame[6..12] != OTHER.mac), "{mode}");
        let sent = |frame: &&Frame| {
            // What the kernel itself says of groups when a macvtap comes up is from nobody.
            let from_nobody = frame.bytes[12..14] == [0x86, 0xdd] && frame.bytes[22..38] == [0; 16];
            let source = frame.source().unwrap_or_default();
            [DENIED.mac, OTHER.mac].contains(&source) && !from_nobody
        };
        assert_eq!(outside.frames().unwrap().iter().filter(sent).count(), 0, "{mode}");

        // Once released, it is what it was: a macvtap among its neighbours.
        let release = vm("rogue", "macvtap-d", DENIED) + &vm("a", "macvtap-a", A);
        daemon.write_inventory(&release).unwrap();
        await_release(&daemon, "rogue");
        daemon.await_port("macvtap-d", "granted", PATIENCE).unwrap();
        rogue.say(&Family::V4.beat(DENIED, 30));
        let frame = Family::V4.beat(DENIED, 30);
        outside.await_frame("released", PATIENCE, |f| same(&f.bytes, &frame)).unwrap();
        sandbox.say(&Family::V4.beat(SERVICE, 31));
        wait::pause(SILENCE);
        assert!(rogue.hear().iter().all(|frame| frame[6..12] != SERVICE.mac), "{mode}");
    }
}

/// Where no way to the sandbox can be made, a VM is cut off, and that is told; it opens when it can be.
#[test]
fn who_has_no_way_to_the_sandbox_is_cut_off_and_that_is_told() {
    // A bridge has room for so many ports.
    const PORTS: usize = 1023;
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let network = scene.host().network();
    let pair = |number: usize| {
        format!(
            "link add f{number} master sbx0 type veth peer name g{number}\n\
             link set g{number} master sbx0\n"
        )
    };
    // The service has a port as well, and one half of the last pair.
    let pairs: String = (0..PORTS / 2).map(pair).collect();
    let batch = scene.host().path("fill");
    std::fs::write(&batch, pairs).unwrap();
    network.ip(&format!("-batch {}", batch.display())).unwrap();
    let daemon = daemon(&scene, "enforce", &[denied("rogue", "tap-d", DENIED)], MORE);
    let rogue = scene.plug("tap-d").unwrap();
    let why = "has no way to the sandbox";
    daemon.await_finding("enforcement-impaired", why, PATIENCE).unwrap();
    let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
    assert_eq!((&shown["isolation"], &shown["passage"]), (&"sandbox".into(), &false.into()));
    for family in Family::BOTH {
        rogue.say(&family.beat(DENIED, 1));
        sandbox.say(&family.beat(SERVICE, 1));
    }
    wait::pause(SILENCE);
    for family in Family::BOTH {
        let frame = family.beat(DENIED, 1);
        assert!(!sandbox.has_heard(&frame), "{family:?}");
        assert_eq!(scene.copies_outside(&frame).unwrap(), 0, "{family:?}");
    }
    assert!(rogue.hear().iter().all(|frame| frame[6..12] != SERVICE.mac));
    assert_eq!(ends(&scene), 0, "nothing of the attempt is left");

    network.ip("link del f0").unwrap();
    await_open(&daemon, "tap-d");
    speaks_both_ways(&sandbox, &rogue, DENIED, 2);
}
