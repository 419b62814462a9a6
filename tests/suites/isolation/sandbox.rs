//! The sandbox: quarantined VMs speak with what is attached to its bridge, and with nobody else.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use detector::bpf::PinPaths;
use detector_common::{maps, sandbox::Passage};
use detector_tests::bpf;
use detector_tests::capture::Capture;
use detector_tests::family::{self, Family};
use detector_tests::netns::NetNs;
use detector_tests::packet::PacketSocket;
use detector_tests::scene::{HOST_IP, hears, stream};

use super::*;

pub(super) const OTHER: Station = Station::number(30);
/// What is offered in the sandbox.
pub(super) const SERVICE: Station = Station::number(77);
const EARS: u16 = detector_guest::PORT;
pub(super) const MORE: &str = "quarantine = \"sandbox\"\n[sandbox]\nbridge = \"sbx0\"\n";

/// A bridge that is the sandbox's, and somebody who offers something in it.
pub(super) struct Sandbox {
    pub(super) heard: Capture,
    pub(super) service: NetNs,
}

/// The guest's own end of its port.
pub(super) trait Guest {
    fn say(&self, frame: &[u8]);
    /// What has arrived since the last time.
    fn hear(&self) -> Vec<Vec<u8>>;
}

impl Guest for Tap {
    fn say(&self, frame: &[u8]) {
        // To write into a macvtap whose frames are dropped is an error.
        let _ = self.send(frame);
    }

    fn hear(&self) -> Vec<Vec<u8>> {
        self.drain().unwrap()
    }
}

impl Sandbox {
    pub(super) fn new(scene: &Scene) -> Self {
        let network = scene.host().network();
        link::bridge(network, "sbx0").unwrap();
        // The host is there too, with an address in the range that everybody uses, and routes.
        family::give_addresses(network, "sbx0", Ipv4Addr::new(198, 51, 100, 1)).unwrap();
        family::forward(network).unwrap();
        let service = NetNs::new().unwrap();
        link::cable((network, "svc0"), (&service, "eth0")).unwrap();
        link::enslave(network, "svc0", "sbx0").unwrap();
        let heard = Capture::start(&service, "eth0").unwrap();
        Self { heard, service }
    }

    pub(super) fn say(&self, frame: &[u8]) {
        PacketSocket::open(&self.service, "eth0").unwrap().send(frame).unwrap();
    }

    pub(super) fn await_heard(&self, what: &str, frame: &[u8]) {
        self.heard.await_frame(what, PATIENCE, |f| same(&f.bytes, frame)).unwrap();
    }

    pub(super) fn has_heard(&self, frame: &[u8]) -> bool {
        self.heard.frames().unwrap().iter().any(|f| same(&f.bytes, frame))
    }
}

fn inventory() -> Vec<String> {
    vec![vm("a", "tap-a", A), denied("rogue", "tap-d", DENIED), denied("other", "tap-o", OTHER)]
}

/// Plugs a tap that ends in the sandbox.
fn plug(scene: &Scene, daemon: &Daemon<'_>, name: &str) -> Tap {
    let tap = scene.plug(name).unwrap();
    await_open(daemon, name);
    tap.drain().unwrap();
    tap
}

/// Waits until the port is isolated in the sandbox, with its passage open.
pub(super) fn await_open(daemon: &Daemon<'_>, name: &str) {
    wait::until(&format!("{name} to be in the sandbox"), PATIENCE, || {
        let shown = daemon.ask(&["port", "show", name])?.json;
        Ok((shown["isolation"] == "sandbox" && shown["passage"] == true).then_some(()))
    })
    .unwrap();
}

/// Interfaces that are ends of passages.
pub(super) fn ends(scene: &Scene) -> usize {
    let all = scene.host().network().ip("-oneline link show").unwrap();
    all.lines().filter(|line| line.contains(": dsb")).count()
}

