//! What an administrator must know.

mod claims;
mod clones;
mod devices;
mod enrich;
mod fleet;
mod floods;
mod frame;
mod guard;
mod learning;
mod mode;
mod ports;
mod processes;
mod sources;
mod vms;

use std::collections::BTreeMap;

pub(super) use claims::Speaker;
pub use claims::{OF_CLAIMS, findings_of_port, kind_of_claim};
pub use enrich::ENRICHED;
pub(super) use floods::is_its_own as is_its_own_flood;
pub use frame::layers;
pub(super) use vms::has_another_medium;

use super::{
    Decision,
    lineage::Lineage,
    ports::{Judged, Port},
};
use crate::model::{Finding, FindingKey, FindingKind, Severity, Subject, Timestamp, World};

/// What the findings are drawn from.
pub(super) struct Facts<'a> {
    pub(super) world: &'a World,
    pub(super) vms: &'a [Judged<'a>],
    /// Of each VM, in the same order.
    pub(super) lineages: &'a [Lineage<'a>],
    /// What is in store for VMs and ports.
    pub(super) decision: &'a Decision,
    /// The guest ports, without what is in store for them.
    pub(super) ports: &'a [Port<'a>],
}

/// Every finding, in the order of the keys, and when time alone will change them.
pub(super) fn collect(facts: &Facts<'_>) -> (Vec<Finding>, Option<Timestamp>) {
    let mut found = Found::default();
    sources::report(facts.world, &mut found);
    fleet::report(facts.world, &mut found);
    mode::report(facts.world, &mut found);
    vms::report(facts, &mut found);
    guard::report(facts, &mut found);
    ports::report(facts, &mut found);
    processes::report(facts, &mut found);
    clones::report(facts, &mut found);
    devices::report(facts, &mut found);
    let wake_at = found.wake_at;
    (found.enriched(facts.world, facts.decision), wake_at)
}

#[derive(Default)]
struct Found {
    findings: BTreeMap<FindingKey, Finding>,
    wake_at: Option<Timestamp>,
}

impl Found {
    /// Adds a finding, or its evidence to the finding of the same key.
    fn add(&mut self, finding: Finding) {
        debug_assert!(finding.is_in_its_class(), "{finding:?}");
        match self.findings.get_mut(&finding.key) {
            None => {
                self.findings.insert(finding.key.clone(), finding);
            }
            Some(known) => {
                known.severity = known.severity.max(finding.severity);
                known.since = known.since.min(finding.since);
                known.evidence.extend(finding.evidence);
            }
        }
    }

    /// The findings, in the order of their keys, with what helps to find out who is behind them.
    fn enriched(self, world: &World, decision: &Decision) -> Vec<Finding> {
        let mut findings: Vec<_> = self.findings.into_values().collect();
        findings.iter_mut().for_each(|finding| enrich::enrich(finding, world, decision));
        findings
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |known| known.min(at)));
    }
}

fn finding(
    (kind, subject): (FindingKind, Subject),
    severity: Severity,
    title: String,
    evidence: Vec<(String, String)>,
    next: Option<String>,
    since: Timestamp,
) -> Finding {
    Finding { key: FindingKey { kind, subject }, severity, title, evidence, next, since }
}

fn pair(name: &str, value: impl std::fmt::Display) -> (String, String) {
    (name.to_owned(), value.to_string())
}
