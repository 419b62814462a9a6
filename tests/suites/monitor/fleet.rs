//! Two hosts and two monitors of one fleet, over a real NATS server.

use detector_core::decide::policy::DEFAULT;
use detector_tests::daemon::{Daemon, Settings};
use detector_tests::monitor::{Monitor, Visitor};
use detector_tests::nats::Nats;
use detector_tests::scene::{PATIENCE, Scene, vm};
use serde_json::{Value, json};

use super::{A, B, PORT, await_that};

/// Ahead of the policy that is built in.
const NO_C: &str = r#"
@id("no-c")
@sentence("A VM is not called c.")
@remedy("Call it something else.")
forbid (principal, action == Action::"join", resource == Network::"br0")
unless { principal has name && principal.name != "c" };
"#;

fn host<'a>(scene: &'a Scene, nats: &Nats<'_>, host: &str, inventory: String) -> Daemon<'a> {
    let fleet = nats.section(host, "role = \"operate\"\n").unwrap();
    let more = format!("unknown_port_grace = \"200ms\"\n{fleet}");
    Daemon::start(scene.host(), &Settings { inventory, more, ..Settings::default() }).unwrap()
}

/// The open findings that a monitor shows, each as its text, whether anybody has seen to it or not.
fn open(visitor: &mut Visitor<'_>) -> Vec<String> {
    let findings = visitor.json("/api/v1/findings").unwrap();
    findings.as_array().unwrap().iter().map(Value::to_string).collect()
}

/// What a monitor says of all hosts, without what differs from moment to moment.
fn estate(visitor: &mut Visitor<'_>) -> Value {
    let overview = visitor.json("/api/v1/overview").unwrap();
    let correlations = overview["correlations"].as_array().unwrap().iter();
    let titles: Vec<_> = correlations.map(|one| one["title"].clone()).collect();
    let vms = visitor.json("/api/v1/vms").unwrap()["vms"].clone();
    let findings = visitor.json("/api/v1/findings").unwrap();
    json!({ "hosts": overview["hosts"], "vms": vms, "findings": findings, "correlations": titles })
}

