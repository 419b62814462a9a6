//! Another build takes over, under a stream of frames: no frame of a granted port is lost, and none of
//! another gets through.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use detector::bpf::{Hook, Method};
use detector_common::maps::SCHEMA_VERSION;
use detector_tests::daemon::Daemon;
use detector_tests::flow::Flow;
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, Scene, stream, vm};
use detector_tests::{artefacts, bpf, wait};
use serde_json::Value;

use super::{A, B, STRAY};

const DENIED: Station = Station::number(20);
const LEARNER: Station = Station::number(30);
const ANOTHER_SCHEMA: u32 = 1;

/// How many events a second a port may cause, by this build and by the other one.
const EVENTS: [i32; 2] = [16, 8];

/// The same daemon with kernel programs that were built with another constant, in place of this one.
fn another_build(scene: &Scene) -> PathBuf {
    let mut binary = fs::read(artefacts::part().unwrap()).unwrap();
    let object = detector::bpf::object::bytes();
    let place = find(&binary, object)
        .expect("the daemon has another kernel object than this test: build both");
    let object = &mut binary[place..place + object.len()];
    // Instructions are eight bytes: opcode, registers, offset, immediate. The constant goes into the bucket
    // just before the count beside it is set to zero, at offset 12.
    let [from, to] = EVENTS.map(i32::to_le_bytes);
    let is_constant = |one: &[u8]| matches!(one[0], 0xb4 | 0xb7) && one[4..] == from;
    let is_store = |one: &[u8]| one[0] == 0x63 && one[2..4] == 12_i16.to_le_bytes();
    let places: Vec<_> = (0..object.len() / 8)
        .filter(|n| is_constant(&object[n * 8..n * 8 + 8]))
        .filter(|n| object[n * 8 + 8..].chunks_exact(8).take(8).any(is_store))
        .collect();
    assert!(!places.is_empty(), "the constant is not where it was");
    for n in places {
        object[n * 8 + 4..n * 8 + 8].copy_from_slice(&to);
    }
    let place = scene.host().path("next");
    fs::create_dir(&place).unwrap();
    let part = place.join("detector-part");
    fs::write(&part, binary).unwrap();
    fs::set_permissions(&part, fs::Permissions::from_mode(0o755)).unwrap();
    let path = place.join("detector");
    fs::copy(artefacts::detector().unwrap(), &path).unwrap();
    path
}

fn find(all: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(all, part)
}

/// What the kernel makes of the instructions of the program that guards a port.
fn tag(scene: &Scene, daemon: &Daemon<'_>, port: &str) -> String {
    if bpf::method() == Method::Clsact {
        let words = format!("-json filter show dev {port} ingress");
        let filters = scene.host().network().tool("tc", &words).unwrap();
        let filters: Value = serde_json::from_str(&filters).unwrap();
        let tags: Vec<_> = filters
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|f| f["options"]["prog"]["tag"].as_str())
            .collect();
        assert_eq!(tags.len(), 1, "{filters}");
        return tags[0].to_owned();
    }
    let ifindex = &daemon.ask(&["port", "show", port]).unwrap().json["ifindex"];
    let pin = format!("/sys/fs/bpf/detector/{SCHEMA_VERSION}/links/{ifindex}-ingress");
    let link = bpf::open_pin(&scene.host().inside(Path::new(&pin))).unwrap();
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).unwrap();
    let tag = info.lines().find_map(|line| line.strip_prefix("prog_tag:"));
    tag.unwrap_or_else(|| panic!("{info}")).trim().to_owned()
}

#[test]
fn programs_of_another_build_take_over_without_a_gap() {
    let scene = Scene::new().unwrap();
    let next = another_build(&scene);
    let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
    let mut daemon =
        scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B), denied]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let denied = scene.plug("tap-d").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    let before = tag(&scene, &daemon, "tap-a");
    let this = artefacts::detector().unwrap();
    let sent = stream(&[(&a, A), (&b, B), (&denied, DENIED), (&stray, STRAY)], |more| {
        more(50);
        daemon.terminate().unwrap();
        daemon.replace_binary(next);
        daemon.run().unwrap();
        assert_ne!(tag(&scene, &daemon, "tap-a"), before, "the programs are the other build's");
        more(50);
        // And back, as a package manager does when an upgrade fails.
        daemon.kill().unwrap();
        daemon.replace_binary(this);
        daemon.run().unwrap();
        assert_eq!(tag(&scene, &daemon, "tap-a"), before);
        more(50);
    });
    for station in [A, B] {
        scene.await_stream(station.mac, 0, sent - 1).unwrap();
    }
    let frames = scene.outside().unwrap();
    for station in [DENIED, STRAY] {
        assert_eq!(Flow::of(&frames, station.mac).len(), 0, "{station:?}");
    }
}

