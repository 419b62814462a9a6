//! Whoever has taken the brain over speaks with the enforcer's process, and has what the brain has: it is refused
//! what the configuration does not say, and what is in force stays in force.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use detector::enforcer::EnforceError;
use detector::enforcer::message::{Answer, Answered, Hello, Order};
use detector::enforcer::remote::{receive, send};
use detector_common::addr::Mac;
use detector_common::port::flags;
use detector_common::quarantine::Cause;
use detector_core::model::{Quarantine, QuarantineTarget, Timestamp};
use detector_core::reconcile::{Action, GrantEntry, SlotEntry};
use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::scene::{PATIENCE, SILENCE, Scene, beat, same, stream, vm};
use detector_tests::{link, wait};
use nix::sys::signal::{Signal, kill};

use super::parts::{assert_nothing_is_mapped, part};
use super::{A, B, STRAY};

/// The enforcer's process, and whoever gives it orders in the place of the brain.
struct Taken {
    process: Child,
    way: UnixStream,
    _notices: UnixStream,
}

impl Taken {
    /// In the place of a daemon that does not run.
    fn over(scene: &Scene, daemon: &Daemon<'_>) -> Self {
        let (way, theirs) = UnixStream::pair().unwrap();
        let (notices, said) = UnixStream::pair().unwrap();
        // It ends with whoever has started it, which is to be more than a thread.
        let line = format!("{} enforce-orders --log json; exit $?", daemon.part_line().unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", &line]).stdin(OwnedFd::from(theirs)).stdout(OwnedFd::from(said));
        command.stderr(std::fs::File::create(scene.host().path("enforcer.log")).unwrap());
        let process = scene.host().spawn(&mut command).unwrap();
        drop(command);
        way.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut taken = Self { process, way, _notices: notices };
        receive::<Result<Hello, EnforceError>>(&mut taken.way).unwrap().unwrap();
        taken
    }

    fn ask(&mut self, order: &Order) -> Answered {
        send(&mut self.way, order).unwrap();
        receive(&mut self.way).unwrap()
    }

    fn act(&mut self, action: Action) -> Answered {
        self.ask(&Order::Execute(action))
    }

    /// The instance that a port is.
    fn instance(&self, daemon: &Daemon<'_>, port: &str) -> u32 {
        let shown = daemon.ask(&["port", "show", port]).unwrap().json;
        u32::try_from(shown["instance"].as_u64().unwrap()).unwrap()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // It ends when nobody gives orders any more.
        let _ = self.way.shutdown(std::net::Shutdown::Both);
        let _ = self.process.wait();
    }
}

fn refused(answer: &Answered) -> bool {
    matches!(answer, Err(error) if error.0.contains("the enforcer refuses it"))
}

fn index(scene: &Scene, name: &str) -> u32 {
    let text = scene.host().network().ip(&format!("-oneline link show dev {name}")).unwrap();
    text.split(':').next().unwrap().trim().parse().unwrap()
}

/// A granted port works, and a tap that nobody knows does not.
fn assert_in_force(
    scene: &Scene,
    granted: &detector_tests::tap::Tap,
    stray: &detector_tests::tap::Tap,
    seq: u64,
) {
    stray.send(&beat(STRAY, seq)).unwrap();
    granted.send(&beat(A, seq)).unwrap();
    scene.await_outside("the granted one", &beat(A, seq)).unwrap();
    wait::pause(SILENCE);
    assert_eq!(scene.copies_outside(&beat(STRAY, seq)).unwrap(), 0, "the stray one");
}

#[test]
fn orders_against_the_configuration_are_refused() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    link::bridge(network, "other0").unwrap();
    network.ip("link add aside0 type veth peer name aside1").unwrap();
    let inventory = [vm("a", "tap-a", A), vm("b", "tap-b", B)];
    let mut daemon = scene.daemon("enforce", &inventory).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let cut = daemon.ask(&["quarantine", "add", "port", "tap-b", "--reason", "a person says so"]);
    assert_eq!(cut.unwrap().code, 0);
    daemon.await_port("tap-b", "isolated", PATIENCE).unwrap();
    daemon.kill().unwrap();

