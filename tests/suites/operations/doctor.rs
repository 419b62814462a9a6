//! The doctor looks at a real host, and touches nothing.

use std::process::Command;

use detector_tests::daemon::{Answer, Daemon};
use detector_tests::scene::{Scene, vm};
use serde_json::Value;

use super::A;

fn of<'a>(answer: &'a Answer, check: &str) -> Vec<&'a Value> {
    let all = answer.json["checks"].as_array().unwrap_or_else(|| panic!("{answer:?}"));
    all.iter().filter(|advice| advice["check"] == check).collect()
}

fn says(answer: &Answer, check: &str, status: &str, part: &str) {
    let found = of(answer, check);
    let says = |advice: &&&Value| {
        advice["status"] == status && advice["what"].as_str().unwrap().contains(part)
    };
    assert!(found.iter().any(|advice| says(&advice)), "{check} {status} {part}: {found:#?}");
    for advice in found.iter().filter(|advice| advice["status"] != "ok") {
        assert!(advice["mend"].as_str().is_some_and(|mend| !mend.is_empty()), "{advice}");
    }
}

#[test]
fn it_tells_what_is_the_matter_and_how_to_mend_it() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let healthy = daemon.ask(&["doctor"]).unwrap();
    says(&healthy, "daemon", "ok", "runs");
    says(&healthy, "pins", "ok", "enforced");
    says(&healthy, "bpffs", "ok", "BPF file system");
    says(&healthy, "kernel", "ok", "Linux");
    says(&healthy, "uplinks", "ok", "up0 leads out");
    says(&healthy, "config", "ok", "can be used");
    says(&healthy, "vhost", "ok", "passes guards");
    assert!(of(&healthy, "conflicts").iter().all(|a| a["status"] == "ok"), "{healthy:?}");

    daemon.terminate().unwrap();
    let text = daemon.configuration().unwrap();
    daemon.write_configuration(&text.replace("[\"up0\"]", "[]")).unwrap();
    let unnamed = daemon.ask(&["doctor"]).unwrap();
    assert_eq!(unnamed.code, 3);
    says(&unnamed, "daemon", "warning", "no daemon answers");
    says(&unnamed, "uplinks", "warning", "br0 has no uplink");

    daemon.write_configuration(&text.replace("mode =", "mood =")).unwrap();
    let broken = daemon.ask(&["doctor"]).unwrap();
    says(&broken, "config", "problem", "detector.toml:1:1");

    daemon.write_configuration(&text).unwrap();
    let version = detector_common::maps::SCHEMA_VERSION;
    let script = format!(
        "mv /sys/fs/bpf/detector/{version} /sys/fs/bpf/detector/1; chmod 666 {}",
        host.path("inventory.toml").display()
    );
    host.check(Command::new("sh").args(["-c", &script])).unwrap();
    let other = daemon.ask(&["doctor"]).unwrap();
    says(&other, "pins", "problem", "another version");
    says(&other, "permissions", "problem", "everybody may write");
}

#[test]
fn it_works_without_root_and_changes_nothing() {
    let scene = Scene::new().unwrap();
    let host = scene.host();
    let daemon = Daemon::configure(host, &detector_tests::daemon::Settings::default()).unwrap();
    let before = host.network().ip("link show").unwrap();
    let line = format!(
        "chmod -R a+rX {}; exec setpriv --reuid 65534 --regid 65534 --clear-groups {} doctor",
        host.directory().display(),
        daemon.command_line()
    );
    let output = host.output(Command::new("sh").args(["-c", &line])).unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(3), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("not known:") && text.contains("CAP_NET_ADMIN"), "{text}");
    assert!(text.contains("Linux"), "{text}");
    assert_eq!(host.network().ip("link show").unwrap(), before);
    let pins = host.output(Command::new("ls").arg("/sys/fs/bpf/detector")).unwrap();
    assert!(!pins.status.success(), "nothing has been pinned");
    assert!(!scene.host().path("state").exists());
}