pub(super) fn speaks_both_ways(
    sandbox: &Sandbox,
    guest: &impl Guest,
    station: Station,
    number: u64,
) {
    for family in Family::BOTH {
        guest.say(&family.beat(station, number));
        sandbox.await_heard("the guest's broadcast", &family.beat(station, number));
        // Any address will do there that is nobody's.
        let elsewhere = Station { ip: Ipv4Addr::new(198, 51, 100, station.mac[5]), ..station };
        let question = family.udp(elsewhere, (SERVICE.mac, SERVICE.ip), (7, 7), b"question");
        guest.say(&question);
        sandbox.await_heard("the guest's unicast", &question);
        let to = (station.mac, station.ip);
        let answer = family.udp(SERVICE, to, (7, 7), &number.to_be_bytes());
        sandbox.say(&answer);
        wait::until("the answer", PATIENCE, || {
            Ok(guest.hear().iter().any(|frame| same(frame, &answer)).then_some(()))
        })
        .unwrap();
    }
}

#[test]
fn a_sandboxed_vm_speaks_with_the_sandbox_and_with_nobody_else() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let daemon = daemon(&scene, "enforce", &inventory(), MORE);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let rogue = plug(&scene, &daemon, "tap-d");
    let other = plug(&scene, &daemon, "tap-o");
    speaks_both_ways(&sandbox, &rogue, DENIED, 1);
    speaks_both_ways(&sandbox, &other, OTHER, 2);

    // Outwards, to a neighbour, to the host, and by way of the host.
    let network = scene.host().network();
    // It hears IPv4 as well.
    let ears = Family::V6.ears(network, EARS).unwrap();
    let neighbours = [&a, &other];
    neighbours.iter().for_each(|tap| drop(tap.drain().unwrap()));
    let bridges = ["br0", "sbx0"].map(|bridge| scene.mac(bridge).unwrap());
    let mut attacks = vec![frames::arp(DENIED, A.ip), frames::rarp(DENIED.mac)];
    // Under what is not its own it reaches not even the sandbox.
    let mut spoofs =
        vec![frames::router_advertisement(DENIED), frames::other(DENIED, 0x88b5, &[0; 46])];
    for family in Family::BOTH {
        attacks.extend([family.beat(DENIED, 3), family.announcement(DENIED)]);
        for to in [A.mac, OTHER.mac, bridges[0], bridges[1]] {
            for ip in [A.ip, OTHER.ip, HOST_IP, Ipv4Addr::new(198, 51, 100, 1)] {
                attacks.push(family.udp(DENIED, (to, ip), (7, EARS), b"attack"));
            }
        }
        spoofs.extend([
            family.beat(Station { mac: A.mac, ..DENIED }, 4),
            family.announcement(Station { mac: OTHER.mac, ip: SERVICE.ip }),
            frames::tagged(&family.beat(DENIED, 5), 7),
        ]);
    }
    attacks.iter().chain(&spoofs).for_each(|frame| rogue.send(frame).unwrap());
    sandbox.await_heard("the broadcast", &Family::V6.beat(DENIED, 3));
    wait::pause(SILENCE);
    let outside = scene.outside().unwrap();
    for frame in attacks.iter().chain(&spoofs) {
        assert!(!outside.iter().any(|f| same(&f.bytes, frame)), "{frame:02x?}");
    }
    assert!(!outside.iter().any(|f| f.bytes.ends_with(b"attack")), "routed");
    for tap in neighbours {
        let got = tap.drain().unwrap();
        assert!(got.iter().all(|f| f[6..12] != DENIED.mac), "{}: {got:02x?}", tap.name());
    }
    assert!(!hears(&ears, SILENCE), "the host");
    drop(ears);
    for frame in &spoofs {
        assert!(!sandbox.has_heard(frame), "{frame:02x?}");
    }

    // From outside, from a neighbour and from the host into the sandbox.
    let beyond = scene.beyond().unwrap();
    let there = Ipv4Addr::new(198, 51, 100, 77);
    for family in Family::BOTH {
        let unicast = family.udp(A, (DENIED.mac, DENIED.ip), (7, 7), b"inwards");
        for frame in [&family.beat(A, 6), &unicast] {
            a.send(frame).unwrap();
            beyond.send(frame).unwrap();
        }
        let neighbour = family.address(there);
        let words = format!("neigh replace {neighbour} lladdr 02:be:00:00:00:07 dev sbx0");
        network.ip(&words).unwrap();
        a.send(&family.udp(A, (bridges[0], there), (7, 7), b"inwards")).unwrap();
    }
    let ears = scene.ears(EARS).unwrap();
    ears.send_to(b"inwards", (Ipv4Addr::new(192, 0, 2, 255), 9)).unwrap();
    a.await_frame("the host's broadcast", PATIENCE, |f| f.ends_with(b"inwards")).unwrap();
    wait::pause(SILENCE);
    assert!(rogue.drain().unwrap().iter().all(|f| f[6..12] != A.mac && !f.ends_with(b"inwards")));
    let heard = sandbox.heard.frames().unwrap();
    assert!(!heard.iter().any(|f| f.bytes.ends_with(b"inwards") || f.bytes[6..12] == A.mac));

    let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
    for (direction, reason) in [
        ("from", "sandboxed"),
        ("from", "mac-not-granted"),
        ("to", "sandboxed"),
        ("to", "port-isolated"),
    ] {
        assert!(shown["counters"][direction][reason].as_u64() > Some(0), "{reason}: {shown}");
    }
    let gate = daemon.ask(&["port", "show", "sbx0"]).unwrap().json;
    assert_eq!(gate["role"], "sandbox");
    assert!(gate["counters"]["to"]["sandbox-boundary"].as_u64() > Some(0), "{gate}");
    let listed = daemon.ask(&["quarantine", "list"]).unwrap().json;
    assert_eq!(listed["quarantines"][0]["mode"], "sandbox", "{listed}");
    assert!(daemon.show(&["explain", "rogue"]).unwrap().contains("sandbox"));
}