    let mut brain = Taken::over(&scene, &daemon);
    brain.ask(&Order::Observe).unwrap();
    let [tap_a, tap_b, other, aside, bridge, uplink, stranger] =
        ["tap-a", "tap-b", "other0", "aside0", "br0", "up0", "stray0"]
            .map(|name| index(&scene, name));
    let name = str::to_owned;
    let granted =
        SlotEntry { flags: flags::GRANTED | flags::V4, mac: B.mac, ..SlotEntry::default() };
    let instance = brain.instance(&daemon, "tap-b");
    let on_b = QuarantineTarget::Port { ifindex: tap_b, instance };
    let by_verdict = Quarantine::new(on_b, Timestamp(1), Cause::Verdict, 0, "not so bad");
    let entries =
        vec![GrantEntry { mac: B.mac, vlan: 0, address: [0; 16], prefix: None, flags: 0 }; 200_000];
    let cases = [
        ("a guard outside", Action::AttachGuard { ifindex: aside, name: name("aside0") }),
        (
            "a bridge that is not configured",
            Action::AttachBridge { ifindex: other, name: name("other0") },
        ),
        (
            "an uplink that is a guest",
            Action::AttachUplink { ifindex: stranger, name: name("stray0") },
        ),
        ("trust in a guest", Action::Trust { ifindex: stranger, name: name("stray0") }),
        ("trust in what is aside", Action::Trust { ifindex: aside, name: name("aside0") }),
        ("another name", Action::AttachGuard { ifindex: stranger, name: name("eth0") }),
        ("the loopback device", Action::AttachGuard { ifindex: 1, name: name("lo") }),
        ("no guard on a port", Action::Release { ifindex: tap_a }),
        ("no gate on the bridge", Action::Release { ifindex: bridge }),
        ("no gate on the uplink", Action::Release { ifindex: uplink }),
        ("entries outside", Action::PinForwarding { ifindex: aside, mac: Mac(A.mac), vlan: 0 }),
        (
            "no entries of others",
            Action::UnpinForwarding { ifindex: uplink, mac: Mac(A.mac), vlan: 0 },
        ),
        ("a sandbox that is not to be made", Action::MakeSandbox { name: name("sbx0") }),
        ("a passage to the network", Action::OpenPassage { ifindex: tap_a, instance: 1, bridge }),
        (
            "a person's quarantine, undone",
            Action::WriteSlot { ifindex: tap_b, instance, slot: granted },
        ),
        ("a person's quarantine, taken over", Action::PutQuarantine(by_verdict)),
        ("more than there is", Action::PutGrants { ifindex: tap_a, instance: 1, grants: entries }),
    ];
    for (what, action) in cases {
        let answer = brain.act(action);
        assert!(refused(&answer), "{what}: {answer:?}");
    }
    assert_in_force(&scene, &a, &stray, 1);
    // What is no order is told so, and the next one is understood.
    for garbage in [&b"\xc1\xff\xff"[..], &[0xdd, 0xff, 0xff, 0xff, 0xff], &[0x91; 70_000]] {
        let length = u32::try_from(garbage.len()).unwrap().to_le_bytes();
        brain.way.write_all(&[&length, garbage].concat()).unwrap();
        let answer: Answered = receive(&mut brain.way).unwrap();
        assert!(answer.is_err(), "{answer:?}");
    }
    assert!(matches!(brain.ask(&Order::Observe), Ok(Answer::Observed(_))));
    let log = std::fs::read_to_string(scene.host().path("enforcer.log")).unwrap();
    assert!(log.contains("has refused orders"), "{log}");
    // A frame without an end ends the process, and nothing else.
    brain.way.write_all(&u32::MAX.to_le_bytes()).unwrap();
    assert_eq!(brain.way.read(&mut [0; 16]).unwrap_or(0), 0, "it goes on listening");
    drop(brain);
    assert_in_force(&scene, &a, &stray, 2);
    // And a daemon takes over from there.
    daemon.run().unwrap();
    daemon.await_port("tap-b", "isolated", PATIENCE).unwrap();
    assert_in_force(&scene, &a, &stray, 3);
    assert_eq!(daemon.complaints().unwrap(), Vec::<serde_json::Value>::new());
}

