//! The guard of a granted port: what its VM may send arrives, what it may not is dropped for the
//! reason that the port's counters name.

use std::net::{Ipv4Addr, Ipv6Addr};

use detector_common::samples::{self, DESTINATION_OPTIONS, ICMPV6, UDP};
use detector_guest::Mac;
use detector_tests::daemon::Daemon;
use detector_tests::family::Family;
use detector_tests::frames::{self, BROADCAST, Station};
use detector_tests::order::in_order;
use detector_tests::scene::{HOST_IP, PATIENCE, SILENCE, Scene, beat, vm};
use detector_tests::tap::{Header, Tap};
use detector_tests::{link, wait};

const A: Station = Station::number(10);
const OTHER: Station = Station::number(11);
const FOREIGN_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);

#[path = "guard/flood.rs"]
mod flood;

/// A frame, and the reason for which it is dropped; none for one that arrives.
type Case = (&'static str, Vec<u8>, Option<&'static str>);

fn cases() -> Vec<Case> {
    let link_local = A.link_local();
    let foreign6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7);
    let to_all = (BROADCAST, Ipv4Addr::BROADCAST);
    let nobody = Station { ip: Ipv4Addr::UNSPECIFIED, ..A };
    let ip_of_other = Station { ip: FOREIGN_IP, ..A };
    let mut bridge_group = frames::other(A, 0x0800, &[0; 46]);
    bridge_group[..6].copy_from_slice(&[0x01, 0x80, 0xc2, 0, 0, 0]);
    let mut group_source = beat(A, 1);
    group_source[6] |= 1;
    let mut other_sender = frames::arp(A, FOREIGN_IP);
    other_sender[22..28].copy_from_slice(&OTHER.mac);
    let mut long = beat(A, 2);
    long[16..18].copy_from_slice(&60_000_u16.to_be_bytes());
    let padded = [beat(A, 6), vec![0; 1400]].concat();
    let mut zero_source = beat(A, 7);
    zero_source[6..12].fill(0);
    let mut short_arp = frames::arp(A, FOREIGN_IP);
    short_arp.truncate(30);
    let neighbour = frames::neighbour_advertisement(A, link_local, link_local);
    let mut routed_nd = neighbour.clone();
    routed_nd[21] = 254;
    let mut other_link_layer = neighbour.clone();
    other_link_layer.splice(80..86, OTHER.mac);
    let mut short_header = beat(A, 8);
    short_header[14] = 0x44;
    let group_dhcp = frames::udp(nobody, to_all, (68, 67), &dhcp(1, OTHER.mac));
    let discover = frames::udp(nobody, to_all, (68, 67), &dhcp(1, A.mac));
    vec![
        ("its own broadcast", beat(A, 0), None),
        ("padded", padded, None),
        ("its own ARP", frames::arp(A, FOREIGN_IP), None),
        ("an ARP probe", frames::arp(nobody, A.ip), None),
        ("a RARP announcement", frames::rarp(A.mac), None),
        ("its own link-local", frames::neighbour_advertisement(A, link_local, link_local), None),
        ("priority-tagged", frames::tagged(&beat(A, 9), 0), None),
        ("a DHCP discover", discover, None),
        ("another MAC", beat(OTHER, 0), Some("mac-not-granted")),
        ("another MAC's ARP", frames::arp(OTHER, OTHER.ip), Some("mac-not-granted")),
        ("another MAC's RARP", frames::rarp(OTHER.mac), Some("mac-not-granted")),
        ("no MAC at all", zero_source, Some("source-mac-invalid")),
        ("half an ARP", short_arp, Some("truncated")),
        ("ND that was routed", routed_nd, Some("nd-hop-limit")),
        ("another link-layer address", other_link_layer, Some("nd-link-layer")),
        (
            "another's link-local",
            frames::neighbour_advertisement(A, OTHER.link_local(), link_local),
            Some("ipv6-source"),
        ),
        ("an IPv4 header of 16 bytes", short_header, Some("ipv4-malformed")),
        ("a DHCP discover for another", group_dhcp, Some("dhcp-client-mac")),
        ("another address", beat(ip_of_other, 0), Some("ipv4-source")),
        ("another address's ARP", frames::arp(ip_of_other, A.ip), Some("arp-sender-address")),
        ("another sender's MAC", other_sender, Some("arp-sender-mac")),
        (
            "another IPv6 source",
            frames::neighbour_advertisement(A, foreign6, link_local),
            Some("ipv6-source"),
        ),
        (
            "another target",
            frames::neighbour_advertisement(A, link_local, foreign6),
            Some("nd-target"),
        ),
        ("a router", frames::router_advertisement(A), Some("router-role")),
        (
            "a DHCP server",
            frames::udp(A, to_all, (67, 68), &dhcp(2, OTHER.mac)),
            Some("dhcp-server-role"),
        ),
        ("a VLAN", frames::tagged(&beat(A, 3), 7), Some("vlan-not-granted")),
        ("a service VLAN", service_tagged(20, 7), Some("vlan-not-granted")),
        ("a service priority", service_tagged(21, 0), None),
        (
            "a VLAN behind a priority",
            frames::tagged(&frames::tagged(&beat(A, 22), 7), 0),
            Some("vlan-tags"),
        ),
        ("three tags", triple_tagged(), Some("vlan-tags")),
        ("a group as source", group_source, Some("source-mac-invalid")),
        ("spanning tree's address", bridge_group, Some("link-local-destination")),
        ("LLC", frames::other(A, 46, &[0x42; 46]), Some("llc")),
        ("LLDP's type", frames::other(A, 0x88cc, &[0; 46]), Some("ethertype-unknown")),
        ("longer than it is", long, Some("ipv4-malformed")),
        ("no whole header", beat(A, 4)[..30].to_vec(), Some("truncated")),
    ]
}

