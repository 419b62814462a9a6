//! What was measured, for people and for programs.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use comfy_table::{Table, presets::ASCII_MARKDOWN};
use serde::Serialize;

/// By how much something may grow beside the number of VMs: what is measured varies.
const LINEAR: f64 = 1.25;

/// Durations in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) p99: f64,
    pub(crate) longest: f64,
}

impl Times {
    /// Of one at least.
    pub(crate) fn of(mut times: Vec<Duration>) -> Self {
        times.sort();
        let at = |percent: usize| {
            let last = times.len().saturating_sub(1);
            times.get(last.min(times.len() * percent / 100)).map_or(0.0, Duration::as_secs_f64)
        };
        Self { median: at(50), p99: at(99), longest: at(100) }
    }
}

/// A fleet of one size. Times are in seconds, memory in MiB, shares are of one processor.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) hosts: u32,
    pub(crate) vms: u64,
    /// Until every host was connected and had said everything.
    pub(crate) joined: f64,
    /// Until the monitor showed all of it.
    pub(crate) seen: f64,
    pub(crate) monitor_memory: f64,
    /// While nobody looks.
    pub(crate) monitor_unseen: f64,
    /// While somebody looks at the overview.
    pub(crate) monitor_seen: f64,
    pub(crate) server_memory: f64,
    pub(crate) server: f64,
    /// From a host's telling of it until the page has it.
    pub(crate) findings: Times,
    /// From the command that offers it until a host goes by it and has said so.
    pub(crate) bundles: Times,
    /// Until the page shows it on every host.
    pub(crate) bundle_shown: f64,
    /// From the monitor's start until it shows everything again.
    pub(crate) restart: f64,
    /// What that takes of a processor.
    pub(crate) restart_processor: f64,
}

/// All sizes of one run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    fleets: Vec<Figures>,
}

/// What one figure is called, and how it is shown.
type Row = (&'static str, fn(&Figures) -> String);

const ROWS: [Row; 14] = [
    ("VMs", |of| of.vms.to_string()),
    ("all hosts have connected and said everything", |of| seconds(of.joined)),
    ("and the monitor shows it", |of| seconds(of.seen)),
    ("memory of the monitor", |of| mib(of.monitor_memory)),
    ("per 1,000 VMs", |of| mib(of.per_thousand(of.monitor_memory))),
    ("processor of the monitor, nobody looks", |of| share(of.monitor_unseen)),
    ("per 1,000 VMs", |of| share(of.per_thousand(of.monitor_unseen))),
    ("processor of the monitor, somebody looks", |of| share(of.monitor_seen)),
    ("memory of NATS", |of| mib(of.server_memory)),
    ("processor of NATS", |of| share(of.server)),
    ("finding → page: median, p99", |of| of.findings.to_string()),
    ("bundle → host: median, p99", |of| of.bundles.to_string()),
    ("bundle → every host, on the page", |of| seconds(of.bundle_shown)),
    ("a monitor's start until it shows everything", |of| {
        format!("{} ({} of processor)", seconds(of.restart), seconds(of.restart_processor))
    }),
];

impl Figures {
    fn per_thousand(&self, what: f64) -> f64 {
        what / self.vms as f64 * 1000.0
    }
}

impl Report {
    pub(crate) fn add(&mut self, figures: Figures) {
        self.fleets.push(figures);
    }

    /// What grows, and how much more than the number of VMs, from the smallest fleet to the largest.
    fn growth(&self) -> Vec<(&'static str, f64)> {
        let by_size = |of: &&Figures| of.vms;
        let ends = (self.fleets.iter().min_by_key(by_size), self.fleets.iter().max_by_key(by_size));
        let (Some(least), Some(most)) = ends else { return Vec::new() };
        let of = |figure: fn(&Figures) -> f64| {
            most.per_thousand(figure(most)) / least.per_thousand(figure(least))
        };
        let all = [
            ("memory of the monitor", of(|of| of.monitor_memory)),
            ("processor of the monitor, nobody looks", of(|of| of.monitor_unseen)),
            ("processor of the monitor, somebody looks", of(|of| of.monitor_seen)),
            ("memory of NATS", of(|of| of.server_memory)),
            ("processor of NATS", of(|of| of.server)),
        ];
        // What takes no time at all in a small fleet has no ratio.
        all.into_iter().filter(|(_, growth)| growth.is_finite()).collect()
    }

    /// Whether nothing grows faster than the fleet does.
    pub(crate) fn is_linear(&self) -> bool {
        self.growth().iter().all(|(_, growth)| *growth <= LINEAR)
    }

    pub(crate) fn write_json(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(path, text + "\n")
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        let hosts = self.fleets.iter().map(|of| format!("{} hosts", of.hosts));
        table.set_header(std::iter::once(String::new()).chain(hosts));
        for (name, show) in ROWS {
            let shown = self.fleets.iter().map(show);
            table.add_row(std::iter::once(name.to_owned()).chain(shown));
        }
        writeln!(f, "{table}\n\nFrom the smallest fleet to the largest, for each VM:")?;
        self.growth().iter().try_for_each(|(name, growth)| {
            let said = if *growth > LINEAR { ": more than linear" } else { "" };
            writeln!(f, "- {name}: {growth:.2} times as much{said}")
        })
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", seconds(self.median), seconds(self.p99))
    }
}

fn seconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.2} s") } else { format!("{time:.0} s") }
}

fn mib(memory: f64) -> String {
    if memory < 10.0 { format!("{memory:.2} MiB") } else { format!("{memory:.0} MiB") }
}

fn share(share: f64) -> String {
    format!("{:.2} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_off_in_order() {
        let times = |count: u64| Times::of((1..=count).rev().map(Duration::from_secs).collect());
        for (count, median, p99, longest) in
            [(0, 0.0, 0.0, 0.0), (1, 1.0, 1.0, 1.0), (2, 2.0, 2.0, 2.0), (200, 101.0, 199.0, 200.0)]
        {
            let of = times(count);
            assert_eq!((of.median, of.p99, of.longest), (median, p99, longest), "{count}");
        }
    }

    #[test]
    fn what_grows_faster_than_the_fleet_shows() {
        let figures = |hosts: u32, memory: f64| {
            let times = Times { median: 0.1, p99: 0.2, longest: 0.3 };
            let vms = u64::from(hosts) * 50;
            let fleet = f64::from(hosts);
            Figures {
                hosts,
                vms,
                joined: 1.0,
                seen: 2.0,
                monitor_memory: memory,
                monitor_unseen: fleet / 1e4,
                monitor_seen: fleet / 1e4,
                server_memory: 50.0,
                server: 0.0,
                findings: times,
                bundles: times,
                bundle_shown: 0.5,
                restart: 0.5,
                restart_processor: 0.1,
            }
        };
        for (memory, is_linear) in [(400.0, true), (490.0, true), (600.0, false)] {
            let report = Report { fleets: vec![figures(1000, memory), figures(100, 40.0)] };
            assert_eq!(report.is_linear(), is_linear, "{report}");
            assert_eq!(report.to_string().contains("more than linear"), !is_linear, "{report}");
        }
        assert!(Report::default().is_linear());
    }
}
