//! Findings about ports that learn: addresses of others, and more than there is place for.

use std::net::{IpAddr, Ipv6Addr};

use detector_common::{claim::Family, reason::Reason};

use super::{
    Facts, Found, finding, pair,
    ports::{FOREIGN_QUIET, LISTED_CLAIMS, describe, subject},
};
use crate::{
    decide::{
        ports::Port,
        text::{quoted, show_port},
    },
    model::{FindingKind, Learned, Seen, Severity, World},
};

pub(super) fn report(port: &Port<'_>, seen: &[Seen], facts: &Facts<'_>, found: &mut Found) {
    of_reason(Reason::AddressTaken, port, seen, facts, found);
    of_reason(Reason::LearnedFull, port, seen, facts, found);
}

/// Whether the address that was refused is the port's own by now.
pub(super) fn is_own(seen: &Seen, port: &Port<'_>, world: &World) -> bool {
    let learned = world.learned.get(&port.link.ifindex).into_iter().flatten();
    let own = |one: &&Learned| {
        one.instance == port.instance
            && (one.mac, one.vlan) == (seen.claim.mac, seen.claim.vlan)
            && Some(one.address) == address(seen)
    };
    learned.into_iter().any(|one| own(&one))
}

fn of_reason(reason: Reason, port: &Port<'_>, seen: &[Seen], facts: &Facts<'_>, found: &mut Found) {
    let world = facts.world;
    let mut claims: Vec<&Seen> = seen
        .iter()
        .filter(|seen| seen.instance == port.instance && seen.claim.reason == reason as u8)
        .filter(|seen| world.now < seen.last + FOREIGN_QUIET && !is_own(seen, port, world))
        .collect();
    claims.sort_by_key(|seen| (seen.first, seen.claim.mac, seen.claim.vlan, seen.claim.address));
    let (Some(first), Some(last)) = (claims.first(), claims.iter().map(|seen| seen.last).max())
    else {
        return;
    };
    found.wake_at(last + FOREIGN_QUIET);
    let name = quoted(&port.link.name);
    let mut evidence = vec![pair("port", &port.link.name)];
    let (kind, title) = if reason == Reason::AddressTaken {
        let owners: Vec<_> =
            claims.iter().filter_map(|seen| owner(seen, port, facts)).take(LISTED_CLAIMS).collect();
        let title = match owners.first() {
            Some(owner) => format!("Port {name} claims an address that {owner} has."),
            None => format!("Port {name} claims an address that is not to be had."),
        };
        evidence.extend(owners.into_iter().map(|owner| pair("owner", owner)));
        (FindingKind::AddressConflict, title)
    } else {
        let title =
            format!("Port {name} claims more addresses than it may have learned at a time.");
        (FindingKind::LearnedFull, title)
    };
    evidence.extend(claims.iter().take(LISTED_CLAIMS).map(|seen| pair("claim", describe(seen))));
    found.add(finding(
        (kind, subject(port)),
        Severity::Medium,
        title,
        evidence,
        Some(show_port(&port.link.name)),
        first.first,
    ));
}

/// Who has the address that the port has claimed, in words.
fn owner(seen: &Seen, port: &Port<'_>, facts: &Facts<'_>) -> Option<String> {
    let world = facts.world;
    let address = address(seen)?;
    let scope = port.link.scope();
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
    let is_protected = world.observed.protected.iter().any(|key| {
        let same = (key.scope, key.vlan) == (scope, seen.claim.vlan);
        same && Ipv6Addr::from(key.address).to_canonical() == address
    });
    is_protected.then(|| format!("the network itself, or another NIC for its own, ({address})"))
}

fn address(seen: &Seen) -> Option<IpAddr> {
    match Family::from_code(seen.claim.family) {
        Family::None => None,
        Family::V4 | Family::V6 => Some(Ipv6Addr::from(seen.claim.address).to_canonical()),
    }
}