/// Makes what is in force that of another map schema: its pins, and where there are no links the filters.
fn become_another_schema(scene: &Scene) {
    let (host, pins) = (scene.host(), "/sys/fs/bpf/detector");
    let rename = format!("mv {pins}/{SCHEMA_VERSION} {pins}/{ANOTHER_SCHEMA}");
    host.check(std::process::Command::new("sh").args(["-c", &rename])).unwrap();
    if bpf::method() == Method::Clsact {
        for port in ["tap-a", "tap-b", "tap-l", "tap-d", "stray0", "br0", "up0"] {
            for hook in Hook::BOTH {
                let [from, to] =
                    [SCHEMA_VERSION, ANOTHER_SCHEMA].map(|schema| schema << 12 | 0xde7);
                host.network().run(|| bpf::rehandle(port, hook, from, to)).unwrap();
            }
        }
    }
}

/// Pins of another map schema: they stay in force until ours stand ahead of them and know what they knew. What
/// is quarantined stays so, the mode is what it was, and nothing is left of them.
#[test]
fn another_map_schema_takes_over_without_a_gap() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
    let learner = vm("learner", "tap-l", LEARNER).replace("addresses", "rule = \"first-come\"\n#");
    let inventory = [vm("a", "tap-a", A), vm("b", "tap-b", B), denied, learner];
    let mut daemon = scene.daemon("enforce", &inventory).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let learner = scene.plug_granted(&daemon, "tap-l").unwrap();
    let denied = scene.plug("tap-d").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
    let added = daemon.ask(&["quarantine", "add", "vm", "b", "--reason", "incident 42"]).unwrap();
    assert_eq!(added.code, 0, "{added:?}");
    daemon.await_port("tap-b", "isolated", PATIENCE).unwrap();
    let ears = scene.ears(detector_guest::PORT).unwrap();
    let gone = host.inside(Path::new(&format!("/sys/fs/bpf/detector/{ANOTHER_SCHEMA}")));
    daemon.terminate().unwrap();
    become_another_schema(&scene);
    let all = [(&a, A), (&b, B), (&denied, DENIED), (&learner, LEARNER), (&stray, STRAY)];
    let sent = stream(&all, |more| {
        more(50);
        daemon.run().unwrap();
        // Two gates stand before the host now, and the second one looks for the stamp too.
        heard(&ears);
        more(50);
        let heard = heard(&ears);
        assert!(heard >= 40, "the host has heard {heard} of a hundred");
        wait::until("nothing to be left of the other schema", PATIENCE, || {
            Ok((!gone.exists()).then_some(()))
        })
        .unwrap();
        more(50);
    });
    for station in [A, LEARNER] {
        scene.await_stream(station.mac, 0, sent - 1).unwrap();
    }
    let frames = scene.outside().unwrap();
    for station in [B, DENIED, STRAY] {
        assert_eq!(Flow::of(&frames, station.mac).len(), 0, "{station:?}");
    }
    let mode = daemon.ask(&["status"]).unwrap().json["mode_detail"].clone();
    assert_eq!(
        (&mode["mode"], &mode["standing"]),
        (&"enforce".into(), &"confirmed".into()),
        "{mode}"
    );
    let quarantines = daemon.ask(&["quarantine", "list"]).unwrap().json.to_string();
    assert!(quarantines.contains("incident 42"), "{quarantines}");
    daemon.await_no_finding("enforcement-impaired", PATIENCE).unwrap();
    assert!(daemon.complaints().unwrap().is_empty(), "{:?}", daemon.complaints());
    if bpf::method() == Method::Clsact {
        let filters = host.network().tool("tc", "filter show dev tap-a ingress").unwrap();
        assert_eq!(filters.matches("handle 0x").count(), 1, "{filters}");
    }
    // Nobody else sees the stamp from now on.
    daemon.kill().unwrap();
    daemon.run().unwrap();
}

/// How many datagrams wait.
fn heard(ears: &std::net::UdpSocket) -> u64 {
    let mut count = 0;
    while ears.recv_from(&mut [0; 64]).is_ok() {
        count += 1;
    }
    count
}