#[test]
fn two_monitors_of_two_hosts_agree_and_one_acts() {
    let (one, two) = (Scene::new().unwrap(), Scene::new().unwrap());
    let nats = Nats::found(one.host()).unwrap();
    nats.reach_from(two.host()).unwrap();
    let first = host(&one, &nats, "h1", [vm("a", "tap-a", A), vm("b", "tap-b", B)].concat());
    // Another VM under a MAC that one of the first host has.
    let second = host(&two, &nats, "h2", vm("c", "tap-c", A));
    let _a = one.plug_granted(&first, "tap-a").unwrap();
    let _c = two.plug_granted(&second, "tap-c").unwrap();
    let _stray = two.plug("stray0").unwrap();

    let mut left = Monitor::of_fleet(one.host(), &nats, "left", PORT).unwrap();
    let right = Monitor::of_fleet(one.host(), &nats, "right", PORT + 1).unwrap();
    let mut otto = left.log_in("otto").unwrap();
    let complete = |visitor: &mut Visitor<'_>| {
        let seen = estate(visitor);
        let text = seen.to_string();
        let has_all = ["\"h1\"", "\"h2\"", "stray0", " is on h1 and h2 at once"];
        let granted = text.matches("\"status\":\"granted\"").count();
        (has_all.iter().all(|word| text.contains(word)) && granted == 2).then_some(seen)
    };
    let mut vera = right.log_in("vera").unwrap();
    let seen = await_that("all of it, and both to agree", || {
        let seen = complete(&mut otto)?;
        (complete(&mut vera)? == seen).then_some(seen)
    });
    let (code, table) = right.read(&["hosts"]).unwrap();
    assert!(code == 0 && table.contains("h1") && table.contains("h2"), "{table}");

    // What another policy would do, by asking each host; nothing is done.
    let policy = one.host().path("new.cedar");
    std::fs::write(&policy, format!("{NO_C}{DEFAULT}")).unwrap();
    let policy = policy.to_str().unwrap();
    let (code, plan) = right.read(&["plan", policy]).unwrap();
    let line = plan.lines().find(|line| line.starts_with("h2")).unwrap_or_else(|| panic!("{plan}"));
    assert!(code == 3 && line.contains(" c ") && line.contains("is quarantined"), "{plan}");
    let sum = "2 of 3 VMs on 2 hosts would be judged otherwise; 1 would be denied";
    assert!(plan.contains(sum), "{plan}");
    second.await_port("tap-c", "granted", PATIENCE).unwrap();
    std::fs::write(policy, DEFAULT).unwrap();
    assert_eq!(right.read(&["plan", policy]).unwrap().0, 0);
    std::fs::write(policy, "permit (").unwrap();
    let (code, plan) = right.read(&["plan", policy]).unwrap();
    assert!(code == 1 && plan.contains("Hosts that do not say: 2."), "{plan}");

    // By the page of one, in the name of a person, on the host that is meant and on no other.
    let vms = seen["vms"].as_array().unwrap();
    let uuid = vms.iter().find(|vm| vm["host"] == "h2").unwrap()["uuid"].as_str().unwrap();
    let action = json!({ "action": "quarantine", "target": format!("vm:{uuid}"), "reason": "it has another's MAC",
        "id": "00000000-0000-4000-8000-000000000042" });
    for _ in 0..2 {
        let done = otto.act("h2", &action).unwrap();
        assert_eq!(done.status, 200, "{}", done.text);
    }
    second.await_port("tap-c", "isolated", PATIENCE).unwrap();
    first.await_port("tap-a", "granted", PATIENCE).unwrap();
    let records = second.ask(&["audit", "list", "--limit", "0"]).unwrap().json["records"].clone();
    let asked: Vec<_> = records
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["kind"] == "action-asked" && one["to"] == "quarantine-add")
        .collect();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(
        (&asked[0]["who"]["monitor"], &asked[0]["who"]["user"]),
        (&"left".into(), &"otto (operate)".into())
    );
    // On the VM's page it is, too, by what the host has told the fleet's audit.
    await_that("the record of it", || {
        let vm = vera.json(&format!("/api/v1/hosts/h2/vms/{uuid}")).unwrap();
        let is_it = |event: &&Value| {
            event["event"] == "action-asked"
                && event["what"] == "quarantine-add: by otto (operate): it has another's MAC"
        };
        vm["timeline"].as_array().unwrap().iter().find(is_it).cloned()
    });
    let queue = await_that("the other's queue", || {
        let queue = vera.json("/api/v1/quarantine").unwrap();
        let items = queue["items"].as_array().unwrap().clone();
        items.into_iter().find(|item| item["note"] == "it has another's MAC")
    });
    assert_eq!(queue["host"], "h2");

    // Killed, it has nothing to lose.
    left.kill().unwrap();
    left.run().unwrap();
    let mut otto = left.log_in("otto").unwrap();
    await_that("both to agree again", || {
        let (mine, others) = (estate(&mut otto), estate(&mut vera));
        (mine == others && mine.to_string().contains("quarantined")).then_some(())
    });
}

#[test]
fn what_opened_before_a_host_joined_is_known_until_it_closes() {
    let scene = Scene::new().unwrap();
    let nats = Nats::found(scene.host()).unwrap();
    let more = "unknown_port_grace = \"200ms\"\n";
    let settings = Settings { more: more.to_owned(), ..Settings::default() };
    let mut daemon = Daemon::start(scene.host(), &settings).unwrap();
    let mut strays = ["stray0", "stray1"].map(|name| Some(scene.plug(name).unwrap()));
    let ids = ["stray0", "stray1"].map(|port| {
        let finding = daemon.await_finding("unknown-port", port, PATIENCE).unwrap();
        finding["id"].as_str().unwrap().to_owned()
    });
    // Of this one nobody is told any more: also not that it closes.
    daemon.ask(&["finding", "suppress", &ids[1], "--reason", "a test", "--for", "1d"]).unwrap();

    // It joins.
    daemon.kill().unwrap();
    let joined = daemon.configuration().unwrap() + &nats.section("h1", "").unwrap();
    daemon.write_configuration(&joined).unwrap();
    daemon.run().unwrap();
    let monitor = Monitor::of_fleet(scene.host(), &nats, "left", PORT).unwrap();
    let mut vera = monitor.log_in("vera").unwrap();
    let mut shows = |port: &str, wanted: bool| {
        await_that(&format!("{port} to be shown: {wanted}"), || {
            let is_there = open(&mut vera).iter().any(|text| text.contains(port));
            (is_there == wanted).then_some(())
        });
    };
    shows("stray0", true);
    shows("stray1", true);
    for (port, stray) in ["stray0", "stray1"].into_iter().zip(&mut strays) {
        drop(stray.take());
        shows(port, false);
    }
}
