use detector_core::fleet::message::Time;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Counts, FindingRow, finding, now};
use crate::{correlate::Correlation, desk::Desk, history::Sample};

/// Findings that are shown there.
const LATEST: usize = 8;

/// Everything at a glance.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Overview {
    /// The fleet, where it is one.
    pub fleet: Option<String>,
    /// Why nothing is heard, while nothing is.
    pub lost: Option<String>,
    pub hosts: u64,
    /// Hosts that have not been heard of for too long.
    pub silent: u64,
    /// Hosts by mode.
    pub modes: Counts,
    /// VMs by security state.
    pub vms: Counts,
    /// VMs by template; `none` where there is no approved one.
    pub templates: Counts,
    /// VMs by where they run: the inventory that lists them.
    pub platforms: Counts,
    /// Open findings that nobody has seen to, by severity.
    pub findings: Counts,
    /// The most severe and latest of them.
    pub latest: Vec<FindingRow>,
    /// What follows from what several hosts say.
    pub correlations: Vec<Seen>,
    /// The latest week, as far as this monitor has seen it: closely for the latest hour.
    pub history: Vec<Sample>,
}

/// A correlation, and since when it holds.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Seen {
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    #[serde(flatten)]
    pub correlation: Correlation,
}

pub fn overview(desk: &Desk) -> Overview {
    let correlations = desk.correlations().into_iter();
    let correlations =
        correlations.map(|(correlation, since)| Seen { since, correlation }).collect();
    let estate = desk.estate();
    let mut view = Overview {
        fleet: desk.fleet().map(str::to_owned),
        lost: estate.lost.clone(),
        hosts: estate.hosts.len() as u64,
        silent: 0,
        modes: Counts::new(),
        vms: Counts::new(),
        templates: Counts::new(),
        platforms: Counts::new(),
        findings: Counts::new(),
        latest: Vec::new(),
        correlations,
        history: desk.history(),
    };
    let count = |counts: &mut Counts, word: &str| *counts.entry(word.to_owned()).or_default() += 1;
    let now = now();
    for host in estate.hosts.values() {
        view.silent += u64::from(host.is_silent(now) || host.lost.is_some());
        if let Some(state) = &host.state {
            count(&mut view.modes, &state.mode);
        }
    }
    for (_, vm) in estate.vms() {
        count(&mut view.vms, &vm.status);
        count(&mut view.templates, vm.template.as_deref().unwrap_or("none"));
        count(&mut view.platforms, &vm.source);
    }
    for (_, finding) in estate.findings().filter(|(_, finding)| !finding.settled) {
        count(&mut view.findings, finding.severity.as_str());
    }
    drop(estate);
    let latest = finding::findings(desk).into_iter().filter(|row| !row.settled);
    view.latest = latest.take(LATEST).collect();
    view
}
