//! libvirt's hook where the daemon does not answer: it waits where the daemon may come back, and what
//! becomes of the start is what the policy says.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use detector_tests::daemon::Settings;
use detector_tests::link;

use super::*;

/// How the daemon has gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Killed,
    /// A minute ago, by an administrator.
    Stopped,
    /// It is there, and does not answer.
    Hung,
    /// The host was started anew, and nothing is in force yet.
    NeverRan,
}

/// The description of a VM that no template approves, and its image.
fn rogue(scene: &Scene) -> String {
    let image = scene.host().path("rogue.img");
    std::fs::write(&image, [7; 4096]).unwrap();
    format!(
        "<domain type='kvm'><name>b</name><uuid>00000000-0000-4000-8000-000000000007</uuid>\
         <os><type>hvm</type><boot dev='hd'/></os><devices><disk type='file' device='disk'>\
         <driver type='raw'/><source file='{}'/><target dev='vda'/></disk></devices></domain>",
        image.display()
    )
}

fn daemon<'a>(scene: &'a Scene, mode: &'static str, admission: &str) -> Daemon<'a> {
    let more = format!("[admission]\n{admission}");
    Daemon::start(scene.host(), &Settings { mode, evidence: "digest", more, ..Settings::default() })
        .unwrap()
}

const MUTE: &str = "the VM b starts mute";
const REFUSED: &str = "the VM b may not start (admission.on_timeout)";
const UNGATED: &str = "may not start, since nothing in the kernel keeps it mute";
const UNJUDGED: &str = "starts unjudged (mode is observe)";

#[test]
fn what_becomes_of_a_start_without_the_daemon() {
    let cases = [
        ("enforce", Gone::Killed, "mute", true, MUTE),
        ("enforce", Gone::Killed, "refuse", true, REFUSED),
        ("enforce", Gone::Stopped, "mute", false, MUTE),
        ("enforce", Gone::Stopped, "refuse", false, REFUSED),
        ("enforce", Gone::Hung, "refuse", true, REFUSED),
        ("enforce", Gone::NeverRan, "mute", true, UNGATED),
        ("observe", Gone::Killed, "refuse", false, UNJUDGED),
        ("observe", Gone::Stopped, "refuse", false, UNJUDGED),
        ("observe", Gone::NeverRan, "mute", false, UNJUDGED),
    ];
    for (mode, gone, on_timeout, waits, expected) in cases {
        let scene = Scene::new().unwrap();
        let timeout = Duration::from_secs(if waits { 1 } else { 120 });
        let rules = format!("timeout = \"{}s\"\non_timeout = {on_timeout:?}\n", timeout.as_secs());
        let mut daemon = daemon(&scene, mode, &rules);
        match gone {
            Gone::Killed => daemon.kill().unwrap(),
            Gone::Hung => daemon.freeze().unwrap(),
            Gone::Stopped => {
                daemon.terminate().unwrap();
                let mut options = std::fs::File::options();
                let mark = options.write(true).open(scene.host().path("state/stopped")).unwrap();
                mark.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
            }
            Gone::NeverRan => {
                daemon.kill().unwrap();
                scene.host().forget_pins().unwrap();
            }
        }
        let began = Instant::now();
        let hook = daemon.ask_hook("b", &rogue(&scene)).unwrap().wait_with_output().unwrap();
        let (took, said) = (began.elapsed(), String::from_utf8_lossy(&hook.stderr).into_owned());
        let case = format!("{mode}, {gone:?}, {on_timeout}: {said}");
        assert!(said.contains(expected), "{case}");
        let starts = if expected.contains("may not") { 1 } else { 0 };
        assert_eq!(hook.status.code(), Some(starts), "{case}");
        assert_eq!(took >= timeout, waits, "{case}, after {took:?}");
    }
}

