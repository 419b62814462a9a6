//! Every kind of interface that a guest may speak through is guarded in the same way: not only taps.
//! What this kernel has no device for is skipped, and says so.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::process::Command;

use detector::bpf::Method;
use detector_tests::capture::{Capture, Frame};
use detector_tests::family::Family;
use detector_tests::frames::Station;
use detector_tests::needs::{Need, lacks};
use detector_tests::netns::NetNs;
use detector_tests::order::in_order;
use detector_tests::packet::{Direction, PacketSocket};
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, same, vm};
use detector_tests::tap::Tap;
use detector_tests::{bpf, link, wait};

#[path = "kinds/device.rs"]
mod device;

const A: Station = Station::number(10);
const B: Station = Station::number(11);
/// Somebody beyond the uplink.
const FAR: Station = Station::number(77);

/// A station of which one part is another's.
const STOLEN: [Station; 2] = [Station { mac: B.mac, ip: A.ip }, Station { mac: A.mac, ip: B.ip }];

/// Sends each stolen identity and then the own one, and asserts that only the own one arrives.
fn assert_only_own(scene: &Scene, seq: u64, send: impl Fn(&[u8])) {
    assert_only_own_at(seq, send, || scene.outside().unwrap());
}

/// The same where something else listens.
fn assert_only_own_at(seq: u64, send: impl Fn(&[u8]), heard: impl Fn() -> Vec<Frame>) {
    for family in Family::BOTH {
        in_order(|| {
            STOLEN.iter().for_each(|stolen| send(&family.beat(*stolen, seq)));
            send(&family.beat(A, seq));
        });
        let copies = |station| {
            let frame = family.beat(station, seq);
            heard().iter().filter(|f| same(&f.bytes, &frame)).count()
        };
        wait::until("the granted identity", PATIENCE, || Ok((copies(A) > 0).then_some(())))
            .unwrap();
        for stolen in STOLEN {
            assert_eq!(copies(stolen), 0, "{family:?}: {stolen:?}");
        }
    }
}

/// A container's interface: one end of a cable on the bridge, the other in its own namespace.
#[test]
fn a_veth_is_guarded_like_a_tap() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("lxc1", "veth-c", A)]).unwrap();
    let container = NetNs::new().unwrap();
    link::cable((scene.host().network(), "veth-c"), (&container, "eth0")).unwrap();
    let guest = PacketSocket::open(&container, "eth0").unwrap();
    link::enslave(scene.host().network(), "veth-c", "br0").unwrap();
    daemon.await_port("veth-c", "granted", PATIENCE).unwrap();
    assert_only_own(&scene, 1, |frame| guest.send(frame).unwrap());

    // It hears what it should, and nothing when it is quarantined.
    let beyond = scene.beyond().unwrap();
    beyond.send(&beat(FAR, 2)).unwrap();
    await_frame(&guest, &beat(FAR, 2));
    let add = ["quarantine", "add", "port", "veth-c", "--reason", "a test"];
    assert_eq!(daemon.ask(&add).unwrap().code, 0);
    daemon.await_port("veth-c", "isolated", PATIENCE).unwrap();
    drain(&guest);
    for family in Family::BOTH {
        guest.send(&family.beat(A, 3)).unwrap();
        beyond.send(&family.beat(FAR, 3)).unwrap();
        wait::pause(SILENCE);
        assert_eq!(scene.copies_outside(&family.beat(A, 3)).unwrap(), 0, "{family:?}");
        assert!(!drain(&guest).iter().any(|frame| same(frame, &family.beat(FAR, 3))));
    }

    // One that nobody lists is told of, and mute; never an uplink for being no tap.
    let stray = NetNs::new().unwrap();
    link::cable((scene.host().network(), "veth-x"), (&stray, "eth0")).unwrap();
    let guest = PacketSocket::open(&stray, "eth0").unwrap();
    link::enslave(scene.host().network(), "veth-x", "br0").unwrap();
    daemon.await_finding("unknown-port", "veth-x", PATIENCE).unwrap();
    guest.send(&beat(B, 4)).unwrap();
    daemon.kill().unwrap();
    guest.send(&beat(B, 5)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(B, 4)).unwrap(), 0);
    assert_eq!(scene.copies_outside(&beat(B, 5)).unwrap(), 0);
}

fn await_frame(socket: &PacketSocket, frame: &[u8]) {
    wait::until("a frame to the guest", PATIENCE, || {
        Ok(drain(socket).iter().any(|got| same(got, frame)).then_some(()))
    })
    .unwrap();
}

