//! Ports of Open vSwitch are guarded like those of a bridge: by the daemon, with taps that frames are written
//! into. Each frame under a new MAC is the first of its flow, which goes by way of the switch's own daemon and
//! comes back without the interface that it came in by.

use std::time::{Duration, Instant};

use detector_tests::daemon::{Daemon, Settings};
use detector_tests::dhcp::{self, Message};
use detector_tests::ears::Ears;
use detector_tests::host::Host;
use detector_tests::needs::found;
use detector_tests::open_vswitch::OpenVSwitch;
use detector_tests::scene::{HOST_IP, interface_mac};
use detector_tests::tap::{Header, Tap};

use super::*;

/// Between frames that are repeated.
const PACE: Duration = Duration::from_millis(5);
/// Somebody beyond the uplink.
const FAR: Station = Station::number(77);

/// A bridge of Open vSwitch with an uplink, and whoever listens beyond it.
struct Switch<'a> {
    host: &'a Host,
    switch: OpenVSwitch<'a>,
    far: NetNs,
    outside: Capture,
    ears: Ears,
}

impl<'a> Switch<'a> {
    fn new(host: &'a Host) -> Self {
        let network = host.network();
        let switch = OpenVSwitch::start(host).unwrap();
        switch.set(&["add-br", "ovs0"]).unwrap();
        network.ip("link set ovs0 addrgenmode none up").unwrap();
        network.ip(&format!("address add {HOST_IP}/24 dev ovs0")).unwrap();
        let far = NetNs::new().unwrap();
        link::cable((network, "up0"), (&far, "far0")).unwrap();
        switch.set(&["add-port", "ovs0", "up0"]).unwrap();
        let outside = Capture::start(&far, "far0").unwrap();
        let ears = Ears::open(network, detector_guest::PORT).unwrap();
        Self { host, switch, far, outside, ears }
    }

