//! What Prometheus and Grafana are given, held against Prometheus's own tool.

use std::collections::BTreeSet;

use detector_tests::monitor::{Monitor, Visitor};
use detector_tests::promtool;
use detector_tests::scene::{PATIENCE, Scene, vm};
use serde_json::Value;

use super::{A, PORT, await_that, daemon};

const METRICS_PORT: u16 = 8471;
const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");
const ALERTS: &str = include_str!("../../../packaging/monitoring/alerts.yaml");
const ALERTS_TEST: &str = include_str!("alerts-test.yaml");
const DASHBOARD: &str = include_str!("../../../packaging/monitoring/dashboard.json");

#[test]
fn they_are_well_formed_and_true_and_nothing_else_is_told_there() {
    let scene = Scene::new().unwrap();
    let daemon = daemon(&scene, &[vm("a", "tap-a", A)], "");
    let socket = scene.host().path("detector.sock");
    let source = format!("[metrics]\n[local]\nsocket = {socket:?}\n");
    let monitor = Monitor::start(scene.host(), "monitor", PORT, &source).unwrap();
    let _a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    let mut prometheus = Visitor::new(scene.host().network(), METRICS_PORT);
    let is = |text: &str, name: &str, more: &str| {
        let mut lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{host=")));
        let value =
            |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok());
        lines.any(|line| line.contains(more) && value(line) == Some(1.0))
    };
    let text = await_that("the VM and the finding", || {
        let text = prometheus.get("/metrics").unwrap().text;
        let there = is(&text, "detector_fleet_vms", "status=\"approved\"")
            && is(&text, "detector_fleet_findings", "severity=\"high\",state=\"open\"");
        there.then_some(text)
    });
    assert_eq!(promtool::metrics(&text).unwrap(), "");
    assert!(is(&text, "detector_fleet_host_up", ""), "{text}");
    assert!(is(&text, "detector_fleet_host_enforcing", ""), "{text}");
    for path in ["/", "/api/v1/vms", "/login", "/assets/style.css"] {
        assert_eq!(prometheus.get(path).unwrap().status, 404, "{path}");
    }
    // It needs a session on the page's own address.
    assert_ne!(monitor.visitor().get("/metrics").unwrap().status, 200);
}

#[test]
fn the_shipped_alerts_do_what_they_say() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("alerts.yaml"), ALERTS).unwrap();
    std::fs::write(place.path().join("alerts-test.yaml"), ALERTS_TEST).unwrap();
    promtool::run(&["check", "rules", "--lint-fatal", "alerts.yaml"], place.path()).unwrap();
    promtool::run(&["test", "rules", "alerts-test.yaml"], place.path()).unwrap();
    assert_eq!(unknown(ALERTS), BTreeSet::new());
}

#[test]
fn the_shipped_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let questions: Vec<_> = targets.map(|target| target["expr"].as_str().unwrap()).collect();
    assert!(questions.len() > 15);
    let rules = questions.iter().enumerate().map(|(number, question)| {
        let question = question.replace("$__rate_interval", "5m").replace("$host", ".*");
        let question = question.replace("$instance", ".*");
        assert!(!question.contains('$'), "{question}");
        format!("  - {{record: \"dashboard:{number}\", expr: {question:?}}}\n")
    });
    let rules = format!("groups:\n- name: dashboard\n  rules:\n{}", rules.collect::<String>());
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("rules.yaml"), rules).unwrap();
    promtool::run(&["check", "rules", "rules.yaml"], place.path()).unwrap();
    assert_eq!(unknown(DASHBOARD), BTreeSet::new());
}

/// Metrics of ours that a text names and the page of metrics does not.
fn unknown(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let names = words.filter(|word| word.starts_with("detector_"));
    names.filter(|name| !DOCUMENTED.contains(&format!("| `{name}` |"))).collect()
}
