//! What a host tells of itself, by what its daemon answers on the control socket.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::{
    message::{HostState, NicState, OpenFinding, PolicyState, Time, VmState},
    page::cut,
};
use crate::{
    api::view::{FindingView, ModeView, Status, VmView, vm_status},
    model::Subject,
};

/// Troubles that are told.
const MOST_TROUBLES: usize = 8;

/// One life of a daemon.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// Names it.
    pub id: Uuid,
    /// Seconds after which it says its state again at the latest.
    pub every: u64,
}

/// The state of a host at a moment, by what its daemon says of itself. Its open findings are told elsewhere.
pub fn host(at: Time, life: Life, status: &Status, policy: PolicyState, pages: usize) -> HostState {
    let count = |counts: &BTreeMap<String, usize>| {
        counts.iter().map(|(name, count)| (name.clone(), *count as u64)).collect()
    };
    let mut findings = BTreeMap::new();
    for finding in &status.findings {
        *findings.entry(finding.severity.as_str().to_owned()).or_insert(0) += 1;
    }
    let lost = status.sources.iter().filter(|source| !source.healthy);
    let mut troubles: Vec<_> = lost
        .map(|source| {
            let why = source.why.as_deref().unwrap_or("it does not answer");
            format!("{}: {why}", source.name)
        })
        .take(MOST_TROUBLES)
        .collect();
    troubles.iter_mut().for_each(cut);
    HostState {
        at,
        every: life.every,
        life: life.id,
        release: status.version.clone(),
        started: status.started,
        mode: match status.mode {
            ModeView::Observe => "observe",
            ModeView::Enforce => "enforce",
            ModeView::None => "none",
        }
        .to_owned(),
        policy,
        vms: count(&status.vms),
        ports: count(&status.ports),
        findings,
        troubles,
        pages: u32::try_from(pages).unwrap_or(u32::MAX),
        open_pages: None,
    }
}

/// An open finding as its daemon lists it.
pub fn finding(view: FindingView) -> OpenFinding {
    OpenFinding {
        id: view.id,
        kind: view.kind.as_str().to_owned(),
        severity: view.severity,
        title: view.title,
        evidence: view.evidence,
        next: view.next,
        since: view.since,
        vm: match view.subject {
            Subject::Vm(uuid) => Some(uuid),
            _ => None,
        },
        settled: view.acknowledged.is_some() || view.suppressed.is_some(),
    }
}

/// A VM as its daemon lists it.
pub fn vm(view: &VmView) -> VmState {
    let nics = view.nics.iter().map(|nic| NicState {
        mac: nic.mac.clone(),
        port: nic.port.clone(),
        status: nic.status.and_then(word),
        addresses: nic.addresses.iter().chain(&nic.learned).cloned().collect(),
    });
    VmState {
        uuid: view.uuid,
        name: view.name.clone(),
        source: view.source.clone(),
        power: word(view.power).unwrap_or_default(),
        status: vm_status(view.status).to_owned(),
        since: view.since,
        template: view.template_name(),
        nics: nics.collect(),
    }
}

/// As JSON has it.
fn word(value: impl serde::Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(str::to_owned)
}
