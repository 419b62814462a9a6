//! Who claims an address first has it.

use std::net::Ipv6Addr;

use super::*;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);

#[test]
fn the_first_claimant_keeps_it() {
    let scene = Scene::new().unwrap();
    let inventory = [
        learner("a", "tap-a", A, "first-come", ""),
        learner("b", "tap-b", B, "first-come", ""),
        vm("c", "tap-c", Station::number(12)),
    ];
    // The lab appends to the section `policy`, and this is another one.
    let more = "[learning]\nleases = []\n".to_owned();
    let settings = Settings { inventory: inventory.concat(), more, ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let c = scene.plug_granted(&daemon, "tap-c").unwrap();
    let witness = (&c, Station::number(12));

    let shared = Ipv4Addr::new(192, 0, 2, 50);
    assert!(passes(&scene, &a, at(A, shared), witness, 1), "the first");
    assert!(!passes(&scene, &b, at(B, shared), witness, 2), "the second");
    b.send(&frames::arp(at(B, shared), HOST_IP)).unwrap();
    assert!(passes(&scene, &b, B, witness, 3), "its own");
    assert!(!passes(&scene, &a, at(A, B.ip), witness, 4), "the other way round");
    assert_eq!(count(&daemon, "tap-b", "address-taken"), 2);
    // The other one's finding names this port too.
    let by_b = "tap-b\\\" claims";
    let finding = daemon.await_finding("address-conflict", by_b, PATIENCE).unwrap();
    let text = finding.to_string();
    assert!(text.contains("tap-a") && text.contains("192.0.2.50"), "{text}");

    // The host's own, and what is granted to another NIC.
    for (seq, address) in [(5, HOST_IP), (6, Ipv4Addr::new(192, 0, 2, 12))] {
        assert!(!passes(&scene, &a, at(A, address), witness, seq), "{address}");
    }
    let told = learned(&daemon, "tap-a");
    assert_eq!(told[0]["origin"], "first-come", "{told:?}");

    // A probe takes nothing, and is nobody's business.
    let nobody = at(A, Ipv4Addr::UNSPECIFIED);
    let probed = Ipv4Addr::new(192, 0, 2, 60);
    a.send(&frames::arp(nobody, probed)).unwrap();
    assert!(passes(&scene, &b, at(B, probed), witness, 7), "what another has asked for");

    // With its port the addresses are free again.
    drop(a);
    wait::until("the port to be gone", PATIENCE, || {
        Ok(daemon.ask(&["port", "show", "tap-a"])?.json.is_null().then_some(()))
    })
    .unwrap();
    assert!(passes(&scene, &b, at(B, shared), witness, 8), "nobody's any more");
}

#[test]
fn ipv6_too_and_link_local_addresses() {
    let scene = Scene::new().unwrap();
    scene.host().network().ip("address add 2001:db8::1/64 dev br0 nodad").unwrap();
    let vms =
        [learner("a", "tap-a", A, "first-come", ""), learner("b", "tap-b", B, "first-come", "")];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let global: Ipv6Addr = "2001:db8::aaaa".parse().unwrap();
    let private: Ipv6Addr = "fe80::1234:5678:9abc:def0".parse().unwrap();
    let host: Ipv6Addr = "2001:db8::1".parse().unwrap();
    let announce =
        |station: Station, address| frames::neighbour_advertisement(station, address, address);
    let says = |tap: &Tap, station: Station, address: Ipv6Addr| {
        let frame = announce(station, address);
        tap.send(&frame).unwrap();
        wait::until("the frame, or its verdict", PATIENCE, || {
            let taken = count(&daemon, tap.name(), "address-taken");
            let seen = scene.copies_outside(&frame)? > 0;
            Ok((seen || taken > 0).then_some(seen))
        })
        .unwrap()
    };
    assert!(says(&a, A, global), "SLAAC");
    assert!(says(&a, A, private), "a link-local address that is not of the MAC");
    assert!(says(&a, A, A.link_local()), "the one that is");
    assert!(!says(&b, B, global), "taken");
    b.send(&announce(B, private)).unwrap();
    b.send(&announce(B, host)).unwrap();
    wait::until("three refusals", PATIENCE, || {
        Ok((count(&daemon, "tap-b", "address-taken") == 3).then_some(()))
    })
    .unwrap();
    assert_eq!(addresses(&daemon, "tap-a"), [global.to_string(), private.to_string()]);
    assert_eq!(addresses(&daemon, "tap-b"), [] as [String; 0]);
    let finding = daemon.await_finding("address-conflict", "tap-b\\\" claims", PATIENCE).unwrap();
    assert!(finding.to_string().contains("2001:db8::"), "{finding}");
}

#[test]
fn what_is_configured_is_protected() {
    let scene = Scene::new().unwrap();
    let inventory = learner("a", "tap-a", A, "first-come", "") + &vm("b", "tap-b", B);
    let settings =
        Settings { inventory, protected: vec![GATEWAY.to_string()], ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(!passes(&scene, &a, at(A, GATEWAY), (&b, B), 1), "the gateway's");
    let finding = daemon.await_finding("address-conflict", "tap-a", PATIENCE).unwrap();
    assert!(finding.to_string().contains("the network itself"), "{finding}");
    assert!(passes(&scene, &a, A, (&b, B), 2));
}

/// Nobody has to configure the gateways of the host itself, of either family.
#[test]
fn the_hosts_gateways_are_protected() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    network.ip("address add 2001:db8::1/64 dev br0 nodad").unwrap();
    let before = Ipv4Addr::new(192, 0, 2, 253);
    let local: Ipv6Addr = "fe80::fe".parse().unwrap();
    network.ip(&format!("route add default via {before}")).unwrap();
    network.ip(&format!("-6 route add default via {local} dev br0")).unwrap();
    let vms = [learner("a", "tap-a", A, "first-come", ""), vm("b", "tap-b", B)];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    assert!(!passes(&scene, &a, at(A, before), (&b, B), 1), "the gateway's");
    a.send(&frames::neighbour_advertisement(A, local, local)).unwrap();
    let refused = |more: u64| {
        wait::until("it to be refused", PATIENCE, || {
            Ok((count(&daemon, "tap-a", "address-taken") == more).then_some(()))
        })
        .unwrap();
    };
    refused(2);
    let finding = daemon.await_finding("address-conflict", "tap-a", PATIENCE).unwrap();
    assert!(finding.to_string().contains("the network itself"), "{finding}");
    assert!(passes(&scene, &a, A, (&b, B), 2), "its own");

    // The route changes: whoever has claimed the new gateway's address has it no more.
    assert!(passes(&scene, &a, at(A, GATEWAY), (&b, B), 3), "nobody's");
    network.ip(&format!("route replace default via {GATEWAY}")).unwrap();
    let mut seq = 10;
    wait::until("the new gateway to be protected", PATIENCE, || {
        seq += 1;
        Ok((!passes(&scene, &a, at(A, GATEWAY), (&b, B), seq)).then_some(()))
    })
    .unwrap();
    wait::until("the old one to be anybody's", PATIENCE, || {
        seq += 1;
        Ok(passes(&scene, &a, at(A, before), (&b, B), seq).then_some(()))
    })
    .unwrap();
}

/// What came first is granted by the rule, and goes with it.
#[test]
fn a_stricter_rule_takes_it_back() {
    let scene = Scene::new().unwrap();
    let inventory = |rule: &str| learner("a", "tap-a", A, rule, "") + &vm("b", "tap-b", B);
    let daemon = scene.daemon("enforce", &[inventory("first-come")]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let claimed = at(A, Ipv4Addr::new(192, 0, 2, 50));
    assert!(passes(&scene, &a, claimed, (&b, B), 1), "while the rule is first-come");
    daemon.write_inventory(&inventory("dhcp")).unwrap();
    let mut seq = 1;
    wait::until("the rule to hold", PATIENCE, || {
        seq += 1;
        Ok((!passes(&scene, &a, claimed, (&b, B), seq)).then_some(()))
    })
    .unwrap();
    assert!(count(&daemon, "tap-a", "address-not-leased") > 0);
}
