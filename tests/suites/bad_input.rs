//! Whatever comes from guests, files and clients may be wrong on purpose: the daemon says so, keeps
//! what is in force, and goes on.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, vm};
use detector_tests::tap::{Header, Tap};
use detector_tests::{link, wait};

const A: Station = Station::number(10);
const STRAY: Station = Station::number(99);

/// The granted port still works, and the daemon answers.
fn assert_unimpressed(scene: &Scene, daemon: &Daemon<'_>, a: &Tap, seq: u64) {
    a.send(&beat(A, seq)).unwrap();
    scene.await_outside("the granted one", &beat(A, seq)).unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
}

#[test]
fn a_wrong_configuration_is_refused_by_line() {
    let scene = Scene::new().unwrap();
    for (more, expected) in [
        ("colour = \"red\"\n", "colour"),
        ("[policy]\n", "duplicate key"),
        ("default_rule = \"whatever\"\n", "whatever"),
        ("unknown_port_grace = \"soon\"\n", "soon"),
    ] {
        let settings = Settings { more: more.to_owned(), ..Settings::default() };
        let error = Daemon::start(scene.host(), &settings).err().unwrap().to_string();
        let log = std::fs::read_to_string(scene.host().path("detector-1.log")).unwrap();
        let said = format!("{error}\n{log}");
        assert!(said.contains("detector.toml") && said.contains(expected), "{more}: {said}");
    }
}

#[test]
fn a_wrong_inventory_entry_costs_only_itself() {
    let scene = Scene::new().unwrap();
    let wrong = "[[vm]]\nname = \"bad\"\ntemplate = \"lab\"\n[[vm.nic]]\nmac = \"zz\"\n";
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), wrong.to_owned()]).unwrap();
    daemon.await_finding("entry-rejected", "inventory.toml", PATIENCE).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    assert_unimpressed(&scene, &daemon, &a, 1);
}

/// The granted port works, a tap that nobody knows does not; with or without a daemon.
fn assert_in_force(scene: &Scene, a: &Tap, stray: &Tap, seq: u64) {
    stray.send(&beat(STRAY, seq)).unwrap();
    a.send(&beat(A, seq)).unwrap();
    scene.await_outside("the granted one", &beat(A, seq)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(STRAY, seq)).unwrap(), 0, "the stray one");
}

fn assert_says(said: &str, words: &[&str]) {
    for word in words {
        assert!(said.contains(word), "{word:?} is not in: {said}");
    }
    assert!(said.contains("What was in force stays in force"), "{said}");
}

#[test]
fn a_daemon_that_cannot_start_takes_nothing_away() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let state = scene.host().path("state").metadata().unwrap();
    assert_eq!(state.permissions().mode() & 0o777, 0o700, "it made the directory");
    let elsewhere = scene.host().path("pins").display().to_string();
    type Words<'a> = &'a [&'a str];
    let cases: [(&str, Words<'_>, Words<'_>, Words<'_>); 3] = [
        ("a second daemon", &[], &[], &["holds the pins in", "`paths.pins`"]),
        ("no bpffs", &[], &["--pins", &elsewhere], &[&elsewhere, "mount -t bpf"]),
        (
            "no capabilities",
            &["setpriv", "--bounding-set", "-all"],
            &[],
            &["CAP_NET_ADMIN, CAP_BPF, CAP_PERFMON", "as root"],
        ),
    ];
    for (seq, (name, wrapper, words, expected)) in (1..).zip(cases) {
        println!("{name}");
        assert_says(&daemon.refusal(wrapper, words).unwrap(), expected);
        assert_in_force(&scene, &a, &stray, seq);
    }
    daemon.kill().unwrap();
    let pins = "/sys/fs/bpf/detector";
    let shell = |text: &str| {
        let text = format!("set -e; cd {pins}; {text}");
        scene.host().check(Command::new("sh").args(["-c", &text])).unwrap()
    };
    // A hard link: the pinned map of one name is that of another.
    let cases = [(
        "cd */maps; mv SETTINGS kept; ln COUNTERS SETTINGS",
        "cd */maps; rm SETTINGS; mv kept SETTINGS",
        ["/maps/SETTINGS", "expected Array", "detach --all"],
    )];
    for (seq, (spoil, mend, expected)) in (10..).zip(cases) {
        shell(spoil);
        assert_says(&daemon.refusal(&[], &[]).unwrap(), &expected);
        assert_in_force(&scene, &a, &stray, seq);
        shell(mend);
    }
    daemon.run().unwrap();
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();
    assert_in_force(&scene, &a, &stray, 20);
}

/// Neither while it runs nor when it starts anew does a slip in a file cut anybody off.
#[test]
fn a_slip_in_a_manifest_takes_nothing_away() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.write_template("lab.toml", "id = \"lab\"\nstatus = \"aproved\"\n").unwrap();
    let finding = daemon.await_finding("entry-rejected", "lab.toml:2:10", PATIENCE).unwrap();
    assert!(finding["title"].as_str().unwrap().contains("expected one of `approved`"), "{finding}");
    assert_in_force(&scene, &a, &stray, 1);
    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-a", "kept", PATIENCE).unwrap();
    let answer = daemon.ask(&["quarantine", "list"]).unwrap();
    assert_eq!(answer.json["quarantines"], serde_json::json!([]), "{answer:?}");
    assert_in_force(&scene, &a, &stray, 2);
}

