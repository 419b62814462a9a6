//! Whose addresses are whose in the sandbox: nobody who is quarantined passes for what is offered there, nor
//! for another who is quarantined.

use std::net::Ipv4Addr;

use detector_tests::capture::Frame;
use detector_tests::dhcp::{ACK, DISCOVER, Message, OFFER, REQUEST};
use detector_tests::family::Family;

use super::sandbox::{OTHER, SERVICE, Sandbox, await_open};
use super::*;

/// A server with patches, which is protected besides.
const PATCHES: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 53);

fn rules(more: &str) -> String {
    format!("quarantine = \"sandbox\"\n[sandbox]\nbridge = \"sbx0\"\n{more}\n")
}

fn inventory() -> [String; 2] {
    [denied("rogue", "tap-d", DENIED), denied("other", "tap-o", OTHER)]
}

fn at(station: Station, ip: Ipv4Addr) -> Station {
    Station { ip, ..station }
}

/// Whether what the station says under its address arrives in the sandbox: its broadcasts, and what makes
/// others believe that it has it. What follows under its MAC alone shows that it has had its time.
fn arrives(sandbox: &Sandbox, tap: &Tap, station: Station, family: Family, number: u64) -> bool {
    let frames = [family.beat(station, number), family.announcement(station)];
    frames.iter().for_each(|frame| tap.send(frame).unwrap());
    let last = frames::rarp(station.mac);
    let before = heard(sandbox, &last);
    tap.send(&last).unwrap();
    wait::until("the last", PATIENCE, || Ok((heard(sandbox, &last) > before).then_some(())))
        .unwrap();
    let arrived = frames.each_ref().map(|frame| sandbox.has_heard(frame));
    assert_eq!(arrived[0], arrived[1], "{family:?} {station:?}");
    arrived[0]
}

fn heard(sandbox: &Sandbox, frame: &[u8]) -> usize {
    sandbox.heard.frames().unwrap().iter().filter(|f| same(&f.bytes, frame)).count()
}

#[test]
fn who_comes_first_has_an_address_that_is_not_protected() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let service = Family::BOTH.map(|family| family.address(SERVICE.ip).to_string());
    let patches = Family::BOTH.map(|family| family.address(PATCHES).to_string());
    let protected = [service, patches].concat();
    let mut daemon =
        daemon(&scene, "enforce", &inventory(), &rules(&format!("protected = {protected:?}")));
    let rogue = scene.plug("tap-d").unwrap();
    let other = scene.plug("tap-o").unwrap();
    ["tap-d", "tap-o"].iter().for_each(|name| await_open(&daemon, name));
    let mut number = 0;
    for restarted in [false, true] {
        for family in Family::BOTH {
            number += 1;
            let says =
                |tap: &Tap, station: Station| arrives(&sandbox, tap, station, family, number);
            assert!(says(&rogue, DENIED), "{family:?}: its own");
            for ip in [SERVICE.ip, PATCHES] {
                assert!(!says(&rogue, at(DENIED, ip)), "{family:?}: {ip} is offered there");
            }
            // The host's own address there is nobody's either.
            assert!(!says(&rogue, at(DENIED, Ipv4Addr::new(198, 51, 100, 1))), "{family:?}");
            assert!(!says(&other, at(OTHER, DENIED.ip)), "{family:?}: another's");
            assert!(says(&other, OTHER), "{family:?}: the other's own");
            assert!(!says(&rogue, at(DENIED, OTHER.ip)), "{family:?}: the other way round");
        }
        if !restarted {
            daemon.kill().unwrap();
            daemon.run().unwrap();
            ["tap-d", "tap-o"].iter().for_each(|name| await_open(&daemon, name));
        }
    }
    assert!(counted(&daemon, "tap-d", "address-taken") > 0);
    let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
    assert_eq!(shown["identities"][0]["addresses"][0], "first-come", "{shown}");
    let learned: Vec<_> =
        shown["learned"].as_array().unwrap().iter().map(|l| &l["address"]).collect();
    assert_eq!(learned, ["192.0.2.20", "2001:db8::c000:214"], "{shown}");
    let explained = daemon.show(&["explain", "tap-d"]).unwrap();
    assert!(explained.contains("first-come"), "{explained}");

    // What it has there it has there only, and no longer than it is there.
    let approved = [vm("rogue", "tap-d", at(DENIED, SERVICE.ip)), denied("other", "tap-o", OTHER)];
    daemon.write_inventory(&approved.concat()).unwrap();
    await_release(&daemon, "rogue");
    daemon.await_port("tap-d", "granted", PATIENCE).unwrap();
    for family in Family::BOTH {
        let frame = family.beat(at(DENIED, SERVICE.ip), 90);
        rogue.send(&frame).unwrap();
        scene.await_outside("released", &frame).unwrap();
        assert!(arrives(&sandbox, &other, at(OTHER, DENIED.ip), family, 91), "free again");
    }
}

