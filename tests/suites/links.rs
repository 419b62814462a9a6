//! Kinds of links that not every kernel has: VLAN interfaces, bonds, bridges that mind VLANs, Open vSwitch.
//! Where one is lacking, the test says so and tests nothing.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::{Ipv4Addr, UdpSocket};

use detector_tests::capture::Capture;
use detector_tests::family::Family;
use detector_tests::frames::{self, Station};
use detector_tests::guest::hex;
use detector_tests::needs::{Need, lacks};
use detector_tests::netns::NetNs;
use detector_tests::order::in_order;
use detector_tests::packet::PacketSocket;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, hears, same, vm};
use detector_tests::{link, wait};

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const STRAY: Station = Station::number(99);
const VLAN: u16 = 10;

#[path = "links/open_vswitch.rs"]
mod open_vswitch;
#[path = "links/vhost.rs"]
mod vhost;

/// A socket in a namespace, at an address of its own.
fn socket(namespace: &NetNs, address: Ipv4Addr) -> UdpSocket {
    let socket = namespace.run(|| Ok(UdpSocket::bind((address, 5000))?)).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// The host speaks on a VLAN of its own through the uplink of its guests.
#[test]
fn a_vlan_interface_on_the_uplink_goes_on() {
    if lacks(&[Need::Vlan]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let (here, there) = (Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2));
    let ends = [(scene.host().network(), "up0", here), (scene.far(), "far0", there)];
    for (namespace, device, address) in ends {
        namespace.ip(&format!("link add link {device} name vlan7 type vlan id 7")).unwrap();
        namespace.ip(&format!("address add {address}/24 dev vlan7")).unwrap();
        namespace.ip("link set vlan7 up").unwrap();
    }
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let (host, beyond) = (socket(scene.host().network(), here), socket(scene.far(), there));
    host.send_to(b"out", (there, 5000)).unwrap();
    assert!(hears(&beyond, PATIENCE), "outwards");
    beyond.send_to(b"in", (here, 5000)).unwrap();
    assert!(hears(&host, PATIENCE), "inwards");

    // A guest does not get there by tagging its frames.
    let bridge = scene.mac("up0").unwrap();
    let intruder = frames::udp(A, (bridge, here), (5000, 5000), b"intruder");
    a.send(&frames::tagged(&intruder, 7)).unwrap();
    assert!(!hears(&host, SILENCE));
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("the guest", &beat(A, 1)).unwrap();
}

/// Guests leave by a VLAN of a bond, as they do on most hosts that have two network cards.
#[test]
fn a_vlan_of_a_bond_is_an_uplink() {
    if lacks(&[Need::Vlan, Need::Bonding]) {
        return;
    }
    leaves_by_a_bond(Some(7));
}

/// Or by the bond itself, without a tag.
#[test]
fn a_bond_is_an_uplink() {
    if lacks(&[Need::Bonding]) {
        return;
    }
    leaves_by_a_bond(None);
}

fn leaves_by_a_bond(vlan: Option<u16>) {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let beyond = NetNs::new().unwrap();
    network.ip("link add bond0 type bond mode active-backup miimon 100").unwrap();
    for (here, there) in [("eth0", "sw0"), ("eth1", "sw1")] {
        link::cable((network, here), (&beyond, there)).unwrap();
        network.ip(&format!("link set {here} down")).unwrap();
        network.ip(&format!("link set {here} master bond0")).unwrap();
    }
    network.ip("link set bond0 addrgenmode none up").unwrap();
    // Both cards lead to one switch.
    link::bridge(&beyond, "switch").unwrap();
    for port in ["sw0", "sw1"] {
        link::enslave(&beyond, port, "switch").unwrap();
    }
    let (here, there) = match vlan {
        None => ("bond0".to_owned(), "switch".to_owned()),
        Some(id) => {
            for (namespace, device) in [(network, "bond0"), (&beyond, "switch")] {
                let name = format!("{device}.{id}");
                let words = format!("link add link {device} name {name} type vlan id {id}");
                namespace.ip(&words).unwrap();
                namespace.ip(&format!("link set {name} addrgenmode none up")).unwrap();
            }
            (format!("bond0.{id}"), format!("switch.{id}"))
        }
    };
    link::enslave(network, &here, "br0").unwrap();
    let capture = Capture::start(&beyond, &there).unwrap();

    let vms = [vm("a", "tap-a", A)];
    let daemon = scene.daemon_with_uplinks(&vms, &["bond0*", "eth*"]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port(&here, "gate", PATIENCE).unwrap();
    let arrives = |seq| {
        for family in Family::BOTH {
            stray.send(&family.beat(STRAY, seq)).unwrap();
            let own = family.beat(A, seq);
            a.send(&own).unwrap();
            capture.await_frame("the guest", PATIENCE, |f| same(&f.bytes, &own)).unwrap();
        }
    };
    arrives(1);
    let outer = PacketSocket::open(&beyond, &there).unwrap();
    for family in Family::BOTH {
        let back = family.beat(Station::number(200), 2);
        outer.send(&back).unwrap();
        a.await_frame("the outside", PATIENCE, |f| same(f, &back)).unwrap();
    }
    // The other card takes over.
    network.ip("link set eth0 down").unwrap();
    wait::until("the bond to notice", PATIENCE, || {
        let bond = network.ip("-details link show bond0")?;
        Ok(bond.contains("active_slave eth1").then_some(()))
    })
    .unwrap();
    arrives(3);
    let strays = capture.frames().unwrap().iter().filter(|f| f.source() == Some(STRAY.mac)).count();
    assert_eq!(strays, 0);
}

/// Untagged frames of one port are frames of another's VLAN, and a MAC belongs to its port there too.
#[test]
fn a_bridge_that_minds_vlans_keeps_them_and_the_macs_on_them() {
    if lacks(&[Need::VlanFiltering, Need::Vlan]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    network.ip("link set br0 type bridge vlan_filtering 1").unwrap();
    network.bridge(&format!("vlan add dev up0 vid {VLAN}")).unwrap();
    scene.far().ip(&format!("link add link far0 name vlan10 type vlan id {VLAN}")).unwrap();
    scene.far().ip("link set vlan10 addrgenmode none up").unwrap();
    let capture = Capture::start(scene.far(), "vlan10").unwrap();
    let trunk = vm("b", "tap-b", B) + &format!("vlans = [{VLAN}]\n");
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), trunk]).unwrap();
    // First as member of the bridge's default VLAN, then moved, as managers do.
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    network.bridge(&format!("vlan add dev tap-a vid {VLAN} pvid untagged")).unwrap();
    network.bridge(&format!("vlan add dev tap-b vid {VLAN}")).unwrap();
    wait::until("the MAC to be kept on the VLAN", PATIENCE, || {
        Ok((place(network, A)? == ["tap-a"]).then_some(()))
    })
    .unwrap();

    a.send(&beat(A, 1)).unwrap();
    capture.await_frame("a", PATIENCE, |f| same(&f.bytes, &beat(A, 1))).unwrap();
    let untag = |frame: &[u8]| frame[..12] == beat(A, 1)[..12];
    b.await_frame("a, tagged", PATIENCE, |f| untag(f) && f[12..16] == [0x81, 0, 0, 10]).unwrap();
    b.send(&frames::tagged(&beat(B, 2), VLAN)).unwrap();
    a.await_frame("b, without its tag", PATIENCE, |f| same(f, &beat(B, 2))).unwrap();
    capture.await_frame("b", PATIENCE, |f| same(&f.bytes, &beat(B, 2))).unwrap();

    // Its own MAC on a VLAN that is not its own.
    b.send(&beat(B, 3)).unwrap();
    b.send(&frames::tagged(&beat(B, 4), VLAN + 1)).unwrap();
    // Others' MACs from where no guard runs.
    let beyond = PacketSocket::open(scene.far(), "vlan10").unwrap();
    for station in [A, B] {
        beyond.send(&frames::arp(station, station.ip)).unwrap();
    }
    let stray = scene.plug("stray0").unwrap();
    network.bridge(&format!("vlan add dev stray0 vid {VLAN} pvid untagged")).unwrap();
    stray.send(&frames::arp(A, STRAY.ip)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(place(network, A).unwrap(), ["tap-a"]);
    assert_eq!(place(network, B).unwrap(), ["tap-b"]);
    assert_eq!(scene.copies_outside(&beat(B, 3)).unwrap(), 0);
    let port = daemon.ask(&["port", "show", "tap-b"]).unwrap().json;
    assert_eq!(port["counters"]["from"]["vlan-not-granted"], 2, "{port:#}");
}

/// A MAC that is granted on a VLAN only is nobody's outside on that VLAN, also where the bridge puts it
/// on that VLAN itself.
#[test]
fn a_clone_without_a_tag_is_noticed_on_the_vlan_that_it_gets() {
    if lacks(&[Need::VlanFiltering]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    network.ip("link set br0 type bridge vlan_filtering 1").unwrap();
    let trunk =
        |name: &str, port: &str, station| vm(name, port, station) + &format!("vlans = [{VLAN}]\n");
    let vms = [trunk("victim", "tap-a", A), trunk("b", "tap-b", B)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    for port in ["tap-a", "tap-b"] {
        network.bridge(&format!("vlan add dev {port} vid {VLAN}")).unwrap();
    }
    let beyond = scene.beyond().unwrap();
    let counted = || {
        let uplink = daemon.ask(&["port", "show", "up0"]).unwrap().json;
        uplink["counters"]["from"]["mac-of-local-guest"].as_u64().unwrap_or(0)
    };
    let outer = Station::number(50);
    let gets_in = |frame: &[u8], follows: &[u8]| {
        in_order(|| {
            beyond.send(frame).unwrap();
            beyond.send(follows).unwrap();
        });
        let arrived =
            |f: &[u8], wanted: &[u8]| f[..12] == wanted[..12] && f.ends_with(&wanted[14..]);
        let mut seen = false;
        wait::until("what follows", PATIENCE, || {
            let frames = b.drain()?;
            seen |= frames.iter().any(|f| arrived(f, frame));
            Ok(frames.iter().any(|f| arrived(f, follows)).then_some(()))
        })
        .unwrap();
        seen
    };
    // The uplink's untagged frames are of another VLAN, and there the MAC is somebody else's.
    let tagged = |seq| frames::tagged(&beat(outer, seq), VLAN);
    network.bridge(&format!("vlan add dev up0 vid {VLAN}")).unwrap();
    assert!(!gets_in(&frames::tagged(&beat(A, 1), VLAN), &tagged(1)), "with its tag");
    assert_eq!(counted(), 1);
    beyond.send(&beat(A, 2)).unwrap();
    assert!(gets_in(&tagged(2), &tagged(3)), "of another VLAN");
    assert_eq!(counted(), 1, "the MAC is free on another VLAN");

    // They are taken for the guests' VLAN.
    network.bridge(&format!("vlan add dev up0 vid {VLAN} pvid untagged")).unwrap();
    let mut seq = 10;
    wait::until("the clone to be kept out", PATIENCE, || {
        seq += 2;
        Ok((!gets_in(&beat(A, seq), &beat(outer, seq + 1))).then_some(()))
    })
    .unwrap();
    assert!(counted() > 1);
    daemon.await_finding("mac-clone", "victim", PATIENCE).unwrap();
    assert!(gets_in(&beat(outer, 1_000), &beat(outer, 1_001)), "others come in");

    // And are not any more.
    network.bridge("vlan add dev up0 vid 1 pvid untagged").unwrap();
    wait::until("the MAC to be free without a tag", PATIENCE, || {
        let before = counted();
        in_order(|| {
            beyond.send(&beat(A, 2_000)).unwrap();
            beyond.send(&tagged(seq)).unwrap();
        });
        seq += 1;
        b.await_frame("what follows", PATIENCE, |f| f[6..12] == outer.mac)?;
        Ok((counted() == before).then_some(()))
    })
    .unwrap();
}

/// Where the bridge believes the station to be on the VLAN.
fn place(network: &NetNs, station: Station) -> anyhow::Result<Vec<String>> {
    let table = network.bridge("fdb show br br0")?;
    let mac = hex(station.mac);
    let vlan = format!(" vlan {VLAN} ");
    let entries = table.lines().filter(|line| line.starts_with(&mac) && line.contains(&vlan));
    Ok(entries.filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect())
}