    fn daemon(&self, mode: &'static str, inventory: &[String]) -> Daemon<'a> {
        let settings = Settings {
            mode,
            // Whoever names one bridge there means all.
            bridges: vec!["ovs0"],
            inventory: inventory.concat(),
            more: "unknown_port_grace = \"200ms\"\n".to_owned(),
            ..Settings::default()
        };
        Daemon::start(self.host, &settings).unwrap()
    }

    /// A port, which comes up as one.
    fn plug(&self, name: &str) -> Tap {
        let tap = Tap::open(self.host.network(), name, Header::None).unwrap();
        self.switch.set(&["add-port", "ovs0", name]).unwrap();
        self.host.network().ip(&format!("link set {name} addrgenmode none up")).unwrap();
        tap
    }

    fn heard_outside(&self, what: impl Fn(&[u8]) -> bool) -> usize {
        self.outside.frames().unwrap().iter().filter(|frame| what(&frame.bytes)).count()
    }

    /// Asserts that the frame gets from a guest to a neighbour, to the host and out of it.
    fn assert_gets_everywhere(&self, from: &Tap, to: &Tap, station: Station, seq: u64) {
        let frame = beat(station, seq);
        let before = self.ears.heard(station.ip.into()).unwrap();
        from.send(&frame).unwrap();
        to.await_frame("a neighbour's", PATIENCE, |f| same(f, &frame)).unwrap();
        self.outside.await_frame("a guest's", PATIENCE, |f| same(&f.bytes, &frame)).unwrap();
        wait::until("the host to hear it", PATIENCE, || {
            Ok((self.ears.heard(station.ip.into())? > before).then_some(()))
        })
        .unwrap();
    }
}

/// Whatever a stray tap sends, each frame under another MAC and address.
fn shout(stray: &Tap, numbers: std::ops::Range<u8>) {
    for number in numbers {
        // Its queue may be full.
        let _ = stray.send(&beat(Station::number(number), 1));
    }
}

fn is_shouted(frame: &[u8]) -> bool {
    (100..200).any(|number| frame.get(6..12) == Some(&Station::number(number).mac[..]))
}

#[test]
fn ports_of_open_vswitch_are_guarded() {
    if lacks(&[Need::OpenVSwitch]) {
        return;
    }
    let host = Host::new().unwrap();
    let it = Switch::new(&host);
    let mut daemon = it.daemon("enforce", &[vm("victim", "tap-a", A), vm("b", "tap-b", B)]);
    let (a, b) = (it.plug("tap-a"), it.plug("tap-b"));
    for (port, status) in [("tap-a", "granted"), ("tap-b", "granted")] {
        let port = daemon.await_port(port, status, PATIENCE).unwrap();
        assert_eq!((&port["role"], &port["bridge"]), (&"guest".into(), &"ovs-system".into()));
    }
    for (gate, role) in [("ovs0", "bridge"), ("up0", "uplink")] {
        assert_eq!(daemon.await_port(gate, "gate", PATIENCE).unwrap()["role"], role);
    }

    // Both ways, and the host itself.
    it.assert_gets_everywhere(&a, &b, A, 1);
    it.assert_gets_everywhere(&b, &a, B, 1);
    let beyond = PacketSocket::open(&it.far, "far0").unwrap();
    let comes_in = |seq| {
        let frame = beat(FAR, seq);
        beyond.send(&frame).unwrap();
        a.await_frame("the outside", PATIENCE, |f| same(f, &frame)).unwrap();
    };
    comes_in(2);
    let host_heard = |station: Station| it.ears.heard(station.ip.into()).unwrap();
    wait::until("the host to hear it", PATIENCE, || Ok((host_heard(FAR) > 0).then_some(())))
        .unwrap();
    let own = Station { mac: interface_mac(host.network(), "ovs0").unwrap(), ip: HOST_IP };
    PacketSocket::open(host.network(), "ovs0").unwrap().send(&beat(own, 3)).unwrap();
    a.await_frame("the host", PATIENCE, |f| same(f, &beat(own, 3))).unwrap();
    it.outside.await_frame("the host", PATIENCE, |f| same(&f.bytes, &beat(own, 3))).unwrap();

    // Nobody speaks as another, from inside or outside.
    for stolen in [Station { mac: B.mac, ip: A.ip }, Station { mac: A.mac, ip: B.ip }] {
        a.send(&beat(stolen, 4)).unwrap();
    }
    beyond.send(&beat(A, 5)).unwrap();
    it.assert_gets_everywhere(&a, &b, A, 6);
    comes_in(6);
    let (at_b, outside) = (b.drain().unwrap(), it.outside.frames().unwrap());
    for stolen in [Station { mac: B.mac, ip: A.ip }, Station { mac: A.mac, ip: B.ip }] {
        let frame = beat(stolen, 4);
        assert!(!at_b.iter().any(|f| same(f, &frame)), "{stolen:?}");
        assert!(!outside.iter().any(|f| same(&f.bytes, &frame)), "{stolen:?}");
    }
    assert!(!at_b.iter().any(|f| same(f, &beat(A, 5))), "a clone");
    daemon.await_finding("mac-clone", "victim", PATIENCE).unwrap();

    // A tap that nobody knows is mute from its first frame on, whichever flow that is of, and hears nothing
    // once it has its guard.
    let stray = Tap::open(host.network(), "stray0", Header::None).unwrap();
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for _ in 0..100 {
                shout(&stray, 100..150);
                wait::pause(PACE);
            }
        });
        it.switch.set(&["add-port", "ovs0", "stray0"]).unwrap();
        host.network().ip("link set stray0 addrgenmode none up").unwrap();
        sender.join().unwrap();
    });
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    stray.drain().unwrap();
    it.assert_gets_everywhere(&a, &b, A, 7);
    let to_stray = stray.drain().unwrap();
    assert!(!to_stray.iter().any(|f| same(f, &beat(A, 7))), "it hears nothing");

    // What is in force outlives the daemon; a tap that is born meanwhile reaches nobody.
    daemon.kill().unwrap();
    let orphan = it.plug("stray1");
    for _ in 0..3 {
        shout(&orphan, 150..200);
    }
    it.assert_gets_everywhere(&a, &b, A, 8);
    orphan.await_frame("it is a port", PATIENCE, |f| same(f, &beat(A, 8))).unwrap();
    comes_in(8);
    a.send(&beat(Station { mac: A.mac, ip: B.ip }, 8)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(it.heard_outside(is_shouted), 0, "outside");
    let at_a = a.drain().unwrap();
    assert!(!at_a.iter().chain(&b.drain().unwrap()).any(|f| is_shouted(f)), "a neighbour");
    for number in 100..200 {
        assert_eq!(host_heard(Station::number(number)), 0, "the host, of {number}");
    }
    assert_eq!(it.heard_outside(|f| same(f, &beat(Station { mac: A.mac, ip: B.ip }, 8))), 0);

    // The next one knows it all again, and a quarantine holds.
    daemon.run().unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    it.assert_gets_everywhere(&a, &b, A, 9);
    let add = ["quarantine", "add", "vm", "victim", "--reason", "a test"];
    assert_eq!(daemon.ask(&add).unwrap().code, 0);
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    a.send(&beat(A, 10)).unwrap();
    b.send(&beat(B, 10)).unwrap();
    it.outside.await_frame("b", PATIENCE, |f| same(&f.bytes, &beat(B, 10))).unwrap();
    assert_eq!(it.heard_outside(|f| same(f, &beat(A, 10))), 0, "isolated");
    assert_eq!(daemon.complaints().unwrap(), [] as [serde_json::Value; 0]);
}

