//! Virtual machines that no inventory knows are found by what their processes hold and are, whoever
//! started them, wherever their network goes.

#![expect(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "processes/curbed.rs"]
mod curbed;

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use detector_tests::artefacts;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::frames::Station;
use detector_tests::guest::{Guest, Image};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::needs::{Need, lacks};
use detector_tests::program::Program;
use detector_tests::scene::vm;
use detector_tests::{link, wait};
use serde_json::Value;
use sha2::{Digest, Sha256};

use curbed::{await_state, curbing, is_stopped};

/// A scan of all processes, under emulation of nothing but on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

const FAST: &str = "[scan]\ninterval = \"200ms\"\ngrace = \"300ms\"\n";
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// A VM without anything that is stopped before its first instruction.
const BARE: &[&str] = &[
    "-nodefaults",
    "-machine",
    "pc",
    "-m",
    "16",
    "-display",
    "none",
    "-S",
    "-L",
    "/usr/share/qemu",
    "-L",
    "/usr/share/seabios",
];
/// Where a copy of QEMU finds its parts.
const MODULES: (&str, &str) = ("QEMU_MODULE_DIR", "/usr/lib/x86_64-linux-gnu/qemu");

fn host() -> Host {
    let host = Host::new().unwrap();
    link::bridge(host.network(), "br0").unwrap();
    host
}

fn daemon<'a>(host: &'a Host, settings: Settings) -> Daemon<'a> {
    let more = format!("{}\n{FAST}", settings.more);
    Daemon::start(host, &Settings { uplinks: Vec::new(), more, ..settings }).unwrap()
}

/// The finding on a process.
fn finding(daemon: &Daemon<'_>, pid: u32) -> Value {
    wait::until(&format!("the finding on process {pid}"), PATIENCE, || {
        Ok(findings_on(daemon, pid).into_iter().next())
    })
    .unwrap()
}

fn findings_on(daemon: &Daemon<'_>, pid: u32) -> Vec<Value> {
    let list = daemon.ask(&["finding", "list"]).unwrap().json;
    let findings = list["findings"].as_array().unwrap().iter();
    findings.filter(|f| f["subject"]["process"]["pid"] == pid).cloned().collect()
}

fn evidence(finding: &Value, name: &str) -> String {
    let pairs = finding["evidence"].as_array().unwrap().iter().filter(|pair| pair[0] == name);
    pairs.map(|pair| pair[1].as_str().unwrap()).collect::<Vec<_>>().join("; ")
}

/// What the process list says of a process.
fn listed(daemon: &Daemon<'_>, pid: u32) -> Option<Value> {
    let list = daemon.ask(&["process", "list"]).unwrap().json;
    list["processes"].as_array().unwrap().iter().find(|p| p["pid"] == pid).cloned()
}

fn await_listed(daemon: &Daemon<'_>, pid: u32) -> Value {
    wait::until(&format!("process {pid} to be listed"), PATIENCE, || Ok(listed(daemon, pid)))
        .unwrap()
}

fn copy_of(program: impl AsRef<Path>, host: &Host, name: &str) -> PathBuf {
    let path = host.path(name);
    std::fs::copy(program, &path).unwrap();
    path
}

/// A hidden VM, how it is started, and what its finding says besides.
struct Case {
    name: &'static str,
    words: Vec<String>,
    severity: &'static str,
    expect: &'static [(&'static str, &'static str)],
}

fn words(before: &[&str], program: &Path, after: &[&str]) -> Vec<String> {
    let program = program.to_str().unwrap();
    before.iter().chain([&program]).chain(after).map(|word| (*word).to_owned()).collect()
}

fn start(host: &Host, words: &[String]) -> Program {
    let mut command = Command::new(&words[0]);
    Program::start(host, command.args(&words[1..]).env(MODULES.0, MODULES.1)).unwrap()
}

