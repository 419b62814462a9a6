//! Taps in Open vSwitch. The programs run before and behind its datapath, which keeps the stamp; which
//! interface a frame came in by it does not always keep.

use std::collections::BTreeMap;

use detector::bpf::{KernelEnforcer, Options};
use detector::enforcer::Enforcer;
use detector_common::port::flags;
use detector_common::settings::Mode;
use detector_common::stamp::Stamp;
use detector_core::reconcile::{Action, SlotEntry};
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::host::Host;
use detector_tests::open_vswitch::OpenVSwitch;
use detector_tests::pins::PinRoot;
use detector_tests::tap::{Header, Tap};
use nix::net::if_::if_nametoindex;

use super::*;

/// Takes an interface on, and grants a guest's port its identity.
fn take_on(enforcer: &mut KernelEnforcer, name: &str, station: Option<Station>) {
    let ifindex = if_nametoindex(name).unwrap();
    let name = name.to_owned();
    enforcer
        .execute(&match station {
            Some(_) => Action::AttachGuard { ifindex, name },
            None => Action::AttachBridge { ifindex, name },
        })
        .unwrap();
    let instance = enforcer.observe().unwrap().interfaces[&ifindex].slot.instance;
    if let Some(Station { mac, ip }) = station {
        let slot = SlotEntry {
            flags: flags::GRANTED | flags::V4,
            mac,
            v4: ip.octets(),
            v4_mask: [255; 4],
            ..SlotEntry::default()
        };
        enforcer.execute(&Action::WriteSlot { ifindex, instance, slot }).unwrap();
    }
}

#[test]
fn guards_and_the_hosts_gate_hold_in_open_vswitch() {
    if lacks(&[Need::OpenVSwitch]) {
        return;
    }
    let host = Host::new().unwrap();
    let network = host.network();
    let switch = OpenVSwitch::start(&host).unwrap();
    switch.set(&["add-br", "ovs0"]).unwrap();
    network.ip("address add 192.0.2.1/24 dev ovs0").unwrap();
    network.ip("link set ovs0 addrgenmode none up").unwrap();
    let taps: BTreeMap<_, _> = ["tap-a", "tap-b", "stray0"]
        .map(|name| {
            let tap = Tap::open(network, name, Header::None).unwrap();
            network.ip(&format!("link set {name} addrgenmode none up")).unwrap();
            switch.set(&["add-port", "ovs0", name]).unwrap();
            (name, tap)
        })
        .into();
    let ears = network
        .run(|| {
            let socket = UdpSocket::bind(("0.0.0.0", detector_guest::PORT))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
        .unwrap();
    let (a, b, stray) = (&taps["tap-a"], &taps["tap-b"], &taps["stray0"]);
    // What is to come may take its time; what is not is listened for.
    let reaches = |frame: &[u8], expected: (bool, bool)| {
        let patience = |comes| if comes { PATIENCE } else { SILENCE };
        let at_neighbour = b.await_frame("the frame", patience(expected.0), |f| same(f, frame));
        (at_neighbour.is_ok(), hears(&ears, patience(expected.1)))
    };
    stray.send(&beat(STRAY, 1)).unwrap();
    assert_eq!(reaches(&beat(STRAY, 1), (true, true)), (true, true), "without a guard");

    let pins = PinRoot::new().unwrap();
    let options = Options { pins: pins.path().to_owned(), stamp: Stamp::default(), method: None };
    let _enforcer = network
        .run(|| {
            let mut enforcer = KernelEnforcer::open(&options)?;
            enforcer.execute(&Action::SetMode(Mode::Enforce.into()))?;
            take_on(&mut enforcer, "ovs0", None);
            take_on(&mut enforcer, "tap-a", Some(A));
            take_on(&mut enforcer, "tap-b", Some(B));
            Ok(enforcer)
        })
        .unwrap();
    // What an unguarded tap sends to a neighbour is not asked: the first frame of a flow goes by way of
    // the switch's daemon and comes back without a word of where it came in, as if it were the host's.
    let cases = [
        ("its own identity", a, beat(A, 2), (Some(true), true)),
        ("another's", a, beat(STRAY, 3), (Some(false), false)),
        ("a tap without a guard", stray, beat(STRAY, 4), (None, false)),
        ("the same under a granted identity", stray, beat(A, 5), (None, false)),
        ("its own again", a, beat(A, 6), (Some(true), true)),
    ];
    for (name, tap, frame, (to_neighbour, to_host)) in cases {
        tap.send(&frame).unwrap();
        let (neighbour, host) = reaches(&frame, (to_neighbour.unwrap_or(false), to_host));
        assert_eq!(host, to_host, "{name}, to the host");
        assert_eq!(neighbour, to_neighbour.unwrap_or(neighbour), "{name}, to its neighbour");
    }
}

/// The daemon takes no ports of Open vSwitch on, and says so of a VM that speaks through one.
#[test]
fn a_listed_vms_tap_in_open_vswitch_is_told_of() {
    if lacks(&[Need::OpenVSwitch]) {
        return;
    }
    let host = Host::new().unwrap();
    let network = host.network();
    link::bridge(network, "br0").unwrap();
    let switch = OpenVSwitch::start(&host).unwrap();
    switch.set(&["add-br", "ovs0"]).unwrap();
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
