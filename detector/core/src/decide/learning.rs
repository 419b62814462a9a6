//! What ports that learn addresses know already, and what nobody may learn.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use detector_common::{
    learned::{FIRST_COME_SECONDS, Origin, OwnerKey, is_learnable},
    maps::{LEARNED_PER_PORT, MAX_PROTECTED},
    settings::Mode,
};
use uuid::Uuid;

use super::ports::Port;
use crate::{
    model::{KnownLease, Link, LinkKind, Neighbour, World},
    reconcile::{AddressSet, Identity, LearningRule, Lending, PortPlan, Seed, mapped},
};

/// How many addresses a NIC has for the host's having them as its neighbours: half of its places, so
/// that what it is leased finds one.
const ADOPTED_PER_NIC: usize = LEARNED_PER_PORT as usize / 2;

/// Adds to identities that learn the bridge of their port, what they have already, and whether they are
/// lent addresses.
pub(super) fn complete(identities: &mut [Identity], link: &Link, vm: Uuid, world: &World) {
    let others: Vec<_> = identities.iter().map(|one| (one.mac, one.vlan)).collect();
    for identity in identities {
        let Some(learning) = &identity.learns else { continue };
        let rule = learning.rule;
        // Under the other rule its next frame claims what it has.
        let mut seeds = match rule {
            LearningRule::Dhcp => leases(identity, link, world),
            LearningRule::FirstCome => Vec::new(),
        };
        if world.policy.adoption.neighbours && world.adoption.ports.contains(&link.ifindex) {
            let known: BTreeSet<_> = seeds.iter().map(|seed| seed.address).collect();
            let has_vlan = |vlan| others.contains(&(identity.mac, vlan));
            let mut adopted = neighbours(identity, has_vlan, link, world);
            adopted.retain(|seed| !known.contains(&seed.address));
            seeds.extend(adopted);
            seeds.truncate(LEARNED_PER_PORT as usize);
        }
        if let Some(learning) = &mut identity.learns {
            learning.scope = link.scope();
            learning.seeds = seeds;
            learning.lends = lends(rule, link, vm, world);
        }
    }
}

/// The living leases of an identity.
fn leases(identity: &Identity, link: &Link, world: &World) -> Vec<Seed> {
    let mut leases: Vec<_> = living(link, world)
        .filter(|lease| (lease.mac, lease.vlan) == (identity.mac, identity.vlan))
        .collect();
    // Those that last longest; of two words on one address a server's own.
    leases.sort_by_key(|lease| (lease.address, !lease.from_file));
    leases.dedup_by_key(|lease| lease.address);
    leases.sort_by_key(|lease| std::cmp::Reverse(lease.expires.map_or(u64::MAX, |at| at.0)));
    leases
        .into_iter()
        .filter(|lease| is_learnable(mapped(lease.address)))
        .take(LEARNED_PER_PORT as usize)
        .map(|lease| Seed {
            address: lease.address,
            origin: lease.origin(),
            expires: lease.expires,
        })
        .collect()
}

/// The leases that may be of the network that a port is on.
fn living<'a>(link: &'a Link, world: &'a World) -> impl Iterator<Item = &'a KnownLease> {
    let bridge = link.master.and_then(|master| world.links.get(&master));
    // Of Open vSwitch it is not known which of its bridges the port is of.
    let is_here = move |name: &str| match bridge {
        Some(bridge) if bridge.kind == LinkKind::OpenVSwitch => {
            let mut links = world.links.values();
            links.any(|link| link.kind == LinkKind::OpenVSwitch && link.name == name)
        }
        bridge => bridge.is_some_and(|bridge| bridge.name == name),
    };
    world
        .leases
        .iter()
        .filter(|lease| lease.is_alive(world.now))
        .filter(move |lease| lease.bridge.as_deref().is_none_or(&is_here))
}

