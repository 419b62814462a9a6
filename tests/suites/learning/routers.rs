//! Routers that the network names: nobody learns their addresses, but who plays the router.

use std::net::Ipv6Addr;

use super::*;

const C: Station = Station::number(12);
const ROUTER_VM: Station = Station::number(13);
const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
/// The router of a route.
const DETOUR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 253);
const UNASKED: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 252);

fn inventory() -> [String; 4] {
    [
        learner("a", "tap-a", A, "dhcp", ""),
        learner("b", "tap-b", B, "first-come", ""),
        vm("c", "tap-c", C),
        learner("r", "tap-r", ROUTER_VM, "first-come", "router = true"),
    ]
}

#[test]
fn a_router_that_a_server_names_is_nobodys() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &inventory()).unwrap();
    let [a, b, c, r] =
        ["tap-a", "tap-b", "tap-c", "tap-r"].map(|tap| scene.plug_granted(&daemon, tap).unwrap());
    let witness = (&c, C);
    let beyond = scene.beyond().unwrap();
    // A lease that names routers, for whoever has asked for it, or has not.
    let answer = |tap: &Tap, id, mac, seconds, routers: &[Ipv4Addr], routes: &[Ipv4Addr]| {
        let told = Message {
            routers: routers.to_vec(),
            routes: routes.to_vec(),
            ..Message::ack(id, mac, LEASED, seconds)
        };
        let frame = told.from_server(SERVER);
        beyond.send(&frame).unwrap();
        tap.await_frame("the answer", PATIENCE, |f| same(f, &frame)).unwrap();
    };
    let ask = |tap: &Tap, id, mac| {
        let request = Message { requested: Some(LEASED), ..Message::new(REQUEST, id, mac) };
        let request = request.from_client();
        tap.send(&request).unwrap();
        wait::until("the request outside", PATIENCE, || {
            // Of a large frame the beginning is kept.
            let outside = scene.outside()?;
            let said = outside.iter().any(|f| !f.bytes.is_empty() && request.starts_with(&f.bytes));
            Ok(said.then_some(()))
        })
        .unwrap();
    };

    // Whoever was first has it no longer once it is named.
    assert!(passes(&scene, &b, at(B, GATEWAY), witness, 1), "nobody has named it");
    answer(&a, ID, A.mac, 600, &[UNASKED], &[]);
    ask(&a, ID, A.mac);
    let forged = Message { routers: vec![UNASKED], ..Message::ack(ID, A.mac, LEASED, 600) };
    b.send(&forged.from_server(B)).unwrap();
    assert!(passes(&scene, &b, at(B, GATEWAY), witness, 2), "nor has a guest, or a stranger");
    answer(&a, ID, A.mac, 600, &[GATEWAY, C.ip], &[DETOUR]);
    for (number, router) in [(3, GATEWAY), (4, DETOUR)] {
        assert!(!passes(&scene, &b, at(B, router), witness, number), "{router}");
        b.send(&frames::arp(at(B, router), HOST_IP)).unwrap();
    }
    let finding = daemon.await_finding("address-conflict", "tap-b", PATIENCE).unwrap();
    assert!(finding.to_string().contains("a router that the network has named"), "{finding}");
    assert!(passes(&scene, &b, at(B, UNASKED), witness, 5), "what was not asked for names nobody");
    assert!(passes(&scene, &a, at(A, LEASED), witness, 6), "the lease");
    // Who is granted it has it, and who plays the router may.
    assert!(passes(&scene, &c, C, (&b, B), 7), "its own");
    assert!(passes(&scene, &r, at(ROUTER_VM, DETOUR), witness, 8), "the router");

    // It needs no daemon, and outlives it; a NIC that takes what it finds is told by servers too.
    daemon.kill().unwrap();
    assert!(!passes(&scene, &b, at(B, GATEWAY), witness, 10), "without the daemon");
    ask(&b, ID + 1, B.mac);
    let third = Ipv4Addr::new(192, 0, 2, 251);
    answer(&b, ID + 1, B.mac, 600, &[third], &[]);
    assert!(!passes(&scene, &b, at(B, third), witness, 11), "named to itself");
    daemon.run().unwrap();
    daemon.await_port("tap-b", "granted", PATIENCE).unwrap();
    assert!(!passes(&scene, &b, at(B, GATEWAY), witness, 12), "after a restart");
    assert_eq!(daemon.complaints().unwrap().iter().filter(|f| f["kind"] == "tampered").count(), 0);

    // With the lease it ends.
    ask(&b, ID + 2, B.mac);
    let brief = Ipv4Addr::new(192, 0, 2, 250);
    answer(&b, ID + 2, B.mac, 2, &[brief], &[]);
    assert!(!passes(&scene, &b, at(B, brief), witness, 13), "for as long as the lease");
    let mut number = 20;
    wait::until("the address to be nobody's", PATIENCE, || {
        number += 1;
        Ok(passes(&scene, &b, at(B, brief), witness, number).then_some(()))
    })
    .unwrap();
}

#[test]
fn a_router_that_advertises_itself_has_its_address_to_itself() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &inventory()).unwrap();
    let [a, b, r] =
        ["tap-a", "tap-b", "tap-r"].map(|tap| scene.plug_granted(&daemon, tap).unwrap());
    let beyond = scene.beyond().unwrap();
    let router = SERVER.link_local();
    let announce =
        |station, address: Ipv6Addr| frames::neighbour_advertisement(station, address, address);
    // Whether it gets out that the station has the address.
    let gets_out = |tap: &Tap, station: Station, address| {
        let frame = announce(station, address);
        let before = scene.copies_outside(&frame).unwrap();
        let refused = count(&daemon, tap.name(), "address-taken");
        tap.send(&frame).unwrap();
        wait::until("the frame, or its verdict", PATIENCE, || {
            let out = scene.copies_outside(&frame)? > before;
            let in_vain = count(&daemon, tap.name(), "address-taken") > refused;
            Ok((out || in_vain).then_some(out))
        })
        .unwrap()
    };
    assert!(gets_out(&b, B, router), "nobody has said that it is a router's");
    // What a guest says of that does not count.
    a.send(&frames::router_advertisement(Station { mac: SERVER.mac, ..A })).unwrap();
    a.send(&frames::router_advertisement(A)).unwrap();
    assert!(gets_out(&b, B, router), "a guest's word");

    let word = frames::router_advertisement(SERVER);
    beyond.send(&word).unwrap();
    b.await_frame("the router's word", PATIENCE, |f| same(f, &word)).unwrap();
    for (tap, station) in [(&a, A), (&b, B)] {
        assert!(!gets_out(tap, station, router), "{}", tap.name());
        assert!(gets_out(tap, station, station.link_local()), "its own");
    }
    let finding = daemon.await_finding("address-conflict", "tap-b", PATIENCE).unwrap();
    assert!(finding.to_string().contains("a router that the network has named"), "{finding}");
    assert!(gets_out(&r, ROUTER_VM, router), "who plays the router");
}
