//! From a NIC to the identities that its port is granted.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv6Addr};

use detector_common::addr::{Mac, Station};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{
    model::{AddressRule, Nic, SandboxRules},
    reconcile::{AddressSet, Identity, Learning, LearningRule},
};

/// The highest VLAN id of IEEE 802.1Q; 4095 is reserved.
const LAST_VLAN: u16 = 4094;

/// The addresses of both families, and how they are learned, if they are: then the sets are what they
/// have to be within.
pub(super) type Addresses = (AddressSet<Ipv4Net>, AddressSet<Ipv6Net>, Option<LearningRule>);

/// One identity for each VLAN of the NIC, sorted; none when its MAC or its VLANs can be nobody's.
pub(super) fn identities(nic: &Nic, default: AddressRule) -> Vec<Identity> {
    if !is_station(nic.mac) {
        return Vec::new();
    }
    let (v4, v6, learns) = addresses(rule(nic, default), &nic.addresses);
    let identity = |vlan| Identity {
        mac: nic.mac,
        vlan,
        v4: v4.clone(),
        v6: v6.clone(),
        learns: learns.map(Learning::new),
        dhcp_server: nic.dhcp_server,
        router: nic.router,
        vrrp: nic.vrrp,
    };
    vlans(nic).into_iter().map(identity).collect()
}

/// The identities of the NIC in the sandbox, which has this ifindex: its MAC on its VLANs, addresses as the
/// sandbox says, no role.
pub(super) fn sandboxed(nic: &Nic, rules: &SandboxRules, scope: u32) -> Vec<Identity> {
    let plain = Nic {
        rule: Some(rules.rule),
        addresses: rules.addresses.clone(),
        dhcp_server: false,
        router: false,
        vrrp: false,
        ..nic.clone()
    };
    let mut identities = identities(&plain, rules.rule);
    for learning in identities.iter_mut().filter_map(|identity| identity.learns.as_mut()) {
        learning.scope = scope;
    }
    identities
}

/// The VLANs that the NIC may use, sorted: what is listed, or untagged frames only.
pub(super) fn vlans(nic: &Nic) -> Vec<u16> {
    if nic.vlans.is_empty() {
        return vec![0];
    }
    let mut vlans: Vec<u16> = nic.vlans.iter().copied().filter(|id| *id <= LAST_VLAN).collect();
    vlans.sort_unstable();
    vlans.dedup();
    vlans
}

/// The rule that holds for the NIC: its own, `Exact` when it lists addresses, else the policy's.
pub(super) fn rule(nic: &Nic, default: AddressRule) -> AddressRule {
    nic.rule.unwrap_or(if nic.addresses.is_empty() { default } else { AddressRule::Exact })
}

/// What a rule grants of a list of addresses.
///
/// An entry of the list is an address with the length of its prefix, as an interface has one:
/// `192.0.2.7/24`. `Exact` grants that one address, `Prefix` the whole prefix around it, here all
/// of `192.0.2.0/24`. Entries that can be nobody's source are left out ([`refused`] names them).
pub(super) fn addresses(rule: AddressRule, list: &[IpNet]) -> Addresses {
    let learns = match rule {
        AddressRule::Dhcp => Some(LearningRule::Dhcp),
        AddressRule::FirstCome => Some(LearningRule::FirstCome),
        AddressRule::Exact | AddressRule::Prefix | AddressRule::Any => None,
    };
    if rule == AddressRule::Any || (learns.is_some() && list.is_empty()) {
        return (AddressSet::Any, AddressSet::Any, learns);
    }
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for entry in list.iter().filter(|entry| is_source(rule, **entry)) {
        match (scope(rule, *entry), rule) {
            (IpNet::V4(net), _) => v4.push(net),
            (IpNet::V6(net), _) => v6.push(net),
        }
    }
    (set(v4), set(v6), learns)
}

/// The entries of the NIC that can be nobody's source address, and the VLANs that do not exist.
pub(super) fn refused(nic: &Nic) -> Vec<String> {
    let rule = rule(nic, AddressRule::Exact);
    let addresses = nic.addresses.iter().filter(|net| !is_source(rule, **net));
    let addresses = addresses.map(|net| format!("address {net} ({})", rule.as_str()));
    let vlans = nic.vlans.iter().filter(|id| **id > LAST_VLAN);
    let mac = (!is_station(nic.mac)).then(|| format!("MAC {}", nic.mac));
    mac.into_iter().chain(addresses).chain(vlans.map(|id| format!("VLAN {id}"))).collect()
}

/// Whether any entry is for [`refused`] to name, without the cost of naming it.
pub(super) fn has_refused(nic: &Nic) -> bool {
    let rule = rule(nic, AddressRule::Exact);
    !is_station(nic.mac)
        || nic.addresses.iter().any(|net| !is_source(rule, *net))
        || nic.vlans.iter().any(|id| *id > LAST_VLAN)
}

