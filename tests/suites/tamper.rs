//! Somebody with the daemon's own capabilities tampers with what is in force, under a stream of frames:
//! it is a finding and is put back, and nothing that is not granted gets through meanwhile.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use detector::bpf::{Hook, PinPaths};
use detector_tests::daemon::Daemon;
use detector_tests::flow::Flow;
use detector_tests::frames::Station;
use detector_tests::guest::hex;
use detector_tests::order::in_order;
use detector_tests::scene::{PATIENCE, Scene, beat, same, stream, vm};
use detector_tests::{bpf, wait};

const A: Station = Station::number(10);
const B: Station = Station::number(11);
const DENIED: Station = Station::number(20);
const STRAY: Station = Station::number(99);
/// So long the daemon may take at most, on a machine that has nothing else to do.
const WITHIN: Duration = Duration::from_secs(1);

struct Crime<'a> {
    scene: &'a Scene,
    daemon: &'a Daemon<'a>,
}

impl Crime<'_> {
    fn ifindex(&self, interface: &str) -> u32 {
        let port = self.daemon.ask(&["port", "show", interface]).unwrap().json;
        port["ifindex"].as_u64().and_then(|index| index.try_into().ok()).unwrap()
    }

    fn pins(&self) -> PinPaths {
        PinPaths::new(&self.scene.host().inside("/sys/fs/bpf/detector".as_ref()))
    }

    fn link(&self, interface: &str, hook: Hook) -> PathBuf {
        self.pins().link(self.ifindex(interface), hook)
    }

    fn detach(&self, interface: &str) {
        Hook::BOTH.into_iter().for_each(|hook| bpf::detach(&self.link(interface, hook)).unwrap());
    }

    /// A program of somebody else ahead of ours, which passes everything on past it.
    fn go_ahead(&self, interface: &str) -> OwnedFd {
        const TC_ACT_OK: i32 = 0;
        let program = bpf::load(&bpf::returns(TC_ACT_OK)).unwrap();
        let ifindex = self.ifindex(interface);
        let attach = || bpf::attach_first(program.as_fd(), ifindex, Hook::Ingress);
        self.scene.host().network().run(attach).unwrap()
    }

    fn xdp(&self, interface: &str) -> OwnedFd {
        const XDP_DROP: i32 = 1;
        let ifindex = self.ifindex(interface);
        let attach = || bpf::attach_xdp(&bpf::returns(XDP_DROP), ifindex);
        self.scene.host().network().run(attach).unwrap()
    }

    fn tool(&self, program: &str, words: &str) {
        let mut command = self.scene.host().network().command(program);
        assert!(command.args(words.split(' ')).status().unwrap().success(), "{program} {words}");
    }
}

type Case =
    (&'static str, fn(&Crime<'_>) -> Option<OwnedFd>, &'static [(&'static str, &'static str)]);

/// What somebody does, and which findings name what of which interface.
const CASES: &[Case] = &[
    (
        "the guards' programs taken off",
        |crime| {
            ["tap-a", "tap-d", "stray0"].iter().for_each(|port| crime.detach(port));
            None
        },
        &[("tap-a", "program"), ("tap-d", "program"), ("stray0", "program")],
    ),
    (
        "the gates' programs taken off",
        |crime| {
            ["br0", "up0"].iter().for_each(|port| crime.detach(port));
            None
        },
        &[("br0", "program"), ("up0", "program")],
    ),
    ("a program put ahead", |crime| Some(crime.go_ahead("tap-d")), &[("tap-d", "order")]),
    ("an XDP program", |crime| Some(crime.xdp("tap-a")), &[("tap-a", "xdp")]),
    (
        "a pin removed",
        |crime| {
            std::fs::remove_file(crime.link("tap-a", Hook::Egress)).unwrap();
            None
        },
        &[("tap-a", "pin")],
    ),
    (
        "every pin removed",
        |crime| {
            std::fs::remove_dir_all(crime.pins().version()).unwrap();
            None
        },
        &[("was removed", "pin"), ("tap-d", "pin")],
    ),
    (
        "the forwarding entry moved",
        |crime| {
            let words = format!("fdb replace {} dev stray0 master static", hex(A.mac));
            crime.tool("bridge", &words);
            None
        },
        &[("tap-a", "forwarding")],
    ),
];

