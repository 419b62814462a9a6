//! From identities to what the kernel looks up: one slot, and entries beyond it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detector_common::{
    addr::{Address, Mac, Station},
    parse::is_nobodys_v4,
    port::flags,
};
use ipnet::Ipv6Net;

use super::{
    AddressSet, GrantEntry, Identity, Learning, LearningRule, Lending, Seed, SeedEntry, SlotEntry,
};

const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// Bits of a mapped address before the IPv4 address.
const MAPPED_BITS: u8 = 96;

/// What grants the identities: the slot, and the entries of the maps, sorted.
///
/// One identity with at most one prefix in each family is held by the slot alone, so that the pass
/// path needs no second look-up. Otherwise every identity is in the maps; the slot then names the
/// first one's MAC, with no address and no role, for the reason of a refusal and for virtual routers
/// to stand for.
pub fn compile(identities: &[Identity]) -> (SlotEntry, Vec<GrantEntry>) {
    if let [only] = identities
        && let Some(slot) = inline(only)
    {
        return (slot, Vec::new());
    }
    let mut entries: Vec<GrantEntry> = identities.iter().flat_map(listed).collect();
    entries.sort_unstable();
    let mut slot = SlotEntry { flags: flags::GRANTED | flags::MORE_GRANTS, ..Default::default() };
    if entries.iter().any(|entry| entry.prefix.is_some()) {
        slot.flags |= flags::MORE_PREFIXES;
    }
    let mut learning = identities.iter().filter_map(|identity| identity.learns.as_ref());
    if let Some(first) = learning.next() {
        slot.flags |= flags::LEARNS;
        slot.v4 = first.scope.to_ne_bytes();
        // The stricter rule holds for a port on which there are both.
        let laxer = |learning: &Learning| learning.rule == LearningRule::FirstCome;
        if laxer(first) && learning.all(laxer) {
            slot.flags |= flags::FIRST_COME;
        }
        lend(&mut slot, first.lends);
        if identities.iter().any(|identity| identity.router) {
            slot.flags |= flags::ROUTES;
        }
    }
    slot.flags |= identities.iter().map(virtual_macs).fold(0, |all, one| all | one);
    if let Some(first) = identities.first() {
        slot.mac = first.mac.0;
        slot.vlan = first.vlan;
    }
    (slot, entries)
}

/// The slot that holds the identity by itself, if one can.
fn inline(identity: &Identity) -> Option<SlotEntry> {
    let mut slot = SlotEntry {
        flags: flags::GRANTED | roles(identity) | virtual_macs(identity),
        mac: identity.mac.0,
        vlan: identity.vlan,
        ..Default::default()
    };
    if let Some(learning) = &identity.learns {
        let bounded = identity.v4 != AddressSet::Any || identity.v6 != AddressSet::Any;
        slot.flags |= flags::LEARNS;
        if learning.rule == LearningRule::FirstCome {
            slot.flags |= flags::FIRST_COME;
        }
        slot.v4 = learning.scope.to_ne_bytes();
        lend(&mut slot, learning.lends);
        if identity.router {
            slot.flags |= flags::ROUTES;
        }
        return (!bounded).then_some(slot);
    }
    match &identity.v4 {
        AddressSet::Any => slot.flags |= flags::V4,
        AddressSet::Only(nets) => match nets[..] {
            [] => {}
            [net] => {
                slot.flags |= flags::V4;
                slot.v4 = net.network().octets();
                slot.v4_mask = net.netmask().octets();
            }
            _ => return None,
        },
    }
    match &identity.v6 {
        AddressSet::Any => slot.flags |= flags::V6,
        AddressSet::Only(nets) => {
            let mut nets = nets.iter().filter(|net| !is_link_local(identity.mac, net));
            if let Some(net) = nets.next() {
                slot.flags |= flags::V6;
                slot.v6 = net.network().octets();
                slot.v6_mask = net.netmask().octets();
            }
            if nets.next().is_some() {
                return None;
            }
        }
    }
    slot.flags |= exact(&slot);
    Some(slot)
}