#[test]
fn a_sandbox_outlives_the_daemon_and_its_loss_cuts_off() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let network = scene.host().network();
    let mut daemon = daemon(&scene, "enforce", &inventory(), MORE);
    let rogue = plug(&scene, &daemon, "tap-d");
    daemon.kill().unwrap();
    speaks_both_ways(&sandbox, &rogue, DENIED, 1);
    daemon.run().unwrap();
    speaks_both_ways(&sandbox, &rogue, DENIED, 2);
    assert_eq!(ends(&scene), 2, "the passage is the one that there was");

    // Without its passage the port is cut off, and nothing of it is let out instead.
    daemon.kill().unwrap();
    let inner = network.ip("-oneline link show").unwrap();
    let inner = inner.split([' ', '@']).find(|word| word.starts_with("dsbi")).unwrap();
    network.ip(&format!("link del {inner}")).unwrap();
    let lost = Family::BOTH.map(|family| [family.beat(DENIED, 3), family.announcement(DENIED)]);
    let lost = lost.concat();
    lost.iter().for_each(|frame| rogue.send(frame).unwrap());
    wait::pause(SILENCE);
    assert_eq!(lost.iter().map(|f| scene.copies_outside(f).unwrap()).sum::<usize>(), 0);
    assert!(lost.iter().all(|frame| !sandbox.has_heard(frame)));
    daemon.run().unwrap();
    await_open(&daemon, "tap-d");
    speaks_both_ways(&sandbox, &rogue, DENIED, 4);

    // Somebody damages it while the daemon runs: it is made anew.
    let outer = network.ip("-oneline link show").unwrap();
    let outer = outer.split([' ', '@']).find(|word| word.starts_with("dsbo")).unwrap();
    network.ip(&format!("link set {outer} nomaster")).unwrap();
    wait::until("the passage to be whole again", PATIENCE, || {
        let shown = network.ip("-oneline link show master sbx0")?;
        Ok(shown.contains("dsbo").then_some(()))
    })
    .unwrap();
    await_open(&daemon, "tap-d");
    speaks_both_ways(&sandbox, &rogue, DENIED, 5);

    // Without its bridge there is no sandbox; that is told.
    network.ip("link del sbx0").unwrap();
    daemon.await_finding("sandbox-missing", "sbx0", PATIENCE).unwrap();
    rogue.send(&beat(DENIED, 6)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(DENIED, 6)).unwrap(), 0);
    assert_eq!(daemon.ask(&["port", "show", "tap-d"]).unwrap().json["isolation"], "drop");
    drop(rogue);
    wait::until("the pair to be gone", PATIENCE, || Ok((ends(&scene) == 0).then_some(()))).unwrap();
}

