use crate::{
    decide::{VmStatus, policy::Rule},
    model::PowerState,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::VmRef;

/// The policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyView {
    /// The file that it was read from; null for the built-in policy.
    pub origin: Option<String>,
    pub rules: Vec<Rule>,
    /// The text, as Cedar.
    pub text: String,
    /// Why the file is not what is in force, each with its place; empty when it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<String>,
    pub refused_since: Option<Timestamp>,
}

/// What another policy would change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyDiffView {
    /// How many VMs were judged by both.
    pub vms: usize,
    /// How many would lose what they have, …
    #[serde(default)]
    pub losing: usize,
    /// … and of how many of them a person would be asked first.
    #[serde(default)]
    pub held: usize,
    /// The VMs whose verdict would be another one, by name.
    pub changes: Vec<PolicyChange>,
}

/// A VM whose verdict would be another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    pub vm: VmRef,
    pub power: PowerState,
    pub from: VmStatus,
    pub to: VmStatus,
    /// What becomes of its ports: `granted`, `mute`, `isolated`, `sandboxed`, `unchanged`.
    pub effect: String,
    /// The rules that would decide.
    pub rules: Vec<String>,
    /// Why, for people: what the rules that decide have found.
    pub why: Vec<String>,
}
