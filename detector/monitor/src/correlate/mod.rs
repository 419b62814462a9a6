//! What no host can see by itself: the same identity on two hosts, a quarantined VM that is back elsewhere, an unknown
//! image on several hosts, hosts that are silent or under another policy than the rest. Pure.

mod settle;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use detector_core::{
    fleet::message::{Time, VmState},
    model::Severity,
};
use ipnet::IpNet;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::estate::Estate;

pub use settle::Settling;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A VM that one host has quarantined runs on another one.
    QuarantineEvaded,
    /// One UUID runs on two hosts.
    UuidTwice,
    /// One MAC is used on two hosts.
    MacTwice,
    /// One address is used on two hosts.
    AddressTwice,
    /// One image that no template knows is booted on several hosts.
    UnknownImageSpread,
    /// A host has not been heard of for too long.
    HostSilent,
    /// A host does not go by the bundle that most go by, or has changed it.
    PolicyDiffers,
}

impl Kind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuarantineEvaded => "quarantine-evaded",
            Self::UuidTwice => "uuid-twice",
            Self::MacTwice => "mac-twice",
            Self::AddressTwice => "address-twice",
            Self::UnknownImageSpread => "unknown-image-spread",
            Self::HostSilent => "host-silent",
            Self::PolicyDiffers => "policy-differs",
        }
    }

    const fn severity(self) -> Severity {
        match self {
            Self::QuarantineEvaded => Severity::Critical,
            Self::UuidTwice | Self::MacTwice | Self::UnknownImageSpread | Self::HostSilent => {
                Severity::High
            }
            Self::AddressTwice | Self::PolicyDiffers => Severity::Medium,
        }
    }

    /// Whether hosts that speak one after another make it look so for a moment.
    const fn may_be_between(self) -> bool {
        match self {
            Self::UuidTwice | Self::MacTwice | Self::AddressTwice | Self::QuarantineEvaded => true,
            Self::UnknownImageSpread | Self::HostSilent | Self::PolicyDiffers => false,
        }
    }
}

/// Something that follows from what several hosts have said.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub struct Correlation {
    pub kind: Kind,
    /// What they have in common: a UUID, a MAC, an address, a digest, a host.
    pub subject: String,
    pub hosts: BTreeSet<String>,
    /// In a sentence.
    pub title: String,
    #[schema(value_type = String)]
    pub severity: Severity,
    /// It may be that one host hands over to the other.
    #[serde(skip)]
    pub handover: bool,
}

/// All that follows. `apart` are networks that each host has for itself, where one address on two hosts is nothing.
pub fn correlate(estate: &Estate, now: Time, apart: &[IpNet]) -> Vec<Correlation> {
    let mut found = Vec::new();
    identities(estate, apart, &mut found);
    images(estate, &mut found);
    for (name, host) in &estate.hosts {
        if host.is_silent(now) || host.lost.is_some() {
            let why = host.lost.as_deref().unwrap_or("it has said nothing for too long");
            let title = format!("Nothing is known of {name} for now: {why}");
            push(&mut found, Kind::HostSilent, name, [name.as_str()].into(), title, false);
        }
    }
    policies(estate, &mut found);
    found.sort();
    found
}

fn push(
    found: &mut Vec<Correlation>,
    kind: Kind,
    subject: &str,
    hosts: BTreeSet<&str>,
    title: String,
    handover: bool,
) {
    let hosts = hosts.into_iter().map(str::to_owned).collect();
    let (subject, severity) = (subject.to_owned(), kind.severity());
    found.push(Correlation { kind, subject, hosts, title, severity, handover });
}

/// By which VMs something is used, by host; and whether each of them says that it is on its way from there, or to there.
type Users<'a> = BTreeMap<String, BTreeMap<&'a str, BTreeSet<(Uuid, bool)>>>;

fn is_in_transit(vm: &VmState) -> bool {
    vm.power == "in-transit"
}

/// A VM of a host uses this.
fn note<'a>(users: &mut Users<'a>, what: String, host: &'a str, vm: &VmState) {
    let used = (vm.uuid, is_in_transit(vm));
    users.entry(what).or_default().entry(host).or_default().insert(used);
}

/// Whether one VM is on its way from one of these hosts to the other, which are all there are.
fn is_handover(users: &BTreeMap<&str, BTreeSet<(Uuid, bool)>>) -> bool {
    let all: BTreeSet<_> = users.values().flatten().collect();
    let vms: BTreeSet<_> = all.iter().map(|(vm, _)| vm).collect();
    users.len() == 2 && vms.len() == 1 && all.iter().any(|(_, in_transit)| *in_transit)
}

