use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ProcessId, Timestamp};

mod category;
mod taxonomy;
mod technique;

pub use category::Category;
pub use taxonomy::Class;
pub use technique::Technique;

/// Something an administrator must know. It lasts as long as decisions keep naming it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub key: FindingKey,
    pub severity: Severity,
    /// One sentence: what is the matter with what.
    pub title: String,
    /// Evidence, as name and value, in reading order. Values may come from guests.
    pub evidence: Vec<(String, String)>,
    /// The command that an operator would type next, where there is one.
    pub next: Option<String>,
    pub since: Timestamp,
}

/// Which finding it is: two with the same key are the same one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FindingKey {
    pub kind: FindingKind,
    pub subject: Subject,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    Vm(Uuid),
    Port {
        ifindex: u32,
        instance: u32,
    },
    /// An inventory source.
    Source(String),
    /// A place in a file.
    Place(String),
    Process(ProcessId),
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// A VM that descends from no approved template.
    RogueVm,
    /// A port on a guarded bridge that belongs to no VM.
    UnknownPort,
    /// A port sends under an identity that is not its own: a spoof or something nested behind it.
    ForeignIdentity,
    /// Frames come in from outside under the MAC of a VM that runs on this host.
    MacClone,
    /// A VM of a deprecated template.
    DeprecatedTemplate,
    /// A VM whose evidence cannot be read, so that no verdict falls.
    NoEvidence,
    /// Two sources, or two VMs, contradict each other; the strictest answer is in force.
    Conflict,
    /// A VM in force that its source no longer lists.
    VmVanished,
    /// An inventory source does not answer; what is in force stays, nothing new is admitted.
    SourceLost,
    /// An entry of a manifest, inventory or policy was refused.
    EntryRejected,
    /// An action on the kernel failed.
    EnforcementFailed,
    /// A process that is a virtual machine, or holds what one is made of, and that no inventory knows.
    UnknownVmProcess,
    /// A VM has a way out on which no guard can be.
    UnguardedAttachment,
    /// Somebody has changed what is in force behind the daemon's back.
    Tampered,
    /// A port sends more frames that are refused than an honest guest would.
    Flood,
    /// A quarantine is to be in the sandbox, and there is none.
    SandboxMissing,
    /// A port claims an address that is another's, or protected.
    AddressConflict,
    /// A port has learned as many addresses as it may, and claims more.
    LearnedFull,
    /// A VM of a revoked template that keeps what is in force, for now or by the policy.
    RevokedTemplate,
    /// The policy file is not used; the policy before it stays in force.
    PolicyInvalid,
    /// A rule of the policy cannot be evaluated for a VM, which is denied.
    PolicyError,
    /// What a VM has booted was replaced or rewritten while it runs.
    MediumChanged,
    /// A verdict is in force, and something beside it that helps is not: a shield, a passage, a
    /// forwarding entry.
    EnforcementImpaired,
    /// Somebody has set the host's clock: what depends on the date is not known for now.
    ClockJumped,
    /// Enforcing is suspended for some time.
    BreakGlass,
    /// Enforcing was provisional, and nobody has confirmed it.
    EnforcingLapsed,
    /// Denials are findings only, for some time.
    Maintenance,
    /// A VM that is denied was to be suspended, and is not.
    PauseFailed,
    /// The remediation of a VM does not go on, or what was approved by one is not known.
    RemediationStuck,
    /// A quarantine was on a port that is no more.
    QuarantineEnded,
    /// What is decided cannot be put on record, or what is on record was damaged or changed.
    AuditImpaired,
    /// A receiver of alerts does not take them, or they cannot be kept.
    AlertsUndelivered,
    /// The process that decides asked the enforcer for what it may not have.
    OrdersRefused,
    /// More VMs would lose what they have than may without a person.
    BlastRadius,
    /// The fleet is not reached.
    FleetLost,
    /// Something that the fleet offers or says is not taken.
    FleetRefused,
    /// What is in force is not what the fleet's bundle says.
    PolicyDrift,
}

impl Finding {
    /// Whether it is as severe as its kind may be.
    pub fn is_in_its_class(&self) -> bool {
        self.key.kind.class().severity.contains(&self.severity)
    }
}

impl FindingKind {
    /// What a VM does. None of these follows from a verdict, so that a verdict may follow from them; where others could
    /// have brought one about, it does not count ([`crate::decide::Decision::conduct`]).
    pub const OF_CONDUCT: [Self; 6] = [
        Self::ForeignIdentity,
        Self::AddressConflict,
        Self::LearnedFull,
        Self::Flood,
        Self::UnguardedAttachment,
        Self::MediumChanged,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RogueVm => "rogue-vm",
            Self::UnknownPort => "unknown-port",
            Self::ForeignIdentity => "foreign-identity",
            Self::MacClone => "mac-clone",
            Self::DeprecatedTemplate => "deprecated-template",
            Self::NoEvidence => "no-evidence",
            Self::Conflict => "conflict",
            Self::VmVanished => "vm-vanished",
            Self::SourceLost => "source-lost",
            Self::EntryRejected => "entry-rejected",
            Self::EnforcementFailed => "enforcement-failed",
            Self::UnknownVmProcess => "unknown-vm-process",
            Self::UnguardedAttachment => "unguarded-attachment",
            Self::Tampered => "tampered",
            Self::Flood => "flood",
            Self::SandboxMissing => "sandbox-missing",
            Self::AddressConflict => "address-conflict",
            Self::LearnedFull => "learned-full",
            Self::RevokedTemplate => "revoked-template",
            Self::PolicyInvalid => "policy-invalid",
            Self::PolicyError => "policy-error",
            Self::MediumChanged => "medium-changed",
            Self::EnforcementImpaired => "enforcement-impaired",
            Self::ClockJumped => "clock-jumped",
            Self::BreakGlass => "break-glass",
            Self::EnforcingLapsed => "enforcing-lapsed",
            Self::Maintenance => "maintenance",
            Self::PauseFailed => "pause-failed",
            Self::RemediationStuck => "remediation-stuck",
            Self::QuarantineEnded => "quarantine-ended",
            Self::AuditImpaired => "audit-impaired",
            Self::AlertsUndelivered => "alerts-undelivered",
            Self::OrdersRefused => "orders-refused",
            Self::BlastRadius => "blast-radius",
            Self::FleetLost => "fleet-lost",
            Self::FleetRefused => "fleet-refused",
            Self::PolicyDrift => "policy-drift",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    Info,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}
