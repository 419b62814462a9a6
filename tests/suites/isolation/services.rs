//! What quarantined VMs may reach in the sandbox: the services that are named, and nothing else.

use std::net::Ipv4Addr;

use detector_common::samples::{self, summed};
use detector_tests::capture::{Capture, Frame};
use detector_tests::dhcp;
use detector_tests::family::Family;
use detector_tests::macvtap;
use detector_tests::needs::{Need, lacks};
use detector_tests::netns::NetNs;
use detector_tests::packet::PacketSocket;

use super::sandbox::{Guest, MORE, OTHER, SERVICE, Sandbox, await_open, speaks_both_ways};
use super::*;

/// Somebody else who is attached to the sandbox's bridge.
const BYSTANDER: Station =
    Station { mac: [0x52, 0x54, 0, 0, 0, 78], ip: Ipv4Addr::new(192, 0, 2, 78) };

/// Somebody of whom no service is named.
struct Bystander {
    namespace: NetNs,
    heard: Capture,
}

impl Bystander {
    fn new(scene: &Scene) -> Self {
        let (network, namespace) = (scene.host().network(), NetNs::new().unwrap());
        link::cable((network, "svc1"), (&namespace, "eth0")).unwrap();
        link::enslave(network, "svc1", "sbx0").unwrap();
        let heard = Capture::start(&namespace, "eth0").unwrap();
        Self { namespace, heard }
    }

    fn say(&self, frame: &[u8]) {
        PacketSocket::open(&self.namespace, "eth0").unwrap().send(frame).unwrap();
    }
}

/// The configuration that names these of the service, as protocol and more, over both families.
fn offering(named: &[(&str, &str)]) -> String {
    let all = Family::BOTH.map(|family| {
        let address = family.address(SERVICE.ip);
        let one = |(protocol, more): &(&str, &str)| {
            format!("{{ address = \"{address}\", protocol = \"{protocol}\"{more} }}")
        };
        named.iter().map(one).collect::<Vec<_>>()
    });
    let all = all.concat().join(", ");
    format!("quarantine = \"sandbox\"\n[sandbox]\nbridge = \"sbx0\"\nservices = [{all}]\n")
}

fn inventory() -> [String; 2] {
    [denied("rogue", "tap-d", DENIED), denied("other", "tap-o", OTHER)]
}

/// The datagram as a segment of TCP.
fn as_tcp(family: Family, mut frame: Vec<u8>) -> Vec<u8> {
    match family {
        Family::V4 => {
            frame[23] = 6;
            [&frame[..14], &summed(frame[14..].to_vec())[..]].concat()
        }
        Family::V6 => {
            frame[20] = 6;
            frame
        }
    }
}

fn datagram(family: Family, from: Station, to: Station, ports: (u16, u16), number: u64) -> Vec<u8> {
    let payload = [&number.to_be_bytes()[..], &[0; 16]].concat();
    family.udp(from, (to.mac, to.ip), ports, &payload)
}

/// Asks whose address it is.
fn asks(family: Family, from: Station, whose: Station) -> Vec<u8> {
    match family {
        Family::V4 => frames::arp(from, whose.ip),
        Family::V6 => {
            let target = whose.ip6().octets();
            let mut to = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
            to[13..].copy_from_slice(&target[13..]);
            let body = [&[0; 4], &target[..], &[1, 1], &from.mac[..]].concat();
            icmp6(from, to, 135, &body)
        }
    }
}

/// A message of ICMPv6 with a checksum, to a group or to all nodes.
fn icmp6(from: Station, to: [u8; 16], kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = samples::ipv6(from.ip6().octets(), 58, 255, &samples::icmpv6(kind, 0, body));
    packet[24..40].copy_from_slice(&to);
    let upper = (packet.len() - 40) as u32;
    let sum = [&packet[8..40], &upper.to_be_bytes()[..], &[0, 0, 0, 58], &packet[40..]].concat();
    let sum: u32 = sum
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)))
        .sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[42..44].copy_from_slice(&sum.to_be_bytes());
    samples::ethernet([0x33, 0x33, to[12], to[13], to[14], to[15]], from.mac, &[], 0x86dd, &packet)
}

