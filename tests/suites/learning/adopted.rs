//! Guests that ran before the daemon was first started on their host.

use std::net::Ipv6Addr;

use super::*;

const C: Station = Station::number(12);
const D: Station = Station::number(13);
const WITNESS: Station = Station::number(14);

/// What the host's neighbour table says of an address.
fn neighbour(scene: &Scene, address: Ipv4Addr) -> String {
    scene.host().network().ip(&format!("neighbour show {address} dev br0")).unwrap()
}

/// Has the host make the station its neighbour, by asking it as a guest does.
fn introduce(scene: &Scene, tap: &Tap, station: Station) {
    tap.send(&frames::arp(station, HOST_IP)).unwrap();
    wait::until("the host to know its neighbour", PATIENCE, || {
        let known = neighbour(scene, station.ip);
        Ok(known.contains(&hex(station.mac)).then_some(()))
    })
    .unwrap();
}

fn origins(daemon: &Daemon<'_>, port: &str) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let told = learned(daemon, port);
    told.iter().map(|one| (text(&one["address"]), text(&one["origin"]))).collect()
}

/// A configuration whose section `learning` says this.
fn settings(mode: &'static str, vms: &[String], learning: &str) -> Settings {
    let more = format!("[learning]\n{learning}\n");
    Settings { mode, inventory: vms.concat(), more, ..Settings::default() }
}