#[test]
fn a_flood_of_orders_waits() {
    const ORDERS: u32 = 30_000;
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.kill().unwrap();
    let mut brain = Taken::over(&scene, &daemon);
    let mut way = brain.way.try_clone().unwrap();
    let begun = Instant::now();
    let flood = std::thread::spawn(move || {
        for _ in 0..ORDERS {
            send(&mut way, &Order::TicksAfter(0)).unwrap();
        }
    });
    for _ in 0..ORDERS {
        receive::<Answered>(&mut brain.way).unwrap().unwrap();
    }
    flood.join().unwrap();
    assert!(begun.elapsed() > Duration::from_millis(1500), "{:?}", begun.elapsed());
    assert_in_force(&scene, &a, &stray, 1);
}

fn status(pid: u32, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

/// A daemon whose brain is the user 4005.
fn as_a_user(scene: &Scene) -> Daemon<'_> {
    let more = "unknown_port_grace = \"200ms\"\n[scan]\ninterval = \"200ms\"\ngrace = \"100ms\"\n";
    let inventory = vm("a", "tap-a", A);
    let settings = Settings { inventory, more: more.to_owned(), ..Settings::default() };
    let mut daemon = Daemon::configure(scene.host(), &settings).unwrap();
    let text = daemon.configuration().unwrap();
    daemon.write_configuration(&format!("user = \"4005\"\n{text}")).unwrap();
    // The directory is a temporary one of root's.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o711);
    std::fs::set_permissions(scene.host().directory(), mode).unwrap();
    daemon.run().unwrap();
    daemon
}

/// What the enforcer's process cannot read it cannot judge by.
#[test]
fn a_configuration_that_only_the_brain_can_read_holds_nowhere() {
    let scene = Scene::new().unwrap();
    let daemon = as_a_user(&scene);
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let text = daemon.configuration().unwrap();
    daemon.write_configuration(&format!("{text}\n[flood]\nabove = 5000\n")).unwrap();
    let path = scene.host().path("detector.toml");
    let give = |owner: u32, mode: u32| {
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(&path, mode).unwrap();
    };
    give(4005, 0o400);
    for _ in 0..2 {
        let answer = daemon.ask(&["reload"]).unwrap();
        assert_eq!(answer.code, 1, "{answer:?}");
        let refused = answer.json["refused"].as_str().unwrap();
        assert!(refused.contains("the enforcer cannot use it"), "{refused}");
    }
    daemon.await_finding("entry-rejected", "the enforcer", PATIENCE).unwrap();
    give(0, 0o644);
    let answer = daemon.ask(&["reload"]).unwrap();
    assert_eq!((answer.code, &answer.json["changed"]), (0, &serde_json::json!(["flood.above"])));
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("a frame after the reload", &beat(A, 1)).unwrap();
}

