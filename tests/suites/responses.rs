//! What the policy does about a VM that it denies, with a real libvirt.

use std::time::{Duration, Instant};

use detector_core::decide::policy::DEFAULT;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::guest::{Guest, Image};
use detector_tests::host::Host;
use detector_tests::libvirt::Libvirt;
use detector_tests::{link, wait};

const PATIENCE: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(20);

const RULES: &str = r#"
@id("no-web")
@sentence("No VM is called web.")
forbid (principal, action == Action::"join", resource)
unless { principal has name && principal.name != "web" };

@id("twenty-seconds")
@grace("20s")
permit (principal, action == Action::"grace", resource);

@id("hold-it")
permit (principal, action == Action::"pause", resource);

@id("leased")
@rule("dhcp")
permit (principal, action == Action::"address-rule", resource == Network::"br0");
"#;

#[test]
fn a_denied_vm_has_its_time_over_a_restart_and_is_then_suspended_once() {
    let host = Host::new().unwrap();
    link::bridge(host.network(), "br0").unwrap();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let settings = Settings {
        evidence: "digest",
        libvirt: true,
        templates: vec![("lab.toml".to_owned(), image.manifest("lab").unwrap())],
        more: "default_rule = \"any\"\n".to_owned(),
        ..Settings::default()
    };
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let guests = [Guest::new("web", 41), Guest::new("db", 42)];
    let taps = guests.each_ref().map(|guest| {
        libvirt.define(guest, &image, "br0").unwrap();
        libvirt.start_domain(guest).unwrap();
        let tap = libvirt.tap(guest).unwrap();
        daemon.await_port(&tap, "granted", PATIENCE).unwrap();
        tap
    });
    let [web, db] = &guests;
    let state = |guest: &Guest| libvirt.virsh(&["domstate", &guest.name]).unwrap();

    let new = host.path("policy.new");
    std::fs::write(&new, format!("{RULES}{DEFAULT}")).unwrap();
    std::fs::rename(&new, host.path("policy.cedar")).unwrap();
    let finding = daemon.await_finding("rogue-vm", "no-web", PATIENCE).unwrap();
    assert!(finding.to_string().contains("keeps what is in force until"), "{finding}");
    let told = Instant::now();
    daemon.await_port(&taps[0], "kept", PATIENCE).unwrap();
    assert_eq!(state(web).trim(), "running");
    // The other one is approved, and its addresses have to be leased from now on.
    wait::until("the address rule of the policy", PATIENCE, || {
        let shown = daemon.ask(&["port", "show", &taps[1]])?.json;
        Ok(shown["identities"].to_string().contains("dhcp").then_some(()))
    })
    .unwrap();

    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_port(&taps[0], "kept", PATIENCE).unwrap();
    // Libvirt does not answer when the time is over, and the daemon ends before it does: what it has begun it
    // takes up again.
    libvirt.freeze().unwrap();
    daemon.await_port(&taps[0], "isolated", PATIENCE).unwrap();
    assert!(told.elapsed() < GRACE + GRACE / 2, "a restart began it anew: {:?}", told.elapsed());
    daemon.kill().unwrap();
    libvirt.resume().unwrap();
    assert_eq!(state(web).trim(), "running");
    daemon.run().unwrap();
    wait::until("the VM to be suspended", PATIENCE, || {
        Ok((state(web).trim() == "paused").then_some(()))
    })
    .unwrap();
    assert_eq!(state(db).trim(), "running");
    daemon.await_port(&taps[1], "granted", PATIENCE).unwrap();

    // A person has the last word, also over another restart.
    wait::until("what has come of it to be kept", PATIENCE, || {
        let kept = std::fs::read_to_string(host.path("state/pauses.json"))?;
        Ok(kept.contains(&web.uuid).then_some(()))
    })
    .unwrap();
    libvirt.virsh(&["resume", &web.name]).unwrap();
    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_port(&taps[0], "isolated", PATIENCE).unwrap();
    wait::pause(Duration::from_secs(3));
    assert_eq!(state(web).trim(), "running");
    assert!(!format!("{:?}", daemon.findings().unwrap()).contains("pause-failed"));
}