/// Somebody with the daemon's capabilities sends a sandboxed VM another way: it gets nowhere, and its way
/// is put back and told.
#[test]
fn a_way_that_is_tampered_with_is_put_back_and_told() {
    type Crime = fn(BorrowedFd<'_>, u32, u32);
    let crimes: [(&str, Crime); 3] = [
        ("taken away", |ways, port, _| bpf::remove(ways, &port).unwrap()),
        ("to a neighbour", |ways, port, neighbour| {
            let there = bpf::get::<u32, Passage>(ways, &port).unwrap();
            bpf::put(ways, &port, &Passage { peer: neighbour, ..there }).unwrap();
        }),
        ("one for a neighbour", |ways, port, neighbour| {
            let there = bpf::get::<u32, Passage>(ways, &port).unwrap();
            bpf::put(ways, &neighbour, &there).unwrap();
        }),
    ];
    for (name, crime) in crimes {
        let scene = Scene::new().unwrap();
        let sandbox = Sandbox::new(&scene);
        let daemon = daemon(&scene, "enforce", &inventory(), MORE);
        let a = scene.plug_granted(&daemon, "tap-a").unwrap();
        let rogue = plug(&scene, &daemon, "tap-d");
        let pins = PinPaths::new(&scene.host().inside("/sys/fs/bpf/detector".as_ref()));
        let ways = bpf::open_pin(&pins.map(maps::SANDBOX)).unwrap();
        let index = |port: &str| -> u32 {
            let shown = daemon.ask(&["port", "show", port]).unwrap().json;
            shown["ifindex"].as_u64().unwrap() as u32
        };
        let (port, neighbour) = (index("tap-d"), index("tap-a"));
        let sent = stream(&[(&a, A), (&rogue, DENIED)], |more| {
            more(50);
            let start = Instant::now();
            crime(ways.as_fd(), port, neighbour);
            let told = daemon.await_finding("tampered", "passages", PATIENCE).unwrap();
            println!("{name}: put back and told after {:?}", start.elapsed());
            assert!(told.to_string().contains("the way of interface"), "{name}: {told}");
            more(50);
        });
        scene.await_stream(A.mac, 0, sent - 1).unwrap();
        let outside = scene.outside().unwrap();
        assert_eq!(outside.iter().filter(|f| f.source() == Some(DENIED.mac)).count(), 0, "{name}");
        let at_neighbour = a.drain().unwrap();
        assert!(at_neighbour.iter().all(|f| f[6..12] != DENIED.mac), "{name}");
        assert_eq!(ends(&scene), 2, "{name}: the passage is the one that there was");
        speaks_both_ways(&sandbox, &rogue, DENIED, u64::MAX);
    }
}

#[test]
fn a_person_says_which_and_observing_carries_out_no_verdict() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let daemon = daemon(&scene, "observe", &inventory(), MORE);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let rogue = scene.plug("tap-d").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    rogue.send(&beat(DENIED, 1)).unwrap();
    scene.await_outside("the denied VM, observed", &beat(DENIED, 1)).unwrap();
    assert!(counted(&daemon, "tap-d", "sandboxed") > 0, "the verdict is the same");
    assert_eq!(ends(&scene), 0, "and nothing is made for it");

    for (mode, reaches) in [("sandbox", true), ("drop", false)] {
        let add = ["quarantine", "add", "vm", "a", "--mode", mode, "--reason", "a test"];
        assert_eq!(daemon.ask(&add).unwrap().json["mode"], mode);
        let number = u64::from(reaches) + 10;
        a.send(&beat(A, number)).unwrap();
        if reaches {
            speaks_both_ways(&sandbox, &a, A, number);
        } else {
            wait::pause(SILENCE);
            assert!(!sandbox.has_heard(&beat(A, number)));
        }
        assert_eq!(scene.copies_outside(&beat(A, number)).unwrap(), 0, "{mode}");
        assert_eq!(ends(&scene), if reaches { 2 } else { 0 }, "{mode}");
    }
    let release = ["quarantine", "release", "vm", "a"];
    assert_eq!(daemon.ask(&release).unwrap().code, 0);
    a.send(&beat(A, 20)).unwrap();
    scene.await_outside("released", &beat(A, 20)).unwrap();
}

#[test]
fn without_a_sandbox_nobody_is_sent_there() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene, "enforce", &[vm("a", "tap-a", A)], "");
    let add = ["quarantine", "add", "vm", "a", "--mode", "sandbox", "--reason", "a test"];
    let refused = daemon.ask(&add).unwrap();
    assert_eq!(refused.code, 1);
    assert!(refused.complaint.contains("sandbox.bridge"), "{}", refused.complaint);
}
