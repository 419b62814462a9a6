//! Metrics, held against Prometheus's own tool.

use std::fs;

use detector_tests::frames::Station;
use detector_tests::scene::{PATIENCE, Scene, beat, vm};
use detector_tests::{promtool, wait};

use super::A;

/// The value of a sample, by its whole name with labels.
fn value(text: &str, sample: &str) -> Option<f64> {
    let line = text
        .lines()
        .find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn they_are_well_formed_true_and_bounded_with_the_daemon_and_without() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("enforce", &[vm("a", "tap-a", A)]).unwrap();
    let a = scene.plug_granted(&daemon, "tap-a").unwrap();
    let _stray = scene.plug("stray0").unwrap();
    daemon.await_finding("unknown-port", "stray0", PATIENCE).unwrap();
    // A guest that claims a thousand MACs makes one value.
    for number in (1 << 24)..(1 << 24) + 1_000_u32 {
        let mut frame = beat(Station::number(200), 1);
        frame[8..12].copy_from_slice(&number.to_be_bytes());
        a.send(&frame).unwrap();
    }
    let refused = r#"detector_port_refused_frames_total{port="tap-a",role="guest",direction="from",reason="mac-not-granted"}"#;
    let text = wait::until("what was refused", PATIENCE, || {
        let text = daemon.show(&["metrics"])?;
        Ok((value(&text, refused) == Some(1_000.0)).then_some(text))
    })
    .unwrap();
    assert_eq!(promtool::metrics(&text).unwrap(), "");
    for (sample, expect) in [
        ("detector_up", 1.0),
        ("detector_enforcing", 1.0),
        ("detector_healthy", 1.0),
        (r#"detector_ports{status="granted"}"#, 1.0),
        (r#"detector_ports{status="isolated"}"#, 0.0),
        (r#"detector_gates{role="uplink"}"#, 1.0),
        (r#"detector_findings{kind="unknown-port",severity="high"}"#, 1.0),
    ] {
        let found = value(&text, sample);
        assert_eq!(found, Some(expect), "{sample}\n{text}");
    }
    let of_port = text.lines().filter(|line| line.contains("port=\"tap-a\"")).count();
    assert!(of_port < 12, "{of_port} values for one port:\n{text}");

    daemon.kill().unwrap();
    let text = daemon.show(&["metrics"]).unwrap();
    let text: Vec<_> = text.lines().filter(|line| !line.starts_with("detector: ")).collect();
    let text = format!("{}\n", text.join("\n"));
    assert_eq!(promtool::metrics(&text).unwrap(), "");
    assert_eq!(value(&text, "detector_up"), Some(0.0));
    assert_eq!(value(&text, "detector_enforcing"), Some(1.0));
    assert_eq!(value(&text, refused), Some(1_000.0), "{text}");
}

#[test]
fn a_file_is_written_for_the_collector_and_goes_with_the_daemon() {
    let scene = Scene::new().unwrap();
    let mut daemon = scene.daemon("observe", &[]).unwrap();
    let path = scene.host().path("detector.prom");
    let section = |path: &str| format!("[metrics]\ntextfile = {path:?}\ninterval = \"1s\"\n");
    let text = daemon.configuration().unwrap();
    let there = scene.host().path("not-there/detector.prom");
    daemon.write_configuration(&(text.clone() + &section(there.to_str().unwrap()))).unwrap();
    assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
    // A directory that is not there is told of once, and not made.
    wait::until("the complaint", PATIENCE, || {
        let log = fs::read_to_string(daemon.log())?;
        Ok(log.contains("metrics cannot be written").then_some(()))
    })
    .unwrap();
    assert!(!there.parent().unwrap().exists());
    let section = section(path.to_str().unwrap());
    daemon.write_configuration(&(text + &section)).unwrap();
    assert_eq!(daemon.ask(&["reload"]).unwrap().code, 0);
    let read = || fs::read_to_string(&path).ok();
    let first = wait::until("the file", PATIENCE, || Ok(read())).unwrap();
    assert_eq!(promtool::metrics(&first).unwrap(), "");
    assert_eq!(value(&first, "detector_enforcing"), Some(0.0));
    wait::until("the next one", PATIENCE, || Ok(read().filter(|text| *text != first))).unwrap();
    daemon.terminate().unwrap();
    assert!(!path.exists(), "what it says would look like now");
}
