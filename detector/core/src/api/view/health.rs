use crate::model::FindingKind;
use serde::{Deserialize, Serialize};

use super::Status;

/// Whether the detector itself can do its work. What guests do is no matter of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// `healthy` or `degraded`.
    pub status: String,
    /// The mode, in a word.
    pub mode: String,
    /// What it cannot do, and why.
    pub degraded: Vec<Trouble>,
}

/// Something that the detector cannot do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// `inventory`, `enforcement`, `policy`, `config`, `clock`, `mode`, `audit`, `alerts` or `mitigation`.
    pub part: String,
    pub why: String,
    /// The command that an operator would type next, where there is one.
    pub next: Option<String>,
}

impl Health {
    pub fn is_healthy(&self) -> bool {
        self.degraded.is_empty()
    }
}

/// The health of a daemon by what it says of itself.
pub fn health(status: &Status) -> Health {
    let mut degraded = Vec::new();
    if status.mode.enforces().is_none() {
        let why = "no mode has been set yet".to_owned();
        degraded.push(Trouble { part: "mode".to_owned(), why, next: None });
    }
    for finding in &status.findings {
        if let Some(part) = part(finding.kind) {
            let (why, next) = (finding.title.clone(), finding.next.clone());
            degraded.push(Trouble { part: part.to_owned(), why, next });
        }
    }
    // Of a source that is lost for a moment there is no finding yet.
    for source in status.sources.iter().filter(|source| !source.healthy) {
        let named =
            |trouble: &Trouble| trouble.part == "inventory" && trouble.why.contains(&source.name);
        if !degraded.iter().any(named) {
            let why = source.why.as_deref().unwrap_or("nobody says why");
            let why = format!("{} is lost: {why}", source.name);
            degraded.push(Trouble { part: "inventory".to_owned(), why, next: None });
        }
    }
    let word = if degraded.is_empty() { "healthy" } else { "degraded" };
    let mode = match status.mode.enforces() {
        Some(true) => "enforce",
        Some(false) => "observe",
        None => "none",
    };
    Health { status: word.to_owned(), mode: mode.to_owned(), degraded }
}

/// What of the detector is hurt where such a finding is open; nothing where it is about guests or has its
/// remedy already.
fn part(kind: FindingKind) -> Option<&'static str> {
    match kind {
        FindingKind::SourceLost => Some("inventory"),
        FindingKind::EnforcementFailed
        | FindingKind::EnforcementImpaired
        | FindingKind::Tampered
        | FindingKind::OrdersRefused
        | FindingKind::SandboxMissing
        | FindingKind::PauseFailed => Some("enforcement"),
        FindingKind::PolicyInvalid | FindingKind::PolicyError => Some("policy"),
        FindingKind::EntryRejected => Some("config"),
        FindingKind::ClockJumped => Some("clock"),
        FindingKind::BreakGlass | FindingKind::EnforcingLapsed => Some("mode"),
        FindingKind::BlastRadius => Some("mitigation"),
        FindingKind::AuditImpaired => Some("audit"),
        FindingKind::AlertsUndelivered => Some("alerts"),
        _ => None,
    }
}
