//! Never saw off the branch: what the host itself sends and receives goes on, whatever is enforced on
//! its guests.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

use detector_tests::capture::Capture;
use detector_tests::daemon::Daemon;
use detector_tests::family;
use detector_tests::frames::{self, Station};
use detector_tests::guest::hex;
use detector_tests::netns::NetNs;
use detector_tests::packet::PacketSocket;
use detector_tests::scene::{self, HOST_IP, PATIENCE, Scene, hears, vm};
use detector_tests::{link, wait};

const GUEST: Station = Station::number(10);
/// Beyond the routed uplink, in another network.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 7);
const WAN: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// A bridge says hello, and asks who listens, once a second or two.
const HELLO: Duration = Duration::from_secs(20);

fn enforced(scene: &Scene) -> Daemon<'_> {
    scene.daemon("enforce", &[vm("a", "tap-a", GUEST)]).unwrap()
}

fn set_bridge(scene: &Scene, words: &str) {
    scene.host().network().ip(&format!("link set br0 type bridge {words}")).unwrap();
}

/// Frames that the gate of the bridge let the host hear for this reason.
fn heard(daemon: &Daemon<'_>, reason: &str) -> u64 {
    let port = daemon.ask(&["port", "show", "br0"]).unwrap().json;
    port["counters"]["to"][reason].as_u64().unwrap_or_default()
}

#[test]
fn the_bridge_speaks_spanning_tree() {
    let scene = Scene::new().unwrap();
    let _daemon = enforced(&scene);
    set_bridge(&scene, "stp_state 1 hello_time 100");
    let is_hello = |frame: &[u8]| frame[..6] == [0x01, 0x80, 0xc2, 0, 0, 0];
    wait::until("a hello", HELLO, || {
        Ok(scene.outside()?.iter().any(|frame| is_hello(&frame.bytes)).then_some(()))
    })
    .unwrap();
}

#[test]
fn the_bridge_asks_who_listens_and_the_host_answers() {
    let scene = Scene::new().unwrap();
    let daemon = enforced(&scene);
    let group = Ipv4Addr::new(239, 1, 2, 3);
    let listener = scene.host().network().run(|| {
        let socket = UdpSocket::bind(("0.0.0.0", 4000))?;
        socket.join_multicast_v4(&group, &HOST_IP)?;
        Ok(socket)
    });
    // Before it asks: whoever has heard an older question answers in the older way for minutes.
    set_bridge(&scene, "mcast_igmp_version 3");
    set_bridge(
        &scene,
        "mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 \
         mcast_query_response_interval 50 mcast_startup_query_interval 100",
    );
    let igmp = |frame: &[u8], kind: u8| {
        let header = usize::from(frame.get(14).copied().unwrap_or(0) & 0x0f) * 4;
        frame.get(12..14) == Some(&[8, 0][..])
            && frame.get(23) == Some(&2)
            && frame.get(14 + header) == Some(&kind)
    };
    let sent = |kind| -> anyhow::Result<usize> {
        Ok(scene.outside()?.iter().filter(|frame| igmp(&frame.bytes, kind)).count())
    };
    wait::until("a query outside", HELLO, || Ok((sent(0x11)? > 0).then_some(()))).unwrap();
    // Joining is announced once or twice; only who hears the queries goes on reporting.
    wait::until("reports that answer queries", HELLO, || Ok((sent(0x22)? > 4).then_some(())))
        .unwrap();
    let own = daemon.ask(&["port", "show", "br0"]).unwrap().json;
    assert!(heard(&daemon, "host-own") > 0, "{own:#}");
    drop(listener);
}

#[test]
fn a_sender_on_the_host_is_heard_everywhere() {
    let scene = Scene::new().unwrap();
    let daemon = enforced(&scene);
    let guest = scene.plug_granted(&daemon, "tap-a").unwrap();
    let lldp = frames::other(
        Station { mac: scene.mac("up0").unwrap(), ip: HOST_IP },
        0x88cc,
        b"neighbour discovery of the host's own",
    );
    let mut lldp = lldp;
    lldp[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0x0e]);
    for interface in ["up0", "tap-a"] {
        let agent = PacketSocket::open(scene.host().network(), interface).unwrap();
        agent.send(&lldp).unwrap();
    }
    scene.await_outside("LLDP outside", &lldp).unwrap();
    guest.await_frame("LLDP at the guest", PATIENCE, |frame| scene::same(frame, &lldp)).unwrap();
}

#[test]
fn multicast_of_the_host_reaches_the_host() {
    let scene = Scene::new().unwrap();
    let _daemon = enforced(&scene);
    let group = Ipv4Addr::new(239, 9, 9, 9);
    let (listener, sender) = scene
        .host()
        .network()
        .run(|| {
            let listener = UdpSocket::bind(("0.0.0.0", 4001))?;
            listener.join_multicast_v4(&group, &HOST_IP)?;
            listener.set_nonblocking(true)?;
            let sender = UdpSocket::bind((HOST_IP, 0))?;
            sender.set_multicast_loop_v4(true)?;
            Ok((listener, sender))
        })
        .unwrap();
    sender.send_to(b"to whom it may concern", (group, 4001)).unwrap();
    assert!(hears(&listener, PATIENCE));
}