/// A fragment of what would be let through as a whole: the first of several, or a later one.
fn fragment(family: Family, whole: &[u8], first: bool) -> Vec<u8> {
    let mut packet = whole[14..].to_vec();
    match family {
        Family::V4 => {
            packet[6..8].copy_from_slice(&if first { [0x20, 0] } else { [0, 8] });
            packet = summed(packet);
        }
        Family::V6 => {
            let upper = packet.split_off(40);
            let next = std::mem::replace(&mut packet[6], 44);
            packet.extend(samples::fragment(next, if first { 0 } else { 8 }, first, &upper));
            let length = (packet.len() - 40) as u16;
            packet[4..6].copy_from_slice(&length.to_be_bytes());
        }
    }
    [&whole[..14], &packet[..]].concat()
}

/// What is said from the guest and to it: what passes, and what does not.
struct Said {
    out: [Vec<Vec<u8>>; 2],
    /// By the service, and by the bystander.
    home: [Vec<Vec<u8>>; 2],
    bystanders: Vec<Vec<u8>>,
}

/// With UDP port 53 and TCP port 443 of the service named, or `other` ports instead.
fn said(ports: (u16, u16), number: u64) -> Said {
    let mut said =
        Said { out: Default::default(), home: Default::default(), bystanders: Vec::new() };
    let (udp, tcp) = ports;
    for family in Family::BOTH {
        let from_to = |from, to, ports| datagram(family, from, to, ports, number);
        let question = from_to(DENIED, SERVICE, (4000, udp));
        let answer = from_to(SERVICE, DENIED, (udp, 4000));
        let segment = as_tcp(family, from_to(DENIED, SERVICE, (4001, tcp)));
        said.out[0].extend([question.clone(), segment, asks(family, DENIED, SERVICE)]);
        said.home[0].extend([
            answer.clone(),
            as_tcp(family, from_to(SERVICE, DENIED, (tcp, 4001))),
            asks(family, SERVICE, DENIED),
        ]);
        said.out[1].extend([
            from_to(DENIED, SERVICE, (udp, 4000)),
            from_to(DENIED, SERVICE, (4000, tcp)),
            as_tcp(family, from_to(DENIED, SERVICE, (4000, udp))),
            from_to(DENIED, BYSTANDER, (4000, udp)),
            asks(family, DENIED, BYSTANDER),
            asks(family, DENIED, OTHER),
            from_to(DENIED, OTHER, (4000, udp)),
            family.beat(DENIED, number),
            family.announcement(DENIED),
            fragment(family, &question, true),
            fragment(family, &question, false),
        ]);
        said.home[1].extend([
            from_to(SERVICE, DENIED, (4000, udp)),
            from_to(SERVICE, DENIED, (tcp, 4000)),
            family.beat(SERVICE, number),
            fragment(family, &answer, true),
            fragment(family, &answer, false),
        ]);
        said.bystanders.extend([
            from_to(BYSTANDER, DENIED, (udp, 4000)),
            as_tcp(family, from_to(BYSTANDER, DENIED, (tcp, 4001))),
            asks(family, BYSTANDER, DENIED),
            family.beat(BYSTANDER, number),
        ]);
    }
    let ping = [&[0, 1, 0, 1][..], &number.to_be_bytes()].concat();
    said.out[1].push(icmp6(DENIED, SERVICE.ip6().octets(), 128, &ping));
    // What is no IP cannot be for a service.
    said.home[1].push(frames::other(SERVICE, 0x88b5, &[7; 46]));
    said
}

/// Only what passes arrives, whoever begins, and what does not is counted.
fn assert_reaches(sandbox: &Sandbox, bystander: &Bystander, guest: &impl Guest, said: &Said) {
    guest.hear();
    said.out[1].iter().chain(&said.out[0]).for_each(|frame| guest.say(frame));
    for frame in &said.out[0] {
        sandbox.await_heard("what is for the service", frame);
    }
    for frame in &said.out[1] {
        assert!(!sandbox.has_heard(frame), "{frame:02x?}");
    }
    let aside = bystander.heard.frames().unwrap();
    assert!(!aside.iter().any(|f| said.out[1].iter().any(|frame| same(&f.bytes, frame))));

    said.bystanders.iter().for_each(|frame| bystander.say(frame));
    said.home[1].iter().chain(&said.home[0]).for_each(|frame| sandbox.say(frame));
    let mut heard = Vec::new();
    wait::until("what the service says", PATIENCE, || {
        heard.extend(guest.hear());
        let all = said.home[0].iter().all(|frame| heard.iter().any(|f| same(f, frame)));
        Ok(all.then_some(()))
    })
    .unwrap();
    for frame in said.home[1].iter().chain(&said.bystanders) {
        assert!(!heard.iter().any(|f| same(f, frame)), "{frame:02x?}");
    }
}

