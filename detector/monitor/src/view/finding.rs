use std::collections::BTreeMap;

use detector_core::{fleet::message::Time, model::Severity};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Pair, pairs};
use crate::{desk::Desk, estate::OpenFinding};

/// An open finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FindingRow {
    pub host: String,
    pub id: String,
    pub kind: String,
    #[schema(value_type = String)]
    pub severity: Severity,
    pub title: String,
    pub evidence: Vec<Pair>,
    /// The command that an operator would type next.
    pub next: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    pub since: Time,
    pub vm: Option<Uuid>,
    pub vm_name: Option<String>,
    /// Somebody has seen to it.
    pub settled: bool,
}

pub(super) fn row(host: &str, finding: &OpenFinding, vm_name: Option<&str>) -> FindingRow {
    FindingRow {
        host: host.to_owned(),
        id: finding.id.clone(),
        kind: finding.kind.clone(),
        severity: finding.severity,
        title: finding.title.clone(),
        evidence: pairs(&finding.evidence),
        next: finding.next.clone(),
        since: finding.since,
        vm: finding.vm,
        vm_name: vm_name.map(str::to_owned),
        settled: finding.settled,
    }
}

/// All that are open: first those that nobody has seen to, the most severe first, then the latest.
pub fn findings(desk: &Desk) -> Vec<FindingRow> {
    let estate = desk.estate();
    let names: BTreeMap<_, _> =
        estate.vms().map(|(host, vm)| ((host, vm.uuid), vm.name.as_str())).collect();
    let name =
        |host, finding: &OpenFinding| finding.vm.and_then(|vm| names.get(&(host, vm)).copied());
    let mut rows: Vec<_> =
        estate.findings().map(|(host, one)| row(host, one, name(host, one))).collect();
    rows.sort_by_key(|row| {
        use std::cmp::Reverse;
        (row.settled, Reverse(row.severity), Reverse(row.since))
    });
    rows
}
