use serde::Deserialize;

/// The section `remediation`: how VMs are brought back.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemediationKeys {
    /// How many people have to approve a release; with two or more whoever has started it is none of them.
    pub approvals: u8,
}

impl RemediationKeys {
    /// More people than this are not on duty.
    pub(super) const MOST_APPROVALS: u8 = 5;
}

impl Default for RemediationKeys {
    fn default() -> Self {
        Self { approvals: 1 }
    }
}
