//! What a policy is told of a VM.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::quarantine::QuarantineMode;
use serde::Deserialize;

use crate::{
    decide::{
        approval::{Approval, approval},
        lineage::{self, Origin},
        profile::{self, Ask},
        requirements::Case,
    },
    model::{
        AddressRule, AttachmentKind, EvidenceLevel, FindingKind, GuestClaims, Link, LinkKind,
        MediumRole, Posture, PowerState, TemplateStatus, World,
    },
};

/// Something that is known, or may still become known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact<T> {
    Known(T),
    Unknown,
}

impl<T> Fact<T> {
    fn map<U>(&self, value: impl FnOnce(&T) -> U) -> Fact<U> {
        match self {
            Self::Known(known) => Fact::Known(value(known)),
            Self::Unknown => Fact::Unknown,
        }
    }
}

/// Everything that a verdict on a VM depends on: the same facts, the same verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub uuid: uuid::Uuid,
    pub name: String,
    pub power: PowerState,
    pub host: HostFacts,
    pub standing: Fact<Standing>,
    pub registered: Fact<bool>,
    /// Unknown where there is none to judge by.
    pub template: Fact<TemplateFacts>,
    /// What the profile of its template asks and it is not; unknown like the template.
    pub unmet: Fact<BTreeSet<Ask>>,
    /// Where the firmware's stored variables come from; none where nobody says whether there are any.
    pub variables: Option<Fact<Variables>>,
    pub declared: Option<String>,
    pub media: usize,
    pub media_roles: BTreeSet<MediumRole>,
    pub media_local: bool,
    pub media_read: Fact<bool>,
    pub boots_from_network: bool,
    pub attachments: BTreeSet<AttachmentKind>,
    pub posture: Posture,
    /// What the guest says of itself; none where it says nothing.
    pub guest: Option<GuestClaims>,
    /// What findings say that it does: those of [`FindingKind::OF_CONDUCT`].
    pub findings: BTreeSet<FindingKind>,
    pub nics: Vec<NicFacts>,
}

/// What the configuration of the host says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostFacts {
    pub evidence: EvidenceLevel,
    pub quarantine: QuarantineMode,
    pub sandbox: bool,
    /// For NICs whose source lists no addresses.
    pub default_rule: AddressRule,
}

/// How strong the evidence of a VM's lineage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Digest,
    Certificate,
    Declared,
    None,
}

/// Where the firmware's stored variables come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variables {
    /// There are none.
    None,
    /// They are an image of its template.
    Template,
    /// They were, before the VM ran for the first time.
    Certificate,
    /// Nothing ties them to its template.
    Unknown,
}