#[test]
fn a_guest_keeps_what_the_host_knows_it_under() {
    let scene = Scene::new().unwrap();
    let vms = [
        learner("a", "tap-a", A, "dhcp", ""),
        learner("b", "tap-b", B, "first-come", ""),
        learner("d", "tap-d", D, "dhcp", ""),
        vm("w", "tap-w", WITNESS),
    ];
    let [a, b, w] = ["tap-a", "tap-b", "tap-w"].map(|port| scene.plug(port).unwrap());
    introduce(&scene, &a, A);
    introduce(&scene, &b, B);
    // What is another's or the network's, under its MAC; and one whose port comes later.
    let gateway = Ipv4Addr::new(192, 0, 2, 254);
    for (address, mac) in [(WITNESS.ip, A.mac), (gateway, A.mac), (D.ip, D.mac)] {
        let entry = format!("neighbour replace {address} lladdr {} dev br0 nud stale", hex(mac));
        scene.host().network().ip(&entry).unwrap();
    }
    let mut settings = settings("enforce", &vms, "");
    settings.protected = vec![gateway.to_string()];
    let mut daemon = Daemon::start(scene.host(), &settings).unwrap();
    for port in ["tap-a", "tap-b", "tap-w"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    let witness = (&w, WITNESS);
    let is_neighbour = |station: Station| (station.ip.to_string(), "neighbour".to_owned());
    assert_eq!(origins(&daemon, "tap-a"), [is_neighbour(A)]);
    assert_eq!(origins(&daemon, "tap-b"), [is_neighbour(B)]);
    assert!(learned(&daemon, "tap-a")[0]["expires"].is_string());
    // Each has its own before it has said a word, and nothing of another's.
    assert!(!passes(&scene, &b, at(B, A.ip), witness, 1), "what a has");
    assert!(!passes(&scene, &a, at(A, B.ip), witness, 2), "what b has");
    assert!(passes(&scene, &a, A, witness, 3), "its own");
    assert!(passes(&scene, &b, B, witness, 4), "its own");
    for (seq, address) in [(5, WITNESS.ip), (6, gateway), (7, Ipv4Addr::new(192, 0, 2, 99))] {
        assert!(!passes(&scene, &a, at(A, address), witness, seq), "{address}");
    }
    let finding = daemon.await_finding("address-conflict", "tap-a\\\" claims", PATIENCE).unwrap();
    assert!(finding.to_string().contains("tap-b"), "{finding}");

    // Who comes later has to ask a server.
    let d = scene.plug_granted(&daemon, "tap-d").unwrap();
    assert!(!passes(&scene, &d, D, witness, 10), "a port from after the start");
    daemon.kill().unwrap();
    drop(d);
    let d = scene.plug("tap-d").unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-d", "granted", PATIENCE).unwrap();
    assert!(!passes(&scene, &d, D, witness, 11), "no later start is the first");
    assert!(passes(&scene, &a, A, witness, 12), "what it has stays");

    // A server's word is worth more.
    let ask = Message { current: A.ip, ..Message::new(REQUEST, ID, A.mac) };
    a.send(&ask.from_client()).unwrap();
    serve(&scene, &a, &Message::ack(ID, A.mac, A.ip, 600).from_server(SERVER));
    assert_eq!(origins(&daemon, "tap-a"), [(A.ip.to_string(), "dhcp".to_owned())]);
}

#[test]
fn nothing_is_adopted_where_that_is_not_wanted() {
    let scene = Scene::new().unwrap();
    let vms = [learner("a", "tap-a", A, "dhcp", ""), vm("w", "tap-w", WITNESS)];
    let [a, w] = ["tap-a", "tap-w"].map(|port| scene.plug(port).unwrap());
    introduce(&scene, &a, A);
    let settings = settings("enforce", &vms, "adopt = [\"observed\", \"migrated\"]");
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    for port in ["tap-a", "tap-w"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    assert!(!passes(&scene, &a, A, (&w, WITNESS), 1), "in enforce mode nobody observes");
    assert_eq!(learned(&daemon, "tap-a"), [] as [Value; 0]);
}

/// Whoever spoke quietly while frames were only observed is not cut off when they are judged.
#[test]
fn what_is_spoken_under_in_observe_mode_stays_for_a_while() {
    let scene = Scene::new().unwrap();
    let vms = [
        learner("a", "tap-a", A, "dhcp", ""),
        learner("b", "tap-b", B, "dhcp", ""),
        learner("c", "tap-c", C, "dhcp", ""),
        vm("w", "tap-w", WITNESS),
    ];
    let [a, b, w] = ["tap-a", "tap-b", "tap-w"].map(|port| scene.plug(port).unwrap());
    let settings = settings("observe", &vms, "adopt = [\"observed\"]\nadopt_for = \"1h\"");
    let mut daemon = Daemon::start(scene.host(), &settings).unwrap();
    for port in ["tap-a", "tap-b", "tap-w"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    let c = scene.plug_granted(&daemon, "tap-c").unwrap();
    let witness = (&w, WITNESS);
    let speaks = |tap: &Tap, station, seq| assert!(passes(&scene, tap, station, witness, seq));
    speaks(&a, A, 1);
    // What is another's by now, what is the host's, and a guest that came later.
    speaks(&b, at(B, A.ip), 2);
    speaks(&b, at(B, HOST_IP), 3);
    speaks(&b, at(B, WITNESS.ip), 4);
    speaks(&c, C, 5);
    assert_eq!(origins(&daemon, "tap-a"), [(A.ip.to_string(), "observed".to_owned())]);
    assert_eq!(origins(&daemon, "tap-b"), []);
    assert_eq!(origins(&daemon, "tap-c"), []);
    let finding = daemon.await_finding("address-conflict", "tap-b\\\" claims", PATIENCE).unwrap();
    assert!(finding.to_string().contains("tap-a"), "{finding}");

    // The daemon may be started anew meanwhile.
    daemon.terminate().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-b", "granted", PATIENCE).unwrap();
    speaks(&b, B, 6);
    assert_eq!(origins(&daemon, "tap-b"), [(B.ip.to_string(), "observed".to_owned())]);

    daemon.switch_to("enforce");
    daemon.terminate().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    assert!(passes(&scene, &a, A, witness, 10), "its own");
    assert!(passes(&scene, &b, B, witness, 11), "its own");
    for (seq, tap, station) in [(12, &b, at(B, A.ip)), (13, &a, at(A, C.ip)), (14, &c, C)] {
        assert!(!passes(&scene, tap, station, witness, seq), "{station:?}");
    }
}

/// IPv6 in both ways: what the host's neighbour table says, and what is spoken under in observe mode.
#[test]
fn ipv6_addresses_are_adopted_too() {
    let [known, spoken, host] = ["2001:db8::a", "2001:db8::b", "2001:db8::1"]
        .map(|address| address.parse::<Ipv6Addr>().unwrap());
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    network.ip(&format!("address add {host}/64 dev br0 nodad")).unwrap();
    let vms = [
        learner("a", "tap-a", A, "dhcp", ""),
        learner("b", "tap-b", B, "dhcp", ""),
        vm("w", "tap-w", WITNESS),
    ];
    let [a, b, w] = ["tap-a", "tap-b", "tap-w"].map(|port| scene.plug(port).unwrap());
    for address in [known, host] {
        let mac = hex(A.mac);
        let entry = format!("-6 neighbour replace {address} lladdr {mac} dev br0 nud stale");
        network.ip(&entry).unwrap();
    }
    let mut daemon = Daemon::start(scene.host(), &settings("observe", &vms, "")).unwrap();
    for port in ["tap-a", "tap-b", "tap-w"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    let origin = |address: Ipv6Addr, origin: &str| (address.to_string(), origin.to_owned());
    assert_eq!(origins(&daemon, "tap-a"), [origin(known, "neighbour")]);
    let goes_out = |from, address, seq| v6::goes_out(&scene, from, address, (&w, WITNESS), seq);
    assert!(goes_out((&b, B), spoken, 1));
    assert!(goes_out((&b, B), known, 2), "observed only");
    assert_eq!(origins(&daemon, "tap-b"), [origin(spoken, "observed")]);
    let finding = daemon.await_finding("address-conflict", "tap-b\\\" claims", PATIENCE).unwrap();
    let text = finding.to_string();
    assert!(text.contains("tap-a") && text.contains(&known.to_string()), "{text}");

    daemon.switch_to("enforce");
    daemon.terminate().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-b", "granted", PATIENCE).unwrap();
    assert!(goes_out((&a, A), known, 10), "its own");
    assert!(goes_out((&b, B), spoken, 11), "its own");
    assert!(!goes_out((&b, B), known, 12), "what a has");
    assert!(!goes_out((&a, A), spoken, 13), "what b has");
}