fn reload(daemon: &Daemon<'_>, more: &str) {
    let text = daemon.configuration().unwrap();
    let rules = text.split_once("quarantine = \"sandbox\"").unwrap().0;
    daemon.write_configuration(&format!("{rules}{more}")).unwrap();
    assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
}

/// What the port may reach, as the daemon or the pins say.
fn reaches(daemon: &Daemon<'_>, port: &str) -> serde_json::Value {
    daemon.ask(&["port", "show", port]).unwrap().json["services"].clone()
}

#[test]
fn a_quarantined_vm_reaches_the_services_that_are_named_and_nothing_else() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let bystander = Bystander::new(&scene);
    let named = offering(&[("udp", ", port = 53"), ("tcp", ", port = 443")]);
    let mut daemon = daemon(&scene, "enforce", &inventory(), &named);
    let rogue = scene.plug("tap-d").unwrap();
    let other = scene.plug("tap-o").unwrap();
    ["tap-d", "tap-o"].iter().for_each(|port| await_open(&daemon, port));
    assert_reaches(&sandbox, &bystander, &rogue, &said((53, 443), 1));
    let told = ["192.0.2.77 tcp 443, udp 53", "2001:db8::c000:24d tcp 443, udp 53"];
    assert_eq!(reaches(&daemon, "tap-d"), serde_json::json!(told));
    let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
    let refused = |direction: &str| shown["counters"][direction]["not-a-service"].as_u64().unwrap();
    let Said { out, home, bystanders } = said((53, 443), 1);
    assert!(refused("from") >= out[1].len() as u64, "{shown}");
    assert!(refused("to") >= (home[1].len() + bystanders.len() / 2) as u64, "{shown}");
    let explained = daemon.show(&["explain", "rogue"]).unwrap();
    assert!(explained.contains("192.0.2.77 tcp 443, udp 53"), "{explained}");
    // The other one, who is there too, has heard nothing of all that.
    assert!(other.hear().iter().all(|frame| frame[6..12] != DENIED.mac));

    // Without the daemon nothing is otherwise, also what is said of it.
    daemon.kill().unwrap();
    assert_reaches(&sandbox, &bystander, &rogue, &said((53, 443), 2));
    assert_eq!(reaches(&daemon, "tap-d"), serde_json::json!(told));
    daemon.run().unwrap();
    await_open(&daemon, "tap-d");
    assert_reaches(&sandbox, &bystander, &rogue, &said((53, 443), 3));

    // Others are named while it is there; then none; then nobody says.
    reload(&daemon, &offering(&[("udp", ", port = 54"), ("tcp", ", port = 444")]));
    assert_reaches(&sandbox, &bystander, &rogue, &said((54, 444), 4));
    reload(&daemon, "quarantine = \"sandbox\"\n[sandbox]\nbridge = \"sbx0\"\nservices = []\n");
    let nothing = said((53, 443), 5);
    rogue.drain().unwrap();
    nothing.out.iter().flatten().for_each(|frame| rogue.send(frame).unwrap());
    nothing.home.iter().flatten().for_each(|frame| sandbox.say(frame));
    wait::pause(SILENCE);
    let is_new = |frame: &&Vec<u8>| frame.windows(8).any(|word| word == 5_u64.to_be_bytes());
    assert!(nothing.out.iter().flatten().filter(is_new).all(|frame| !sandbox.has_heard(frame)));
    assert!(rogue.hear().iter().all(|frame| frame[6..12] != SERVICE.mac));
    assert_eq!(reaches(&daemon, "tap-d"), serde_json::json!([]));
    reload(&daemon, MORE);
    speaks_both_ways(&sandbox, &rogue, DENIED, 6);
    assert!(reaches(&daemon, "tap-d").is_null());
}

