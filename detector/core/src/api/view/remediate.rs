use crate::{
    model::MediumRole,
    remediate::{Outcome, Planned, Stage, StepState},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{VmRef, moment};

/// The remediation of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemediationView {
    pub vm: VmRef,
    pub outcome: Outcome,
    pub stage: Stage,
    pub started: DeedView,
    /// What it waits for, if anything.
    #[serde(default)]
    pub waits: Option<String>,
    pub steps: Vec<StepView>,
    /// How many have to approve, and whose approvals count so far.
    pub needed: u8,
    pub counted: Vec<u32>,
    pub approvals: Vec<ApprovalView>,
    /// What it boots from, as far as it has been read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<SightedView>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub successor: Option<VmRef>,
    #[serde(default)]
    pub ended: Option<Timestamp>,
    /// What has happened, the latest last; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<EventView>,
}

/// What a remediation would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    pub vm: VmRef,
    pub outcome: Outcome,
    pub steps: Vec<StepView>,
    /// What it would also do if this host could, and why it cannot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<String>,
    pub needed: u8,
    pub media: Vec<SightedView>,
    /// Other quarantined VMs that boot from the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alike: Vec<VmRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    pub step: String,
    /// `waiting`, `begun`, `done` or `failed`.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// What it does.
    pub effect: String,
    /// What has come of it, or how far it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeedView {
    pub uid: u32,
    pub at: Timestamp,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalView {
    #[serde(flatten)]
    pub by: DeedView,
    pub sha256: Vec<String>,
}

/// Something that a VM boots from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SightedView {
    pub role: MediumRole,
    pub path: String,
    /// Absent while it is being read, and where it cannot be.
    #[serde(default)]
    pub sha256: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// A template that is in force has it.
    pub known: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventView {
    pub at: Timestamp,
    #[serde(default)]
    pub uid: Option<u32>,
    pub what: String,
}

impl From<&Planned> for StepView {
    fn from(planned: &Planned) -> Self {
        let (state, since) = match planned.state {
            StepState::Waiting => ("waiting", None),
            StepState::Begun(at) => ("begun", Some(at)),
            StepState::Done(at) => ("done", Some(at)),
            StepState::Failed(at) => ("failed", Some(at)),
        };
        Self {
            step: planned.step.as_str().to_owned(),
            state: state.to_owned(),
            since: since.map(moment),
            effect: planned.step.effect().to_owned(),
            note: planned.note.clone(),
            percent: planned.percent,
        }
    }
}
