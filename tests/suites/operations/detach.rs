//! The daemon comes, guards, and is taken off: the host is as it was.

use std::process::Command;
use std::time::Duration;

use detector_tests::daemon::Daemon;
use detector_tests::host::Host;
use detector_tests::scene::{PATIENCE, Scene, beat, vm};
use detector_tests::{link, wait};

use super::{A, B, STRAY};

/// How long the kernel may take to follow.
const SETTLED: Duration = Duration::from_secs(5);

/// What the host shows of itself: interfaces, forwarding entries, qdiscs, filters, pins.
fn state(host: &Host) -> Vec<String> {
    let commands = [
        "ip -details link show | sed 's/ [a-z_]*_timer  *[0-9.]*//g; s/ tso_max_size [0-9]*//'",
        "bridge fdb show br br0",
        "tc qdisc show",
        "for i in br0 up0 tap-a tap-b stray0; do tc filter show dev $i ingress; tc filter show dev $i egress; done 2>/dev/null; true",
        "find /sys/fs/bpf",
    ];
    // Timers run, and a bridge keeps the limits of ports that it once had.
    let show = |command: &str| {
        let text = host.check(Command::new("sh").args(["-c", command])).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    commands.into_iter().flat_map(show).collect()
}

/// Waits until the host is as it was: the state of a bridge follows its ports after a moment.
fn await_same(host: &Host, before: &[String]) {
    let differ = |a: &[String], b: &[String]| {
        let lines = a.iter().filter(|line| !b.contains(line));
        lines.cloned().collect::<Vec<_>>()
    };
    let mut last = (Vec::new(), Vec::new());
    let same = wait::until("the host to be as it was", SETTLED, || {
        let now = state(host);
        last = (differ(&now, before), differ(before, &now));
        Ok((last.0.is_empty() && last.1.is_empty()).then_some(()))
    });
    let (new, gone) = last;
    assert!(same.is_ok(), "new: {new:#?}\ngone: {gone:#?}");
}

fn detach(daemon: &Daemon<'_>, words: &[&str]) -> detector_tests::daemon::Answer {
    let mut all = vec!["detach", "--all"];
    all.extend(words);
    daemon.ask(&all).unwrap()
}

#[test]
fn the_host_is_as_it_was() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let network = host.network();
    link::bridge(network, "sbx0").unwrap();
    // With a port of its own: what a kernel says of a bridge that has none depends on whether it ever had one.
    link::cable((network, "anchor0"), (network, "anchor1")).unwrap();
    link::enslave(network, "anchor0", "sbx0").unwrap();
    let a = scene.plug("tap-a").unwrap();
    let _b = scene.plug("tap-b").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let before = state(host);
    let more = "quarantine = \"sandbox\"\n[sandbox]\nbridge = \"sbx0\"\n".to_owned();
    let inventory = vm("a", "tap-a", A) + &vm("b", "tap-b", B);
    let settings = detector_tests::daemon::Settings { inventory, more, ..Default::default() };
    let mut daemon = Daemon::start(host, &settings).unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    let quarantined = daemon.ask(&["quarantine", "add", "vm", "b", "--reason", "a test"]).unwrap();
    assert_eq!(quarantined.code, 0, "{quarantined:?}");
    wait::until("the passage", PATIENCE, || {
        Ok(host.network().ip("link show")?.contains("dsbi").then_some(()))
    })
    .unwrap();
    assert_ne!(state(host), before);

    // While it runs nothing is taken off, whatever is said.
    let running = detach(&daemon, &["--yes"]);
    assert_eq!(running.code, 1, "{running:?}");
    assert!(running.complaint.contains("the daemon runs"), "{}", running.complaint);
    assert_eq!(daemon.ask(&["port", "show", "tap-a"]).unwrap().json["status"], "granted");

    daemon.terminate().unwrap();
    let guarded = state(host);
    let dry = detach(&daemon, &[]);
    assert_eq!((dry.code, &dry.json["removed"]), (3, &false.into()), "{dry:?}");
    assert_eq!(dry.json["quarantines"], 1);
    await_same(host, &guarded);
    let done = detach(&daemon, &["--yes"]);
    assert_eq!((done.code, &done.json["removed"]), (0, &true.into()), "{done:?}");
    assert_eq!(done.json["programs"], dry.json["programs"]);
    await_same(host, &before);
    let again = detach(&daemon, &["--yes"]);
    assert_eq!((again.code, &again.json["removed"]), (0, &false.into()), "{again:?}");

    for (tap, station) in [(&a, A), (&stray, STRAY)] {
        tap.send(&beat(station, 1)).unwrap();
        scene.await_outside("a frame that nobody judges", &beat(station, 1)).unwrap();
    }
}

/// What another release has left, whatever the layout of its maps, goes as well.
#[test]
fn pins_of_another_release_go_too() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let _a = scene.plug("tap-a").unwrap();
    let before = state(host);
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    daemon.terminate().unwrap();
    let version = detector_common::maps::SCHEMA_VERSION;
    let pins = "/sys/fs/bpf/detector";
    // As an older release would have left them: the same links and maps, by another number.
    let old = format!(
        "mv {pins}/{version} {pins}/1 && mkdir {pins}/1/maps/NEWS {pins}/keep && rmdir {pins}/1/maps/NEWS"
    );
    host.check(Command::new("sh").args(["-c", &old])).unwrap();
    let done = detach(&daemon, &["--yes"]);
    assert_eq!((done.code, &done.json["schemas"]), (0, &serde_json::json!([1])), "{done:?}");
    let kept = format!("{pins}/keep");
    assert_eq!(done.json["unknown"], serde_json::json!([kept]), "what nobody knows stays");
    host.check(Command::new("sh").args(["-c", &format!("rmdir {kept} {pins}")])).unwrap();
    await_same(host, &before);
    daemon.run().unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}
