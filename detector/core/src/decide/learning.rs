//! What ports that learn addresses know already, and what nobody may learn.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use detector_common::{
    learned::{OwnerKey, is_learnable},
    maps::{LEARNED_PER_PORT, MAX_PROTECTED},
};

use super::ports::Port;
use crate::{
    model::{Link, World},
    reconcile::{AddressSet, Identity, LearningRule, PortPlan, Seed, mapped},
};

/// Adds to identities that learn the bridge of their port, and the leases that they have.
pub(super) fn complete(identities: &mut [Identity], link: &Link, world: &World) {
    let bridge = link.master.and_then(|master| world.links.get(&master));
    for identity in identities {
        let Some(learning) = &mut identity.learns else { continue };
        learning.scope = link.master.unwrap_or(link.ifindex);
        if learning.rule == LearningRule::FirstCome {
            // Its next frame claims what it has.
            continue;
        }
        let is_here = |name: &str| bridge.is_some_and(|bridge| bridge.name == name);
        let mut leases: Vec<_> = world
            .leases
            .iter()
            .filter(|lease| (lease.mac, lease.vlan) == (identity.mac, identity.vlan))
            .filter(|lease| lease.is_alive(world.now))
            .filter(|lease| lease.bridge.as_deref().is_none_or(is_here))
            .collect();
        // Those that last longest; of two words on one address a server's own.
        leases.sort_by_key(|lease| (lease.address, !lease.from_file));
        leases.dedup_by_key(|lease| lease.address);
        leases.sort_by_key(|lease| std::cmp::Reverse(lease.expires.map_or(u64::MAX, |at| at.0)));
        learning.seeds = leases
            .into_iter()
            .filter(|lease| is_learnable(mapped(lease.address)))
            .take(LEARNED_PER_PORT as usize)
            .map(|lease| Seed {
                address: lease.address,
                origin: lease.origin(),
                expires: lease.expires,
            })
            .collect();
    }
}

/// The addresses that no port may learn, on each bridge and VLAN on which one learns: the host's own,
/// those that are configured, and those that are granted to another NIC as its own.
pub(super) fn protected(ports: &[Port<'_>], world: &World) -> BTreeSet<OwnerKey> {
    let mut places = BTreeSet::new();
    let mut granted = BTreeSet::new();
    let mut kept = BTreeSet::new();
    for port in ports {
        let scope = port.link.master.unwrap_or(port.link.ifindex);
        match &port.plan {
            PortPlan::Granted(identities) => {
                for identity in identities {
                    if identity.learns.is_some() {
                        places.insert((scope, identity.vlan));
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
    let nics = granted
        .iter()
        .filter(|(scope, vlan, _)| places.contains(&(*scope, *vlan)))
        .map(|(scope, vlan, address)| key((*scope, *vlan), address));
    let held = world.observed.protected.iter().filter(|key| kept.contains(&key.scope)).copied();
    hosts
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
