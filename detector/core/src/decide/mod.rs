//! From what is known to what should be: pure, and able to say why.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    model::{Finding, Timestamp, World},
    reconcile::Desired,
};

/// What follows from a [`World`].
#[derive(Clone, Debug, Default)]
pub struct Decision {
    pub desired: Desired,
    pub vms: BTreeMap<Uuid, VmDecision>,
    /// Guest ports by ifindex.
    pub ports: BTreeMap<u32, PortDecision>,
    pub findings: Vec<Finding>,
    /// Media whose evidence is wanted and not in the world yet.
    pub wanted: BTreeSet<PathBuf>,
    /// When the same world would lead to another decision by the passing of time alone.
    pub wake_at: Option<Timestamp>,
}

/// The verdict on a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmDecision {
    pub status: VmStatus,
    /// The template that it descends from, where one is proven or declared.
    pub template: Option<String>,
    /// Every requirement, met or not, in the order of the policy.
    pub requirements: Vec<Requirement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmStatus {
    /// Meets every requirement; its ports are granted.
    Approved,
    /// Evidence is still being gathered; its ports are mute.
    Pending,
    /// Fails a requirement; its ports are isolated.
    Denied,
    /// Quarantined, whatever the requirements say by now.
    Quarantined,
    /// Does not run.
    Off,
}

/// One thing that the policy asks of a VM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Stable name of the rule.
    pub id: String,
    pub outcome: Outcome,
    /// What was found, in a sentence for people.
    pub finding: String,
    /// What would meet the requirement; empty when it is met.
    pub remedy: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Met,
    Failed,
    /// Cannot be said yet: evidence is missing.
    Unknown,
}

/// What is in store for a port, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortDecision {
    pub status: PortStatus,
    /// The VM that it belongs to.
    pub vm: Option<Uuid>,
    /// One sentence for people.
    pub why: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortStatus {
    /// Its identity is granted.
    Granted,
    /// No verdict yet: mute.
    Pending,
    /// Quarantined: neither sends nor receives.
    Isolated,
    /// In force since before its source was lost or forgot it.
    Kept,
}

/// Decides.
pub fn decide(_world: &World) -> Decision {
    Decision::default()
}