#[test]
fn the_host_routes_and_translates_for_its_guests() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let internet = NetNs::new().unwrap();
    link::cable((network, "wan0"), (&internet, "net0")).unwrap();
    network.ip(&format!("address add {WAN}/24 dev wan0")).unwrap();
    let mut sysctl = network.command("sysctl");
    assert!(sysctl.args(["-qw", "net.ipv4.ip_forward=1"]).status().unwrap().success());
    let rules = "add table ip nat; add chain ip nat out { type nat hook postrouting priority 100; }; \
                 add rule ip nat out oifname wan0 masquerade";
    assert!(network.command("nft").arg(rules).status().unwrap().success());
    // The routed uplink is no physical device here, so the administrator names it.
    let daemon = scene.daemon_with_uplinks(&[vm("a", "tap-a", GUEST)], &["wan*"]).unwrap();
    let guest = scene.plug_granted(&daemon, "tap-a").unwrap();

    let server_mac = scene::interface_mac(&internet, "net0").unwrap();
    let server = hex(server_mac);
    network.ip(&format!("neigh replace {SERVER} lladdr {server} dev wan0")).unwrap();
    let guest_mac = hex(GUEST.mac);
    network.ip(&format!("neigh replace {} lladdr {guest_mac} dev br0", GUEST.ip)).unwrap();
    let capture = Capture::start(&internet, "net0").unwrap();
    let bridge = scene.mac("br0").unwrap();
    guest.send(&frames::udp(GUEST, (bridge, SERVER), (777, 53), b"a question")).unwrap();
    let arrived = capture
        .await_frame("the question", PATIENCE, |frame| frame.bytes.ends_with(b"a question"))
        .unwrap();
    assert_eq!(arrived.bytes[26..30], WAN.octets(), "it is translated");

    let answer = frames::udp(
        Station { mac: server_mac, ip: SERVER },
        (scene.mac("wan0").unwrap(), WAN),
        (53, u16::from_be_bytes([arrived.bytes[34], arrived.bytes[35]])),
        b"an answer",
    );
    PacketSocket::open(&internet, "net0").unwrap().send(&answer).unwrap();
    let is_answer = |frame: &[u8]| frame.ends_with(b"an answer");
    let back = guest.await_frame("the answer", PATIENCE, is_answer).unwrap();
    assert_eq!(back[30..34], GUEST.ip.octets());
}

/// Over IPv6 nobody translates: the guest's own address goes out, and comes back.
#[test]
fn the_host_routes_ipv6_for_its_guests() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let internet = NetNs::new().unwrap();
    link::cable((network, "wan0"), (&internet, "net0")).unwrap();
    family::forward(network).unwrap();
    family::give_addresses(network, "br0", HOST_IP).unwrap();
    family::give_addresses(network, "wan0", WAN).unwrap();
    let daemon = scene.daemon_with_uplinks(&[vm("a", "tap-a", GUEST)], &["wan*"]).unwrap();
    let guest = scene.plug_granted(&daemon, "tap-a").unwrap();

    let server = Station { mac: scene::interface_mac(&internet, "net0").unwrap(), ip: SERVER };
    let neighbours = [(server, "wan0"), (GUEST, "br0")];
    for (station, interface) in neighbours {
        let (address, mac) = (station.ip6(), hex(station.mac));
        network.ip(&format!("neigh replace {address} lladdr {mac} dev {interface}")).unwrap();
    }
    let capture = Capture::start(&internet, "net0").unwrap();
    let bridge = scene.mac("br0").unwrap();
    let stolen = Station { ip: Ipv4Addr::new(192, 0, 2, 77), ..GUEST };
    let ask = |from: Station, what: &[u8]| {
        let question = frames::udp6(from, (bridge, server.ip6()), (777, 53), what);
        guest.send(&question).unwrap();
    };
    ask(stolen, b"under another's address");
    ask(GUEST, b"a question");
    let arrived = capture
        .await_frame("the question", PATIENCE, |frame| frame.bytes.ends_with(b"a question"))
        .unwrap();
    assert_eq!(arrived.bytes[22..38], GUEST.ip6().octets());
    let others = capture.frames().unwrap();
    assert!(!others.iter().any(|frame| frame.bytes.ends_with(b"another's address")));

    let to = (scene.mac("wan0").unwrap(), GUEST.ip6());
    let answer = frames::udp6(server, to, (53, 777), b"an answer");
    PacketSocket::open(&internet, "net0").unwrap().send(&answer).unwrap();
    let back = guest.await_frame("the answer", PATIENCE, |f| f.ends_with(b"an answer")).unwrap();
    assert_eq!(back[38..54], GUEST.ip6().octets());
}
