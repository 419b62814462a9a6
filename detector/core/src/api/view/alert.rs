use crate::model::{FindingKind, Severity};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a person has said of a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub uid: u32,
    /// The name of that user, where there was one.
    pub user: Option<String>,
    pub why: String,
    pub at: Timestamp,
    /// When it ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Mark {
    /// The person, for people.
    pub fn who(&self) -> String {
        self.user.clone().unwrap_or_else(|| format!("uid {}", self.uid))
    }
}

/// A mark that has been set, or taken away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marked {
    /// Identifier of a finding, or the name of a kind.
    pub what: String,
    pub mark: Mark,
    /// Why it is not kept over a restart, where it is not.
    pub not_kept: Option<String>,
}

/// Of which findings nobody is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppression {
    /// Identifier of a finding, or the name of a kind.
    pub what: String,
    #[serde(flatten)]
    pub mark: Mark,
}

/// How alerts are going out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertStatus {
    pub sinks: Vec<SinkView>,
    /// Alerts that are open.
    pub open: u64,
    /// Why alerts are not kept over a restart for now.
    pub not_kept: Option<String>,
    /// What the outbox takes on the disk, and may, in bytes.
    pub size: u64,
    pub most: u64,
    pub suppressions: Vec<Suppression>,
}

/// How alerts go out to one receiver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkView {
    pub name: String,
    /// `journald`, `file`, `syslog`, `webhook`, `alertmanager` or `email`.
    pub kind: String,
    pub target: String,
    pub min_severity: Severity,
    /// Notices that wait for it, and since when the first does.
    pub waiting: u64,
    pub waits_since: Option<Timestamp>,
    /// Since the outbox was made: taken, not wanted by the receiver, and given up because the outbox was
    /// full.
    pub delivered: u64,
    pub refused: u64,
    pub dropped: u64,
    pub last_delivery: Option<Timestamp>,
    /// Since when it fails, and how.
    pub failing_since: Option<Timestamp>,
    pub error: Option<String>,
    pub next_try: Option<Timestamp>,
}

/// A notice that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertEntry {
    pub id: uuid::Uuid,
    pub sink: String,
    /// `opened`, `changed`, `acknowledged`, `suppressed` or `closed`.
    pub event: String,
    pub at: Timestamp,
    pub kind: FindingKind,
    pub severity: Severity,
    pub finding: String,
    pub title: String,
    pub tries: u32,
}

/// What came of a test alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    pub sink: String,
    pub target: String,
    /// Why it was not taken.
    pub error: Option<String>,
    pub milliseconds: u64,
}
