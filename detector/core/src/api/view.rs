//! What replies show. The fields are the stable JSON of `detector --output json`.
//!
//! Times are RFC 3339 in UTC. Names, titles and evidence may be chosen by guests: escape them before
//! they reach a terminal.

mod alert;
mod clock;
mod health;
mod metrics;
mod mitigation;
mod mode;
mod policy;
mod port;
mod reload;
mod remediate;
mod template;

use std::collections::BTreeMap;

use crate::{
    decide::{Requirement, VmStatus},
    model::{
        Attachment, Curbed, EvidenceLevel, Finding, FindingKind, GuestClaims, Holds, MediumRole,
        Posture, PowerState, Program, QuarantineTarget, Says, Severity, Subject,
    },
};
use detector_common::settings::Mode;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub use alert::{AlertEntry, AlertStatus, Mark, Marked, SinkView, Suppression, Tried};
pub use clock::{ClockView, ConfirmedView};
pub use health::{Health, Trouble, health};
pub use metrics::{DaemonMetrics, MetricsView, PortMetrics};
pub use mitigation::{HeldView, MitigationsView, WordView};
pub use mode::{ModeDetail, Preview, PreviewPort, PreviewVm, TermView};
pub use policy::{PolicyChange, PolicyDiffView, PolicyView};
pub use port::{
    CountersView, FramesView, IdentityView, LearnedView, PortState, PortView, SightingView,
};
pub use reload::{Kept, Reloaded};
pub use remediate::{
    ApprovalView, DeedView, EventView, PlanView, RemediationView, SightedView, StepView,
};
pub use template::{ImageView, TemplateView, standing};

/// The daemon at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Version of the pinned maps.
    pub schema: u32,
    pub mode: ModeView,
    /// How the mode has come about, and when it ends.
    #[serde(default)]
    pub mode_detail: Option<ModeDetail>,
    pub evidence: EvidenceLevel,
    pub started: Timestamp,
    pub sources: Vec<SourceView>,
    /// Guest ports by status.
    pub ports: BTreeMap<String, usize>,
    /// VMs by status.
    pub vms: BTreeMap<String, usize>,
    pub bridges: usize,
    pub uplinks: usize,
    pub quarantines: usize,
    /// VMs that are denied and keep what they have (`detector mitigation list`).
    #[serde(default)]
    pub held: usize,
    /// VMs that verdicts have cut off or stopped within the time that the limit is about.
    #[serde(default)]
    pub recently_cut_off: usize,
    pub templates: usize,
    /// Kernel events received since the daemon started.
    pub events: u64,
    /// Open findings, the most severe first.
    pub findings: Vec<FindingView>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModeView {
    /// Verdicts are computed and counted; frames go on all the same.
    Observe,
    Enforce,
    /// No settings have been written to the kernel.
    None,
}

impl From<Mode> for ModeView {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Observe => Self::Observe,
            Mode::Enforce => Self::Enforce,
        }
    }
}

