//! Cases to try a policy on: a VM, and what the rules are expected to say of it.

use std::{collections::BTreeSet, path::Path, time::Duration};

use anyhow::{Result, bail};
use detector_common::quarantine::QuarantineMode;
use detector_core::{
    decide::{
        VmStatus,
        policy::{Fact, Facts, HostFacts, NicFacts, Rules, Standing, TemplateFacts, Variables},
        profile,
    },
    model::{
        AddressRule, AttachmentKind, EvidenceLevel, FindingKind, GuestClaims, LinkKind, MediumRole,
        Posture, PowerState, SecurityProfile, TemplateStatus,
    },
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::config::text::{Place, one_line, read_text};

/// The longest file of cases in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A VM and the verdict that is expected on it. What is left out is that of a VM that the built-in
/// policy approves.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub expect: Expected,
    /// The rules that decide; any, when it is left out.
    rules: Option<BTreeSet<String>>,
    find: Option<bool>,
    isolate: Option<bool>,
    sandbox: Option<bool>,
    pause: Option<bool>,
    shut_down: Option<bool>,
    remediate: Option<bool>,
    /// `"none"`, or a span: `"1h"`.
    grace: Option<String>,
    /// By which rule every NIC gets its addresses that lists none.
    address_rule: Option<AddressRule>,

    /// What is not known yet of the VM.
    #[serde(default)]
    unknown: BTreeSet<Unknown>,
    #[serde(default = "vm_name")]
    vm_name: String,
    #[serde(default = "running")]
    power: PowerState,
    #[serde(default = "digest")]
    evidence: Proof,
    #[serde(default = "yes")]
    registered: bool,
    #[serde(default)]
    template: Template,
    declared_template: Option<String>,
    /// How many media it has.
    #[serde(default = "one")]
    media: usize,
    #[serde(default = "disk")]
    media_roles: BTreeSet<MediumRole>,
    /// Where its firmware's stored variables come from; `None` where nobody says.
    variables: Option<Variables>,
    #[serde(default = "yes")]
    media_local: bool,
    #[serde(default)]
    boots_from_network: bool,
    #[serde(default)]
    attachments: BTreeSet<AttachmentKind>,
    #[serde(default)]
    posture: Posture,
    guest: Option<GuestClaims>,
    /// What findings say that it does.
    #[serde(default)]
    findings: BTreeSet<FindingKind>,
    nics: Option<Vec<Nic>>,
    #[serde(default)]
    host: Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expected {
    Approved,
    Pending,
    Denied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Unknown {
    Evidence,
    Registered,
    Template,
    MediaRead,
    Variables,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Proof {
    Digest,
    Certificate,
    Declared,
    None,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Template {
    id: String,
    version: Option<String>,
    os: Option<String>,
    status: TemplateStatus,
    expired: bool,
    /// What its VMs have to be like: compared with `posture`.
    profile: SecurityProfile,
}

impl Default for Template {
    fn default() -> Self {
        let (id, status) = ("template".to_owned(), TemplateStatus::Approved);
        let profile = SecurityProfile::default();
        Self { id, version: None, os: None, status, expired: false, profile }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Nic {
    mac: String,
    /// The bridge; an empty name where it is on none yet.
    network: String,
    vlans: Vec<u16>,
    addresses: Vec<String>,
    rule: Option<AddressRule>,
    dhcp_server: bool,
    router: bool,
    vrrp: bool,
}

impl Default for Nic {
    fn default() -> Self {
        Self {
            mac: "52:54:00:00:00:01".to_owned(),
            network: "br0".to_owned(),
            vlans: Vec::new(),
            addresses: Vec::new(),
            rule: None,
            dhcp_server: false,
            router: false,
            vrrp: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Host {
    evidence: EvidenceLevel,
    /// Denied VMs go to the sandbox.
    sandbox: bool,
    default_rule: AddressRule,
}

impl Default for Host {
    fn default() -> Self {
        Self { evidence: EvidenceLevel::Digest, sandbox: false, default_rule: AddressRule::Any }
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    pub name: String,
    pub status: VmStatus,
    pub rules: Vec<String>,
    /// Whether it would lose its network at once, did it have any.
    pub loses: bool,
    /// What turned out otherwise, in words; empty when nothing did.
    pub wrong: Vec<String>,
}

/// Reads the cases of a file; blocks.
pub fn read(path: &Path) -> Result<Vec<Case>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        case: Vec<Case>,
    }
    let text = match read_text(path, MAX_BYTES) {
        Ok(text) => text,
        Err(why) => bail!("{}: {why}", path.display()),
    };
    match toml::from_str::<File>(&text) {
        Ok(file) => Ok(file.case),
        Err(error) => {
            let place = Place::of(path, &text, error.span());
            bail!("{place}: {}", one_line(error.message()))
        }
    }
}

impl Case {
    /// Asks the rules, and compares.
    pub fn try_on(&self, rules: &Rules) -> Tried {
        let verdict = rules.judge(self.facts());
        let (status, responses) = (verdict.status(), &verdict.responses);
        let mut wrong = Vec::new();
        let others = self.findings.iter().filter(|kind| !FindingKind::OF_CONDUCT.contains(kind));
        wrong
            .extend(others.map(|kind| format!("{} is no finding that a rule sees", kind.as_str())));
        let expected = match self.expect {
            Expected::Approved => VmStatus::Approved,
            Expected::Pending => VmStatus::Pending,
            Expected::Denied => VmStatus::Denied,
        };
        if status != expected {
            wrong.push(format!("expected {}", crate::api::view::vm_status(expected)));
        }
        let by: BTreeSet<_> = verdict.decided_by.iter().cloned().collect();
        if let Some(rules) = self.rules.as_ref().filter(|rules| **rules != by) {
            let rules: Vec<_> = rules.iter().map(String::as_str).collect();
            wrong.push(format!("expected by {}", rules.join(", ")));
        }
        for (name, expected, found) in [
            ("find", self.find, responses.find),
            ("isolate", self.isolate, responses.isolate),
            ("sandbox", self.sandbox, responses.sandbox),
            ("pause", self.pause, responses.pause),
            ("shut_down", self.shut_down, responses.shut_down),
            ("remediate", self.remediate, responses.remediate),
        ] {
            if let Some(expected) = expected.filter(|expected| *expected != found) {
                wrong.push(format!("expected {name} = {expected}"));
            }
        }
        let grace = responses.grace.map_or_else(
            || "none".to_owned(),
            |seconds| humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        );
        let same = |expected: &str| match humantime::parse_duration(expected) {
            Ok(span) => Some(span.as_secs()) == responses.grace,
            Err(_) => expected == grace,
        };
        if let Some(expected) = self.grace.as_deref().filter(|expected| !same(expected)) {
            wrong.push(format!("expected grace = {expected:?}, and it is {grace:?}"));
        }
        if let Some(expected) = self.address_rule {
            let default = self.host.default_rule;
            let mut rules = verdict.address_rules.iter().map(|rule| rule.unwrap_or(default));
            if let Some(other) = rules.find(|rule| *rule != expected) {
                wrong.push(format!("expected address_rule {expected:?}, and one is {other:?}"));
            }
        }
        wrong.extend(verdict.errors.iter().map(|(id, why)| format!("{id}: {why}")));
        let at_once = responses.isolate && responses.grace.is_none();
        let loses = status == VmStatus::Denied && at_once && self.power != PowerState::Off;
        let rules = verdict.decided_by.clone();
        Tried { name: self.name.clone(), status, rules, loses, wrong }
    }

    fn facts(&self) -> Facts {
        let known = |unknown: Unknown| !self.unknown.contains(&unknown);
        let standing = match self.evidence {
            Proof::Digest => Standing::Digest,
            Proof::Certificate => Standing::Certificate,
            Proof::Declared => Standing::Declared,
            Proof::None => Standing::None,
        };
        // Without evidence there is no template to judge by.
        let template = known(Unknown::Template) && self.registered && self.evidence != Proof::None;
        Facts {
            uuid: Uuid::nil(),
            name: self.vm_name.clone(),
            power: self.power,
            host: HostFacts {
                evidence: self.host.evidence,
                quarantine: if self.host.sandbox {
                    QuarantineMode::Sandbox
                } else {
                    QuarantineMode::Drop
                },
                sandbox: self.host.sandbox,
                default_rule: self.host.default_rule,
            },
            standing: fact(known(Unknown::Evidence), standing),
            registered: fact(known(Unknown::Registered), self.registered),
            template: fact(template, self.template.facts()),
            unmet: fact(template, profile::unmet(&self.template.profile, &self.posture)),
            variables: match (known(Unknown::Variables), self.variables) {
                (true, variables) => variables.map(Fact::Known),
                (false, _) => Some(Fact::Unknown),
            },
            declared: self.declared_template.clone(),
            media: self.media,
            media_roles: self.media_roles.clone(),
            media_local: self.media_local,
            media_read: fact(known(Unknown::MediaRead), true),
            boots_from_network: self.boots_from_network,
            attachments: self.attachments.clone(),
            posture: self.posture.clone(),
            guest: self.guest.clone(),
            findings: self.findings.clone(),
            nics: match &self.nics {
                Some(nics) => nics.iter().map(Nic::facts).collect(),
                None => vec![Nic::default().facts()],
            },
        }
    }
}

impl Template {
    fn facts(&self) -> TemplateFacts {
        TemplateFacts {
            id: self.id.clone(),
            version: self.version.clone(),
            os: self.os.clone(),
            status: Fact::Known(self.status),
            expired: Fact::Known(self.expired),
        }
    }
}

impl Nic {
    fn facts(&self) -> NicFacts {
        let network = (!self.network.is_empty()).then(|| self.network.clone());
        NicFacts {
            mac: self.mac.clone(),
            vlans: self.vlans.clone(),
            addresses: self.addresses.clone(),
            rule: self.rule,
            dhcp_server: self.dhcp_server,
            router: self.router,
            vrrp: self.vrrp,
            port: network.as_ref().map(|_| ("vnet0".to_owned(), LinkKind::Tap)),
            network,
        }
    }
}

fn fact<T>(known: bool, value: T) -> Fact<T> {
    if known { Fact::Known(value) } else { Fact::Unknown }
}

fn vm_name() -> String {
    "vm".to_owned()
}

const fn running() -> PowerState {
    PowerState::Running
}

const fn digest() -> Proof {
    Proof::Digest
}

const fn yes() -> bool {
    true
}

const fn one() -> usize {
    1
}

fn disk() -> BTreeSet<MediumRole> {
    [MediumRole::Disk].into()
}

#[cfg(test)]
mod tests;
