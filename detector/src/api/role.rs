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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_takes_more_than_what_is_asked() {
        let cases = [
            (r#"{"status":{}}"#, Role::View),
            (r#"{"quarantine-watch":{}}"#, Role::View),
            (r#"{"policy-diff":{"text":""}}"#, Role::View),
            (r#"{"quarantine-add":{"target":{"vm":"a"},"reason":""}}"#, Role::Operate),
            (r#"{"quarantine-release":{"target":{"vm":"a"}}}"#, Role::Operate),
            (r#"{"finding-suppress":{"what":"a","reason":"","seconds":1}}"#, Role::Operate),
            (r#"{"reload":{}}"#, Role::Operate),
            (r#"{"mode-change":{"change":{"observe":{}}}}"#, Role::Administer),
            (r#"{"clock-confirm":{"says":1,"reason":""}}"#, Role::Administer),
            (r#"{"admit":{"name":"a","op":"start","xml":""}}"#, Role::Administer),
            (r#"{"remediate-plan":{"vm":"a","outcome":{"patched":{}}}}"#, Role::View),
            (r#"{"remediate-status":{}}"#, Role::View),
            (
                r#"{"remediate-start":{"vm":"a","outcome":{"patched":{}},"reason":""}}"#,
                Role::Operate,
            ),
            (
                r#"{"remediate-start":{"vm":"a","outcome":{"template":{"template":"t"}},"reason":"",
                    "digests":["0000000000000000000000000000000000000000000000000000000000000000"]}}"#,
                Role::Administer,
            ),
            (r#"{"remediate-abort":{"vm":"a","reason":""}}"#, Role::Operate),
            (r#"{"remediate-approve":{"vm":"a","digests":[],"reason":""}}"#, Role::Administer),
            (r#"{"remediate-reject":{"vm":"a","reason":""}}"#, Role::Administer),
            (r#"{"mitigation-list":{}}"#, Role::View),
            (r#"{"mitigation-approve":{"all":true,"reason":""}}"#, Role::Administer),
            (r#"{"mitigation-reject":{"vms":["a"],"reason":""}}"#, Role::Administer),
        ];
        for (text, expect) in cases {
            let request: Request = serde_json::from_str(text).unwrap();
            assert_eq!(Role::needed_for(&request), expect, "{text}");
            // Whatever is put on record as an action changes something.
            let acts = crate::daemon::actions::is_recorded(&request);
            assert!(!acts || expect > Role::View, "{text}");
        }
    }
}
