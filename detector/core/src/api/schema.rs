//! Requests and replies of version 1. Fields are added, never renamed or removed, within a version.

use crate::{
    model::{Digest, ModeRequest, QuarantineTarget},
    remediate::Outcome as RemediationOutcome,
};
use serde::{Deserialize, Serialize};

use super::view::{
    AdmissionView, AlertEntry, AlertStatus, ClockView, Explanation, FindingView, Marked,
    MetricsView, MitigationsView, ModeDetail, PlanView, PolicyDiffView, PolicyView, PortView,
    Preview, ProcessView, QuarantineChange, QuarantineView, Reloaded, RemediationView, Status,
    TemplateView, Tried, VmView,
};

/// The version of requests and replies that this build speaks.
pub const VERSION: u32 = 1;

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    Status {},
    PortList {
        /// With the counters of each.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        counters: bool,
    },
    /// A port by interface name, or by ifindex.
    PortShow {
        name: String,
    },
    VmList {},
    /// A VM by name or UUID.
    VmShow {
        name: String,
    },
    QuarantineList {},
    QuarantineShow {
        target: TargetSpec,
    },
    /// Imposes a quarantine in the caller's name.
    QuarantineAdd {
        target: TargetSpec,
        reason: String,
        /// `drop` or `sandbox`; the policy's when it is left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<ModeSpec>,
    },
    /// Lifts a quarantine; refused while the requirements that led to it still fail.
    QuarantineRelease {
        target: TargetSpec,
        /// For the audit.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// The quarantines in force, then every change, until the client closes.
    QuarantineWatch {},
    /// Changes the mode in the caller's name; only root and the daemon's own user may.
    ModeChange {
        change: ModeRequest,
        #[serde(default)]
        reason: String,
    },
    /// What enforcing would cut.
    EnforcePreview {},
    /// Whether the time of day is believed.
    ClockShow {},
    /// The clock is right as it is, in the caller's name; only root and the daemon's own user may say so.
    ClockConfirm {
        /// What the clock says to the caller, in milliseconds since the Unix epoch: another time than the
        /// one that was looked at is not confirmed.
        says: u64,
        reason: String,
    },
    TemplateList {},
    TemplateShow {
        id: String,
    },
    FindingList {},
    FindingShow {
        id: String,
    },
    /// Says in the caller's name that somebody sees to a finding.
    FindingAck {
        id: String,
        reason: String,
    },
    /// Has nobody told of a finding, or of a kind, for so many seconds.
    FindingSuppress {
        what: String,
        reason: String,
        seconds: u64,
    },
    FindingUnsuppress {
        what: String,
    },
    /// How alerts are going out.
    AlertStatus {},
    /// What waits to go out.
    AlertList {},
    /// Sends a test alert to one receiver, or all.
    AlertTest {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sink: Option<String>,
    },
    /// Processes that are VMs, or may be.
    ProcessList {},
    ProcessShow {
        /// Its number, or the VM that it is.
        process: String,
    },
    /// Why a VM, a port or a MAC is treated as it is.
    Explain {
        subject: String,
    },
    /// What there is to measure.
    Metrics {},
    /// Reads the configuration and all other files again.
    Reload {},
    /// The policy in force.
    PolicyShow {},
    /// What another policy, given as its text, would change for the VMs of now. Nothing is done.
    PolicyDiff {
        text: String,
    },
    /// What a remediation of a VM would do. Nothing is done.
    RemediatePlan {
        vm: String,
        outcome: RemediationOutcome,
    },
    /// Starts a remediation in the caller's name, or tries once more what has failed of it.
    RemediateStart {
        vm: String,
        outcome: RemediationOutcome,
        reason: String,
        /// The caller approves what has these digests, too; only where one approval is enough.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        digests: Vec<Digest>,
        /// All VMs that are cut off and boot from the same.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        alike: bool,
    },
    /// The remediations, or that of one VM with its past.
    RemediateStatus {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vm: Option<String>,
    },
    /// Approves in the caller's name that a VM boots from what has these digests.
    RemediateApprove {
        vm: String,
        digests: Vec<Digest>,
        reason: String,
    },
    /// Ends a remediation: the VM stays in quarantine as it was before.
    RemediateAbort {
        vm: String,
        reason: String,
    },
    /// The VM does not come back; what was approved for it is void.
    RemediateReject {
        vm: String,
        reason: String,
    },
    /// What verdicts may take away without a person, and whom they may not.
    MitigationList {},
    /// Has VMs cut off, in the caller's name, that are held; or all of them.
    MitigationApprove {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        vms: Vec<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
        reason: String,
    },
    /// Leaves VMs that are held as they are, in the caller's name.
    MitigationReject {
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        vms: Vec<String>,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        all: bool,
        reason: String,
    },
    /// libvirt is about to start a VM; only root and the daemon's own user may ask.
    Admit {
        /// Name of the VM as the hook got it.
        name: String,
        /// `start`, the operation that the hook got.
        op: String,
        /// The live domain XML.
        xml: String,
        /// The connection that the VM is listed by, as it is configured; the first one when it is left
        /// out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        source: Option<String>,
    },
}