/// A guest that does not hear is off all the same, and its neighbour goes on.
#[test]
fn a_denied_vm_is_shut_down_by_its_power_where_its_guest_does_not_listen() {
    const SHUT_DOWN: &str =
        "@id(\"off\") permit (principal, action == Action::\"shut-down\", resource);\n";
    let host = Host::new().unwrap();
    link::bridge(host.network(), "br0").unwrap();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let settings = Settings {
        evidence: "digest",
        libvirt: true,
        templates: vec![("lab.toml".to_owned(), image.manifest("lab").unwrap())],
        more: "default_rule = \"any\"\n[remediation]\nshutdown_grace = \"2s\"\n[mitigation]\nmax_vms = 1\n"
            .to_owned(),
        ..Settings::default()
    };
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    let libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let guests = [Guest::new("web", 41), Guest::new("web-2", 42)];
    for guest in &guests {
        libvirt.define(guest, &image, "br0").unwrap();
        libvirt.start_domain(guest).unwrap();
        daemon.await_port(&libvirt.tap(guest).unwrap(), "granted", PATIENCE).unwrap();
    }
    let nobody = RULES.replace("principal has name && principal.name != \"web\"", "false");
    let denied = nobody.split("@id(\"twenty-seconds\")").next().unwrap().to_owned();
    let new = host.path("policy.new");
    std::fs::write(&new, format!("{denied}{SHUT_DOWN}{DEFAULT}")).unwrap();
    std::fs::rename(&new, host.path("policy.cedar")).unwrap();
    daemon.await_finding("blast-radius", "host", PATIENCE).unwrap();
    let states = || {
        let mut states = guests
            .each_ref()
            .map(|guest| libvirt.virsh(&["domstate", &guest.name]).unwrap().trim().to_owned());
        states.sort();
        states
    };
    wait::until("one VM to be off", PATIENCE, || {
        Ok((states() == ["running", "shut off"]).then_some(()))
    })
    .unwrap();
    wait::pause(Duration::from_secs(3));
    assert_eq!(states(), ["running", "shut off"], "who is held goes on");
    let approve = ["mitigation", "approve", "--all", "--reason", "a test"];
    assert_eq!(daemon.ask(&approve).unwrap().code, 0);
    wait::until("both VMs to be off", PATIENCE, || {
        Ok((states() == ["shut off", "shut off"]).then_some(()))
    })
    .unwrap();
}

/// While libvirt is away nobody can ask a guest: it is asked when libvirt is back, and has all of its time from then on.
#[test]
fn a_guest_that_nobody_could_ask_keeps_its_power_until_it_was_asked() {
    const SHUT_DOWN: &str =
        "@id(\"off\") permit (principal, action == Action::\"shut-down\", resource);\n";
    const TIME: Duration = Duration::from_secs(3);
    let host = Host::new().unwrap();
    link::bridge(host.network(), "br0").unwrap();
    let image = Image::make(host.directory(), "base", "an image that was reviewed").unwrap();
    let settings = Settings {
        evidence: "digest",
        libvirt: true,
        templates: vec![("lab.toml".to_owned(), image.manifest("lab").unwrap())],
        more: "default_rule = \"any\"\n[remediation]\nshutdown_grace = \"3s\"\n".to_owned(),
        ..Settings::default()
    };
    let mut daemon = Daemon::configure(&host, &settings).unwrap();
    let mut libvirt = Libvirt::start(&host, Some(&daemon.hook())).unwrap();
    daemon.run().unwrap();
    let web = Guest::new("web", 41);
    libvirt.define(&web, &image, "br0").unwrap();
    libvirt.start_domain(&web).unwrap();
    let tap = libvirt.tap(&web).unwrap();
    daemon.await_port(&tap, "granted", PATIENCE).unwrap();

    libvirt.kill().unwrap();
    let denied = RULES.split("@id(\"twenty-seconds\")").next().unwrap().to_owned();
    let new = host.path("policy.new");
    std::fs::write(&new, format!("{denied}{SHUT_DOWN}{DEFAULT}")).unwrap();
    std::fs::rename(&new, host.path("policy.cedar")).unwrap();
    daemon.await_port(&tap, "isolated", PATIENCE).unwrap();
    daemon.await_finding("pause-failed", "web", PATIENCE).unwrap();
    wait::pause(2 * TIME);
    libvirt.restart().unwrap();
    wait::until("the VM to be off", PATIENCE, || {
        Ok((libvirt.virsh(&["domstate", "web"])?.trim() == "shut off").then_some(()))
    })
    .unwrap();
    let records = wait::until("its records", PATIENCE, || {
        let words = ["audit", "list", "--kind", "pause", "--limit", "0"];
        let all = daemon.ask(&words)?.json["records"].as_array().cloned().unwrap_or_default();
        Ok(all.iter().any(|one| one["to"] == "off").then_some(all))
    })
    .unwrap();
    let happened: Vec<_> = records.iter().filter_map(|one| one["to"].as_str()).collect();
    assert_eq!(happened, ["asked", "unasked", "shutting-down", "asked", "off"], "{records:?}");
    assert!(records[3]["why"].to_string().contains("its guest was asked at "), "{records:?}");
    let at = |number: usize| -> jiff::Timestamp {
        records[number]["at"].as_str().unwrap().parse().unwrap()
    };
    let time = at(3).duration_since(at(2));
    assert!(time >= TIME.try_into().unwrap(), "{time:?}: {records:?}");
}