#[test]
fn prefixes_are_all_that_may_be_used() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let more =
        "rule = \"prefix\"\naddresses = [\"198.51.100.128/25\", \"2001:db8::c633:6480/121\"]";
    let daemon = daemon(&scene, "enforce", &inventory(), &rules(more));
    let rogue = scene.plug("tap-d").unwrap();
    await_open(&daemon, "tap-d");
    for family in Family::BOTH {
        for (last, within) in [(128, true), (255, true), (127, false), (77, false)] {
            let station = at(DENIED, Ipv4Addr::new(198, 51, 100, last));
            assert_eq!(arrives(&sandbox, &rogue, station, family, 1), within, "{family:?} {last}");
        }
        assert!(!arrives(&sandbox, &rogue, at(DENIED, SERVICE.ip), family, 1), "{family:?}");
    }
    let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
    assert_eq!(shown["identities"][0]["addresses"][0], "198.51.100.128/25", "{shown}");
}

/// A server of the sandbox says who has which address there; a guest of it does not.
#[test]
fn leases_of_the_sandbox_are_learned_there() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let mut daemon = daemon(&scene, "enforce", &inventory(), &rules("rule = \"dhcp\""));
    let rogue = scene.plug("tap-d").unwrap();
    let other = scene.plug("tap-o").unwrap();
    ["tap-d", "tap-o"].iter().for_each(|name| await_open(&daemon, name));
    let leased = at(DENIED, Ipv4Addr::new(198, 51, 100, 200));
    let says = |tap: &Tap, station, number| arrives(&sandbox, tap, station, Family::V4, number);
    assert!(!says(&rogue, leased, 1), "nobody has leased it");

    // What a neighbour answers does not get here, and what was not asked for teaches nothing.
    let request = Message { requested: Some(leased.ip), ..Message::new(REQUEST, 7, DENIED.mac) };
    other.send(&Message::ack(7, DENIED.mac, leased.ip, 600).from_server(OTHER)).unwrap();
    sandbox.say(&Message::ack(7, DENIED.mac, leased.ip, 600).from_server(SERVICE));
    assert!(!says(&rogue, leased, 2), "not asked for");

    let ask = |frame: Vec<u8>, answer: Message| {
        rogue.send(&frame).unwrap();
        // Of a large frame the beginning is kept.
        let said = |f: &Frame| !f.bytes.is_empty() && frame.starts_with(&f.bytes);
        sandbox.heard.await_frame("what the client says", PATIENCE, said).unwrap();
        let answer = answer.from_server(SERVICE);
        sandbox.say(&answer);
        rogue.await_frame("the answer", PATIENCE, |f| same(f, &answer)).unwrap();
    };
    let discover = Message::new(DISCOVER, 7, DENIED.mac).from_client();
    let offer = Message { kind: OFFER, ..Message::ack(7, DENIED.mac, leased.ip, 600) };
    ask(discover, offer);
    assert!(!says(&rogue, leased, 3), "offered only");
    ask(request.from_client(), Message::ack(7, DENIED.mac, leased.ip, 600));
    assert!(says(&rogue, leased, 4), "leased");
    assert!(!says(&other, at(OTHER, leased.ip), 5), "by another");
    assert!(!says(&rogue, at(DENIED, SERVICE.ip), 6), "not leased");
    let shown = daemon.ask(&["port", "show", "tap-d"]).unwrap().json;
    assert_eq!(shown["learned"][0]["address"], "198.51.100.200", "{shown}");

    // Renewed without the daemon, and known to the next one.
    daemon.kill().unwrap();
    let renewal = Message { current: leased.ip, ..Message::new(REQUEST, 8, DENIED.mac) };
    ask(
        renewal.from_client(),
        Message { kind: ACK, ..Message::ack(8, DENIED.mac, leased.ip, 600) },
    );
    assert!(says(&rogue, leased, 7), "renewed");
    daemon.run().unwrap();
    await_open(&daemon, "tap-d");
    assert!(says(&rogue, leased, 8), "kept");
    // A guest is no server there either.
    assert!(counted(&daemon, "tap-o", "dhcp-server-role") > 0);
}

/// Whoever wants to may let them use any address.
#[test]
fn any_address_where_that_is_said() {
    let scene = Scene::new().unwrap();
    let sandbox = Sandbox::new(&scene);
    let daemon = daemon(&scene, "enforce", &inventory(), &rules("rule = \"any\""));
    let rogue = scene.plug("tap-d").unwrap();
    await_open(&daemon, "tap-d");
    for family in Family::BOTH {
        for ip in [DENIED.ip, SERVICE.ip, PATCHES] {
            assert!(arrives(&sandbox, &rogue, at(DENIED, ip), family, 1), "{family:?} {ip}");
        }
        let stolen = Station { mac: SERVICE.mac, ..DENIED };
        tap_says_in_vain(&sandbox, &rogue, &family.beat(stolen, 2));
    }
}

/// A frame under another's MAC gets nowhere whatever the rule.
fn tap_says_in_vain(sandbox: &Sandbox, tap: &Tap, frame: &[u8]) {
    tap.send(frame).unwrap();
    wait::pause(SILENCE);
    assert!(!sandbox.has_heard(frame), "{frame:02x?}");
}
