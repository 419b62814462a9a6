use serde::{Deserialize, Serialize};

use super::Stage;
use crate::model::Timestamp;

/// One step of a remediation. Doing it once more does nothing that it has not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The VM is quarantined in the name of the workflow.
    Quarantine,
    /// What it is now is kept.
    Evidence,
    /// A VM that no quarantine of its ports holds is frozen or stopped.
    Contain,
    /// Its quarantine lets it speak with the sandbox.
    Sandbox,
    /// It ends, and its images go to the pool of the sandbox.
    Move,
    /// A provisioner changes its images.
    Provision,
    /// People approve what it boots from.
    Approve,
    /// A VM of an approved template takes its place.
    Replace,
    /// It is judged anew.
    Verify,
    /// Its quarantine is lifted.
    Release,
    /// The quarantine of before the workflow is in force again.
    GiveBack,
    /// It stays in quarantine, for good.
    Seal,
}

/// A step that is done outside of the kernel, by hands that may not be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    Evidence,
    Contain,
    Move,
    Provision,
    Replace,
}

/// A step of a workflow, and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub step: Step,
    pub state: StepState,
    /// What has come of it, or how far it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Of a hundred, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepState {
    Waiting,
    /// It is written down that it begins.
    Begun(Timestamp),
    Done(Timestamp),
    /// It has to be asked for once more.
    Failed(Timestamp),
}

impl Step {
    pub const ALL: [Self; 12] = [
        Self::Quarantine,
        Self::Evidence,
        Self::Contain,
        Self::Sandbox,
        Self::Move,
        Self::Provision,
        Self::Approve,
        Self::Replace,
        Self::Verify,
        Self::Release,
        Self::GiveBack,
        Self::Seal,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quarantine => "quarantine",
            Self::Evidence => "evidence",
            Self::Contain => "contain",
            Self::Sandbox => "sandbox",
            Self::Move => "move",
            Self::Provision => "provision",
            Self::Approve => "approve",
            Self::Replace => "replace",
            Self::Verify => "verify",
            Self::Release => "release",
            Self::GiveBack => "give-back",
            Self::Seal => "seal",
        }
    }

    /// What it does, for people who have not begun it yet.
    pub const fn effect(self) -> &'static str {
        match self {
            Self::Quarantine => "its ports neither send nor receive, until it is released",
            Self::Evidence => {
                "its description and the digests of its disks are kept, with a manifest"
            }
            Self::Contain => {
                "it has no port to cut off, or another way out, too: it is frozen, or stopped"
            }
            Self::Sandbox => "its ports speak with the sandbox's bridge, and with nothing else",
            Self::Move => {
                "it is shut down, and its disks and NVRAM are moved to the pool of the sandbox"
            }
            Self::Provision => "the provisioner changes its images",
            Self::Approve => {
                "waits until people approve the digests of what it boots from, or that it is replaced"
            }
            Self::Replace => {
                "a VM of the template takes its name, MACs and addresses; the rogue one is archived"
            }
            Self::Verify => "lineage, posture and policy are judged afresh; only a pass leads on",
            Self::Release => "its quarantine is lifted, and it has what is granted to it",
            Self::GiveBack => "the quarantine of before the remediation is in force again",
            Self::Seal => "its quarantine stays, and what was approved for it is void",
        }
    }

    pub const fn deed(self) -> Option<Deed> {
        match self {
            Self::Evidence => Some(Deed::Evidence),
            Self::Contain => Some(Deed::Contain),
            Self::Move => Some(Deed::Move),
            Self::Provision => Some(Deed::Provision),
            Self::Replace => Some(Deed::Replace),
            Self::Quarantine
            | Self::Sandbox
            | Self::Approve
            | Self::Verify
            | Self::Release
            | Self::GiveBack
            | Self::Seal => None,
        }
    }

    /// Where a VM is whose next step this is.
    pub(super) const fn stage(self, has_begun: bool) -> Stage {
        match self {
            Self::Quarantine => Stage::Discovered,
            Self::Evidence | Self::Contain | Self::Sandbox | Self::Move | Self::GiveBack => {
                Stage::Quarantined
            }
            Self::Provision | Self::Replace if !has_begun => Stage::Sandboxed,
            Self::Provision | Self::Replace | Self::Approve => Stage::Provisioning,
            Self::Verify | Self::Release => Stage::Verifying,
            Self::Seal => Stage::Quarantined,
        }
    }
}

impl Deed {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Evidence => "keeping evidence",
            Self::Contain => "containing a VM that its ports do not hold",
            Self::Move => "moving images to a pool of the sandbox",
            Self::Provision => "provisioning",
            Self::Replace => "replacing a VM by one of a template",
        }
    }
}

impl Planned {
    pub(super) const fn new(step: Step) -> Self {
        Self { step, state: StepState::Waiting, note: String::new(), percent: None }
    }

    pub const fn is_done(&self) -> bool {
        matches!(self.state, StepState::Done(_))
    }

    pub const fn has_begun(&self) -> bool {
        matches!(self.state, StepState::Begun(_))
    }

    pub const fn has_failed(&self) -> bool {
        matches!(self.state, StepState::Failed(_))
    }
}
