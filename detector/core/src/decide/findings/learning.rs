//! Findings about ports that learn: addresses of others, and more than there is place for.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use detector_common::{claim::Family, learned::OwnerKey, maps::LEARNED_PER_PORT, reason::Reason};

use super::{
    Found,
    claims::{FOREIGN_QUIET, LISTED_CLAIMS, Speaker, describe},
    finding, pair,
};
use crate::{
    decide::text::{quoted, show_port},
    model::{FindingKind, Learned, Seen, Severity},
    reconcile::mapped,
};

impl Speaker<'_> {
    /// Whether it claims an address that is protected: whoever came first has no part in that.
    pub(in crate::decide) fn claims_protected(&self) -> bool {
        claims(self, Reason::AddressTaken).into_iter().any(|seen| is_protected(seen, self))
    }

    /// Whether it has learned as many addresses as a port may.
    pub(in crate::decide) fn has_filled_its_places(&self) -> bool {
        own(self).count() >= LEARNED_PER_PORT as usize
    }

    /// Claims of its that were refused for what others have.
    pub(super) fn contested(&self) -> u64 {
        let taken = claims(self, Reason::AddressTaken);
        let taken = taken.into_iter().filter(|seen| !is_protected(seen, self));
        let full = claims(self, Reason::LearnedFull);
        let full = full.into_iter().filter(|_| !self.has_filled_its_places());
        taken.chain(full).map(|seen| seen.count).sum()
    }
}

pub(super) fn report(speaker: &Speaker<'_>, found: &mut Found) {
    of_reason(Reason::AddressTaken, speaker, found);
    of_reason(Reason::LearnedFull, speaker, found);
}

/// Whether the address that was refused is the port's own by now.
pub(super) fn is_own(seen: &Seen, speaker: &Speaker<'_>) -> bool {
    own(speaker).any(|one| {
        (one.mac, one.vlan) == (seen.claim.mac, seen.claim.vlan)
            && Some(one.address) == address(seen)
    })
}

/// What the port has learned.
fn own<'a>(speaker: &Speaker<'a>) -> impl Iterator<Item = &'a Learned> {
    let learned = speaker.world.learned.get(&speaker.link.ifindex).into_iter().flatten();
    let instance = speaker.instance;
    learned.filter(move |one| one.instance == instance)
}

/// What the port claims of late and was refused for this reason.
pub(super) fn claims<'a>(speaker: &Speaker<'a>, reason: Reason) -> Vec<&'a Seen> {
    speaker.claims(|seen| seen.claim.reason == reason as u8)
}

/// Who has the addresses that the port claims, as far as that is known.
pub(super) fn owners(
    speaker: &Speaker<'_>,
    claims: &[&Seen],
) -> impl Iterator<Item = (String, String)> {
    let owners = claims.iter().filter_map(|seen| owner(seen, speaker)).take(LISTED_CLAIMS);
    owners.map(|owner| pair("owner", owner))
}

fn of_reason(reason: Reason, speaker: &Speaker<'_>, found: &mut Found) {
    let claims = claims(speaker, reason);
    let (Some(first), Some(last)) = (claims.first(), claims.iter().map(|seen| seen.last).max())
    else {
        return;
    };
    found.wake_at(last + FOREIGN_QUIET);
    let name = quoted(&speaker.link.name);
    let mut evidence = vec![pair("port", &speaker.link.name)];
    let (kind, title) = if reason == Reason::AddressTaken {
        let owners: Vec<_> = owners(speaker, &claims).collect();
        let title = match owners.first() {
            Some((_, owner)) => format!("Port {name} claims an address that {owner} has."),
            None => format!("Port {name} claims an address that is not to be had."),
        };
        evidence.extend(owners);
        (FindingKind::AddressConflict, title)
    } else {
        let title = format!("Port {name} claims more addresses than there is room for.");
        let own = own(speaker).count();
        // With fewer it is the host's table that is full.
        evidence.push(pair("learned", format!("{own} of at most {LEARNED_PER_PORT}")));
        (FindingKind::LearnedFull, title)
    };
    evidence.extend(claims.iter().take(LISTED_CLAIMS).map(|seen| pair("claim", describe(seen))));
    found.add(finding(
        (kind, speaker.subject()),
        Severity::Medium,
        title,
        evidence,
        Some(show_port(&speaker.link.name)),
        first.first,
    ));
}

/// Who has the address that the port has claimed, in words.
fn owner(seen: &Seen, speaker: &Speaker<'_>) -> Option<String> {
    let world = speaker.world;
    let address = address(seen)?;
    let scope = speaker.link.scope();
    let holder = world.learned.iter().find(|(_, learned)| {
        learned
            .iter()
            .any(|one| (one.scope, one.vlan, one.address) == (scope, seen.claim.vlan, address))
    });
    if let Some((ifindex, _)) = holder {
        let name = world.links.get(ifindex).map(|link| quoted(&link.name));
        let name = name.unwrap_or_else(|| format!("#{ifindex}"));
        return Some(format!("port {name} ({address})"));
    }
    if is_among(&world.observed.routers, seen, speaker) {
        return Some(format!("a router that the network has named ({address})"));
    }
    is_protected(seen, speaker)
        .then(|| format!("the network itself, or another NIC for its own, ({address})"))
}

/// Whether it is the network's own, or granted to another NIC.
fn is_protected(seen: &Seen, speaker: &Speaker<'_>) -> bool {
    is_among(&speaker.world.observed.protected, seen, speaker)
}

fn is_among(keys: &BTreeSet<OwnerKey>, seen: &Seen, speaker: &Speaker<'_>) -> bool {
    let (scope, vlan) = (speaker.link.scope(), seen.claim.vlan);
    let key = |address| OwnerKey { address: mapped(address), scope, vlan, pad: 0 };
    address(seen).is_some_and(|address| keys.contains(&key(address)))
}

fn address(seen: &Seen) -> Option<IpAddr> {
    match Family::from_code(seen.claim.family) {
        Family::None => None,
        Family::V4 | Family::V6 => Some(Ipv6Addr::from(seen.claim.address).to_canonical()),
    }
}
