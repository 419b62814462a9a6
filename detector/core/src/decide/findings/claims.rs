//! Findings about what one port claims. They follow from the claims, and from what the decision says of
//! the port, so that a new claim costs no new decision.

use std::{net::Ipv6Addr, time::Duration};

use detector_common::{
    addr::{Address, Station},
    claim::Family,
    reason::Reason,
};
use uuid::Uuid;

use super::{Found, finding, floods, learning, pair};
use crate::{
    decide::{
        Decision, PortStatus,
        text::{quoted, show_port},
    },
    model::{Finding, FindingKind, Link, ObservedInterface, Seen, Severity, Subject, Vm, World},
    reconcile::{Identity, InterfacePlan, PortPlan},
};

/// How long after its last frame a foreign identity stays a finding.
pub(super) const FOREIGN_QUIET: Duration = Duration::from_secs(600);

/// The most claims of one port that a finding lists.
pub(super) const LISTED_CLAIMS: usize = 4;

/// The kinds of finding that follow from what a port claims, and from nothing else that may change
/// between two decisions. All have the port as their subject.
pub const OF_CLAIMS: [FindingKind; 4] = [
    FindingKind::ForeignIdentity,
    FindingKind::AddressConflict,
    FindingKind::LearnedFull,
    FindingKind::Flood,
];

/// The kind of finding that a claim may make which was refused for this reason.
pub fn kind_of_claim(reason: Reason) -> Option<FindingKind> {
    match reason {
        Reason::MacOfLocalGuest => Some(FindingKind::MacClone),
        Reason::AddressTaken => Some(FindingKind::AddressConflict),
        Reason::LearnedFull => Some(FindingKind::LearnedFull),
        Reason::MacNotGranted
        | Reason::VlanNotGranted
        | Reason::ArpSenderAddress
        | Reason::Ipv4Source
        | Reason::Ipv6Source
        | Reason::NdTarget
        | Reason::RouterRole
        | Reason::DhcpServerRole
        | Reason::AddressNotLeased
        | Reason::VrrpRole
        | Reason::ArpSenderMac
        | Reason::NdLinkLayer
        | Reason::DhcpClientMac => Some(FindingKind::ForeignIdentity),
        _ => None,
    }
}

/// What a new decision would say of a guest port, of the kinds in [`OF_CLAIMS`]: its subject and the
/// findings, in the order of their keys. Holds while nothing but claims, loads and learned addresses has
/// changed since `decision`. `None` for any other interface, whose claims concern more than itself.
pub fn findings_of_port(
    world: &World,
    decision: &Decision,
    ifindex: u32,
) -> Option<(Subject, Vec<Finding>)> {
    let speaker = Speaker::new(ifindex, world, decision)?;
    let mut found = Found::default();
    report(&speaker, &mut found);
    Some((speaker.subject(), found.enriched(world, decision)))
}

/// A guest port, as far as its claims go.
pub(in crate::decide) struct Speaker<'a> {
    pub(super) world: &'a World,
    decision: &'a Decision,
    pub(super) link: &'a Link,
    /// 0 while it has none.
    pub(super) instance: u32,
    pub(super) observed: Option<&'a ObservedInterface>,
    /// Claims of any life of the port; none while it may not speak, since nothing of it counts then.
    seen: &'a [Seen],
}

impl<'a> Speaker<'a> {
    pub(in crate::decide) fn new(
        ifindex: u32,
        world: &'a World,
        decision: &'a Decision,
    ) -> Option<Self> {
        let link = world.links.get(&ifindex)?;
        let status = decision.ports.get(&ifindex)?.status;
        let observed = world.observed.interfaces.get(&ifindex);
        let observed = observed.filter(|held| held.slot.role().is_guest());
        let instance = observed.map_or(0, |held| held.slot.instance);
        let speaks = matches!(status, PortStatus::Granted | PortStatus::Kept);
        let seen = world.seen.get(&ifindex).filter(|_| speaks);
        let seen = seen.map_or(&[][..], Vec::as_slice);
        Some(Self { world, decision, link, instance, observed, seen })
    }

    pub(super) fn subject(&self) -> Subject {
        Subject::Port { ifindex: self.link.ifindex, instance: self.instance }
    }

    /// What this life of the port has claimed of late and is not its own by now, as far as `counts` says
    /// so, in the order in which it came.
    pub(super) fn claims(&self, counts: impl Fn(&Seen) -> bool) -> Vec<&'a Seen> {
        let mut claims: Vec<&Seen> = self
            .seen
            .iter()
            .filter(|seen| seen.instance == self.instance && counts(seen))
            .filter(|seen| self.world.now < seen.last + FOREIGN_QUIET)
            .filter(|seen| !learning::is_own(seen, self))
            .collect();
        // Should the map of sightings be read in another order, the finding is the same.
        claims
            .sort_by_key(|seen| (seen.first, seen.claim.mac, seen.claim.vlan, seen.claim.address));
        claims
    }

    fn foreign(&self) -> Vec<&'a Seen> {
        let plan = self.decision.desired.interfaces.get(&self.link.ifindex);
        let identities = match plan {
            Some((_, InterfacePlan::Guest(PortPlan::Granted(identities)))) => identities.as_slice(),
            _ => &[],
        };
        self.claims(|seen| is_foreign(seen, identities))
    }

    /// The VM of this host under whose MAC the port speaks, if there is one.
    fn victim(&self, claims: &[&Seen]) -> Option<&'a Vm> {
        let own = self.decision.ports.get(&self.link.ifindex).and_then(|port| port.vm);
        let owners = claims.iter().flat_map(|seen| self.decision.owners_of(seen.claim.mac));
        let mut others = owners.filter(|uuid| Some(*uuid) != own);
        others.next().and_then(|uuid| listed_vm(self.world, uuid))
    }
}

