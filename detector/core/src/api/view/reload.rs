use serde::{Deserialize, Serialize};

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// Why the configuration is not used: then nothing has changed, and nothing else was read.
    pub refused: Option<String>,
    /// Keys of the configuration that hold a new value.
    pub changed: Vec<String>,
    /// Keys that were changed and do not hold, and why.
    pub kept: Vec<Kept>,
    /// Templates, rules of the policy and VMs of the static inventory, as they hold now.
    pub templates: usize,
    pub rules: usize,
    pub vms: usize,
    /// What of manifests, policy and inventory is not used, with file and line.
    pub trouble: Vec<String>,
}

/// A key that was changed and does not hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pub key: String,
    /// Whether a restart makes it hold.
    pub restart: bool,
    pub why: String,
}