/// What both grant.
pub(super) fn intersect(one: &Addresses, other: &Addresses) -> Addresses {
    (common(&one.0, &other.0), common(&one.1, &other.1), one.2.max(other.2))
}

/// The same set written as a NIC would list it.
pub(super) fn listed(addresses: &Addresses) -> (AddressRule, Vec<IpNet>) {
    let (v4, v6, learns) = addresses;
    let any = (v4, v6) == (&AddressSet::Any, &AddressSet::Any);
    let rule = match learns {
        None if any => AddressRule::Any,
        None => AddressRule::Prefix,
        Some(LearningRule::Dhcp) => AddressRule::Dhcp,
        Some(LearningRule::FirstCome) => AddressRule::FirstCome,
    };
    if any {
        return (rule, Vec::new());
    }
    let v4 = nets(v4).into_iter().map(IpNet::V4);
    let list: Vec<_> = v4.chain(nets(v6).into_iter().map(IpNet::V6)).collect();
    // To a rule that learns, no list is every address.
    (if list.is_empty() { AddressRule::Exact } else { rule }, list)
}

/// A set of networks of one family.
pub(super) trait Network: Copy + Ord + Default {
    fn covers(&self, other: &Self) -> bool;
    fn prefix_len(&self) -> u8;
}

impl Network for Ipv4Net {
    fn covers(&self, other: &Self) -> bool {
        self.contains(other)
    }
    fn prefix_len(&self) -> u8 {
        self.prefix_len()
    }
}

impl Network for Ipv6Net {
    fn covers(&self, other: &Self) -> bool {
        self.contains(other)
    }
    fn prefix_len(&self) -> u8 {
        self.prefix_len()
    }
}

/// A virtual router's MAC is nobody's own: who may use it says `vrrp`.
fn is_station(mac: Mac) -> bool {
    !mac.is_group() && mac != Mac::ZERO && !Station::new(mac, 0).is_virtual_router()
}

/// What a list entry stands for under the rule.
fn scope(rule: AddressRule, entry: IpNet) -> IpNet {
    match rule {
        AddressRule::Exact => entry.addr().into(),
        AddressRule::Prefix | AddressRule::Any | AddressRule::Dhcp | AddressRule::FirstCome => {
            entry.trunc()
        }
    }
}

/// Whether the entry can hold somebody's source address. The unspecified address is granted by the
/// kernel where a protocol needs it, and its key in the map of grants stands for the MAC itself. The
/// maps keep IPv4 as IPv4-mapped IPv6, so an IPv6 prefix around those would grant all of IPv4.
fn is_source(rule: AddressRule, entry: IpNet) -> bool {
    if rule == AddressRule::Any {
        return true;
    }
    const MAPPED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96);
    let net = scope(rule, entry);
    if net.prefix_len() == 0 {
        return true;
    }
    let first = net.addr();
    if first.is_multicast() || (first.is_unspecified() && net.prefix_len() == net.max_prefix_len())
    {
        return false;
    }
    match (net, first) {
        (IpNet::V6(net), _) => !net.contains(&MAPPED) && !MAPPED.contains(&net),
        (_, IpAddr::V4(first)) => !first.is_broadcast(),
        _ => true,
    }
}

/// Sorted, without what another entry covers; a prefix of length 0 is any address.
fn set<Net: Network>(mut nets: Vec<Net>) -> AddressSet<Net> {
    if nets.iter().any(|net| net.prefix_len() == 0) {
        return AddressSet::Any;
    }
    nets.sort_unstable();
    // Sorted, a prefix comes before all that it covers.
    let mut kept: Option<Net> = None;
    nets.retain(|net| {
        let covered = kept.is_some_and(|kept| kept.covers(net));
        if !covered {
            kept = Some(*net);
        }
        !covered
    });
    AddressSet::Only(nets)
}

fn common<Net: Network>(one: &AddressSet<Net>, other: &AddressSet<Net>) -> AddressSet<Net> {
    match (one, other) {
        (AddressSet::Any, set) | (set, AddressSet::Any) => set.clone(),
        (AddressSet::Only(one), AddressSet::Only(other)) => {
            let both = one.iter().flat_map(|a| {
                other.iter().filter_map(move |b| match (a.covers(b), b.covers(a)) {
                    (true, _) => Some(*b),
                    (_, true) => Some(*a),
                    _ => None,
                })
            });
            set(both.collect())
        }
    }
}

fn nets<Net: Network>(set: &AddressSet<Net>) -> Vec<Net> {
    match set {
        // The default network of both families has length 0 and covers every address.
        AddressSet::Any => vec![Net::default()],
        AddressSet::Only(nets) => nets.clone(),
    }
}