/// Whoever is quarantined first does not pass for a service, though nothing but its name protects it.
#[test]
fn nobody_has_a_service_s_address() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let bystander = Bystander::new(&scene);
    let mut named = offering(&[("udp", ", port = 53")]);
    for family in Family::BOTH {
        let address = family.address(BYSTANDER.ip);
        let more = format!("services = [{{ address = \"{address}\", protocol = \"icmp\" }}, ");
        named = named.replace("services = [", &more);
    }
    let daemon = daemon(&scene, "enforce", &inventory(), &named);
    let rogue = scene.plug("tap-d").unwrap();
    await_open(&daemon, "tap-d");
    // Before the service has said anything; to another service an announcement would pass.
    for family in Family::BOTH {
        let claims = Station { ip: SERVICE.ip, ..DENIED };
        let lies =
            [asks(family, claims, BYSTANDER), datagram(family, claims, BYSTANDER, (53, 53), 1)];
        lies.iter().for_each(|frame| rogue.send(frame).unwrap());
        // What follows under its own address shows that they have had their time.
        let truth = asks(family, DENIED, BYSTANDER);
        rogue.send(&truth).unwrap();
        let told = |f: &Frame| same(&f.bytes, &truth);
        bystander.heard.await_frame("its own question", PATIENCE, told).unwrap();
        let heard = bystander.heard.frames().unwrap();
        for lie in &lies {
            assert!(!heard.iter().any(|f| same(&f.bytes, lie)), "{family:?}: {lie:02x?}");
        }
    }
    assert!(counted(&daemon, "tap-d", "address-taken") > 0);
    // The service's own answers arrive.
    let question = datagram(Family::V4, DENIED, SERVICE, (4000, 53), 2);
    rogue.send(&question).unwrap();
    sandbox.await_heard("the question", &question);
}

/// A DHCP server is found by who has no address yet, and a router by who has none to anybody.
#[test]
fn servers_and_routers_are_found() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let named = offering(&[("dhcp", ""), ("icmp", "")]);
    let router = SERVICE.link_local();
    let named = named.replace(
        "services = [",
        &format!("services = [{{ address = \"{router}\", protocol = \"router\" }}, "),
    );
    let daemon = daemon(&scene, "enforce", &inventory(), &named);
    let rogue = scene.plug("tap-d").unwrap();
    await_open(&daemon, "tap-d");
    let client = dhcp::Message::new(dhcp::DISCOVER, 7, DENIED.mac).from_client();
    let offer =
        dhcp::Message { kind: dhcp::OFFER, ..dhcp::Message::ack(7, DENIED.mac, DENIED.ip, 60) };
    let (impostor, server) = (offer.clone().from_server(BYSTANDER), offer.from_server(SERVICE));
    let ping = [0, 1, 0, 1, 9, 9, 9, 9];
    let [mut v4_ping, v6_ping] = [
        samples::ethernet(SERVICE.mac, DENIED.mac, &[], 0x0800, &[]),
        icmp6(DENIED, SERVICE.ip6().octets(), 128, &ping),
    ];
    let mut packet = samples::ipv4(DENIED.ip.octets(), 1, &[8, 0, 0, 0, 0, 1, 0, 1]);
    packet[16..20].copy_from_slice(&SERVICE.ip.octets());
    v4_ping.extend(summed(packet));
    let all_routers = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let solicits = icmp6(DENIED, all_routers, 133, &[0; 4]);
    for frame in [&client, &v4_ping, &v6_ping, &solicits] {
        rogue.send(frame).unwrap();
        let said = |f: &Frame| !f.bytes.is_empty() && frame.starts_with(&f.bytes);
        sandbox.heard.await_frame("what the guest asks for", PATIENCE, said).unwrap();
    }
    let advertises = frames::router_advertisement(SERVICE);
    sandbox.say(&impostor);
    sandbox.say(&frames::router_advertisement(BYSTANDER));
    sandbox.say(&server);
    sandbox.say(&advertises);
    let mut heard = Vec::new();
    wait::until("server and router", PATIENCE, || {
        heard.extend(rogue.hear());
        let has = |frame: &[u8]| heard.iter().any(|f| same(f, frame));
        Ok((has(&server) && has(&advertises)).then_some(()))
    })
    .unwrap();
    assert!(heard.iter().all(|frame| frame[6..12] != BYSTANDER.mac), "{heard:02x?}");
}

/// Where a frame leaves by the port itself it is no different.
#[test]
fn a_macvtap_reaches_what_is_named() {
    if lacks(&[Need::Macvtap]) {
        return;
    }
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let bystander = Bystander::new(&scene);
    let named = offering(&[("udp", ", port = 53"), ("tcp", ", port = 443")]);
    let network = scene.host().network();
    let wire = NetNs::new().unwrap();
    link::cable((network, "low0"), (&wire, "eth0")).unwrap();
    let daemon = daemon(&scene, "enforce", &[denied("rogue", "mvt0", DENIED)], &named);
    let guest = macvtap::open(scene.host(), "low0", "mvt0", "bridge", DENIED.mac).unwrap();
    await_open(&daemon, "mvt0");
    assert_reaches(&sandbox, &bystander, &guest, &said((53, 443), 1));
}
