//! The monitor: a package and a service of its own, which has no privilege.

use std::process::Command;

use detector_tests::monitor::{PASSWORD, Visitor};
use detector_tests::{artefacts, run};
use serde_json::json;

use super::deb::{install, put};
use super::*;

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/detector-monitor.service");
const DOCUMENTED: &str = include_str!("../../../docs/monitor.md");

fn says(system: &Debian, verb: &str) -> String {
    let said = system.output(&format!("systemctl {verb} detector-monitor")).unwrap();
    String::from_utf8_lossy(&said.stdout).trim().to_owned()
}

#[test]
fn an_administrator_starts_it_and_people_act_by_it() {
    let system = with_a_port();
    for name in ["detector", "detector-monitor"] {
        put(&system, &artefacts::packages(name, "deb").unwrap()[0], name);
        let (fine, said) = install(&system, name);
        assert!(fine, "{said}");
    }
    assert_eq!(
        (says(&system, "is-enabled"), says(&system, "is-active")),
        ("disabled".into(), "inactive".into())
    );
    assert_eq!(owner(&system, "/etc/detector/monitor-accounts"), "root:detector-monitor");

    system
        .check(&format!(
            "sed -i 's/^\\[roles\\]/&\\nadminister = [\"detector-monitor\"]/' /etc/detector/config.toml && \
             systemctl restart detector && \
             echo '{PASSWORD}' | detector-monitor account add otto --role operate && \
             systemctl enable --now detector-monitor"
        ))
        .unwrap();
    await_guard(&system);
    let mut otto = Visitor::new(system.network(), 8470);
    wait::until("the monitor", PATIENCE, || Ok(otto.log_in("otto").ok())).unwrap();
    let host = wait::until("the host", PATIENCE, || {
        let hosts = otto.json("/api/v1/hosts")?;
        Ok(hosts[0]["ports"].as_object().and_then(|_| hosts[0]["name"].as_str().map(str::to_owned)))
    })
    .unwrap();
    let action = json!({ "action": "quarantine", "target": "port:tap-a", "reason": "incident 42" });
    let done = otto.act(&host, &action).unwrap();
    assert_eq!(done.status, 200, "{}", done.text);
    assert!(is_quarantined(&system));
    let audit = system.check("detector audit list --output json").unwrap();
    assert!(audit.contains("otto (operate)"), "{audit}");

    let uid = system.check("id --user detector-monitor").unwrap();
    let main = "systemctl show --property=MainPID --value detector-monitor";
    let pid = system.check(main).unwrap();
    let status = system.check(&format!("cat /proc/{}/status", pid.trim())).unwrap();
    for line in [
        &format!("Uid:\t{0}\t{0}\t{0}\t{0}", uid.trim()),
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
    ] {
        assert!(status.contains(line), "{line}: {status}");
    }

    // An upgrade has it start anew, where it ran.
    let again = "apt-get install --yes --reinstall /root/detector-monitor.deb";
    system.check(again).unwrap();
    assert_eq!(says(&system, "is-active"), "active");
    assert_ne!(system.check(main).unwrap(), pid);
    system.check("systemctl disable --now detector-monitor").unwrap();
    system.check(again).unwrap();
    assert_eq!(says(&system, "is-active"), "inactive");
    system.check("systemctl start detector-monitor").unwrap();

    // Neither takes the other one with it.
    system.check("apt-get purge --yes detector").unwrap();
    assert_off(&system);
    assert_eq!(says(&system, "is-active"), "active");
    assert!(system.inside("/etc/detector/monitor.toml").exists());
    assert!(!system.inside("/etc/detector/config.toml").exists());
    system.check("apt-get purge --yes detector-monitor").unwrap();
    assert_eq!(says(&system, "is-active"), "inactive");
    assert!(!system.inside("/etc/detector").exists());
}

/// The score is stated where people read it.
#[test]
fn the_score_is_as_stated() {
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=yes", "--no-pager", UNIT]);
    let result = analyze.output();
    let text = run::checked(&analyze, result).unwrap();
    let last = text.lines().last().unwrap_or_default();
    let score = last.split_whitespace().find(|word| word.parse::<f32>().is_ok()).unwrap();
    let stated = format!("`systemd-analyze security` says {score}");
    assert!(DOCUMENTED.contains(&stated), "docs/monitor.md does not state {stated:?}");
}