/// What to quarantine, in an operator's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetSpec {
    /// Interface name, or `ifindex/instance` as `quarantine list` shows it.
    Port(String),
    Mac(String),
    /// Name or UUID.
    Vm(String),
}

/// What becomes of a quarantined port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeSpec {
    /// It neither sends nor receives.
    Drop,
    /// It speaks with the sandbox only.
    Sandbox,
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Status(Box<Status>),
    Ports(Vec<PortView>),
    Port(Box<PortView>),
    Vms(Vec<VmView>),
    Vm(Box<VmView>),
    Quarantines(Vec<QuarantineView>),
    Quarantine(QuarantineView),
    QuarantineChange(QuarantineChange),
    /// The quarantine has been lifted.
    Released(QuarantineTarget),
    /// The mode that holds now.
    Mode(ModeDetail),
    Preview(Box<Preview>),
    Clock(Box<ClockView>),
    Templates(Vec<TemplateView>),
    Template(Box<TemplateView>),
    Findings(Vec<FindingView>),
    Finding(Box<FindingView>),
    Marked(Marked),
    AlertStatus(Box<AlertStatus>),
    AlertEntries(Vec<AlertEntry>),
    AlertsTried(Vec<Tried>),
    Processes(Vec<ProcessView>),
    Process(Box<ProcessView>),
    Explanation(Box<Explanation>),
    Admission(AdmissionView),
    Policy(Box<PolicyView>),
    PolicyDiff(PolicyDiffView),
    Reloaded(Box<Reloaded>),
    RemediationPlan(Box<PlanView>),
    Remediations(Vec<RemediationView>),
    Mitigations(Box<MitigationsView>),
    Metrics(Box<MetricsView>),
}

/// Why a request was refused or failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    pub code: ErrorCode,
    /// What was wrong, what was expected, and the way out.
    pub message: String,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request speaks another version.
    UnsupportedVersion,
    /// Not a request of this version.
    BadRequest,
    /// The line is longer than is read.
    TooLong,
    /// The caller may not ask this.
    Forbidden,
    /// Too many connections.
    Busy,
    NotFound,
    /// A name that several things answer to.
    Ambiguous,
    /// The quarantine cannot be lifted: requirements still fail.
    StillFailing,
    /// The kernel refused.
    EnforcementFailed,
    /// The daemon is stopping or has broken.
    Unavailable,
}

/// One line from a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RequestLine {
    pub v: u32,
    /// The person in whose name a program asks that many people use. It is on record, and gives no right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf: Option<String>,
    pub request: Request,
}

/// One line from the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyLine {
    pub v: u32,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Ok(Reply),
    Error(ApiError),
}

impl From<Result<Reply, ApiError>> for ReplyLine {
    fn from(result: Result<Reply, ApiError>) -> Self {
        let outcome = match result {
            Ok(reply) => Outcome::Ok(reply),
            Err(error) => Outcome::Error(error),
        };
        Self { v: VERSION, outcome }
    }
}