/// What a slot says of addresses that are lent ([`detector_common::port::PortSlot::lends`]).
fn lend(slot: &mut SlotEntry, lends: Option<Lending>) {
    let Some(Lending { arrived, seconds }) = lends else { return };
    slot.v4_mask = seconds.to_ne_bytes();
    if arrived {
        slot.flags |= flags::ARRIVED;
    }
}

/// Which addresses of the slot a frame can be compared with as it lies in memory.
fn exact(slot: &SlotEntry) -> u32 {
    if slot.vlan != 0 || !Station::new(Mac(slot.mac), 0).is_valid_source() {
        return 0;
    }
    let (v4, v6) = (u32::from_ne_bytes(slot.v4), Address::from_bytes(slot.v6));
    let exact_v4 = slot.v4_mask == [255; 4] && !is_nobodys_v4(v4);
    let exact_v6 = slot.v6_mask == [255; 16] && !v6.is_special() && !v6.is_v6_multicast();
    let flag = |exact, flag| if exact { flag } else { 0 };
    flag(exact_v4, flags::EXACT_V4) | flag(exact_v6, flags::EXACT_V6)
}

/// The entries for one identity: the MAC itself, then each address and prefix.
fn listed(identity: &Identity) -> Vec<GrantEntry> {
    let entry = |address, prefix, flags| GrantEntry {
        mac: identity.mac.0,
        vlan: identity.vlan,
        address,
        prefix,
        flags,
    };
    let mut entries = vec![entry([0; 16], None, roles(identity))];
    if identity.learns.is_some() {
        entries[0].flags |= flags::LEARNS;
        if identity.v6 != AddressSet::Any {
            // Link-local addresses are learned wherever the others have to be.
            entries.push(entry(LINK_LOCAL.octets(), Some(64), 0));
        }
    }
    match &identity.v4 {
        AddressSet::Any => entries[0].flags |= flags::V4,
        AddressSet::Only(nets) => entries.extend(nets.iter().map(|net| {
            let length =
                (net.prefix_len() < Ipv4Addr::BITS as u8).then_some(MAPPED_BITS + net.prefix_len());
            entry(Address::mapped(net.network().octets()).bytes(), length, 0)
        })),
    }
    match &identity.v6 {
        AddressSet::Any => entries[0].flags |= flags::V6,
        AddressSet::Only(nets) => {
            let nets = nets.iter().filter(|net| !is_link_local(identity.mac, net));
            entries.extend(nets.map(|net| {
                let length = (net.prefix_len() < Ipv6Addr::BITS as u8).then_some(net.prefix_len());
                entry(net.network().octets(), length, 0)
            }));
        }
    }
    entries
}

/// What an identity that learns has already.
pub(super) fn seeds(identity: &Identity) -> Vec<SeedEntry> {
    let entry = |learning: &Learning, seed: &Seed| SeedEntry {
        mac: identity.mac.0,
        vlan: identity.vlan,
        scope: learning.scope,
        address: mapped(seed.address).bytes(),
        expires: seed.expires,
        origin: seed.origin as u32,
    };
    let learning = identity.learns.iter();
    learning.flat_map(|one| one.seeds.iter().map(move |seed| entry(one, seed))).collect()
}

/// The address as maps keep it.
pub(crate) fn mapped(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => Address::mapped(address.octets()),
        IpAddr::V6(address) => address.into(),
    }
}

fn roles(identity: &Identity) -> u32 {
    let dhcp_server = if identity.dhcp_server { flags::DHCP_SERVER } else { 0 };
    let router = if identity.router { flags::ROUTER } else { 0 };
    let vrrp = if identity.vrrp { flags::VRRP } else { 0 };
    dhcp_server | router | vrrp
}

fn virtual_macs(identity: &Identity) -> u32 {
    if identity.vrrp { flags::VIRTUAL_MACS } else { 0 }
}

/// Whether the entry is the address that the kernel programs grant to the MAC anyway.
fn is_link_local(mac: Mac, net: &Ipv6Net) -> bool {
    u32::from(net.prefix_len()) == Ipv6Addr::BITS
        && Address::from(net.addr()) == Station::new(mac, 0).link_local()
}
