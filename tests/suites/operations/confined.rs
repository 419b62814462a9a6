//! The daemon runs within what its unit leaves it: these capabilities, this seccomp filter, a file system
//! that is read-only but for its own places.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Launch, Settings};
use detector_tests::scene::{PATIENCE, Scene, beat, same, vm};
use seccompiler::{BpfProgram, TargetArch, apply_filter, compile_from_json};

use super::{A, B, STRAY};

const UNIT: &str = include_str!("../../../packaging/detector.service");
const DOCUMENTED: &str = include_str!("../../../docs/operations.md");

/// The values of a setting of the unit, from all its lines.
fn setting(name: &str) -> Vec<&'static str> {
    let prefix = format!("{name}=");
    let values = UNIT.lines().filter_map(|line| line.strip_prefix(prefix.as_str()));
    values.flat_map(str::split_whitespace).collect()
}

/// The system calls of a set, as systemd has it.
fn expand(name: &str, found: &mut BTreeSet<String>) {
    if !name.starts_with('@') {
        found.insert(name.to_owned());
        return;
    }
    let output = Command::new("systemd-analyze").args(["syscall-filter", name]).output().unwrap();
    assert!(output.status.success(), "systemd-analyze does not know {name}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = text.lines().skip(1).map(str::trim);
    for word in words.filter(|word| !word.is_empty() && !word.starts_with('#')) {
        expand(word, found);
    }
}

fn family(name: &str) -> i32 {
    match name {
        "AF_UNIX" => libc::AF_UNIX,
        "AF_NETLINK" => libc::AF_NETLINK,
        "AF_INET" => libc::AF_INET,
        "AF_INET6" => libc::AF_INET6,
        "AF_PACKET" => libc::AF_PACKET,
        _ => panic!("this test does not know {name}"),
    }
}

/// The filter of the unit. System calls that this architecture does not have are left out, as systemd does.
fn filter() -> BpfProgram {
    let families: Vec<_> =
        setting("RestrictAddressFamilies").iter().map(|name| family(name)).collect();
    let compile = |names: &[&str]| {
        let rule = |name: &&str| match *name {
            "socket" => {
                let of = |family: &i32| {
                    let family = serde_json::json!({ "index": 0, "type": "dword", "op": "eq", "val": family });
                    serde_json::json!({ "syscall": "socket", "args": [family] })
                };
                families.iter().map(of).collect()
            }
            name => vec![serde_json::json!({ "syscall": name })],
        };
        let rules: Vec<_> = names.iter().flat_map(rule).collect();
        let json = serde_json::json!({ "unit": {
            "mismatch_action": { "errno": libc::EPERM },
            "match_action": "allow",
            "filter": rules,
        }});
        let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
        compile_from_json(json.to_string().as_bytes(), arch)
    };
    let mut names = BTreeSet::new();
    for name in setting("SystemCallFilter") {
        assert!(!name.starts_with('~'), "this test knows allow lists only");
        expand(name, &mut names);
    }
    // RestrictNamespaces=yes.
    assert_eq!(setting("RestrictNamespaces"), ["yes"]);
    names.retain(|name| !["unshare", "setns"].contains(&name.as_str()));
    let known: Vec<_> =
        names.iter().map(String::as_str).filter(|name| compile(&[name]).is_ok()).collect();
    assert!(known.len() > 200, "{known:?}");
    compile(&known).unwrap().remove("unit").unwrap()
}

/// Becomes the daemon, with the unit's capabilities and its view of the file system.
fn wrapper(scene: &Scene) -> Vec<String> {
    let place = scene.host().directory().display().to_string();
    // ProtectSystem=strict and ReadOnlyPaths=/sys, with the daemon's own places left out.
    let shut = format!(
        "mount --bind {place} {place}; mount -o remount,bind,ro /; mount -o remount,bind,ro /sys; \
         if touch /etc/detector-test 2>/dev/null; then echo open >&2; exit 1; fi; exec \"$@\""
    );
    let capabilities: Vec<_> = setting("CapabilityBoundingSet")
        .iter()
        .map(|name| format!("+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()))
        .collect();
    let bounded = format!("-all,{}", capabilities.join(","));
    let words =
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", &shut, "sh", "setpriv"];
    let mut words: Vec<_> = words.map(str::to_owned).into();
    words.extend(["--inh-caps=-all", "--no-new-privs"].map(str::to_owned));
    words.push(format!("--bounding-set={bounded}"));
    words
}

/// A program that applies the filter and becomes another one, since what comes before the daemon needs more.
fn confine(scene: &Scene, daemon: &mut Daemon<'_>) {
    let mut wrapper = wrapper(scene);
    let program = scene.host().path("seccomp.bpf");
    let bytes: Vec<u8> = filter()
        .iter()
        .flat_map(|one| {
            let [c0, c1] = one.code.to_ne_bytes();
            let [k0, k1, k2, k3] = one.k.to_ne_bytes();
            [c0, c1, one.jt, one.jf, k0, k1, k2, k3]
        })
        .collect();
    fs::write(&program, bytes).unwrap();
    let holder = artefacts::holder().unwrap();
    let holder = holder.to_str().unwrap();
    wrapper.extend([holder, "seccomp", program.to_str().unwrap()].map(str::to_owned));
    daemon.launch_by(Launch { wrapper, ..Launch::default() });
}

/// A process that ends with this value; its host could not end before it.
struct Held(std::process::Child);

impl Drop for Held {
    fn drop(&mut self) {
        // It has ended by itself when this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the log says that was not permitted.
fn refusals(log: &Path) -> Vec<String> {
    let text = fs::read_to_string(log).unwrap();
    let refused = |line: &&str| {
        ["not permitted", "Permission denied", "Read-only file system", "os error 1)"]
            .iter()
            .any(|word| line.contains(word))
    };
    text.lines().filter(refused).map(str::to_owned).collect()
}

#[test]
fn it_does_all_of_its_work_within_its_unit() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    detector_tests::link::bridge(host.network(), "sbx0").unwrap();
    let more =
        "quarantine = \"sandbox\"\nunknown_port_grace = \"200ms\"\n[sandbox]\nbridge = \"sbx0\"\n\
                [api]\ngroup = \"daemon\"\n[scan]\ninterval = \"200ms\"\ngrace = \"100ms\"\n"
            .to_owned();
    let settings = Settings {
        inventory: vm("a", "tap-a", A) + &vm("b", "tap-b", B),
        more,
        ..Settings::default()
    };
    let mut daemon = Daemon::configure(host, &settings).unwrap();
    confine(&scene, &mut daemon);
    daemon.run().unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().unwrap())).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    assert_eq!((field("Seccomp").as_str(), field("NoNewPrivs").as_str()), ("2", "1"), "{status}");
    // Without a user of its own it stays root, and leaves to its other processes what they need.
    let held = u64::from_str_radix(&field("CapEff"), 16).unwrap();
    let others =
        ["BPF", "PERFMON", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE", "CHECKPOINT_RESTORE"];
    let left = setting("CapabilityBoundingSet").len() - others.len();
    assert_eq!(held.count_ones() as usize, left, "{status}");

    // Guards, gates, forwarding entries, the sandbox's passage, the scan, the socket with its group.
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _b = scene.plug("tap-b").unwrap();
    let stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    stray.send(&beat(STRAY, 1)).unwrap();
    a.send(&beat(A, 1)).unwrap();
    scene.await_outside("a granted frame", &beat(A, 1)).unwrap();
    let outside = scene.outside().unwrap();
    assert!(!outside.iter().any(|frame| same(&frame.bytes, &beat(STRAY, 1))));
    let added = daemon.ask(&["quarantine", "add", "vm", "b", "--reason", "a test"]).unwrap();
    assert_eq!(added.code, 0, "{added:?}");
    detector_tests::wait::until("the passage", PATIENCE, || {
        Ok(host.network().ip("link show")?.contains("dsbi").then_some(()))
    })
    .unwrap();
    // A process of another user that holds a tap, and that nobody knows.
    let holder = artefacts::holder().unwrap();
    let holder = holder.to_str().unwrap();
    let lent = [
        "--inh-caps=-all,+net_admin,+dac_override",
        "--ambient-caps=+net_admin,+dac_override",
        "--reuid=65534",
        "--clear-groups",
    ];
    let mut process = Command::new("setpriv");
    process.args(lent).args([holder, "tap", "scan0"]).stdin(std::process::Stdio::piped());
    let process = Held(host.spawn(&mut process).unwrap());
    daemon.await_finding("unknown-vm-process", "scan0", PATIENCE).unwrap();
    // Its command line everybody may read; what it holds takes a capability.
    let processes = daemon.ask(&["process", "list"]).unwrap().json["processes"].take();
    let holds = |process: &serde_json::Value| process["holds"]["taps"][0]["name"] == "scan0";
    assert!(processes.as_array().unwrap().iter().any(holds), "{processes:#}");
    let socket = fs::metadata(host.path("detector.sock")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o777, 0o660);
    assert_ne!(std::os::unix::fs::MetadataExt::gid(&socket), 0, "it is the group's");
    assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
    assert!(host.path("state/quarantines.json").exists());
    let complaints = daemon.complaints().unwrap();
    assert!(complaints.is_empty(), "{complaints:#?}");
    drop(process);
    let refused = refusals(&daemon.log());
    assert!(refused.is_empty(), "{refused:#?}");
}

/// A filter that refuses what the daemon needs is noticed: the test above could fail.
#[test]
fn the_filter_filters() {
    let program = filter();
    let mut command = Command::new("chroot");
    command.args(["/", "true"]);
    // SAFETY: between fork and exec only prctl(2) and seccomp(2) are called.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            apply_filter(&program).map_err(std::io::Error::other)
        });
    }
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{output:?}");
}

/// The score is stated where people read it.
#[test]
fn the_score_is_as_stated() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("detector.service");
    fs::write(&unit, UNIT).unwrap();
    let output = Command::new("systemd-analyze")
        .args(["security", "--offline=yes", "--no-pager"])
        .arg(unit)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().unwrap_or_default();
    let score = last.split_whitespace().find(|word| word.parse::<f32>().is_ok());
    let score =
        score.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    let stated = format!("`systemd-analyze security` says {score}");
    assert!(DOCUMENTED.contains(&stated), "docs/operations.md does not state {stated:?}");
    let named: Vec<_> = setting("CapabilityBoundingSet");
    let missing: Vec<_> = named.iter().filter(|name| !DOCUMENTED.contains(*name)).collect();
    assert!(missing.is_empty(), "docs/operations.md does not say what {missing:?} are for");
}
