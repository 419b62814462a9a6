//! What a host tells, and that nothing depends on whether it can.

use detector_core::fleet::subject;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::nats::Nats;
use detector_tests::scene::{PATIENCE, Scene};

use super::{await_that, daemon};

#[test]
fn a_host_goes_on_without_its_fleet_and_catches_up() {
    let scene = Scene::new().unwrap();
    let mut nats = Nats::found(scene.host()).unwrap();
    let mut daemon = daemon(&scene, &nats, "");
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let monitor = nats.monitor().unwrap();
    let state = || monitor.value(subject::HOSTS, "h1").filter(|said| said["v"] == 1);
    let said = await_that(&daemon, "the state of the host", state);
    assert_eq!((&said["from"], &said["body"]["mode"]), (&"h1".into(), &"enforce".into()), "{said}");
    let page = || monitor.value(subject::VMS, "h1.0");
    let granted = |name: &str| {
        let page = page()?;
        let vms = page["body"]["vms"].as_array()?.clone();
        let vm = vms.into_iter().find(|vm| vm["name"] == name)?;
        (vm["nics"][0]["status"] == "granted").then_some(vm)
    };
    let vm = await_that(&daemon, "the VM that is granted", || granted("a"));
    assert_eq!(vm["status"], "approved", "{vm}");

    let stray = scene.plug("stray0").unwrap();
    let news = |event: &str, port: &str| {
        let bodies = monitor.bodies(subject::FINDINGS).ok()?;
        bodies.into_iter().find(|body| {
            body["event"] == event
                && body["kind"] == "unknown-port"
                && body.to_string().contains(port)
        })
    };
    await_that(&daemon, "the finding", || news("opened", "stray0"));

    // Away: a grant, a finding that opens and one that closes, and the daemon is killed meanwhile.
    nats.kill().unwrap();
    daemon.await_finding("fleet-lost", "fleet", PATIENCE).unwrap();
    let _b = scene.plug_granted(&daemon, "tap-b").unwrap();
    drop(stray);
    let _other = scene.plug("stray1").unwrap();
    daemon.await_finding("unknown-port", "stray1", PATIENCE).unwrap();
    await_that(&daemon, "both to wait", || {
        let list = daemon.ask(&["alert", "list"]).unwrap().json["alerts"].to_string();
        (list.contains("closed") && list.contains("stray1")).then_some(())
    });
    daemon.kill().unwrap();
    daemon.run().unwrap();
    daemon.await_port("tap-b", "granted", PATIENCE).unwrap();

    nats.start().unwrap();
    await_that(&daemon, "what was granted meanwhile", || granted("b"));
    await_that(&daemon, "what closed meanwhile", || news("closed", "stray0"));
    await_that(&daemon, "what opened meanwhile", || news("opened", "stray1"));
    daemon.await_no_finding("fleet-lost", PATIENCE).unwrap();
    // Each once, however often it was sent, and in the order of the chain.
    let mut ids: Vec<_> = monitor
        .bodies(subject::FINDINGS)
        .unwrap()
        .iter()
        .map(|body| body["id"].to_string())
        .collect();
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all);
    let head = || {
        daemon.ask(&["audit", "list", "--limit", "1"]).unwrap().json["records"][0]["seq"].as_u64()
    };
    let wanted = head().unwrap();
    await_that(&daemon, "the audit", || {
        let bodies = monitor.bodies(subject::AUDIT).ok()?;
        let records =
            bodies.iter().flat_map(|body| body["records"].as_array().cloned().unwrap_or_default());
        let seqs: Vec<_> = records.filter_map(|record| record["seq"].as_u64()).collect();
        (*seqs.last()? >= wanted)
            .then(|| assert!(seqs.iter().copied().eq(1..=*seqs.last().unwrap()), "{seqs:?}"))
    });
}

#[test]
fn what_opens_is_told_at_once_however_seldom_all_is_looked_at() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let fleet = nats.section("h1", "").unwrap().replace("\"200ms\"", "\"5m\"");
    let more = format!("unknown_port_grace = \"200ms\"\n{fleet}");
    let settings = Settings { more, ..Settings::default() };
    let daemon = Daemon::start(scene.host(), &settings).unwrap();
    let monitor = nats.monitor().unwrap();
    await_that(&daemon, "the first report", || monitor.value(subject::HOSTS, "h1"));
    let open = || monitor.value(subject::VMS, "h1.open-0").map(|page| page.to_string());
    let stray = scene.plug("stray0").unwrap();
    await_that(&daemon, "what is open", || open().filter(|page| page.contains("stray0")));
    drop(stray);
    await_that(&daemon, "that it is closed", || open().filter(|page| !page.contains("stray0")));
}

#[test]
fn what_speaks_to_the_fleet_has_no_other_right() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let daemon = daemon(&scene, &nats, "");
    let speaker = await_that(&daemon, "the process", || {
        let text = scene
            .host()
            .check(std::process::Command::new("ps").args(["-eo", "pid,comm,args"]))
            .ok()?;
        let line =
            text.lines().find(|line| line.contains("speak-to-fleet") && line.contains("--once"))?;
        line.split_whitespace().next()?.parse::<u32>().ok()
    });
    let inside = |path: &str| {
        let mut cat = std::process::Command::new("cat");
        scene.host().check(cat.arg(format!("/proc/{speaker}/{path}"))).unwrap()
    };
    let status = inside("status");
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().nth(1).unwrap().to_owned()
    };
    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16), Ok(0), "{status}");
    assert_eq!(u64::from_str_radix(&field("CapPrm:"), 16), Ok(0), "{status}");
    assert_eq!((field("Seccomp:").as_str(), field("NoNewPrivs:").as_str()), ("2", "1"));
    assert!(!inside("maps").contains("libvirt"));
    assert_eq!(daemon.ask(&["status"]).unwrap().json["mode"], "enforce");
}

#[test]
fn a_host_of_no_fleet_has_nothing_of_it() {
    let scene = Scene::new().unwrap();
    let daemon = scene.daemon("enforce", &[]).unwrap();
    let text = scene.host().check(std::process::Command::new("ps").args(["-eo", "comm"])).unwrap();
    assert!(text.contains("detector") && !text.contains("speak-to-fleet"), "{text}");
    assert!(!scene.host().path("state/fleet").exists());
    assert_eq!(
        daemon.ask(&["alert", "status"]).unwrap().json["sinks"].as_array().map(Vec::len),
        Some(0)
    );
}