/// What has arrived.
fn drain(socket: &PacketSocket) -> Vec<Vec<u8>> {
    let mut buffer = [0; 2048];
    let mut frames = Vec::new();
    while let Some((length, direction)) = socket.receive(&mut buffer).unwrap() {
        if direction == Direction::In {
            frames.push(buffer[..length].to_vec());
        }
    }
    frames
}

/// A macvtap on a cable that leads outside, and no bridge.
struct Macvtap {
    tap: Tap,
    beyond: PacketSocket,
    outside: Capture,
    _far: NetNs,
}

fn macvtap(scene: &Scene, name: &str, mode: &str, mac: [u8; 6]) -> Macvtap {
    let network = scene.host().network();
    let (near, there) = (format!("low-{mode}"), "far0");
    let far = NetNs::new().unwrap();
    link::cable((network, &near), (&far, there)).unwrap();
    let tap = macvtap_on(scene, &near, name, mode, mac);
    let beyond = PacketSocket::open(&far, there).unwrap();
    let outside = Capture::start(&far, there).unwrap();
    Macvtap { tap, beyond, outside, _far: far }
}

/// A macvtap on a device that there is.
fn macvtap_on(scene: &Scene, device: &str, name: &str, mode: &str, mac: [u8; 6]) -> Tap {
    let network = scene.host().network();
    let mac = detector_tests::guest::hex(mac);
    let add = format!("link add link {device} name {name} address {mac} type macvtap mode {mode}");
    network.ip(&add).unwrap();
    network.ip(&format!("link set {name} addrgenmode none")).unwrap();
    network.ip(&format!("link set {name} up")).unwrap();
    let numbers = format!("cat /sys/class/net/{name}/tap*/dev");
    let numbers = scene.host().check(Command::new("sh").args(["-c", &numbers])).unwrap();
    let (major, minor) = numbers.trim().split_once(':').unwrap();
    let device = nix::sys::stat::makedev(major.parse().unwrap(), minor.parse().unwrap());
    let path = scene.host().path(name);
    Tap::of_macvtap(network, name, &path, device).unwrap()
}

/// What a guest sends leaves a macvtap, and what it is sent comes in by it.
#[test]
fn a_macvtap_is_guarded_the_other_way_round() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    for mode in ["bridge", "vepa", "private"] {
        let scene = Scene::new().unwrap();
        let mut daemon = scene.daemon("enforce", &[]).unwrap();
        let it = macvtap(&scene, "macvtap0", mode, A.mac);
        // Nobody lists it yet.
        daemon.await_finding("unknown-port", "macvtap0", PATIENCE).unwrap();
        let send = |frame: &[u8]| it.tap.send(frame).unwrap_or_default();
        let heard = || it.outside.frames().unwrap();
        let assert_mute = |seq, why: &str| {
            it.tap.drain().unwrap();
            for family in Family::BOTH {
                send(&family.beat(A, seq));
                it.beyond.send(&family.beat(FAR, seq)).unwrap();
            }
            wait::pause(SILENCE);
            let of_its = heard().iter().filter(|f| f.source() == Some(A.mac)).count();
            assert_eq!(it.tap.drain().unwrap(), [] as [Vec<u8>; 0], "{mode}: {why}");
            of_its
        };
        assert_eq!(assert_mute(1, "hears nothing"), 0, "{mode}: mute");

        daemon.write_inventory(&vm("m", "macvtap0", A)).unwrap();
        let port = daemon.await_port("macvtap0", "granted", PATIENCE).unwrap();
        assert_eq!(port["role"], "guest", "{mode}");
        assert_only_own_at(2, send, heard);
        for family in Family::BOTH {
            it.beyond.send(&family.beat(FAR, 2)).unwrap();
            it.tap.await_frame("a broadcast", PATIENCE, |f| same(f, &family.beat(FAR, 2))).unwrap();
        }

        // What is in force outlives the daemon, and the next one knows it again.
        let instance = port["instance"].clone();
        daemon.kill().unwrap();
        assert_only_own_at(3, send, heard);
        daemon.run().unwrap();
        let port = daemon.await_port("macvtap0", "granted", PATIENCE).unwrap();
        assert_eq!(port["instance"], instance, "{mode}");

        let add = ["quarantine", "add", "vm", "m", "--reason", "a test"];
        assert_eq!(daemon.ask(&add).unwrap().code, 0);
        daemon.await_port("macvtap0", "isolated", PATIENCE).unwrap();
        let before = heard().iter().filter(|f| f.source() == Some(A.mac)).count();
        assert_eq!(assert_mute(4, "isolated"), before, "{mode}: isolated");

        // It goes with the device below it, and everything that it had goes too.
        drop(it);
        wait::until("the port to be gone", PATIENCE, || {
            Ok(daemon.ask(&["port", "show", "macvtap0"])?.json.is_null().then_some(()))
        })
        .unwrap();
        assert_eq!(daemon.complaints().unwrap(), [] as [serde_json::Value; 0], "{mode}");
    }
}