#[test]
fn an_inventory_that_turns_unreadable_changes_nothing() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    daemon.write_inventory("[[vm]\nname = ").unwrap();
    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_finding("source-lost", "inventory", PATIENCE).unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("the granted one", &beat(A, 1)).unwrap();
}

#[test]
fn garbage_from_a_guest_neither_passes_nor_disturbs() {
    let scene = Scene::new().unwrap();
    let vms = [vm("a", "tap-a", A), vm("b", "tap-b", Station::number(11))];
    let daemon = scene.daemon("enforce", &vms).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let network = scene.host().network();
    let b = Tap::open(network, "tap-b", Header::Virtio).unwrap();
    network.ip("link set tap-b addrgenmode none").unwrap();
    network.ip("link set tap-b up").unwrap();
    link::enslave(network, "tap-b", "br0").unwrap();
    daemon.await_port("tap-b", "granted", PATIENCE).unwrap();
    let before = scene.outside().unwrap().len();
    let mut random = Random(1);
    for round in 0..20_000_usize {
        let mut frame = vec![0; 14 + random.below(200)];
        frame.fill_with(|| random.next() as u8);
        // Half of them look like something, so that the parsers get further.
        if round % 2 == 0 {
            let kinds = [0x0800_u16, 0x86dd, 0x0806, 0x8035, 0x8100, 0x88a8];
            frame[12..14].copy_from_slice(&kinds[random.below(kinds.len())].to_be_bytes());
            frame[6..12].copy_from_slice(&Station::number(12).mac);
        }
        b.send(&frame).unwrap();
    }
    assert_unimpressed(&scene, &daemon, &a, 1);
    let others = scene.outside().unwrap().split_off(before);
    let known = [Some(A.mac), Some(scene.mac("br0").unwrap())];
    let passed: Vec<_> = others.iter().filter(|f| !known.contains(&f.source())).collect();
    assert!(passed.is_empty(), "{passed:?}");
}

#[test]
fn garbage_at_the_socket_does_not_disturb() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let path = scene.host().path("detector.sock");
    let endless = vec![b'x'; 4 << 20];
    let garbage: [&[u8]; 5] = [
        b"\n\n\n",
        b"{\"no such request\":{}}\n",
        &[0xff; 100],
        b"{\"port-show\":{\"name\":",
        &endless,
    ];
    for bytes in garbage {
        let mut stream = UnixStream::connect(&path).unwrap();
        // The daemon may hang up in the middle of it.
        let _ = stream.write_all(bytes);
    }
    // Clients that say nothing must not keep others out, as long as there are places.
    let silent: Vec<_> = (0..32).map(|_| UnixStream::connect(&path)).collect();
    assert_unimpressed(&scene, &daemon, &a, 1);
    drop(silent);
}

#[test]
fn a_hook_with_a_hostile_description_admits_nothing() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let deep = "<a>".repeat(100_000);
    let bomb =
        "<!DOCTYPE d [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]><d>&b;</d>";
    for xml in ["", "not XML", bomb, &deep, "<domain type='qemu'><name>x</name></domain>"] {
        let mut hook = Command::new(artefacts::detector().unwrap());
        hook.arg("--config").arg(scene.host().path("detector.toml"));
        hook.args(["hook", "qemu", "evil", "start", "begin", "-"]);
        hook.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = scene.host().spawn(&mut hook).unwrap();
        // A hook that does not read to the end is fine.
        let _ = child.stdin.take().unwrap().write_all(xml.as_bytes());
        child.wait_with_output().unwrap();
    }
    stray.send(&beat(Station::number(99), 1)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(Station::number(99), 1)).unwrap(), 0);
    assert_unimpressed(&scene, &daemon, &a, 1);
}

/// Always the same sequence, so that what was found once is found again (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}