/// Waits for the finding on the process, which says what the case expects.
fn assert_told(daemon: &Daemon<'_>, case: &Case, pid: u32) {
    let finding = finding(daemon, pid);
    let name = case.name;
    assert_eq!(finding["kind"], "unknown-vm-process", "{name}");
    assert_eq!(finding["severity"], case.severity, "{name}: {finding}");
    for (what, expect) in case.expect {
        let said = evidence(&finding, what);
        assert!(said.contains(expect), "{name}: {what} is {said:?}, not {expect:?}");
    }
    let started = evidence(&finding, "started");
    assert!(started.starts_with("20") && started.ends_with('Z'), "{name}: {started}");
    let show = daemon.show(&["process", "show", &pid.to_string()]).unwrap();
    assert!(show.contains("unknown"), "{name}: {show}");
}

#[test]
fn each_vm_that_no_inventory_knows_is_a_finding() {
    let host = host();
    let qemu = Path::new(QEMU);
    let renamed = copy_of(QEMU, &host, "nginx");
    let holder = copy_of(artefacts::holder().unwrap(), &host, "sshd");
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2");
    // Whoever is nobody may enter.
    host.check(Command::new("chmod").arg("755").arg(host.directory())).unwrap();
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"];
    let elsewhere = ["unshare", "--net"];
    let user = ["-netdev", "user,id=n"];
    let cloud_hypervisor = copy_of(artefacts::holder().unwrap(), &host, "cron");
    let mut file = File::options().append(true).open(&cloud_hypervisor).unwrap();
    file.write_all(b"Launch a cloud-hypervisor VMM.").unwrap();
    drop(file);
    let cases = [
        Case {
            name: "started past the manager",
            words: words(&[], qemu, &[BARE, &user].concat()),
            severity: "high",
            expect: &[
                ("recognised", "QEMU (by the name"),
                ("network", "user-mode"),
                ("att&ck", "T1564.006"),
                ("att&ck", "T1572"),
                ("user", "root (0)"),
                ("command", "-netdev user"),
            ],
        },
        Case {
            name: "renamed",
            words: words(&[], &renamed, BARE),
            severity: "high",
            expect: &[("recognised", "QEMU (by what is in its file"), ("program", "/nginx")],
        },
        Case {
            name: "run by the loader",
            words: words(&[], loader, &[&[renamed.to_str().unwrap()], BARE].concat()),
            severity: "high",
            expect: &[("recognised", "QEMU (by what is in its file"), ("program", "/ld-")],
        },
        Case {
            name: "of an unprivileged user in another network namespace",
            words: words(&[&elsewhere[..], &nobody[..]].concat(), &renamed, BARE),
            severity: "high",
            expect: &[("user", "nobody (65534)"), ("network namespace", "(not the host's)")],
        },
        Case {
            name: "a tap that nobody lists",
            words: words(&[], &holder, &["tap", "tap-x"]),
            severity: "medium",
            expect: &[("holds", "tap tap-x"), ("program", "/sshd")],
        },
        Case {
            name: "a tap of the name of a listed one, elsewhere",
            words: words(&elsewhere, &holder, &["tap", "tap-a"]),
            severity: "medium",
            expect: &[("holds", "tap tap-a of another network namespace")],
        },
        // There is no such program to be had here: one that has its name, and one that has its help.
        Case {
            name: "of the name of Cloud Hypervisor",
            words: words(
                &[],
                &copy_of(artefacts::holder().unwrap(), &host, "cloud-hypervisor-static"),
                &["nothing"],
            ),
            severity: "high",
            expect: &[("recognised", "Cloud Hypervisor (by the name")],
        },
        Case {
            name: "with what is in Cloud Hypervisor",
            words: words(&[], &cloud_hypervisor, &["nothing"]),
            severity: "high",
            expect: &[("recognised", "Cloud Hypervisor (by what is in its file")],
        },
    ];
    let inventory = vm("a", "tap-a", Station::number(10));
    let daemon = daemon(&host, Settings { inventory, ..Settings::default() });
    let innocent = start(&host, &words(&[], &holder, &["nothing"]));
    // Its VM is listed with the port that it holds.
    let known = start(&host, &words(&[], &holder, &["tap", "tap-a"]));
    let running: Vec<_> = cases.iter().map(|case| (case, start(&host, &case.words))).collect();
    running.iter().for_each(|(case, program)| assert_told(&daemon, case, program.pid()));
    let known = await_listed(&daemon, known.pid());
    assert_eq!((&known["status"], &known["vm"]["name"]), (&"vm".into(), &"a".into()), "{known}");
    assert_eq!(findings_on(&daemon, known["pid"].as_u64().unwrap() as u32), [] as [Value; 0]);
    assert_eq!(listed(&daemon, innocent.pid()), None);
    println!("{}", daemon.show(&["process", "list"]).unwrap());
    println!("{}", daemon.show(&["finding", "list"]).unwrap());

    // What has ended is no finding any more.
    let pids: Vec<_> = running.iter().map(|(_, program)| program.pid()).collect();
    drop(running);
    wait::until("the findings to close", PATIENCE, || {
        let open = pids.iter().filter(|pid| !findings_on(&daemon, **pid).is_empty()).count();
        Ok((open == 0).then_some(()))
    })
    .unwrap();
}