impl Variables {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Template => "template",
            Self::Certificate => "certificate",
            Self::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateFacts {
    pub id: String,
    pub version: Option<String>,
    pub os: Option<String>,
    /// Unknown while VMs of a revoked template keep what is in force.
    pub status: Fact<TemplateStatus>,
    /// Unknown where the clock has been set across that date.
    pub expired: Fact<bool>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NicFacts {
    pub mac: String,
    pub vlans: Vec<u16>,
    pub addresses: Vec<String>,
    pub rule: Option<AddressRule>,
    pub dhcp_server: bool,
    pub router: bool,
    pub vrrp: bool,
    pub port: Option<(String, LinkKind)>,
    /// The bridge that it is on, once it is on one.
    pub network: Option<String>,
}

impl HostFacts {
    pub(in crate::decide) fn of(world: &World) -> Self {
        let policy = &world.policy;
        Self {
            evidence: policy.evidence,
            quarantine: policy.quarantine,
            sandbox: policy.sandbox.is_some(),
            default_rule: policy.default_rule,
        }
    }
}

/// The host's interfaces by name.
pub(in crate::decide) fn links_by_name(world: &World) -> BTreeMap<&str, &Link> {
    world.links.values().map(|link| (link.name.as_str(), link)).collect()
}

impl Facts {
    pub(in crate::decide) fn of(
        case: &Case<'_>,
        world: &World,
        links: &BTreeMap<&str, &Link>,
    ) -> Self {
        let Case { vm, lineage, registry, .. } = case;
        let complete = registry.gap().is_none();
        let unless_incomplete = |fact| if complete { Fact::Known(fact) } else { Fact::Unknown };
        let standing = match lineage.standing {
            lineage::Standing::Proven(_) if lineage.level() == Some(EvidenceLevel::Certificate) => {
                Fact::Known(Standing::Certificate)
            }
            lineage::Standing::Proven(_) if lineage.level() == Some(EvidenceLevel::Declared) => {
                Fact::Known(Standing::Declared)
            }
            lineage::Standing::Proven(_) => Fact::Known(Standing::Digest),
            lineage::Standing::Declared(..) => Fact::Known(Standing::Declared),
            lineage::Standing::Open => Fact::Unknown,
            lineage::Standing::None if complete => Fact::Known(Standing::None),
            lineage::Standing::None => Fact::Unknown,
        };
        let registered = match lineage.standing {
            lineage::Standing::Proven(_) | lineage::Standing::Declared(_, Some(_)) => {
                Fact::Known(true)
            }
            lineage::Standing::Declared(_, None) | lineage::Standing::None => {
                unless_incomplete(false)
            }
            lineage::Standing::Open => Fact::Unknown,
        };
        let template = lineage.template().map_or(Fact::Unknown, |template| {
            Fact::Known(TemplateFacts {
                id: template.id.clone(),
                version: template.version.clone(),
                os: template.os.clone(),
                status: match approval(template, case.policy, case.today, case.in_force) {
                    Approval::Keeps { .. } => Fact::Unknown,
                    Approval::Admits(_) | Approval::Refuses { .. } => Fact::Known(template.status),
                },
                expired: match template.expires.map(|at| case.today.has_come(at)) {
                    Some(None) => Fact::Unknown,
                    Some(Some(expired)) => Fact::Known(expired),
                    None => Fact::Known(false),
                },
            })
        });
        let unmet = template.map(|_| {
            let asking = lineage.covering.iter();
            asking.flat_map(|one| profile::unmet(&one.profile, &vm.posture)).collect()
        });
        let variables = lineage.variables(vm).map(|origin| match origin {
            Origin::None => Fact::Known(Variables::None),
            Origin::Template(_) => Fact::Known(Variables::Template),
            Origin::Certificate(_) => Fact::Known(Variables::Certificate),
            Origin::Foreign(_) => Fact::Known(Variables::Unknown),
            Origin::Open(_) => Fact::Unknown,
        });
        let booted = || vm.media.iter().filter(|medium| medium.role != MediumRole::Variables);
        let gaps = &lineage.gaps;
        let read = gaps.unreadable.is_none() && gaps.pending.is_none();
        Self {
            uuid: vm.uuid,
            name: vm.name.clone(),
            power: vm.power,
            host: HostFacts::of(world),
            standing,
            registered,
            template,
            unmet,
            variables,
            declared: vm.declared_template.clone(),
            media: booted().count(),
            media_roles: booted().map(|medium| medium.role).collect(),
            media_local: gaps.remote.is_none(),
            media_read: if read { Fact::Known(true) } else { Fact::Unknown },
            boots_from_network: gaps.network.is_some(),
            attachments: vm.attachments.iter().map(|one| one.kind).collect(),
            posture: vm.posture.clone(),
            guest: world.guests.get(&vm.uuid).cloned(),
            findings: world.conduct.get(&vm.uuid).cloned().unwrap_or_default(),
            nics: vm.nics.iter().map(|nic| NicFacts::of(nic, world, links)).collect(),
        }
    }
}

impl NicFacts {
    fn of(nic: &crate::model::Nic, world: &World, links: &BTreeMap<&str, &Link>) -> Self {
        let link = nic.port.as_deref().and_then(|port| links.get(port));
        let bridge = link.and_then(|link| world.links.get(&link.master?));
        Self {
            mac: nic.mac.to_string(),
            vlans: nic.vlans.clone(),
            addresses: nic.addresses.iter().map(ToString::to_string).collect(),
            rule: nic.rule,
            dhcp_server: nic.dhcp_server,
            router: nic.router,
            vrrp: nic.vrrp,
            port: link.map(|link| (link.name.clone(), link.kind)),
            network: bridge.map(|bridge| bridge.name.clone()),
        }
    }
}