/// A guest that has the device to itself has no guard, whatever source lists it: that is told, and told
/// more loudly when it is quarantined, since its quarantine does not hold there.
#[test]
fn a_macvtap_with_its_device_to_itself_is_told_of() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("m", "macvtap0", A)]).unwrap();
    let it = macvtap(&scene, "macvtap0", "passthru", A.mac);
    let finding = daemon.await_finding("unguarded-attachment", "macvtap0", PATIENCE).unwrap();
    assert_eq!(finding["severity"], "medium", "{finding}");
    let evidence = finding["evidence"].to_string();
    assert!(evidence.contains("macvtap0 has its device to itself"), "{finding}");
    // It is true.
    let stolen = beat(Station { ip: B.ip, ..A }, 1);
    it.tap.send(&stolen).unwrap();
    it.outside.await_frame("a stolen identity", PATIENCE, |f| same(&f.bytes, &stolen)).unwrap();
    let add = ["quarantine", "add", "vm", "m", "--reason", "a test"];
    assert_eq!(daemon.ask(&add).unwrap().code, 0);
    wait::until("the finding to be worse", PATIENCE, || {
        let listed = daemon.ask(&["finding", "list"])?.json;
        let mut all = listed["findings"].as_array().into_iter().flatten();
        let worse = all.any(|f| f["kind"] == "unguarded-attachment" && f["severity"] == "high");
        Ok(worse.then_some(()))
    })
    .unwrap();
}

/// Guests on one device are on one network: an address is one guest's only.
#[test]
fn macvtaps_of_one_device_share_its_addresses() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let learner = |name: &str, port: &str, station: Station| {
        vm(name, port, station).replace("addresses", "rule = \"first-come\"\n#")
    };
    let inventory = [learner("a", "macvtap0", A), learner("b", "macvtap1", B)];
    let daemon = scene.daemon("enforce", &inventory).unwrap();
    let it = macvtap(&scene, "macvtap0", "bridge", A.mac);
    let b = macvtap_on(&scene, "low-bridge", "macvtap1", "bridge", B.mac);
    for port in ["macvtap0", "macvtap1"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    let arrives = |what: &str, frame: &[u8]| {
        it.outside.await_frame(what, PATIENCE, |f| same(&f.bytes, frame)).unwrap();
    };
    let taken = Station { mac: B.mac, ip: A.ip };
    it.tap.send(&beat(A, 1)).unwrap();
    arrives("the first under the address", &beat(A, 1));
    b.send(&beat(taken, 2)).unwrap_or_default();
    b.send(&beat(B, 2)).unwrap();
    arrives("the other one's own", &beat(B, 2));
    let stolen = |f: &&Frame| same(&f.bytes, &beat(taken, 2));
    assert_eq!(it.outside.frames().unwrap().iter().filter(stolen).count(), 0);
    let finding = daemon.await_finding("address-conflict", "macvtap1", PATIENCE).unwrap();
    assert!(finding.to_string().contains("macvtap0"), "{finding}");
}

/// Ports of several bridges are guarded alike, and one bridge's guest is nobody on another.
#[test]
fn several_bridges() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    link::bridge(network, "br1").unwrap();
    let mut settings = detector_tests::daemon::Settings {
        inventory: [vm("a", "tap-a", A), vm("b", "tap-b", B)].concat(),
        ..Default::default()
    };
    settings.bridges = vec!["*"];
    let daemon = detector_tests::daemon::Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug("tap-b").unwrap();
    let c = scene.plug("tap-c").unwrap();
    for name in ["tap-b", "tap-c"] {
        link::enslave(network, name, "br1").unwrap();
    }
    daemon.await_port("tap-b", "granted", PATIENCE).unwrap();
    daemon.await_finding("unknown-port", "tap-c", PATIENCE).unwrap();
    let port = daemon.ask(&["port", "show", "tap-b"]).unwrap().json;
    assert_eq!(port["bridge"], "br1");
    for tap in [&a, &b, &c] {
        tap.drain().unwrap();
    }
    // Each sends under its own identity and under the other's.
    for family in Family::BOTH {
        for (tap, own, other) in [(&a, A, B), (&b, B, A)] {
            tap.send(&family.beat(other, 1)).unwrap();
            tap.send(&family.beat(own, 2)).unwrap();
        }
        c.send(&family.beat(A, 3)).unwrap();
        scene.await_outside("a", &family.beat(A, 2)).unwrap();
    }
    wait::pause(SILENCE);
    for (station, seq) in [(B, 1), (A, 1), (B, 2), (A, 3)] {
        for family in Family::BOTH {
            let copies = scene.copies_outside(&family.beat(station, seq)).unwrap();
            assert_eq!(copies, 0, "{family:?} {station:?} {seq}");
        }
    }
    assert_eq!(b.drain().unwrap(), [] as [Vec<u8>; 0]);
    assert_eq!(c.drain().unwrap(), [] as [Vec<u8>; 0], "an unknown port hears nothing");
}