impl ModeView {
    /// Whether verdicts are carried out; nothing where no mode has been set.
    pub fn enforces(self) -> Option<bool> {
        match self {
            Self::Observe => Some(false),
            Self::Enforce => Some(true),
            Self::None => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceView {
    pub name: String,
    pub healthy: bool,
    /// Why it is not healthy.
    pub why: Option<String>,
    pub since: Option<Timestamp>,
    pub vms: usize,
    /// Entries that were refused.
    pub rejected: usize,
}

/// The name of a VM's status.
pub const fn vm_status(status: VmStatus) -> &'static str {
    match status {
        VmStatus::Approved => "approved",
        VmStatus::Pending => "pending",
        VmStatus::Denied => "denied",
        VmStatus::Quarantined => "quarantined",
        VmStatus::Off => "off",
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRef {
    pub uuid: Uuid,
    pub name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmView {
    pub uuid: Uuid,
    pub name: String,
    pub source: String,
    pub power: PowerState,
    pub status: VmStatus,
    pub since: Option<Timestamp>,
    pub template: Option<String>,
    /// The version of it, where it is registered and has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_version: Option<String>,
    pub nics: Vec<NicView>,
    /// Every requirement, met or not; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requirements: Vec<Requirement>,
    /// The rules of the policy that decided; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What it can boot from; empty in lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub media: Vec<MediumView>,
    /// It is denied, and keeps what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldView>,
    /// What its manager says of the machine; absent in lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub posture: Option<Posture>,
    /// What the guest says of itself; it may lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guest: Option<GuestClaims>,
}

impl VmView {
    /// The template that it descends from, by `ID` or `ID@VERSION`.
    pub fn template_name(&self) -> Option<String> {
        let id = self.template.as_ref()?;
        Some(match &self.template_version {
            None => id.clone(),
            Some(version) => format!("{id}@{version}"),
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NicView {
    pub mac: String,
    pub port: Option<String>,
    pub status: Option<PortState>,
    pub addresses: Vec<String>,
    /// Addresses that it has learned.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediumView {
    pub role: MediumRole,
    /// A path, or what it is that cannot be digested here.
    pub source: String,
    pub evidence: EvidenceView,
    /// The device that its manager says it is a snapshot of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot_of: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceView {
    /// It is being read.
    Pending,
    /// Layers, the one that is written to first, the base last; and the digest of the base.
    Chain {
        layers: Vec<String>,
        sha256: String,
        /// The digest is that of before its VM ran for the first time, by a certificate of birth.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        at_birth: bool,
    },
    Unreadable(String),
    /// It cannot be digested on this host.
    Remote,
}

/// A process that is a VM, or holds what one is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessView {
    pub pid: u32,
    /// The VM that it is; null when no inventory knows it.
    pub vm: Option<VmRef>,
    /// `vm`, `unknown`, or `unsettled`: recorded as a VM's whose inventory is lost.
    pub status: String,
    /// Whether it runs a VM; false when it merely holds what one is made of.
    pub runs_vm: bool,
    pub uid: u32,
    pub user: Option<String>,
    pub started: Timestamp,
    pub exe: String,
    pub command: String,
    /// The virtual machine monitor that it is, and whether by `name` or by `content` of its file.
    pub program: Option<Program>,
    /// Why it cannot be told what it is.
    pub obscure: Option<String>,
    pub holds: Holds,
    /// Connections that its arguments make without a port.
    pub attachments: Vec<Attachment>,
    /// What its arguments say that it is.
    pub says: Says,
    /// Inode of its network namespace, and whether that is the host's.
    pub network: u64,
    pub network_is_hosts: bool,
    pub cgroup: String,
    /// Whether it is kept from running on, where that is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curbed: Option<Curbed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineView {
    pub target: QuarantineTarget,
    /// What the operator calls it: interface name, MAC or VM name.
    pub name: String,
    pub since: Timestamp,
    /// `verdict` or `operator`.
    pub cause: String,
    /// `drop` or `sandbox`.
    #[serde(default)]
    pub mode: String,
    /// User id of the person, or of the daemon.
    pub uid: u32,
    pub note: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineChange {
    /// True when it was imposed, false when it was lifted.
    pub imposed: bool,
    pub quarantine: QuarantineView,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingView {
    /// Names the finding in commands; the same while it lasts, over restarts too.
    #[serde(default)]
    pub id: String,
    pub kind: FindingKind,
    pub subject: Subject,
    pub severity: Severity,
    pub title: String,
    pub evidence: Vec<(String, String)>,
    pub next: Option<String>,
    pub since: Timestamp,
    /// Somebody has seen to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Mark>,
    /// Nobody is told of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suppressed: Option<Mark>,
}

/// Everything there is to say about one VM, port or MAC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked about.
    pub subject: String,
    /// `vm`, `port` or `mac`.
    pub kind: String,
    /// Its status in a word: that of the VM, or of the port where no VM is known.
    pub status: String,
    /// One sentence: what and why.
    pub summary: String,
    pub since: Option<Timestamp>,
    pub vm: Option<VmView>,
    pub ports: Vec<PortView>,
    pub quarantines: Vec<QuarantineView>,
    pub findings: Vec<FindingView>,
    pub remedies: Vec<Remedy>,
}

/// What would let it back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remedy {
    pub what: String,
    /// The command that does it, where there is one.
    pub command: Option<String>,
}

/// The answer to libvirt's hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionView {
    /// Whether the start goes on.
    pub start: bool,
    pub outcome: AdmissionOutcome,
    /// For the person who starts the VM; empty when there is nothing to say.
    pub message: String,
}

impl AdmissionView {
    /// The answer to what asks for no verdict.
    pub fn noted() -> Self {
        Self { start: true, outcome: AdmissionOutcome::Undecided, message: String::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdmissionOutcome {
    /// The grant is in force.
    Granted,
    /// The verdict is against it.
    Denied,
    /// No verdict within the time; the ports are mute until there is one.
    Undecided,
}

/// The moment in the form that replies have.
pub fn moment(at: crate::model::Timestamp) -> Timestamp {
    i64::try_from(at.0)
        .ok()
        .and_then(|milliseconds| Timestamp::from_millisecond(milliseconds).ok())
        .unwrap_or(Timestamp::MAX)
}

impl FindingView {
    /// A finding that nobody has said anything of, under the name that commands know it by.
    pub fn new(id: String, finding: &Finding) -> Self {
        Self {
            id,
            kind: finding.key.kind,
            subject: finding.key.subject.clone(),
            severity: finding.severity,
            title: finding.title.clone(),
            evidence: finding.evidence.clone(),
            next: finding.next.clone(),
            since: moment(finding.since),
            acknowledged: None,
            suppressed: None,
        }
    }
}
