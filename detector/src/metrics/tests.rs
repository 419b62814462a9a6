use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::api::view::{CountersView, FramesView, PortMetrics};

fn pins() -> MetricsView {
    let counters = CountersView {
        frames: FramesView { from: 7, to: 9 },
        from: BTreeMap::from([("mac-not-granted".to_owned(), 3)]),
        to: BTreeMap::new(),
        events_lost: 1,
        events_held: 2,
    };
    let port = |name: &str| PortMetrics {
        name: name.to_owned(),
        role: "guest".to_owned(),
        counters: counters.clone(),
    };
    MetricsView {
        daemon: None,
        enforces: Some(true),
        quarantines: 4,
        ports: vec![port("vnet0"), port("a\"b\\c")],
    }
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let text = text(&pins()).unwrap();
    for line in [
        "# TYPE detector_up gauge",
        "detector_up 0",
        "detector_enforcing 1",
        "detector_quarantines 4",
        "# TYPE detector_port_refused_frames_total counter",
        "# HELP detector_quarantines Quarantines in force.",
        r#"detector_port_refused_frames_total{port="vnet0",role="guest",direction="from",reason="mac-not-granted"} 3"#,
        r#"detector_port_events_held_total{port="a\"b\\c"} 2"#,
    ] {
        let found = text.lines().any(|found| found == line || found == format!("{line}.0"));
        assert!(found, "no {line} in:\n{text}");
    }
}

#[test]
fn each_sample_is_in_the_table_with_its_labels() {
    for sample in samples(&pins()) {
        let metric = METRICS.iter().find(|metric| metric.name == sample.name);
        let metric = metric.unwrap_or_else(|| panic!("{sample:?} is not in the table"));
        assert_eq!(metric.labels.len(), sample.labels.len(), "{sample:?}");
        assert!(metric.pinned, "{sample:?} was made of the pins");
    }
}

/// The table of the documentation, row by row.
#[test]
fn what_is_documented_is_what_there_is() {
    let text = include_str!("../../../docs/metrics.md");
    // Those of a fleet are the monitor's.
    let (text, _) = text.split_once("## Of a fleet").unwrap();
    let rows = text.lines().filter(|line| line.starts_with("| `detector_"));
    let rows: Vec<Vec<&str>> =
        rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect();
    let expect: Vec<Vec<String>> = METRICS
        .iter()
        .map(|metric| {
            let kind = if metric.name.ends_with("_total") { "counter" } else { "gauge" };
            let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            let pinned = if metric.pinned { "yes" } else { "" };
            let name = format!("`{}`", metric.name);
            [&name, kind, &labels.join(", "), pinned, metric.help].map(str::to_owned).into()
        })
        .collect();
    assert_eq!(rows, expect);
}

#[test]
fn names_are_those_of_the_field() {
    let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len(), "each once");
    for Metric { name, labels, help, .. } in METRICS {
        assert!(name.starts_with("detector_"), "{name}");
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        assert!(plain(name) && labels.iter().all(|label| plain(label)), "{name}");
        assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
    }
}