/// What the host has the NIC of an adopted port as its neighbour under, within its bounds, as far as it is
/// leased to nobody else. What is protected or another port's it is not taught.
fn neighbours(
    identity: &Identity,
    has_vlan: impl Fn(u16) -> bool,
    link: &Link,
    world: &World,
) -> Vec<Seed> {
    // What was known long ago, before a quarantine say, may be another's by now.
    let end = world.adoption.since + world.policy.adoption.lasts;
    if end <= world.now {
        return Vec::new();
    }
    let expires = match identity.learns.as_ref().map(|learning| learning.rule) {
        Some(LearningRule::FirstCome) => world.now + Duration::from_secs(FIRST_COME_SECONDS),
        _ => end,
    };
    // The bridge may put a VLAN of its own on what a port sends untagged.
    let is_own = |one: &&Neighbour| {
        one.mac == identity.mac
            && (one.vlan == identity.vlan || (identity.vlan == 0 && !has_vlan(one.vlan)))
    };
    let is_switch = |ifindex| {
        let link = world.links.get(&ifindex);
        link.is_some_and(|link| link.kind == LinkKind::OpenVSwitch)
    };
    let is_switched = link.master.is_some_and(is_switch);
    let is_here = |bridge| Some(bridge) == link.master || is_switched && is_switch(bridge);
    let on_bridge = || world.adoption.neighbours.iter().filter(|one| is_here(one.bridge));
    let disputed = |address| {
        let another = |mac| mac != identity.mac;
        on_bridge().any(|one| one.address == address && another(one.mac))
            || living(link, world).any(|lease| lease.address == address && another(lease.mac))
    };
    let mut addresses: Vec<_> = on_bridge().filter(is_own).map(|one| one.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
        .into_iter()
        .filter(|address| is_learnable(mapped(*address)) && identity.is_within(*address))
        .filter(|address| !disputed(*address))
        .take(ADOPTED_PER_NIC)
        .map(|address| Seed { address, origin: Origin::Neighbour, expires: Some(expires) })
        .collect()
}

/// Whether a port is lent addresses: that of a VM that comes from another host, whose servers' replies
/// nobody has seen here; and one that was there before, as long as frames are only observed.
fn lends(rule: LearningRule, link: &Link, vm: Uuid, world: &World) -> Option<Lending> {
    let rules = world.policy.adoption;
    let arrived = rules.migrated && world.adoption.is_arriving(vm, world.now);
    let speaks = world.sources.values().find_map(|source| source.vms.get(&vm));
    let observed = rules.observed
        && world.mode_on(world.bridge_of(link), speaks) == Mode::Observe
        && world.adoption.ports.contains(&link.ifindex);
    let seconds = u32::try_from(rules.lasts.as_secs()).unwrap_or(u32::MAX);
    (rule == LearningRule::Dhcp && seconds != 0 && (arrived || observed))
        .then_some(Lending { arrived, seconds })
}

/// The addresses that no port may learn, on each bridge and VLAN on which one learns: the host's own,
/// those that are configured, those of the host's gateways, and those that are granted to another NIC as its
/// own. A NIC that learns and plays the router may be the gateway.
pub(super) fn protected(ports: &[Port<'_>], world: &World) -> BTreeSet<OwnerKey> {
    let mut places = BTreeSet::new();
    let mut routed = BTreeSet::new();
    let mut granted = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for port in ports {
        let scope = port.link.scope();
        match &port.plan {
            PortPlan::Granted(identities) => {
                for identity in identities {
                    if identity.learns.is_some() {
                        places.insert((scope, identity.vlan));
                        if identity.router {
                            routed.insert((scope, identity.vlan));
                        }
                    } else {
                        let own = own(identity).into_iter();
                        granted.extend(own.map(|address| (scope, identity.vlan, address)));
                    }
                }
            }
            PortPlan::Keep => {
                kept.insert(scope);
            }
            PortPlan::Pending | PortPlan::Isolated(_) => {}
        }
    }
    let everywhere: BTreeSet<IpAddr> =
        world.addresses.iter().chain(&world.policy.protected).copied().collect();
    let key = |(scope, vlan), address: &IpAddr| OwnerKey {
        address: mapped(*address),
        scope,
        vlan,
        pad: 0,
    };
    let hosts =
        places.iter().flat_map(|place| everywhere.iter().map(move |address| key(*place, address)));
    let gateways = places
        .difference(&routed)
        .flat_map(|place| world.gateways.iter().map(move |address| key(*place, address)));
    let nics = granted
        .iter()
        .filter(|(scope, vlan, _)| places.contains(&(*scope, *vlan)))
        .map(|(scope, vlan, address)| key((*scope, *vlan), address));
    let held = world.observed.protected.iter().filter(|key| kept.contains(&key.scope)).copied();
    hosts
        .chain(gateways)
        .chain(nics)
        .filter(|key| is_learnable(key.address))
        .chain(held)
        .take(MAX_PROTECTED as usize)
        .collect()
}

/// The single addresses that an identity is granted.
fn own(identity: &Identity) -> Vec<IpAddr> {
    let mut own = Vec::new();
    if let AddressSet::Only(nets) = &identity.v4 {
        let single = nets.iter().filter(|net| u32::from(net.prefix_len()) == Ipv4Addr::BITS);
        own.extend(single.map(|net| IpAddr::V4(net.addr())));
    }
    if let AddressSet::Only(nets) = &identity.v6 {
        let single = nets.iter().filter(|net| u32::from(net.prefix_len()) == Ipv6Addr::BITS);
        own.extend(single.map(|net| IpAddr::V6(net.addr())));
    }
    own
}
