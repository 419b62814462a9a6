//! What Prometheus can ask for: counts of the whole, and of each host whether it is well. No label has a value that a
//! guest chooses.

use std::{fmt, sync::atomic::AtomicU64};

use detector_core::fleet::message::Time;
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{correlate::Correlation, desk::Desk, estate::Estate};

type Labels = Vec<(&'static str, String)>;
/// They are added up where labels are the same.
type Values = Vec<(Labels, f64)>;
/// Its name, what it says, and its values.
type Metric = (&'static str, &'static str, Values);

/// The security states that a VM may be in. A host that says anything else makes no label of it.
const STATUSES: [&str; 5] = ["approved", "pending", "denied", "quarantined", "off"];
const OTHER: &str = "other";

/// The text that Prometheus reads (text format 0.0.4).
///
/// # Errors
///
/// It cannot be written.
pub(crate) fn text(desk: &Desk, now: Time) -> Result<String, fmt::Error> {
    let correlations: Vec<_> = desk.correlations().into_iter().map(|(found, _)| found).collect();
    let all = metrics(&desk.estate(), &correlations, now);
    text_of(all)
}

fn text_of(all: Vec<Metric>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    for (name, help, values) in all {
        let family = Family::<Labels, Gauge<f64, AtomicU64>>::default();
        for (labels, value) in values {
            family.get_or_create(&labels).inc_by(value);
        }
        registry.register(name, help, family);
    }
    let mut text = String::new();
    prometheus_text::encode(&mut text, &registry)?;
    Ok(text)
}

fn metrics(estate: &Estate, correlations: &[Correlation], now: Time) -> Vec<Metric> {
    let of_host = |host: &str| vec![("host", host.to_owned())];
    let alone = |value: f64| vec![(Labels::new(), value)];
    let yes = |yes: bool| f64::from(u8::from(yes));
    let (mut up, mut heard, mut enforcing) = (Values::new(), Values::new(), Values::new());
    let (mut policy, mut drift, mut refused) = (Values::new(), Values::new(), Values::new());
    let (mut vms, mut findings) = (Values::new(), Values::new());
    for (name, host) in &estate.hosts {
        up.push((of_host(name), yes(!host.is_silent(now) && host.lost.is_none())));
        if let Some(at) = host.heard {
            heard.push((of_host(name), at.as_millisecond() as f64 / 1000.0));
        }
        let Some(state) = &host.state else { continue };
        enforcing.push((of_host(name), yes(state.mode == "enforce")));
        let version = state.policy.in_force.map_or(0, |version| version.number);
        policy.push((of_host(name), version as f64));
        drift.push((of_host(name), state.policy.drift.len() as f64));
        refused.push((of_host(name), yes(state.policy.refused.is_some())));
        for (status, count) in &state.vms {
            let known = STATUSES.into_iter().find(|known| known == status).unwrap_or(OTHER);
            let labels = [of_host(name), vec![("status", known.to_owned())]].concat();
            vms.push((labels, *count as f64));
        }
        for finding in host.findings() {
            let state = if finding.settled { "settled" } else { "open" };
            let severity = finding.severity.as_str().to_owned();
            let labels = [of_host(name), vec![("severity", severity), ("state", state.to_owned())]];
            findings.push((labels.concat(), 1.0));
        }
    }
    let hearing = estate.lost.is_none();
    let offered = estate.offered.map_or_else(Values::new, |number| alone(number as f64));
    let correlations = correlations.iter().map(|correlation| {
        let kind = correlation.kind.as_str().to_owned();
        (vec![("kind", kind), ("severity", correlation.severity.as_str().to_owned())], 1.0)
    });
    let build = vec![(vec![("version", env!("CARGO_PKG_VERSION").to_owned())], 1.0)];
    vec![
        ("detector_monitor_build_info", "Release of the monitor, always 1", build),
        (
            "detector_monitor_hearing",
            "Whether the monitor hears what hosts say",
            alone(yes(hearing)),
        ),
        ("detector_fleet_host_up", "Whether the host has been heard of in time", up),
        (
            "detector_fleet_host_heard_time_seconds",
            "When the host was heard of last, in Unix time",
            heard,
        ),
        ("detector_fleet_host_enforcing", "Whether the host carries verdicts out", enforcing),
        ("detector_fleet_host_policy_version", "Bundle that the host goes by", policy),
        (
            "detector_fleet_host_policy_drift",
            "Files of the host that are not those of its bundle",
            drift,
        ),
        (
            "detector_fleet_host_policy_refused",
            "Whether the host refuses the bundle that it is offered",
            refused,
        ),
        ("detector_fleet_policy_offered_version", "Bundle that the fleet is offered", offered),
        ("detector_fleet_vms", "VMs by host and security state", vms),
        (
            "detector_fleet_findings",
            "Findings that hold, by whether somebody has seen to them",
            findings,
        ),
        (
            "detector_fleet_correlations",
            "What follows from what several hosts say",
            correlations.collect(),
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estate::{Told, tests::state};

    fn estate() -> Estate {
        let mut estate = Estate::default();
        let mut said = state(0);
        said.vms = [("denied".to_owned(), 2), ("a\n\"b".to_owned(), 1), ("c".to_owned(), 1)].into();
        estate.apply(said.at, Told::State { host: "h1".to_owned(), state: said });
        estate
    }

    /// The page of metrics names each, and nothing that is not there.
    #[test]
    fn all_are_documented() {
        const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");
        let there = metrics(&estate(), &[], Time::UNIX_EPOCH);
        for (name, ..) in &there {
            assert!(DOCUMENTED.contains(&format!("| `{name}` |")), "{name}");
        }
        let rows = DOCUMENTED.lines().filter(|line| {
            line.starts_with("| `detector_fleet_") || line.starts_with("| `detector_monitor_")
        });
        assert_eq!(rows.count(), there.len());
    }

    #[test]
    fn a_host_makes_no_labels() {
        let text = text_of(metrics(&estate(), &[], Time::UNIX_EPOCH)).unwrap();
        let vms: Vec<_> =
            text.lines().filter(|line| line.starts_with("detector_fleet_vms{")).collect();
        assert_eq!(vms.len(), 2, "{text}");
        for sample in [
            r#"detector_fleet_vms{host="h1",status="denied"} 2"#,
            r#"detector_fleet_vms{host="h1",status="other"} 2"#,
            r#"detector_fleet_host_up{host="h1"} 1"#,
        ] {
            assert!(text.contains(sample), "{sample} in:\n{text}");
        }
    }
}