/// Whatever the program is: what it holds is a VM.
#[test]
fn who_holds_a_vm_of_the_kernels_hypervisor_is_a_finding() {
    if lacks(&[Need::Kvm]) {
        return;
    }
    let host = host();
    let holder = copy_of(artefacts::holder().unwrap(), &host, "sshd");
    let daemon = daemon(&host, Settings::default());
    for mode in ["kvm", "kvm-thread", "kvm-behind-many"] {
        let case = Case {
            name: mode,
            words: words(&[], &holder, &[mode]),
            severity: "high",
            expect: &[("holds", "1 VM of the kernel's hypervisor"), ("program", "/sshd")],
        };
        let program = start(&host, &case.words);
        assert_told(&daemon, &case, program.pid());
    }
}

/// A process names itself anything and says that it is anybody.
#[test]
fn hostile_processes_are_escaped_and_bounded() {
    let host = host();
    let daemon = daemon(&host, Settings::default());
    let odd = copy_of(QEMU, &host, "x\u{1b}[31m\n) R 1 (\u{202e}gpj");
    let huge = "A".repeat(100_000);
    let name = format!("guest=web1\u{1b}[2J{huge}");
    let mut command = Command::new(&odd);
    command.args(BARE).args([
        "-name",
        &name[..4000],
        "-uuid",
        "d37ec707-0000-4000-8000-00000000000b",
    ]);
    command.args(["-fw_cfg", &format!("name=opt/x,string={huge}")]).env(MODULES.0, MODULES.1);
    let program = Program::start(&host, &mut command).unwrap();
    let finding = finding(&daemon, program.pid());
    assert!(finding.to_string().len() < 20_000, "{}", finding.to_string().len());
    assert!(evidence(&finding, "says it is").contains("d37ec707"), "{finding}");
    for words in [vec!["process", "list"], vec!["finding", "list"], vec!["status"]] {
        let shown = daemon.show(&words).unwrap();
        assert!(!shown.contains(['\u{1b}', '\u{202e}']), "{shown:?}");
    }

    // Processes that come and go while they are read leave the scan unimpressed.
    let storm = "for i in $(seq 2000); do /bin/true & done; wait; echo ready; exec cat";
    let _storm = Program::ready(&host, Command::new("sh").args(["-c", storm])).unwrap();
    drop(program);
    let after = Program::start(&host, Command::new(QEMU).args(BARE)).unwrap();
    self::finding(&daemon, after.pid());
    let status = daemon.ask(&["status"]).unwrap().json;
    assert!(!status.to_string().contains("source-lost"), "{status}");
}