/// A BOOTP message: requests have operation 1, replies 2.
fn dhcp(operation: u8, client: [u8; 6]) -> Vec<u8> {
    let mut message = vec![0; 300];
    message[..4].copy_from_slice(&[operation, 1, 6, 0]);
    message[28..34].copy_from_slice(&client);
    message[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
    message[240..244].copy_from_slice(&[53, 1, operation, 255]);
    message
}

/// An 802.1ad tag: a bridge that minds 802.1Q tags takes the frame for an untagged one.
fn service_tagged(seq: u64, vlan: u16) -> Vec<u8> {
    let mut frame = frames::tagged(&beat(A, seq), vlan);
    frame[12..14].copy_from_slice(&[0x88, 0xa8]);
    frame
}

fn triple_tagged() -> Vec<u8> {
    (7..10).fold(beat(A, 5), |frame, vlan| frames::tagged(&frame, vlan))
}

#[test]
fn each_frame_meets_its_verdict_and_its_reason() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let mut failures = Vec::new();
    for (number, (name, frame, dropped)) in (100..).zip(cases()) {
        let counted = || {
            let port = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
            let count = match dropped {
                Some(reason) => &port["counters"]["from"][reason],
                None => &port["counters"]["frames"]["from"],
            };
            count.as_u64().unwrap_or(0)
        };
        let before = counted();
        // By its source, since a tag is gone from what a packet socket shows.
        let source = frame[6..12].to_vec();
        let (seen, mark) = (scene.outside().unwrap().len(), beat(A, number));
        in_order(|| {
            a.send(&frame).unwrap();
            a.send(&mark).unwrap();
        });
        let told = wait::until(name, PATIENCE / 10, || Ok((counted() > before).then_some(())));
        if told.is_err() {
            let port = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
            failures.push(format!("{name}: not counted as {dropped:?}: {}", port["counters"]));
        }
        let outside = scene.outside_until("the mark", seen, &mark).unwrap();
        let arrived = outside.iter().any(|f| f.bytes.get(6..12) == Some(&source));
        if arrived != dropped.is_none() {
            failures.push(format!("{name}: arrived: {arrived}, expected {}", dropped.is_none()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn headers_beyond_the_linear_part_are_judged_all_the_same() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let network = scene.host().network();
    let a = Tap::open(network, "tap-a", Header::Virtio).unwrap();
    network.ip("link set tap-a addrgenmode none mtu 9000 up").unwrap();
    scene.widen(9000).unwrap();
    link::enslave(network, "tap-a", "br0").unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    let long = |frame: Vec<u8>| [frame, vec![0; 5000]].concat();
    for linear in [14, 20, 34, 54, 62, 5000] {
        for (number, (name, form)) in (0..).zip(FORMS) {
            let number = linear * 10 + number;
            let [own, foreign, clone] =
                [A, Station { ip: FOREIGN_IP, ..A }, OTHER].map(|station| form(A, station, number));
            in_order(|| {
                a.send_split(&long(foreign.clone()), linear).unwrap();
                a.send_split(&long(clone.clone()), linear).unwrap();
                a.send_split(&long(own.clone()), linear).unwrap();
            });
            scene.await_outside(&format!("{name}, {linear}"), &own).unwrap();
            for not_granted in [foreign, clone] {
                let copies = scene.copies_outside(&not_granted).unwrap();
                assert_eq!(copies, 0, "{name}, {linear}");
            }
        }
    }
}

/// A frame of the first one that asserts to be the second, with a number.
type Form = fn(Station, Station, u16) -> Vec<u8>;

/// Frames that assert an identity where the buffer's linear part may have ended.
const FORMS: &[(&str, Form)] = &[
    ("IPv4", |_, who, number| Family::V4.beat(who, number.into())),
    ("IPv6", |_, who, number| Family::V6.beat(who, number.into())),
    ("IPv6 behind options", |_, who, number| {
        let datagram = samples::udp(5, 6, &number.to_be_bytes());
        let options = samples::extension(UDP, 2, &datagram);
        let chain = samples::extension(DESTINATION_OPTIONS, 3, &options);
        ipv6(who.mac, who.ip6(), DESTINATION_OPTIONS, &chain)
    }),
    ("a link layer in an option", |from, who, number| {
        let [high, low] = number.to_be_bytes();
        let nonce = vec![14, 1, 0, 0, 0, 0, high, low];
        // Either the target is another's or, of another's MAC, the link layer.
        let (target, mac) = match who.mac == from.mac {
            true => (who.ip6(), who.mac),
            false => (from.ip6(), who.mac),
        };
        let options = [nonce, samples::link_layer(2, mac)];
        let target = target.octets();
        ipv6(from.mac, from.ip6(), ICMPV6, &samples::neighbour(136, target, &options))
    }),
    ("a DHCP client", |from, who, number| {
        let of = if who.ip == from.ip { who.mac } else { OTHER.mac };
        let mut message = samples::dhcp(1, of);
        message[4..6].copy_from_slice(&number.to_be_bytes());
        let datagram = samples::udp(68, 67, &message);
        samples::ethernet(BROADCAST, from.mac, &[], 0x0800, &samples::ipv4([0; 4], UDP, &datagram))
    }),
];

fn ipv6(mac: Mac, source: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let packet = samples::ipv6(source.octets(), next, 255, payload);
    samples::ethernet(BROADCAST, mac, &[], 0x86dd, &packet)
}

/// What the host writes into a frame after the verdict must not change whose it is.
#[test]
fn a_checksum_that_the_host_writes_makes_nobody_another() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), vm("b", "tap-b", OTHER)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let network = scene.host().network();
    let a = Tap::open(network, "tap-a", Header::Virtio).unwrap();
    network.ip("link set tap-a addrgenmode none up").unwrap();
    link::enslave(network, "tap-a", "br0").unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    // It takes no checksums that are still to be written, so that the host writes them.
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();

    const SOURCE: usize = 28;
    let to_all = (BROADCAST, Ipv4Addr::BROADCAST);
    let thief = Station { ip: FOREIGN_IP, ..A };
    // As it arrives, its header would add up.
    let mut packet = frames::udp(thief, to_all, (5, 6), b"stolen");
    packet[SOURCE..SOURCE + 2].copy_from_slice(&A.ip.octets()[2..]);
    let low_half = &FOREIGN_IP.octets()[2..];
    a.send_unfinished(&summing_to(packet, SOURCE, low_half), SOURCE as u16, 0).unwrap();
    let request = summing_to(frames::arp(A, HOST_IP), SOURCE, low_half);
    a.send_unfinished(&request, SOURCE as u16, 2).unwrap();
    let own = frames::udp(A, to_all, (5, 6), b"its own, unfinished");
    a.send_unfinished(&own, 34, 6).unwrap();

    let mut stolen = Vec::new();
    let is_own = |frame: &[u8]| frame.ends_with(b"its own, unfinished");
    wait::until("its own", PATIENCE, || {
        let arrived = b.drain()?;
        let done = arrived.iter().any(|frame| is_own(frame)).then_some(());
        stolen.extend(arrived.into_iter().filter(|f| f[6..12] == A.mac && !is_own(f)));
        Ok(done)
    })
    .unwrap();
    assert!(stolen.is_empty(), "{stolen:02x?}");
    let port = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
    for reason in ["ipv4-malformed", "checksum-pending"] {
        assert_eq!(port["counters"]["from"][reason], 1, "{reason}: {port:#}");
    }
}

/// The frame with two bytes more, by which the Internet checksum from `start` on is the one wanted.
fn summing_to(mut frame: Vec<u8>, start: usize, wanted: &[u8]) -> Vec<u8> {
    let word = |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair[1]]));
    let sum: u64 = frame[start..].chunks_exact(2).map(word).sum();
    let missing = (0xffff_0000 + 0xffff - word(wanted) - sum) % 0xffff;
    frame.extend_from_slice(&(missing as u16).to_be_bytes());
    frame
}

