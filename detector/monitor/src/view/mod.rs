//! What is shown: the same for the page, the JSON API and the command line.
//!
//! Names, titles and evidence may have been chosen by guests: whoever prints them escapes them.

mod finding;
mod host;
mod overview;
mod plan;
mod queue;
mod roll_out;
mod rules;
mod vm;

use std::collections::BTreeMap;

use detector_core::fleet::message::Time;
use serde::Serialize;
use utoipa::ToSchema;

use crate::source::AskError;

pub use finding::{FindingRow, findings};
pub use host::{BridgeView, HostRow, HostView, PortRow, host, hosts};
pub use overview::{Overview, overview};
pub use plan::{HostPlan, Plan, plan};
pub use queue::{Queue, QueueItem, queue};
pub use roll_out::{RefusalRow, RollOutView, roll_out};
pub use rules::{PolicyView, RuleRow, TemplateRow, policy, templates};
pub use vm::{
    Event, MediumRow, NicRow, RemediationRow, Remedy, RequirementRow, StepRow, VmDetail, VmFilter,
    VmPage, VmRow, vm, vms,
};

/// How many of something there are, by a word.
pub type Counts = BTreeMap<String, u64>;

/// A pair of evidence: what it is, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Pair {
    pub name: String,
    pub value: String,
}

fn pairs(evidence: &[(String, String)]) -> Vec<Pair> {
    let pair = |(name, value): &(String, String)| Pair { name: name.clone(), value: value.clone() };
    evidence.iter().map(pair).collect()
}

/// As JSON has a word of an enumeration.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Why something is not shown.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("{0}")]
    NotFound(String),
    #[error("{0}")]
    Unasked(#[from] AskError),
    #[error("the host answers something else: it is of another release")]
    Other,
}

fn no_host(name: &str) -> Missing {
    Missing::NotFound(format!("No host {name} is known"))
}

/// The moment by the monitor's own clock.
fn now() -> Time {
    Time::now()
}