fn digest(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn manifest(image: &Image) -> String {
    let media = [("disk", &image.disk), ("kernel", &image.kernel), ("initrd", &image.initrd)];
    let images = media.map(|(role, path)| {
        format!("[[image]]\nrole = \"{role}\"\nsha256 = \"{}\"\n", digest(path))
    });
    format!("id = \"lab\"\nstatus = \"approved\"\n{}", images.concat())
}

/// libvirt's own VM is known, whoever else says that it is that VM is not, and a way out that no
/// guard can hold is a finding on an approved VM too.
#[test]
fn a_managed_vm_is_known_and_its_unguarded_way_out_is_told() {
    let host = host();
    let image = Image::make(host.directory(), "base", "a lab image").unwrap();
    let libvirt = Libvirt::start(&host, None).unwrap();
    let settings = Settings {
        mode: "enforce",
        evidence: "digest",
        libvirt: true,
        templates: vec![("lab.toml".to_owned(), manifest(&image))],
        more: curbing("suspend", "guard = false"),
        ..Settings::default()
    };
    let daemon = daemon(&host, settings);
    let guest = Guest::new("web1", 11);
    image.overlay(&guest.overlay(host.directory())).unwrap();
    let user = "<interface type='user'><mac address='52:54:00:00:00:77'/><model type='virtio'/>\
                <rom enabled='no'/></interface>";
    let domain = guest.domain(&image, "br0", host.directory());
    let domain = domain.replacen("<interface ", &format!("{user}<interface "), 1);
    let path = host.path("web1.xml");
    std::fs::write(&path, domain).unwrap();
    libvirt.virsh(&["define", &path.to_string_lossy()]).unwrap();
    libvirt.start_domain(&guest).unwrap();

    let pid = wait::until("libvirt's record of the process", PATIENCE, || {
        let mut cat = Command::new("cat");
        let said = host.check(cat.arg("/run/libvirt/qemu/web1.pid"));
        Ok(said.ok().and_then(|text| text.trim().parse::<u32>().ok()))
    })
    .unwrap();
    let way = daemon.await_finding("unguarded-attachment", &guest.uuid, PATIENCE).unwrap();
    assert_eq!(evidence(&way, "user-mode"), "52:54:00:00:00:77 user slirp", "{way}");
    assert_eq!(way["severity"], "medium");
    wait::until("the VM to be approved", PATIENCE, || {
        let vm = daemon.ask(&["vm", "show", "web1"])?.json;
        Ok((vm["status"] == "approved").then_some(()))
    })
    .unwrap();

    // Somebody else says that it is the same VM, in every word.
    let said = host.check(Command::new("cat").arg(format!("/proc/{pid}/cmdline"))).unwrap();
    assert!(said.contains(&guest.uuid), "{said}");
    let claims = ["-name", "guest=web1,debug-threads=on", "-uuid", &guest.uuid];
    let twin = Program::start(&host, Command::new(QEMU).args(BARE).args(claims)).unwrap();
    let finding = finding(&daemon, twin.pid());
    assert!(evidence(&finding, "says it is").contains("web1"), "{finding}");

    let known = await_listed(&daemon, pid);
    assert_eq!((&known["status"], &known["vm"]["name"]), (&"vm".into(), &"web1".into()));
    assert_eq!(findings_on(&daemon, pid), [] as [Value; 0]);
    // Libvirt's runs on, and the other one does not.
    await_state(&host, twin.pid(), true);
    assert!(!is_stopped(&host, pid));
    // Without libvirt, its VM is the one it was.
    drop(libvirt);
    daemon.await_finding("source-lost", "qemu:///system", PATIENCE).unwrap();
    assert_eq!(findings_on(&daemon, pid), [] as [Value; 0]);
    assert_eq!(findings_on(&daemon, twin.pid()).len(), 1);
    assert!(is_stopped(&host, twin.pid()) && !is_stopped(&host, pid));
}
