use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::VmRef;

/// What verdicts may take away without a person, and whom they may not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MitigationsView {
    /// Whether there are limits.
    pub guards: bool,
    /// How many VMs within that time, …
    pub vms: Option<u32>,
    /// … and which share of them, in percent: the stricter holds.
    pub percent: Option<u8>,
    pub window_seconds: Option<u64>,
    /// The VMs that have lost something within that time.
    pub taken: Vec<VmRef>,
    /// Until then nobody knows what was taken before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blind_until: Option<Timestamp>,
    /// Why nothing can be written down, so that nothing more is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unkept: Option<String>,
    /// The VMs that keep what they have, by name.
    pub held: Vec<HeldView>,
}

/// A VM that is denied and keeps what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldView {
    pub vm: VmRef,
    pub since: Timestamp,
    /// What it fails, in a sentence.
    pub why: String,
    /// The rules that it fails.
    pub rules: Vec<String>,
    /// Who wants it to stay as it is; nobody has said anything yet where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<WordView>,
}

/// What a person has said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WordView {
    pub uid: u32,
    pub at: Timestamp,
    pub reason: String,
}
