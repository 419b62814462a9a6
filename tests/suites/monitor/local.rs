//! One host.

use detector_tests::monitor::Visitor;
use detector_tests::scene::{PATIENCE, Scene, vm};
use serde_json::{Value, json};

use super::{A, B, HOSTILE, await_that, daemon, monitor};

fn find(visitor: &mut Visitor<'_>, port: &str) -> Option<Value> {
    let vms = visitor.json("/api/v1/vms").unwrap()["vms"].as_array().unwrap().clone();
    vms.into_iter().find(|vm| vm["nics"][0]["port"] == port)
}

#[test]
fn whatever_a_vm_is_called_it_is_text() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene, &[vm(HOSTILE, "tap-a", A), vm("b", "tap-b", B)], "");
    let monitor = monitor(&scene);
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _stray = scene.plug("stray0").unwrap();
    let mut stranger = monitor.visitor();
    let mut vera = monitor.log_in("vera").unwrap();
    let granted = |vera: &mut Visitor<'_>| {
        find(vera, "tap-a").filter(|vm| vm["nics"][0]["status"] == "granted")
    };
    let one = await_that("the VM", || granted(&mut vera));
    assert!(
        one["name"].as_str().unwrap().contains("<script>")
            && one["name"].as_str().unwrap().contains('\u{202e}')
    );
    await_that("the finding", || {
        vera.get("/findings").unwrap().text.contains("stray0").then_some(())
    });
    let host = one["host"].as_str().unwrap().to_owned();
    let uuid = one["uuid"].as_str().unwrap().to_owned();
    let pages = [
        "/".to_owned(),
        "/vms".to_owned(),
        "/hosts".to_owned(),
        "/quarantine".to_owned(),
        "/findings".to_owned(),
        format!("/hosts/{host}"),
        format!("/hosts/{host}/vms/{uuid}"),
        format!("/hosts/{host}/templates"),
        format!("/hosts/{host}/policy"),
    ];
    for path in &pages {
        let answer = vera.get(path).unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        for bad in ["<script>alert", "<img", "\u{202e}", "style=\"", "onerror=alert(1)&gt;\">"] {
            assert!(!answer.text.contains(bad), "{path}: {bad}");
        }
        assert_eq!(answer.text.matches("<script").count(), 1, "{path}");
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none';") && !policy.contains("unsafe"),
            "{policy}"
        );
        for value in answer.headers.values().flatten() {
            assert!(!value.contains("alert(1)") && !value.contains("script>"), "{path}: {value}");
        }
        let refused = stranger.get(path).unwrap();
        assert_eq!((refused.status, refused.text.as_str()), (303, ""), "{path}");
    }
    assert!(vera.get("/vms").unwrap().text.contains("&lt;script&gt;alert(1)"));
    assert!(vera.get(&pages[5]).unwrap().text.contains("br0"));
    for path in ["/api/v1/vms", "/api/v1/overview", "/api/v1/findings", "/live"] {
        assert_eq!(stranger.get(path).unwrap().status, 401, "{path}");
    }
    // At a terminal it is escaped, too.
    let (code, table) = monitor.read(&["vms"]).unwrap();
    assert!(code == 0 && table.contains(r"\u{202e}") && !table.contains('\u{202e}'), "{table}");
    let (code, text) = monitor.read(&["vms", "-o", "json"]).unwrap();
    assert!(code == 0 && !text.contains('\u{202e}'), "{text}");
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap().as_array().map(Vec::len), Some(2));
    assert_eq!(monitor.read(&["status"]).unwrap().0, 3, "there is a stray port");
}

#[test]
fn who_acts_is_on_record_and_the_rest_is_refused() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene, &[vm("a", "tap-a", A)], "");
    let monitor = monitor(&scene);
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    // What shows the page has no privilege.
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", monitor.pid().unwrap())).unwrap();
    assert!(
        status.contains("CapEff:\t0000000000000000") && status.contains("Uid:\t65534"),
        "{status}"
    );

    let (mut vera, mut otto) = (monitor.log_in("vera").unwrap(), monitor.log_in("otto").unwrap());
    let one = await_that("the VM", || find(&mut otto, "tap-a"));
    let host = one["host"].as_str().unwrap().to_owned();
    let target = format!("vm:{}", one["uuid"].as_str().unwrap());
    let quarantine = json!({ "action": "quarantine", "target": target, "reason": "ticket 42" });
    assert_eq!(vera.act(&host, &quarantine).unwrap().status, 403);
    let csrf = std::mem::replace(&mut otto.csrf, vera.csrf.clone());
    assert_eq!(otto.act(&host, &quarantine).unwrap().status, 403, "another's token");
    otto.csrf = csrf;
    let fields = [
        ("csrf", "x"),
        ("host", &host),
        ("action", "quarantine"),
        ("target", &target),
        ("reason", "x"),
        ("id", "00000000-0000-4000-8000-000000000001"),
    ];
    assert_eq!(otto.post("/act", &fields).unwrap().status, 403);
    assert!(
        daemon.ask(&["quarantine", "list"]).unwrap().json["quarantines"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    let done = otto.act(&host, &quarantine).unwrap();
    assert_eq!(done.status, 200, "{}", done.text);
    daemon.await_port("tap-a", "isolated", PATIENCE).unwrap();
    await_that("the queue", || {
        otto.get("/quarantine").unwrap().text.contains("ticket 42").then_some(())
    });
    let release = json!({ "action": "release", "target": target, "reason": "it was a drill" });
    assert_eq!(otto.act(&host, &release).unwrap().status, 200);
    daemon.await_port("tap-a", "granted", PATIENCE).unwrap();

    let records = daemon.ask(&["audit", "list", "--limit", "0"]).unwrap().json["records"].clone();
    let asked = |action: &str| {
        let all = records.as_array().unwrap().iter();
        let is = |one: &&Value| one["kind"] == "action-asked" && one["to"] == action;
        all.filter(is).cloned().collect::<Vec<_>>()
    };
    for (action, why) in [("quarantine-add", "ticket 42"), ("quarantine-release", "it was a drill")]
    {
        let found = asked(action);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (&found[0]["who"]["on_behalf"], &found[0]["why"]),
            (&"otto (operate)".into(), &why.into()),
            "{found:?}"
        );
        assert_eq!(found[0]["who"]["uid"], 65534);
    }
}

#[test]
fn a_daemon_that_is_gone_is_said_to_be_and_a_monitor_that_is_killed_knows_it_all_again() {
    let scene = Scene::new().unwrap();
    let mut daemon = daemon(&scene, &[vm("a", "tap-a", A)], "");
    let mut monitor = monitor(&scene);
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let shown = |monitor: &detector_tests::monitor::Monitor<'_>| {
        let mut vera = monitor.log_in("vera").unwrap();
        await_that("the VM", || {
            find(&mut vera, "tap-a")
                .filter(|vm| vm["nics"][0]["status"] == "granted" && !vm["since"].is_null())
        })
    };
    let before = shown(&monitor);
    monitor.kill().unwrap();
    monitor.run().unwrap();
    assert_eq!(shown(&monitor), before);

    daemon.kill().unwrap();
    let mut vera = monitor.log_in("vera").unwrap();
    await_that("the page to say so", || {
        vera.get("/").unwrap().text.contains("This may be out of date").then_some(())
    });
    assert!(find(&mut vera, "tap-a").is_some(), "what is known stays");
    assert_eq!(monitor.read(&["hosts"]).unwrap().0, 1);
    daemon.run().unwrap();
    await_that("it to be back", || {
        (!vera.get("/").unwrap().text.contains("This may be out of date")).then_some(())
    });
}