#[test]
fn the_brain_has_no_privilege_but_to_read() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let daemon = as_a_user(&scene);
    let brain = daemon.pid().unwrap();
    assert_eq!(status(brain, "Uid"), "4005\t4005\t4005\t4005");
    assert_eq!(status(brain, "NoNewPrivs"), "1");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        // CAP_DAC_READ_SEARCH.
        assert_eq!(u64::from_str_radix(&status(brain, set), 16).unwrap(), 1 << 2, "{set}");
    }
    // Nobody waits for the others to get ready.
    let holds = |word: &str, bits: &[u32]| {
        let expect = bits.iter().fold(0, |all, bit| all | 1 << bit);
        wait::until(&format!("{word} to have given up the rest"), PATIENCE, || {
            let pid = u32::try_from(part(&daemon, word).unwrap().as_raw())?;
            let held: u64 = u64::from_str_radix(&status(pid, "CapEff"), 16)?;
            Ok((held == expect).then_some(()))
        })
        .unwrap();
    };
    // CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF.
    holds("enforce-orders", &[12, 21, 38, 39]);
    // CAP_DAC_READ_SEARCH, CAP_NET_ADMIN, CAP_SYS_PTRACE, CAP_CHECKPOINT_RESTORE.
    holds("scan-processes", &[2, 12, 19, 40]);
    // CAP_NET_RAW.
    holds("listen-to-ports", &[13]);
    assert_nothing_is_mapped(&daemon);

    // It does its work all the same.
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    assert_in_force(&scene, &a, &stray, 1);
    let added = daemon.ask(&["quarantine", "add", "vm", "a", "--reason", "x"]).unwrap();
    assert_eq!(added.code, 0, "{added:?}");
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    let lifted = daemon.ask(&["quarantine", "release", "vm", "a"]).unwrap();
    assert_eq!(lifted.code, 0, "{lifted:?}");
    assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
    let complaints = daemon.complaints().unwrap();
    assert!(complaints.is_empty(), "{complaints:#?}");

    // What the brain may not, tried with its user and what it has.
    let like_it = |words: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=4005", "--regid=4005", "--clear-groups", "--no-new-privs"]);
        command.args(["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]);
        command.arg("--bounding-set=-all,+dac_read_search").args(words);
        host.output(&mut command).unwrap()
    };
    let holder = artefacts::holder().unwrap();
    let holder = holder.to_str().unwrap();
    let version = detector_common::maps::SCHEMA_VERSION;
    let grants = format!("/sys/fs/bpf/detector/{version}/maps/{}", detector_common::maps::GRANTS);
    for words in [
        &["ip", "link", "set", "tap-a", "down"][..],
        &["ip", "link", "set", "stray0", "nomaster"],
        &["tc", "qdisc", "add", "dev", "up0", "clsact"],
        &["bridge", "fdb", "add", "52:54:00:00:00:01", "dev", "tap-a", "master", "static"],
        &["sh", "-c", "rm -r /sys/fs/bpf/detector"],
        &["sh", "-c", "kill -9 $(grep -ls 'enforce-order[s]' /proc/*/cmdline | cut -d/ -f3)"],
        &[holder, "program"],
        &[holder, "map", &grants],
    ] {
        let output = like_it(words);
        assert!(!output.status.success(), "{words:?}: {output:?}");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        let refused = said.contains("not permitted") || said.contains("permission denied");
        assert!(refused, "{words:?}: {said}");
    }
    assert_in_force(&scene, &a, &stray, 2);
}

#[test]
fn a_killed_enforcer_leaves_no_gap_and_comes_back_with_the_daemon() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let sent = stream(&[(&a, A), (&stray, STRAY)], |more| {
        more(100);
        kill(part(&daemon, "enforce-orders").unwrap(), Signal::SIGKILL).unwrap();
        // Whoever started it sees that it has failed, and starts it anew.
        assert_eq!(daemon.ended().unwrap().code(), Some(1));
        more(100);
        daemon.run().unwrap();
        more(100);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    let frames = scene.outside().unwrap();
    assert!(!frames.iter().any(|frame| (0..sent).any(|seq| same(&frame.bytes, &beat(STRAY, seq)))));
}

/// The enforcer looks by itself whether what is in force still is.
#[test]
fn a_brain_that_hangs_keeps_nobody_from_putting_things_back() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let stray = scene.plug("stray0").unwrap();
    let pins = scene.host().inside(std::path::Path::new("/sys/fs/bpf/detector"));
    let version = detector_common::maps::SCHEMA_VERSION;
    let map = pins.join(version.to_string()).join("maps").join(detector_common::maps::GRANTS);
    assert!(map.exists());
    daemon.freeze().unwrap();
    std::fs::remove_file(&map).unwrap();
    wait::until("the pin to be back", PATIENCE, || Ok(map.exists().then_some(()))).unwrap();
    assert_in_force(&scene, &a, &stray, 1);
    daemon.resume().unwrap();
    daemon.await_finding("tampered", "pin", PATIENCE).unwrap();
}