/// libvirt limits what a guest sends by an `ingress` qdisc on its tap. A TCX link lives beside it; a
/// filter on a clsact qdisc cannot, and whoever wants both is told, while nothing of the port passes.
#[test]
fn a_bandwidth_limit_is_lived_with_or_refused() {
    if lacks(&[Need::IngressQdisc]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let tap = scene.plug("tap-a").unwrap();
    let tc = |words: &str| network.tool("tc", words).unwrap();
    tc("qdisc add dev tap-a ingress");
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    if bpf::method() == Method::Clsact {
        let finding = daemon.await_finding("enforcement-failed", "tap-a", PATIENCE).unwrap();
        let told = finding.to_string();
        assert!(told.contains("tc qdisc del dev tap-a ingress"), "the way out: {told}");
        tap.send(&beat(A, 1)).unwrap();
        wait::pause(SILENCE);
        assert_eq!(scene.copies_outside(&beat(A, 1)).unwrap(), 0, "without a guard");
        assert!(tc("qdisc show dev tap-a").contains("ingress"), "somebody else's stays");
        tc("qdisc del dev tap-a ingress");
        daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
        assert_only_own(&scene, 2, |frame| tap.send(frame).unwrap());
        return;
    }
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    assert_only_own(&scene, 1, |frame| tap.send(frame).unwrap());
    assert!(tc("qdisc show dev tap-a").contains("ingress"));
    // As an update of the limit does.
    tc("qdisc del dev tap-a ingress");
    tc("qdisc add dev tap-a ingress");
    assert_only_own(&scene, 2, |frame| tap.send(frame).unwrap());
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}

/// A VLAN device as an uplink, and a bridge over a VLAN device.
#[test]
fn vlan_devices_lead_out_where_they_are_configured() {
    if lacks(&[Need::Vlan]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    network.ip("link add link up0 name up0.7 type vlan id 7").unwrap();
    link::bridge(network, "br7").unwrap();
    network.ip("link set up0 nomaster").unwrap();
    network.ip("link set up0.7 up").unwrap();
    link::enslave(network, "up0.7", "br7").unwrap();
    let settings = detector_tests::daemon::Settings {
        bridges: vec!["br7"],
        uplinks: vec!["up0.7"],
        inventory: vm("a", "tap-a", A),
        ..Default::default()
    };
    let daemon = detector_tests::daemon::Daemon::start(scene.host(), &settings).unwrap();
    let tap = scene.plug("tap-a").unwrap();
    link::enslave(network, "tap-a", "br7").unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    in_order(|| {
        STOLEN.iter().for_each(|stolen| tap.send(&beat(*stolen, 1)).unwrap());
        tap.send(&beat(A, 1)).unwrap();
    });
    let tagged = |station: Station| {
        let frame = beat(station, 1);
        let mut tagged = frame[..12].to_vec();
        tagged.extend([0x81, 0, 0, 7]);
        tagged.extend(&frame[12..]);
        tagged
    };
    wait::until("the granted identity", PATIENCE, || {
        let frames = scene.outside()?;
        let own = |bytes: &[u8]| same(bytes, &tagged(A)) || same(bytes, &beat(A, 1));
        Ok(frames.iter().any(|frame| own(&frame.bytes)).then_some(()))
    })
    .unwrap();
    for stolen in STOLEN {
        assert_eq!(scene.copies_outside(&tagged(stolen)).unwrap(), 0, "{stolen:?}");
        assert_eq!(scene.copies_outside(&beat(stolen, 1)).unwrap(), 0, "{stolen:?}");
    }
}
