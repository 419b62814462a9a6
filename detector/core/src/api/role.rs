//! Which role each request takes.

use serde::{Deserialize, Serialize};

use super::schema::Request;

/// What somebody may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Asks what is the case.
    View,
    /// Also cuts off and lifts, sees to findings, has files read again.
    Operate,
    /// Also changes what holds for the whole host, and hands in VMs that are about to start.
    Administer,
}

impl Role {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Operate => "operate",
            Self::Administer => "administer",
        }
    }

    /// Whether it is for a person to say, and for no program that works on the VM.
    pub const fn is_for_people(request: &Request) -> bool {
        match request {
            Request::RemediateApprove { .. }
            | Request::RemediateReject { .. }
            | Request::MitigationApprove { .. }
            | Request::MitigationReject { .. } => true,
            Request::RemediateStart { digests, .. } => !digests.is_empty(),
            _ => false,
        }
    }

    /// The least role that may ask this. Every request is here, so that no new one is forgotten.
    pub const fn needed_for(request: &Request) -> Self {
        match request {
            Request::Status {}
            | Request::PortList { .. }
            | Request::PortShow { .. }
            | Request::VmList {}
            | Request::VmShow { .. }
            | Request::QuarantineList {}
            | Request::QuarantineShow { .. }
            | Request::QuarantineWatch {}
            | Request::EnforcePreview {}
            | Request::ClockShow {}
            | Request::TemplateList {}
            | Request::TemplateShow { .. }
            | Request::FindingList {}
            | Request::FindingShow { .. }
            | Request::AlertStatus {}
            | Request::AlertList {}
            | Request::ProcessList {}
            | Request::ProcessShow { .. }
            | Request::Explain { .. }
            | Request::Metrics {}
            | Request::PolicyShow {}
            | Request::PolicyDiff { .. }
            | Request::RemediatePlan { .. }
            | Request::RemediateStatus { .. }
            | Request::MitigationList {} => Self::View,
            // Who starts one and approves in the same breath does both.
            Request::RemediateStart { digests, .. } if !digests.is_empty() => Self::Administer,
            Request::QuarantineAdd { .. }
            | Request::QuarantineRelease { .. }
            | Request::FindingAck { .. }
            | Request::FindingSuppress { .. }
            | Request::FindingUnsuppress { .. }
            | Request::AlertTest { .. }
            | Request::RemediateStart { .. }
            | Request::RemediateAbort { .. }
            | Request::Reload {} => Self::Operate,
            Request::ModeChange { .. }
            | Request::ClockConfirm { .. }
            | Request::RemediateApprove { .. }
            | Request::RemediateReject { .. }
            | Request::MitigationApprove { .. }
            | Request::MitigationReject { .. }
            | Request::Admit { .. } => Self::Administer,
        }
    }
}