#[test]
fn a_clone_of_another_vms_mac_is_a_finding_that_names_the_victim() {
    let scene = Scene::new().unwrap();
    let vms = [vm("victim", "tap-a", A), vm("thief", "tap-b", OTHER)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    in_order(|| {
        (0..10).for_each(|seq| b.send(&beat(A, seq)).unwrap());
        b.send(&beat(OTHER, 10)).unwrap();
    });
    scene.await_outside("the thief under its own name", &beat(OTHER, 10)).unwrap();
    let finding = daemon.await_finding("foreign-identity", "tap-b", PATIENCE).unwrap();
    assert!(finding["title"].as_str().unwrap().contains("victim"), "{finding}");
    assert_eq!(scene.copies_outside(&beat(A, 9)).unwrap(), 0);
}

#[test]
fn what_was_dropped_is_remembered_and_told() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    for seq in 0..50 {
        a.send(&beat(OTHER, seq)).unwrap();
    }
    let finding = daemon.await_finding("foreign-identity", "tap-a", PATIENCE).unwrap();
    assert!(finding.to_string().contains("52:54:00:00:00:0b"), "{finding}");
    assert!(finding["title"].as_str().unwrap().contains("nested behind it"), "{finding}");
    let port = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
    let sightings = port["sightings"].as_array().unwrap();
    assert_eq!(sightings.len(), 1, "{port}");
    assert_eq!(sightings[0]["mac"], "52:54:00:00:00:0b");
    assert_eq!(sightings[0]["count"], 50);
}

