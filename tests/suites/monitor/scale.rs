//! The measurement of a fleet of many hosts, of a few.

use std::process::Command;

use detector_tests::artefacts;
use serde_json::Value;

#[test]
fn a_fleet_is_measured() {
    let figures = std::env::temp_dir().join(format!("scale-{}.json", std::process::id()));
    let mut scale = Command::new(artefacts::scale().unwrap());
    scale.args(["--hosts", "2,8", "--vms", "40", "--findings", "5", "--watch", "1", "--json"]);
    let output = scale.arg(&figures).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    // With so few hosts nothing is said of how it grows.
    assert!(text.contains("| finding → page"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_slice(&std::fs::read(&figures).unwrap()).unwrap();
    std::fs::remove_file(&figures).unwrap();
    let fleets = said["fleets"].as_array().unwrap();
    let vms: Vec<_> = fleets.iter().map(|fleet| fleet["vms"].as_u64().unwrap()).collect();
    assert_eq!(vms, [80, 320]);
    for fleet in fleets {
        let is_positive = |figure: &str| fleet.pointer(figure).and_then(Value::as_f64) > Some(0.0);
        for figure in ["/monitor_memory", "/findings/p99", "/bundles/p99", "/restart"] {
            assert!(is_positive(figure), "{figure}: {fleet}");
        }
    }
}