/// What a source says of the VM.
pub(super) fn listed_vm(world: &World, uuid: Uuid) -> Option<&Vm> {
    world.sources.values().find_map(|source| source.vms.get(&uuid))
}

/// Every finding of the kinds in [`OF_CLAIMS`] about the port.
pub(super) fn report(speaker: &Speaker<'_>, found: &mut Found) {
    let flood = floods::of(speaker);
    if flood.is_none() && speaker.seen.is_empty() {
        return;
    }
    let claims = speaker.foreign();
    let victim = speaker.victim(&claims);
    match flood {
        Some(flood) => floods::report(speaker, &flood, claims, victim, found),
        None => {
            learning::report(speaker, found);
            foreign(speaker, &claims, victim, found);
        }
    }
}

/// A port that speaks under what is not its own. Its own traffic goes on.
fn foreign(speaker: &Speaker<'_>, claims: &[&Seen], victim: Option<&Vm>, found: &mut Found) {
    let (Some(first), Some(last)) = (claims.first(), claims.iter().map(|seen| seen.last).max())
    else {
        return;
    };
    found.wake_at(last + FOREIGN_QUIET);

    let name = quoted(&speaker.link.name);
    let (severity, title) = match victim {
        Some(vm) => {
            let title = format!("Port {name} sends under the MAC of VM {}.", quoted(&vm.name));
            (Severity::High, title)
        }
        None => {
            let what = "a spoof, or something nested behind it";
            (Severity::Medium, format!("Port {name} sends under what is not its own: {what}."))
        }
    };
    let mut evidence = vec![pair("port", &speaker.link.name)];
    evidence.extend(victim.map(|vm| pair("owner", vm.uuid)));
    evidence.extend(listed(claims));
    let key = (FindingKind::ForeignIdentity, speaker.subject());
    found.add(finding(
        key,
        severity,
        title,
        evidence,
        Some(show_port(&speaker.link.name)),
        first.first,
    ));
}

/// Whether the claim was refused for whose it is, and would be refused again.
fn is_foreign(seen: &Seen, granted: &[Identity]) -> bool {
    let claim = &seen.claim;
    let is_virtual = Station::new(claim.mac, 0).is_virtual_router();
    let identity = granted
        .iter()
        .find(|own| own.vlan == claim.vlan && (own.mac == claim.mac || (own.vrrp && is_virtual)));
    match Reason::from_code(claim.reason) {
        Some(Reason::MacNotGranted | Reason::VlanNotGranted) => identity.is_none(),
        Some(
            Reason::ArpSenderAddress | Reason::Ipv4Source | Reason::Ipv6Source | Reason::NdTarget,
        ) => identity.is_none_or(|identity| !grants(identity, claim.address)),
        Some(Reason::RouterRole) => identity.is_none_or(|identity| !identity.router),
        Some(Reason::DhcpServerRole) => identity.is_none_or(|identity| !identity.dhcp_server),
        Some(Reason::AddressNotLeased) => identity.is_none_or(|one| one.learns.is_some()),
        Some(Reason::VrrpRole) => identity.is_none_or(|identity| !identity.vrrp),
        Some(Reason::ArpSenderMac | Reason::NdLinkLayer | Reason::DhcpClientMac) => true,
        _ => false,
    }
}

fn grants(identity: &Identity, address: Address) -> bool {
    identity.is_within(Ipv6Addr::from(address).to_canonical())
}

/// The first few claims, and how many more there are.
pub(super) fn listed(claims: &[&Seen]) -> Vec<(String, String)> {
    let first = claims.iter().take(LISTED_CLAIMS).map(|seen| pair("claim", describe(seen)));
    let more = claims.len().checked_sub(LISTED_CLAIMS).filter(|more| *more > 0);
    first.chain(more.map(|more| pair("more", more))).collect()
}

pub(super) fn describe(seen: &Seen) -> String {
    let claim = &seen.claim;
    let address = match Family::from_code(claim.family) {
        Family::None => String::new(),
        Family::V4 | Family::V6 => {
            format!(" address {}", Ipv6Addr::from(claim.address).to_canonical())
        }
    };
    let reason = Reason::from_code(claim.reason).map_or("unknown", Reason::as_str);
    let count = seen.count;
    format!("mac {} vlan {}{address}: {reason}, {count} frames", claim.mac, claim.vlan)
}