/// The switch learns MACs by itself, and nothing that is ours keeps an entry where it is. Until a new tap is
/// guarded one frame of its takes a neighbour's traffic, until the neighbour speaks: how long is measured here.
#[test]
fn what_a_new_tap_takes_is_back_when_its_owner_speaks() {
    if lacks(&[Need::OpenVSwitch]) {
        return;
    }
    let host = Host::new().unwrap();
    let it = Switch::new(&host);
    let mut daemon = it.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]);
    let (a, b) = (it.plug("tap-a"), it.plug("tap-b"));
    for port in ["tap-a", "tap-b"] {
        daemon.await_port(port, "granted", PATIENCE).unwrap();
    }
    it.assert_gets_everywhere(&a, &b, A, 1);
    let to_a = frames::udp(B, (A.mac, A.ip), (1, 2), b"for a");
    b.send(&to_a).unwrap();
    a.await_frame("its own", PATIENCE, |f| same(f, &to_a)).unwrap();

    daemon.kill().unwrap();
    let stray = it.plug("stray0");
    wait::until("the entry to move", PATIENCE, || {
        stray.send(&beat(A, 2))?;
        b.send(&to_a)?;
        wait::pause(SILENCE);
        Ok(stray.drain()?.iter().any(|f| same(f, &to_a)).then_some(()))
    })
    .unwrap();
    // With its guard it hears no more, and moves nothing.
    daemon.run().unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    stray.drain().unwrap();
    b.send(&to_a).unwrap();
    wait::pause(SILENCE);
    assert_eq!(stray.drain().unwrap(), [] as [Vec<u8>; 0]);
    a.drain().unwrap();
    let begun = Instant::now();
    wait::until("the entry to be back", PATIENCE, || {
        a.send(&beat(A, 3))?;
        b.send(&to_a)?;
        wait::pause(PACE);
        Ok(a.drain()?.iter().any(|f| same(f, &to_a)).then_some(()))
    })
    .unwrap();
    found(&format!(
        "what a new tap had taken was back {:?} after its owner spoke",
        begun.elapsed()
    ));
    stray.send(&beat(A, 4)).unwrap();
    a.drain().unwrap();
    b.send(&to_a).unwrap();
    a.await_frame("its own", PATIENCE, |f| same(f, &to_a)).unwrap();
}

/// A DHCP server's word is believed also where the switch's daemon has brought it, and a guest's is not, be it
/// that what it says goes on because it is only observed.
#[test]
fn only_a_server_teaches_by_way_of_open_vswitch() {
    if lacks(&[Need::OpenVSwitch]) {
        return;
    }
    let leased = Ipv4Addr::new(192, 0, 2, 99);
    let learner = vm("a", "tap-a", A).replace("addresses", "rule = \"dhcp\"\n#");
    for mode in ["observe", "enforce"] {
        let host = Host::new().unwrap();
        let it = Switch::new(&host);
        let daemon = it.daemon(mode, &[learner.clone(), vm("b", "tap-b", B)]);
        let (a, b) = (it.plug("tap-a"), it.plug("tap-b"));
        for port in ["tap-a", "tap-b"] {
            daemon.await_port(port, "granted", PATIENCE).unwrap();
        }
        let learned = || {
            let port = daemon.ask(&["port", "show", "tap-a"]).unwrap().json;
            port["learned"].as_array().cloned().unwrap_or_default()
        };
        let beyond = PacketSocket::open(&it.far, "far0").unwrap();
        a.send(&Message::new(dhcp::DISCOVER, 1, A.mac).from_client()).unwrap();
        let forged = Message::ack(1, A.mac, leased, 600).from_server(B);
        b.send(&forged).unwrap();
        if mode == "observe" {
            a.await_frame("the forged frame", PATIENCE, |f| same(f, &forged)).unwrap();
        }
        wait::pause(SILENCE);
        assert_eq!(learned(), [] as [serde_json::Value; 0], "{mode}: a guest's word");

        let reply = Message::ack(1, A.mac, leased, 600).from_server(FAR);
        beyond.send(&reply).unwrap();
        a.await_frame("the reply", PATIENCE, |f| same(f, &reply)).unwrap();
        wait::until("the lease", PATIENCE, || Ok((learned().len() == 1).then_some(()))).unwrap();
        if mode == "enforce" {
            let own = beat(Station { ip: leased, ..A }, 1);
            a.send(&own).unwrap();
            it.outside.await_frame("under its lease", PATIENCE, |f| same(&f.bytes, &own)).unwrap();
        }
    }
}

/// Where Open vSwitch does the switching in user space, or with DPDK, no guard can be: that is told.
#[test]
fn a_tap_in_a_datapath_of_user_space_is_told_of() {
    if lacks(&[Need::OpenVSwitchDaemon]) {
        return;
    }
    let host = Host::new().unwrap();
    let network = host.network();
    let switch = OpenVSwitch::start(&host).unwrap();
    switch.set(&["add-br", "ovs0", "--", "set", "bridge", "ovs0", "datapath_type=netdev"]).unwrap();
    let _tap = Tap::open(network, "tap-a", Header::None).unwrap();
    network.ip("link set tap-a addrgenmode none up").unwrap();
    switch.set(&["add-port", "ovs0", "tap-a"]).unwrap();
    let settings = Settings {
        uplinks: Vec::new(),
        inventory: vm("a", "tap-a", A),
        more: "unknown_port_grace = \"200ms\"\n".to_owned(),
        ..Settings::default()
    };
    let daemon = Daemon::start(&host, &settings).unwrap();
    let finding = daemon.await_finding("unguarded-attachment", "tap-a", PATIENCE).unwrap();
    assert!(finding["evidence"].to_string().contains("is on no bridge"), "{finding}");
}
