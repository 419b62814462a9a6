use std::{collections::BTreeSet, path::Path};

use super::*;
use crate::{
    api::view::{Reloaded, health as health_of},
    bpf::{PinnedLink, Remains},
    cli::{
        detach, health,
        ready::{self, Readiness},
        reload,
        standing::Standing,
    },
    config::reload::Kept,
};

#[test]
fn a_reload() {
    let kept = |key: &str, restart, why: &str| Kept { key: key.into(), restart, why: why.into() };
    let view = Reloaded {
        refused: None,
        changed: vec!["network.uplinks".into(), "flood.above".into()],
        kept: vec![
            kept("paths.state", true, "it says which daemon this is"),
            kept("mode", false, "the mode is changed with `detector enforce`"),
        ],
        templates: 4,
        rules: 7,
        vms: 2,
        trouble: vec![format!("/etc/detector/inventory.toml:3:1: {HOSTILE}")],
    };
    let table = "\
Changed      network.uplinks, flood.above
Kept         paths.state: it says which daemon this is; it holds from the next start on
Kept         mode: the mode is changed with `detector enforce`
Templates    4
Rules        7
Inventory    2 VMs
Not used     /etc/detector/inventory.toml:3:1: web\\u{1b}[2J\\u{202e}1\\n
";
    check("reload", table, |output| reload::print(output, &view));
}

#[test]
fn the_health() {
    let mut status = a_status();
    let table = "\
Health       degraded
Mode         observe
inventory    qemu:///system is lost: no \\u{1b} route
";
    check("degraded", table, |output| health::print(output, &health_of(&status)));
    status.sources[0].healthy = true;
    // A rogue VM is no trouble of the detector's own.
    assert!(!status.findings.is_empty());
    let table = "Health       healthy\nMode         observe\n";
    check("healthy", table, |output| health::print(output, &health_of(&status)));
}

#[test]
fn whether_vms_may_start() {
    let cases = [
        (Standing::Gated, "yes", "every bridge is gated"),
        (Standing::Observed, "yes", "verdicts are only observed"),
        (Standing::Off, "yes", "the kernel's command line has detector.off"),
        (Standing::Open("no gate is on br9, eth1".into()), "no", "no gate is on br9, eth1"),
    ];
    for (standing, ready, why) in cases {
        let table = format!("Ready        {ready}\nWhy          {why}\n");
        check(ready, &table, |output| ready::print(output, &Readiness::of(&standing)));
    }
}

/// What hurts the detector's own work, and what is about guests.
#[test]
fn what_degrades() {
    let cases = [
        (FindingKind::RogueVm, None),
        (FindingKind::Flood, None),
        (FindingKind::Maintenance, None),
        (FindingKind::Tampered, Some("enforcement")),
        (FindingKind::EnforcementFailed, Some("enforcement")),
        (FindingKind::PolicyInvalid, Some("policy")),
        (FindingKind::EntryRejected, Some("config")),
        (FindingKind::ClockJumped, Some("clock")),
        (FindingKind::EnforcingLapsed, Some("mode")),
    ];
    for (kind, part) in cases {
        let mut status = a_status();
        status.sources.clear();
        status.findings = vec![FindingView { kind, ..a_finding() }];
        let health = health_of(&status);
        let parts: Vec<_> = health.degraded.iter().map(|trouble| trouble.part.as_str()).collect();
        assert_eq!(parts, Vec::from_iter(part), "{kind:?}");
        assert_eq!(health.is_healthy(), part.is_none());
    }
}

#[test]
fn what_would_be_taken_off() {
    let link = |ifindex, hook: &str, interface: Option<&str>| PinnedLink {
        path: format!("/p/1/links/{ifindex}-{hook}").into(),
        ifindex,
        hook: hook.into(),
        interface: interface.map(str::to_owned),
    };
    let found = Remains {
        versions: BTreeSet::from([1, 3]),
        links: vec![link(7, "ingress", Some("vnet0")), link(9, "egress", None)],
        maps: vec!["/p/1/maps/A".into()],
        quarantines: 2,
        unknown: vec!["/p/x".into()],
        ..Remains::default()
    };
    let table = "\
Would be removed:
Pins         /p (map schema 1, 3)
Programs     vnet0, 1 of interfaces that are gone
Maps         1
Passages     none
Forwarding   none
Quarantines  2 end with it
Unknown      /p/x is not known, and stays

Nothing has been changed. `detector detach --all --yes` does it.
/h/qemu still asks the daemon before each start: remove it too.
";
    let place = detach::Place { pins: Path::new("/p"), hooks: vec!["/h/qemu".to_owned()] };
    check("detach", table, |output| detach::print(output, &found, &place, false));
}