fn identities(estate: &Estate, apart: &[IpNet], found: &mut Vec<Correlation>) {
    let (mut uuids, mut macs, mut addresses) = (Users::new(), Users::new(), Users::new());
    let mut cut_off: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut free: BTreeMap<String, BTreeMap<&str, bool>> = BTreeMap::new();
    for (host, vm) in estate.vms() {
        let uuid = vm.uuid.to_string();
        if vm.status == "quarantined" {
            cut_off.entry(uuid.clone()).or_default().insert(host);
        }
        if vm.power == "off" {
            continue;
        }
        if matches!(vm.status.as_str(), "approved" | "pending" | "denied") {
            free.entry(uuid.clone()).or_default().insert(host, is_in_transit(vm));
        }
        note(&mut uuids, uuid, host, vm);
        for nic in &vm.nics {
            note(&mut macs, nic.mac.clone(), host, vm);
            for text in nic.addresses.iter().filter(|text| is_shared(text, apart)) {
                note(&mut addresses, text.clone(), host, vm);
            }
        }
    }
    for (uuid, hosts) in &cut_off {
        let free = free.get(uuid).into_iter().flatten();
        let others: BTreeMap<_, _> = free.filter(|(host, _)| !hosts.contains(*host)).collect();
        if !others.is_empty() {
            let all = hosts.iter().chain(others.keys().copied()).copied().collect();
            let title = format!(
                "VM {uuid} is quarantined on {} and runs on {}",
                list(hosts.iter().copied()),
                list(others.keys().map(|host| **host))
            );
            let handover =
                hosts.len() == 1 && others.len() == 1 && others.values().all(|one| **one);
            push(found, Kind::QuarantineEvaded, uuid, all, title, handover);
        }
    }
    let all = [
        (Kind::UuidTwice, "VM", &uuids),
        (Kind::MacTwice, "MAC", &macs),
        (Kind::AddressTwice, "Address", &addresses),
    ];
    for (kind, what, users) in all {
        for (subject, users) in users.iter().filter(|(_, users)| users.len() > 1) {
            let hosts: BTreeSet<_> = users.keys().copied().collect();
            let title = format!("{what} {subject} is on {} at once", list(hosts.iter().copied()));
            push(found, kind, subject, hosts, title, is_handover(users));
        }
    }
}

/// Whether an address means the same machine on every host.
fn is_shared(text: &str, apart: &[IpNet]) -> bool {
    let Ok(address) = text.parse::<IpAddr>() else { return false };
    let local = match address {
        IpAddr::V4(address) => address.is_link_local() || address.is_unspecified(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unspecified(),
    };
    !local && !apart.iter().any(|net| net.contains(&address))
}

/// Digests that findings of rogue VMs name are of images that no template has.
fn images(estate: &Estate, found: &mut Vec<Correlation>) {
    let mut seen: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (host, finding) in estate.findings().filter(|(_, finding)| finding.kind == "rogue-vm") {
        for digest in finding.evidence.iter().flat_map(|(_, text)| digests(text)) {
            seen.entry(digest).or_default().insert(host);
        }
    }
    for (digest, hosts) in seen.iter().filter(|(_, hosts)| hosts.len() > 1) {
        let short = &digest[..12];
        let title =
            format!("The unknown image {short}… is booted on {}", list(hosts.iter().copied()));
        push(found, Kind::UnknownImageSpread, digest, hosts.clone(), title, false);
    }
}

fn digests(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_hexdigit());
    words.filter(|word| word.len() == 64).map(str::to_ascii_lowercase).collect()
}

fn policies(estate: &Estate, found: &mut Vec<Correlation>) {
    let mut by_version: BTreeMap<Option<u64>, BTreeSet<&str>> = BTreeMap::new();
    for (name, host) in &estate.hosts {
        let Some(state) = &host.state else { continue };
        let policy = &state.policy;
        by_version.entry(policy.in_force.map(|version| version.number)).or_default().insert(name);
        let drift = policy
            .drift
            .first()
            .map(|what| format!("what is in force on {name} was changed: {what}"));
        let refused = policy.refused.as_ref().map(|refused| {
            format!("{name} does not take bundle {}: {}", refused.version, refused.why)
        });
        if let Some(title) = drift.or(refused) {
            push(found, Kind::PolicyDiffers, name, [name.as_str()].into(), title, false);
        }
    }
    // Where all hosts go by one bundle, or by none, or where as many go by each, nobody differs.
    let most = by_version.values().map(BTreeSet::len).max().unwrap_or(0);
    let common = by_version.iter().filter(|(_, hosts)| hosts.len() == most);
    let [(usual, _)] = common.collect::<Vec<_>>()[..] else { return };
    let word = |version: &Option<u64>| {
        version.map_or("its own files".to_owned(), |number| format!("bundle {number}"))
    };
    for (version, hosts) in by_version.iter().filter(|(version, _)| *version != usual) {
        for host in hosts {
            let known =
                found.iter().any(|one| one.kind == Kind::PolicyDiffers && one.subject == **host);
            if !known {
                let title =
                    format!("{host} goes by {}, most hosts by {}", word(version), word(usual));
                push(found, Kind::PolicyDiffers, host, [*host].into(), title, false);
            }
        }
    }
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match &names[..] {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        names => names.concat(),
    }
}