#[test]
fn what_is_tampered_with_is_put_back_and_told() {
    for (name, tamper, findings) in CASES {
        println!("{name}");
        let scene = Scene::new().unwrap();
        let denied = vm("denied", "tap-d", DENIED).replace("\"lab\"", "\"no such template\"");
        let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), denied]).unwrap();
        let a = scene.plug_granted(&daemon, "tap-a").unwrap();
        let denied = scene.plug("tap-d").unwrap();
        let stray = scene.plug("stray0").unwrap();
        daemon.await_port("tap-d", "isolated", PATIENCE).unwrap();
        daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
        let instance = || daemon.ask(&["port", "show", "tap-a"]).unwrap().json["instance"].clone();
        let before = instance();
        let crime = Crime { scene: &scene, daemon: &daemon };
        let mut kept = None;
        let mut noticed = Duration::ZERO;
        let sent = stream(&[(&a, A), (&denied, DENIED), (&stray, STRAY)], |more| {
            more(50);
            let start = Instant::now();
            kept = tamper(&crime);
            for (subject, what) in *findings {
                let found = wait::until(&format!("{what} of {subject}"), PATIENCE, || {
                    let open = daemon.findings()?.into_iter().map(|mut l| l["finding"].take());
                    let mut ours = open.filter(|f| f["kind"] == "tampered");
                    Ok(ours.find(|finding| finding.to_string().contains(subject)))
                });
                let found = found.unwrap().to_string();
                assert!(found.contains(what), "{name}: {found}");
            }
            noticed = start.elapsed();
            more(50);
        });
        let late = if noticed > WITHIN { ": late" } else { "" };
        println!("  put back and told after {noticed:?}{late}");
        scene.await_stream(A.mac, sent - 10, sent - 1).unwrap();
        let frames = scene.outside().unwrap();
        assert_eq!(Flow::of(&frames, DENIED.mac).len(), 0, "{name}: of the denied VM");
        assert_eq!(Flow::of(&frames, STRAY.mac).len(), 0, "{name}: of the stray tap");
        assert_eq!(instance(), before, "{name}: the port is the same one");
        assert_eq!(scene.place_of(A.mac).unwrap().as_deref(), Some("tap-a"), "{name}");
        for port in ["tap-a", "tap-d", "stray0", "br0", "up0"] {
            assert!(Hook::BOTH.iter().all(|hook| crime.link(port, *hook).exists()), "{port}");
        }
        drop(kept);
        // The stray tap is judged by its guard again, not only by the gate.
        stray.send(&beat(STRAY, u64::MAX)).unwrap();
        let counted = || daemon.ask(&["port", "show", "stray0"]).map(|answer| answer.json);
        let count = |json: &serde_json::Value| json["counters"]["from"]["port-pending"].as_u64();
        let then = count(&counted().unwrap());
        wait::until("the guard's count", PATIENCE, || {
            stray.send(&beat(STRAY, u64::MAX))?;
            Ok((count(&counted()?) > then).then_some(()))
        })
        .unwrap();
    }
}

/// Rules of somebody else take the stamp away, or put it on: either way nothing gets further than it
/// should, and the counters say why.
#[test]
fn rules_that_touch_the_stamp_let_nothing_through() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A), vm("b", "tap-b", B)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let b = scene.plug_granted(&daemon, "tap-b").unwrap();
    let tool = |words: &str| {
        let mut nft = scene.host().network().command("nft");
        assert!(nft.arg(words).status().unwrap().success(), "nft {words}");
    };
    let mark = |value: &str| {
        tool("add table bridge mine");
        tool("add chain bridge mine marks { type filter hook forward priority 0; }");
        tool(&format!("add rule bridge mine marks meta mark set {value}"));
    };
    mark("0");
    a.send(&beat(A, 1)).unwrap();
    for port in ["up0", "tap-b"] {
        wait::until("the gate to miss the stamp", PATIENCE, || {
            let shown = daemon.ask(&["port", "show", port])?.json;
            Ok((shown["counters"]["to"]["unvetted"].as_u64() > Some(0)).then_some(()))
        })
        .unwrap();
    }
    tool("flush ruleset");
    in_order(|| a.send(&beat(A, 2))).unwrap();
    scene.await_outside("without the rule", &beat(A, 2)).unwrap();
    assert_eq!(scene.copies_outside(&beat(A, 1)).unwrap(), 0, "without the stamp");
    let before = b.until("without the rule", PATIENCE, &beat(A, 2)).unwrap();
    assert!(!before.iter().any(|frame| same(frame, &beat(A, 1))), "without the stamp");

    // Nobody guards the tap, and its frames look vetted.
    mark("0x40000000");
    daemon.kill().unwrap();
    let stray = scene.plug("stray0").unwrap();
    in_order(|| {
        stray.send(&beat(STRAY, 3)).unwrap();
        a.send(&beat(A, 4)).unwrap();
    });
    scene.await_outside("what is really vetted", &beat(A, 4)).unwrap();
    let before = b.until("what is really vetted", PATIENCE, &beat(A, 4)).unwrap();
    assert!(!before.iter().any(|frame| same(frame, &beat(STRAY, 3))), "a forged stamp");
    assert_eq!(scene.copies_outside(&beat(STRAY, 3)).unwrap(), 0, "a forged stamp");
}

#[test]
fn what_is_none_of_ours_is_no_finding() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let crime = Crime { scene: &scene, daemon: &daemon };
    let program = bpf::load(&bpf::returns(-1)).unwrap();
    let ifindex = crime.ifindex("tap-a");
    let sent = stream(&[(&a, A)], |more| {
        let attach = || bpf::attach(program.as_fd(), ifindex, Hook::Ingress);
        let _behind = scene.host().network().run(attach).unwrap();
        more(50);
        crime.tool("nft", "add table inet mine");
        crime.tool("nft", "flush ruleset");
        crime.tool("bridge", &format!("fdb add {} dev up0 master static", hex(STRAY.mac)));
        // Longer than the daemon takes between two looks.
        more(1000);
    });
    scene.await_stream(A.mac, 0, sent - 1).unwrap();
    let findings = daemon.findings().unwrap();
    assert!(!findings.iter().any(|f| f["finding"]["kind"] == "tampered"), "{findings:?}");
}
