use std::collections::BTreeMap;

use detector_core::model::Severity;

use super::Sample;
use crate::api::view::{DaemonMetrics, MetricsView, PortMetrics, health};

/// What a status says of itself where nothing is counted: a value that is absent is no zero.
const PORTS: [&str; 5] = ["granted", "pending", "isolated", "kept", "unguarded"];
const VMS: [&str; 5] = ["approved", "pending", "denied", "quarantined", "off"];

/// Every value of every metric that the view has something about.
pub fn samples(view: &MetricsView) -> Vec<Sample> {
    let mut samples = Samples(Vec::new());
    samples.add("detector_up", &[], flag(view.daemon.is_some()));
    if let Some(enforces) = view.enforces {
        samples.add("detector_enforcing", &[], flag(enforces));
    }
    samples.add("detector_quarantines", &[], view.quarantines as f64);
    if let Some(daemon) = &view.daemon {
        samples.daemon(daemon);
    }
    for port in &view.ports {
        samples.port(port);
    }
    samples.0
}

struct Samples(Vec<Sample>);

impl Samples {
    fn add(&mut self, name: &'static str, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.0.push(Sample { name, labels, value });
    }

    fn daemon(&mut self, daemon: &DaemonMetrics) {
        let DaemonMetrics { status, turns, turns_took_us, reloads, reloads_refused, configured } =
            daemon;
        let schema = status.schema.to_string();
        self.add("detector_build_info", &[&status.version, &schema], 1.0);
        let started = status.started.as_millisecond() as f64 / 1e3;
        self.add("detector_start_time_seconds", &[], started);
        if let Some(mode) = &status.mode_detail {
            self.add("detector_mode_provisional", &[], flag(mode.until.is_some()));
            self.add("detector_maintenance", &[], flag(mode.maintenance.is_some()));
        }
        self.add("detector_healthy", &[], flag(health(status).is_healthy()));
        self.add("detector_config_last_reload_successful", &[], flag(*configured));
        let results = [("used", reloads - reloads_refused), ("refused", *reloads_refused)];
        for (result, count) in results {
            self.add("detector_config_reloads_total", &[result], count as f64);
        }
        for (name, known, counts) in
            [("detector_ports", PORTS, &status.ports), ("detector_vms", VMS, &status.vms)]
        {
            for status in known {
                let count = counts.get(status).copied().unwrap_or_default();
                self.add(name, &[status], count as f64);
            }
        }
        self.add("detector_gates", &["bridge"], status.bridges as f64);
        self.add("detector_gates", &["uplink"], status.uplinks as f64);
        self.add("detector_vms_held", &[], status.held as f64);
        self.add("detector_vms_recently_cut_off", &[], status.recently_cut_off as f64);
        self.add("detector_templates", &[], status.templates as f64);
        let mut findings = BTreeMap::new();
        for finding in &status.findings {
            *findings.entry((finding.kind.as_str(), severity(finding.severity))).or_insert(0.0) +=
                1.0;
        }
        for ((kind, severity), count) in findings {
            self.add("detector_findings", &[kind, severity], count);
        }
        for source in &status.sources {
            let name = [source.name.as_str()];
            self.add("detector_source_up", &name, flag(source.healthy));
            self.add("detector_source_vms", &name, source.vms as f64);
            self.add("detector_source_rejected_entries", &name, source.rejected as f64);
        }
        self.add("detector_kernel_events_total", &[], status.events as f64);
        self.add("detector_turns_total", &[], *turns as f64);
        self.add("detector_turns_seconds_total", &[], *turns_took_us as f64 / 1e6);
    }

    fn port(&mut self, port: &PortMetrics) {
        let PortMetrics { name, role, counters } = port;
        let frames = [("from", counters.frames.from), ("to", counters.frames.to)];
        for (direction, count) in frames {
            self.add("detector_port_frames_total", &[name, role, direction], count as f64);
        }
        for (direction, refused) in [("from", &counters.from), ("to", &counters.to)] {
            for (reason, count) in refused {
                let labels = [name.as_str(), role, direction, reason];
                self.add("detector_port_refused_frames_total", &labels, *count as f64);
            }
        }
        self.add("detector_port_events_lost_total", &[name], counters.events_lost as f64);
        self.add("detector_port_events_held_total", &[name], counters.events_held as f64);
    }
}

fn flag(is: bool) -> f64 {
    if is { 1.0 } else { 0.0 }
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Info => "info",
        Severity::Low => "low",
        Severity::Medium => "medium",
        Severity::High => "high",
        Severity::Critical => "critical",
    }
}
