//! What no host can see by itself: the same identity on two hosts, a quarantined VM that is back elsewhere, an unknown
//! image on several hosts, hosts that are silent or under another policy than the rest. Pure.

mod settle;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
};

use detector_core::{fleet::message::Time, model::Severity};
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

/// That a VM goes by something somewhere. Ordered by what that is, and then by host.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Use<'a, What> {
    what: What,
    host: &'a str,
    vm: Uuid,
    in_transit: bool,
}

/// Who uses what is used on several hosts, each as a run of its own. (A fleet has a hundred thousand uses and more, nearly
/// all of them on one host: they are sorted, and nothing is made of those.)
fn on_several<'a, 'b, What: Copy + Ord>(
    uses: &'b mut [Use<'a, What>],
) -> impl Iterator<Item = &'b [Use<'a, What>]> {
    uses.sort_unstable();
    uses.chunk_by(|one, other| one.what == other.what)
        .filter(|users| users.first().map(|one| one.host) != users.last().map(|one| one.host))
}

/// Whether one VM is on its way from one of these hosts to the other, which are all there are.
fn is_handover<What>(users: &[Use<'_, What>]) -> bool {
    let hosts: BTreeSet<_> = users.iter().map(|user| user.host).collect();
    let vms: BTreeSet<_> = users.iter().map(|user| user.vm).collect();
    hosts.len() == 2 && vms.len() == 1 && users.iter().any(|user| user.in_transit)
}

fn identities(estate: &Estate, apart: &[IpNet], found: &mut Vec<Correlation>) {
    let mut cut_off: BTreeMap<Uuid, BTreeSet<&str>> = BTreeMap::new();
    for (host, vm) in estate.vms().filter(|(_, vm)| vm.status == "quarantined") {
        cut_off.entry(vm.uuid).or_default().insert(host);
    }
    let mut free: BTreeMap<Uuid, BTreeMap<&str, bool>> = BTreeMap::new();
    let (mut uuids, mut macs, mut addresses) = (Vec::new(), Vec::new(), Vec::new());
    for (host, vm) in estate.vms().filter(|(_, vm)| vm.power != "off") {
        let in_transit = vm.power == "in-transit";
        let is_free = matches!(vm.status.as_str(), "approved" | "pending" | "denied");
        if is_free && cut_off.contains_key(&vm.uuid) {
            free.entry(vm.uuid).or_default().insert(host, in_transit);
        }
        uuids.push(Use { what: vm.uuid, host, vm: vm.uuid, in_transit });
        let uses = |what| Use { what, host, vm: vm.uuid, in_transit };
        for nic in &vm.nics {
            macs.push(uses(nic.mac.as_str()));
            let shared = nic.addresses.iter().filter(|text| is_shared(text, apart));
            addresses.extend(shared.map(|text| uses(text.as_str())));
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
            push(found, Kind::QuarantineEvaded, &uuid.to_string(), all, title, handover);
        }
    }
    twice(Kind::UuidTwice, "VM", &mut uuids, found);
    twice(Kind::MacTwice, "MAC", &mut macs, found);
    twice(Kind::AddressTwice, "Address", &mut addresses, found);
}

fn twice<What: Copy + Ord + fmt::Display>(
    kind: Kind,
    of: &str,
    uses: &mut [Use<'_, What>],
    found: &mut Vec<Correlation>,
) {
    for users in on_several(uses) {
        let [Use { what, .. }, ..] = users else { continue };
        let hosts: BTreeSet<_> = users.iter().map(|user| user.host).collect();
        let title = format!("{of} {what} is on {} at once", list(hosts.iter().copied()));
        push(found, kind, &what.to_string(), hosts, title, is_handover(users));
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
