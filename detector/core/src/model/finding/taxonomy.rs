//! What each kind of finding means: how severe it is, what kind of trouble, and which technique of MITRE
//! ATT&CK it shows. `docs/findings.md` has the same table, and a test holds both together.

use std::ops::RangeInclusive;

use super::{
    Category, FindingKind, Severity,
    technique::{
        ADVERSARY_IN_THE_MIDDLE, DIRECT_NETWORK_FLOOD, DISABLE_SYSTEM_FIREWALL,
        ENDPOINT_DENIAL_OF_SERVICE, IMPAIR_DEFENSES, IMPLANT_INTERNAL_IMAGE,
        NETWORK_BOUNDARY_BRIDGING, RUN_VIRTUAL_INSTANCE, Technique,
    },
};

/// What is known of a kind of finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Class {
    pub category: Category,
    /// The least and the most severe that it can be.
    pub severity: RangeInclusive<Severity>,
    /// `None` where it is no sign of an attacker.
    pub technique: Option<Technique>,
    /// One sentence or two: what is the matter.
    pub meaning: &'static str,
    /// What an administrator does about it.
    pub advice: &'static str,
}

impl FindingKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [Self; 37] = [
        Self::RogueVm,
        Self::UnknownPort,
        Self::ForeignIdentity,
        Self::MacClone,
        Self::DeprecatedTemplate,
        Self::NoEvidence,
        Self::Conflict,
        Self::VmVanished,
        Self::SourceLost,
        Self::EntryRejected,
        Self::EnforcementFailed,
        Self::UnknownVmProcess,
        Self::UnguardedAttachment,
        Self::Tampered,
        Self::Flood,
        Self::SandboxMissing,
        Self::AddressConflict,
        Self::LearnedFull,
        Self::RevokedTemplate,
        Self::PolicyInvalid,
        Self::PolicyError,
        Self::MediumChanged,
        Self::EnforcementImpaired,
        Self::ClockJumped,
        Self::BreakGlass,
        Self::EnforcingLapsed,
        Self::Maintenance,
        Self::PauseFailed,
        Self::RemediationStuck,
        Self::QuarantineEnded,
        Self::AuditImpaired,
        Self::AlertsUndelivered,
        Self::OrdersRefused,
        Self::BlastRadius,
        Self::FleetLost,
        Self::FleetRefused,
        Self::PolicyDrift,
    ];

    /// What is known of the kind. One that is added does not compile without.
    pub const fn class(self) -> Class {
        use Category::{Compliance, Evasion, Operations, Rogue, Spoof};
        use Severity::{Critical, High, Low, Medium};
        match self {
            Self::RogueVm => class(
                Rogue,
                High..=High,
                Some(RUN_VIRTUAL_INSTANCE),
                "A VM that does not meet the policy: it descends from no approved template, or \
                 a rule forbids it.",
                "`detector explain VM` names the rule and what would let it in; otherwise \
                 remove the VM.",
            ),
            Self::UnknownPort => class(
                Rogue,
                High..=High,
                Some(RUN_VIRTUAL_INSTANCE),
                "A port on a guarded bridge that belongs to no VM of any inventory.",
                "Find out who owns the tap (the evidence names the process). A VM of a manager \
                 that is not followed goes into the inventory file.",
            ),
            Self::ForeignIdentity => class(
                Spoof,
                Medium..=High,
                Some(ADVERSARY_IN_THE_MIDDLE),
                "A port sends under an identity that is not its own: a spoof, or something \
                 nested behind it. High if it is the MAC of another VM.",
                "`detector port show PORT` lists the claims. Grant what is wanted in the \
                 inventory; otherwise quarantine the VM.",
            ),
            Self::MacClone => class(
                Spoof,
                High..=High,
                Some(ADVERSARY_IN_THE_MIDDLE),
                "Frames come in by an uplink under the MAC of a VM that runs on this host.",
                "Look for a clone of the VM on another host, or for a loop that hands this \
                 host's frames back.",
            ),
            Self::DeprecatedTemplate => class(
                Compliance,
                Low..=Low,
                None,
                "A VM in force descends from a template that is deprecated.",
                "Move it to a current template before the old one is revoked.",
            ),
            Self::NoEvidence => class(
                Operations,
                Medium..=Medium,
                None,
                "What a VM boots cannot be read, so that no verdict falls; what is in force \
                 stays.",
                "The evidence says why. Make the image readable for the daemon, and \
                 `registry.image_dirs` name its directory.",
            ),
            Self::Conflict => class(
                Compliance,
                Medium..=Medium,
                None,
                "Two sources, or two VMs, contradict each other; the strictest answer is in \
                 force.",
                "The evidence names both statements; correct one.",
            ),
            Self::VmVanished => class(
                Operations,
                Medium..=Medium,
                None,
                "A VM in force is listed by its source no more.",
                "See whether the VM still runs; what is in force goes when its port does.",
            ),
            Self::SourceLost => class(
                Operations,
                Medium..=Medium,
                None,
                "An inventory source does not answer: what is in force stays, nothing new is \
                 admitted.",
                "Start the manager, or mend the file; the daemon asks again by itself.",
            ),
            Self::EntryRejected => class(
                Operations,
                Low..=High,
                None,
                "An entry of a manifest, an inventory or a state file was refused.",
                "The evidence names file and reason; correct the entry.",
            ),
            Self::EnforcementFailed => class(
                Operations,
                High..=High,
                None,
                "The kernel refuses an action, so that a verdict is not in force.",
                "The evidence has the kernel's answer. It is tried again by itself.",
            ),
            Self::UnknownVmProcess => class(
                Rogue,
                Medium..=High,
                Some(RUN_VIRTUAL_INSTANCE),
                "A process that is a virtual machine, or holds what one is made of, and that no \
                 inventory knows.",
                "`detector process show PID`. End it, or have its manager list it; \
                 `scan.ignored` names tools that are no VMs.",
            ),
            Self::UnguardedAttachment => class(
                Evasion,
                Medium..=High,
                Some(NETWORK_BOUNDARY_BRIDGING),
                "A VM has a way out on which no guard can be.",
                "Give the VM a tap on a guarded bridge in place of it.",
            ),
            Self::Tampered => class(
                Evasion,
                High..=Critical,
                Some(DISABLE_SYSTEM_FIREWALL),
                "Somebody has changed what is in force behind the daemon's back. Critical if it \
                 cannot be put back.",
                "Find out who has `CAP_BPF` or `CAP_NET_ADMIN` on this host and did it; the \
                 evidence says what was changed when.",
            ),
            Self::Flood => class(
                Spoof,
                Medium..=High,
                Some(DIRECT_NETWORK_FLOOD),
                "A port sends more refused frames than an honest guest would. High if under the \
                 MAC of another VM too.",
                "Look into the guest; `detector quarantine add port PORT` has them dropped \
                 before they cost anything.",
            ),
            Self::SandboxMissing => class(
                Operations,
                Medium..=Medium,
                None,
                "A quarantine is to be in the sandbox, and there is none: the port is cut off.",
                "Create the bridge that `sandbox.bridge` names, or set `sandbox.create`.",
            ),
            Self::AddressConflict => class(
                Spoof,
                Medium..=Medium,
                Some(ADVERSARY_IN_THE_MIDDLE),
                "A port claims an address that is another's, or protected.",
                "`detector explain PORT` says whose it is.",
            ),
            Self::LearnedFull => class(
                Spoof,
                Medium..=Medium,
                Some(ENDPOINT_DENIAL_OF_SERVICE),
                "A port has learned as many addresses as it may, and claims more.",
                "Look into the guest; one that needs many gets a `prefix` rule.",
            ),
            Self::RevokedTemplate => class(
                Compliance,
                High..=High,
                Some(IMPLANT_INTERNAL_IMAGE),
                "A VM of a revoked template keeps what is in force, for now or by the policy.",
                "Replace the VM before the deadline, which the evidence names.",
            ),
            Self::PolicyInvalid => class(
                Operations,
                High..=High,
                None,
                "The policy file is not used; the policy before it stays in force.",
                "`detector policy check` says where the mistake is.",
            ),
            Self::PolicyError => class(
                Operations,
                High..=High,
                None,
                "A rule of the policy cannot be evaluated for a VM, which is denied.",
                "Correct the rule that the evidence names; try it with `detector policy test`.",
            ),
            Self::MediumChanged => class(
                Compliance,
                High..=High,
                Some(IMPLANT_INTERNAL_IMAGE),
                "What a VM has booted was replaced or rewritten while it runs.",
                "Find out who writes to the image; the VM counts as what it booted and as what \
                 is there now.",
            ),
            Self::EnforcementImpaired => class(
                Operations,
                Medium..=High,
                None,
                "A verdict is in force, and something beside it is not: a shield, a passage, a \
                 forwarding entry, the file of the mode.",
                "The evidence has the answer of the kernel or the disk. It is tried again by \
                 itself.",
            ),
            Self::ClockJumped => class(
                Operations,
                Medium..=Medium,
                None,
                "The host's clock was set: what depends on the date is not known for now.",
                "Have the clock kept in step (chrony, systemd-timesyncd).",
            ),
            Self::BreakGlass => class(
                Evasion,
                Critical..=Critical,
                Some(IMPAIR_DEFENSES),
                "Enforcing is suspended by a person for some time.",
                "`detector enforce` ends it early.",
            ),
            Self::EnforcingLapsed => class(
                Operations,
                High..=High,
                None,
                "Enforcing was provisional, and nobody has confirmed it: the host observes.",
                "`detector enforce --dry-run`, then `detector enforce` again.",
            ),
            Self::Maintenance => class(
                Evasion,
                High..=High,
                Some(IMPAIR_DEFENSES),
                "Denials are findings only, by a person and for some time.",
                "`detector maintenance --end` ends it early.",
            ),
            Self::PauseFailed => class(
                Operations,
                Low..=High,
                None,
                "A VM that is denied was to be suspended, and is not; it is cut off all the \
                 same. High of one that no inventory knows.",
                "The evidence has libvirt's answer, or says who or what has it run on.",
            ),
            Self::RemediationStuck => class(
                Operations,
                Medium..=High,
                None,
                "A VM that is to be brought back stays cut off, because a step has failed or cannot be \
                 written down; or what people have approved for single VMs is not known.",
                "The evidence says why. See to it, and start the remediation once more.",
            ),
            Self::QuarantineEnded => class(
                Operations,
                Medium..=Medium,
                None,
                "A quarantine was on a port that is no more.",
                "If it is still needed, quarantine the VM or its MAC.",
            ),
            Self::AuditImpaired => class(
                Evasion,
                High..=High,
                Some(IMPAIR_DEFENSES),
                "What is decided cannot be put on record, or what is on record was damaged or changed.",
                "`detector audit verify` says what is wrong; the evidence says why nothing can be written.",
            ),
            Self::AlertsUndelivered => class(
                Operations,
                Medium..=High,
                None,
                "A receiver of alerts does not take them, or they cannot be kept on the disk, \
                 or some were given up.",
                "`detector alert status` says what the receiver answers; `detector alert test \
                 SINK` tries it.",
            ),
            Self::OrdersRefused => class(
                Evasion,
                High..=High,
                Some(IMPAIR_DEFENSES),
                "The process that decides has asked the enforcer for what it may not have, which it \
                 was refused: only one that has been tampered with does so.",
                "Take the daemon, and whatever it could read, for compromised. `journalctl \
                 SYSLOG_IDENTIFIER=detector-enforcer` has what the enforcer says of it.",
            ),
            Self::BlastRadius => class(
                Operations,
                Medium..=Critical,
                None,
                "More VMs would be cut off or stopped than may be without a person: they keep what they have. \
                 Medium once a person wants it so.",
                "`detector mitigation list` says which and why. Restore the policy, the template or the registry \
                 if it was a mistake; otherwise `detector mitigation approve`.",
            ),
            Self::FleetLost => class(
                Operations,
                Medium..=Medium,
                None,
                "The fleet is not reached; what is in force stays, and what there is to tell waits.",
                "The evidence says why. Look for the NATS servers, and whether the host's credentials \
                 were revoked.",
            ),
            Self::FleetRefused => class(
                Operations,
                Medium..=High,
                None,
                "A bundle that the fleet offers is not taken, or a message of it is not read; what was in \
                 force stays.",
                "`detector fleet policy verify BUNDLE` says what is wrong with a bundle. A message of \
                 another version comes from another release.",
            ),
            Self::PolicyDrift => class(
                Operations,
                High..=High,
                None,
                "The policy and templates in force are not those of the fleet's bundle: somebody has \
                 changed them on this host.",
                "Find out who; the next version of the bundle brings the fleet's back.",
            ),
        }
    }
}

const fn class(
    category: Category,
    severity: RangeInclusive<Severity>,
    technique: Option<Technique>,
    meaning: &'static str,
    advice: &'static str,
) -> Class {
    Class { category, severity, technique, meaning, advice }
}

impl Category {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rogue => "rogue",
            Self::Spoof => "spoof",
            Self::Evasion => "evasion",
            Self::Compliance => "compliance",
            Self::Operations => "operations",
        }
    }
}

#[cfg(test)]
mod tests;