#[test]
fn a_quarantined_port_neither_sends_nor_receives_until_it_is_released() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), vm("b", "tap-b", OTHER)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let answer = daemon.ask(&["quarantine", "add", "vm", "a", "--reason", "a test"]).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    a.drain().unwrap();
    a.send(&beat(A, 1)).unwrap();
    b.send(&beat(OTHER, 1)).unwrap();
    scene.await_outside("b", &beat(OTHER, 1)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(A, 1)).unwrap(), 0);
    assert_eq!(a.drain().unwrap(), Vec::<Vec<u8>>::new());
    let answer = daemon.ask(&["quarantine", "release", "vm", "a"]).unwrap();
    assert_eq!(answer.code, 0, "{answer:?}");
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    a.send(&beat(A, 2)).unwrap();
    scene.await_outside("a again", &beat(A, 2)).unwrap();
}

/// The reasons of a port's drops, by every way to ask for them, with the daemon and without it.
#[test]
fn what_was_dropped_is_counted_and_explained_whether_the_daemon_lives_or_not() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let told = |daemon: &Daemon<'_>, stolen: u64| {
        let shown = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
        let explained = daemon.ask(&["explain", "tap-a"]).unwrap().json;
        for counters in [&shown["counters"], &explained["ports"][0]["counters"]] {
            assert_eq!(counters["from"]["mac-not-granted"], 3, "{shown:#}");
            assert_eq!(counters["from"]["ipv4-source"], stolen, "{shown:#}");
        }
        let by_mac = daemon.ask(&["explain", "52:54:00:00:00:0b"]).unwrap().json;
        let seen = by_mac["ports"][0]["sightings"].as_array().unwrap();
        assert!(seen.iter().any(|seen| seen["reason"] == "mac-not-granted"), "{by_mac:#}");
        let text = daemon.show(&["explain", "tap-a"]).unwrap();
        let line = text.lines().find(|line| line.starts_with("From guest")).unwrap().to_owned();
        assert!(line.contains("3 mac-not-granted"), "{line}");
    };
    for seq in 0..3 {
        a.send(&beat(OTHER, seq)).unwrap();
    }
    a.send(&beat(Station { ip: FOREIGN_IP, ..A }, 0)).unwrap();
    daemon.await_finding("foreign-identity", "tap-a", PATIENCE).unwrap();
    told(&daemon, 1);
    daemon.kill().unwrap();
    a.send(&beat(Station { ip: FOREIGN_IP, ..A }, 1)).unwrap();
    told(&daemon, 2);
    let answer = daemon.ask(&["explain", "no-such-port"]).unwrap();
    assert_eq!(answer.code, 1);
    assert!(answer.complaint.contains("detector port list"), "{answer:?}");
}