/// What a person has said last counts, and not what the configuration began with.
#[test]
fn a_start_before_the_daemon_goes_by_the_confirmed_mode() {
    for (configured, said, expected) in
        [("observe", "enforce", UNGATED), ("enforce", "observe", UNJUDGED)]
    {
        let scene = Scene::new().unwrap();
        let mut daemon = daemon(&scene, configured, "timeout = \"1s\"\non_timeout = \"mute\"\n");
        let answer = daemon.ask(&[said]).unwrap();
        assert_eq!(answer.code, 0, "{}", answer.complaint);
        daemon.kill().unwrap();
        scene.host().forget_pins().unwrap();
        let hook = daemon.ask_hook("b", &rogue(&scene)).unwrap().wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&hook.stderr);
        assert!(text.contains(expected), "{configured}, then {said}: {text}");
    }
}

/// A start that comes while the daemon is away is judged by the daemon that comes back.
#[test]
fn a_start_waits_for_a_daemon_that_comes_back() {
    for killed in [true, false] {
        let scene = Scene::new().unwrap();
        let rules = "timeout = \"120s\"\non_timeout = \"mute\"\ndenied = \"refuse\"\n";
        let mut daemon = daemon(&scene, "enforce", rules);
        if killed { daemon.kill() } else { daemon.terminate() }.unwrap();
        let hook = daemon.ask_hook("b", &rogue(&scene)).unwrap();
        daemon.run().unwrap();
        let hook = hook.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&hook.stderr);
        assert_eq!(hook.status.code(), Some(1), "{said}");
        assert!(said.contains("[template-registered]"), "{said}");
    }
}

/// libvirt's hook as it is installed, where its program is gone, or crashes once it has read everything.
#[test]
fn where_the_program_does_not_work_the_gates_count() {
    let scene = Scene::new().unwrap();
    let network = scene.host().network();
    let mut daemon = daemon(&scene, "observe", "");
    assert_eq!(daemon.ask(&["enforce"]).unwrap().code, 0);
    daemon.kill().unwrap();
    link::bridge(network, "br9").unwrap();
    let path = |name: &str| scene.host().path(name).display().to_string();
    let crashing = path("crashing");
    std::fs::write(&crashing, "#!/bin/sh\ncat >/dev/null\nkill -SEGV $$\n").unwrap();
    std::fs::set_permissions(&crashing, Permissions::from_mode(0o755)).unwrap();
    let hook = include_str!("../../../packaging/libvirt-hook-qemu");
    let hook = hook.replace("state=/var/lib/detector", &format!("state={}", path("state")));
    let starts = |program: &str, xml: &str| {
        let hook = hook.replace("detector=/usr/sbin/detector", &format!("detector={program}"));
        std::fs::write(path("hook"), hook).unwrap();
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "printf %s \"$1\" | sh \"$2\" b start begin -",
            "sh",
            xml,
            &path("hook"),
        ]);
        let output = scene.host().output(&mut shell).unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("does not work"), "{said}");
        output.status.success()
    };
    let nic = |kind: &str, source: &str| {
        format!("<interface type='{kind}'>\n<source {source}/>\n</interface>\n")
    };
    let (gated, ungated) = (nic("bridge", "bridge='br0'"), nic("network", "bridge='br9'"));
    let cases = [
        (gated.clone(), true),
        (ungated.clone(), false),
        (gated.clone() + &ungated, false),
        (nic("bridge", "bridge='*'"), false),
        (nic("bridge", "bridge='nowhere'"), false),
        (gated.clone() + &nic("direct", "dev='up0' mode='bridge'"), false),
        // Nobody knows where it is plugged in, and not every bridge has a gate.
        (String::new(), false),
    ];
    for program in ["/nonexistent", crashing.as_str()] {
        for (xml, expect) in &cases {
            assert_eq!(starts(program, xml), *expect, "{program} {xml}");
        }
    }
    network.ip("link del br9").unwrap();
    assert!(starts("/nonexistent", ""), "every bridge has a gate");
    scene.host().forget_pins().unwrap();
    assert!(!starts("/nonexistent", &gated), "nothing is in force");
}
