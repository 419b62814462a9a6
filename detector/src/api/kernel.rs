//! From what the kernel holds to what replies show; used with the daemon and without it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, Ipv6Addr},
};

use detector_common::{
    addr::Mac,
    claim::Family,
    port::{PortSlot, PrefixKey, Role, flags},
    quarantine::{Cause, QuarantineMode},
    reason::Reason,
    services::{Asked, Service},
};
use detector_core::model::{Learned, ObservedInterface, Seen};

use crate::enforcer::Counts;

use super::view::{
    CountersView, FramesView, IdentityView, LearnedView, PortState, SightingView, moment,
};

pub const fn role_name(slot: &PortSlot) -> &'static str {
    match slot.role() {
        Role::Vacant => "vacant",
        Role::Guest | Role::GuestOnDevice => "guest",
        Role::Trusted => "trusted",
        Role::Sandbox => "sandbox",
        Role::Uplink => "uplink",
        Role::Bridge => "bridge",
        Role::Device | Role::ClosedDevice => "device",
    }
}

pub const fn cause_name(cause: Cause) -> &'static str {
    match cause {
        Cause::Verdict => "verdict",
        Cause::Operator => "operator",
    }
}

pub const fn mode_name(mode: QuarantineMode) -> &'static str {
    match mode {
        QuarantineMode::Drop => "drop",
        QuarantineMode::Sandbox => "sandbox",
    }
}

/// In which mode a port is isolated, where it is.
pub fn isolation(slot: &PortSlot) -> Option<String> {
    let isolated = slot.role().is_guest() && slot.has(flags::ISOLATED);
    let mode = if slot.is_sandboxed() { QuarantineMode::Sandbox } else { QuarantineMode::Drop };
    isolated.then(|| mode_name(mode).to_owned())
}

/// What a port may reach in the sandbox, where that is limited. Whatever an address is asked for implies that
/// it is found, and says what is wrong.
pub fn services(slot: &PortSlot, offered: &BTreeSet<Service>) -> Option<Vec<String>> {
    if !slot.is_sandboxed() || !slot.has(flags::LIMITED) {
        return None;
    }
    let mut told: BTreeMap<[u8; 16], BTreeSet<String>> = BTreeMap::new();
    for service in offered {
        let what = match service.asked() {
            Some(Asked::Tcp(port)) => Some(format!("tcp {port}")),
            Some(Asked::Udp(port)) => Some(format!("udp {port}")),
            Some(Asked::Icmp(8) | Asked::IcmpV6(128)) => Some("icmp".to_owned()),
            Some(Asked::IcmpV6(133 | 134)) => Some("router".to_owned()),
            _ => None,
        };
        told.entry(service.address.bytes()).or_default().extend(what);
    }
    let all = told.into_iter().map(|(of, what)| {
        let what = if what.is_empty() { ["router".to_owned()].into() } else { what };
        format!("{} {}", address(of), what.into_iter().collect::<Vec<_>>().join(", "))
    });
    Some(all.collect())
}

/// What a slot says of its port.
pub fn state(slot: &PortSlot) -> PortState {
    if !slot.role().is_guest() {
        PortState::Gate
    } else if slot.has(flags::ISOLATED) || slot.has(flags::ISOLATED_BY_OPERATOR) {
        PortState::Isolated
    } else if slot.has(flags::GRANTED) {
        PortState::Granted
    } else {
        PortState::Pending
    }
}

/// The identities that are granted to an interface, sorted: to a sandboxed one, in the sandbox.
pub fn identities(interface: &ObservedInterface) -> Vec<IdentityView> {
    let slot = &interface.slot;
    let mut identities: Vec<IdentityView> = Vec::new();
    let mut of = |mac: Mac, vlan: u16, bits: u32, addresses: Vec<String>| {
        let mac = mac.to_string();
        let at = match identities.iter().position(|i| i.mac == mac && i.vlan == vlan) {
            Some(at) => at,
            None => {
                identities.push(IdentityView {
                    mac,
                    vlan,
                    addresses: Vec::new(),
                    dhcp_server: false,
                    router: false,
                    vrrp: false,
                });
                identities.len() - 1
            }
        };
        let identity = &mut identities[at];
        identity.addresses.extend(addresses);
        identity.dhcp_server |= bits & flags::DHCP_SERVER != 0;
        identity.router |= bits & flags::ROUTER != 0;
        identity.vrrp |= bits & flags::VRRP != 0;
    };
    if slot.has(flags::GRANTED | flags::SANDBOXED) && slot.mac != Mac::ZERO {
        let mut addresses: Vec<_> = rule(slot).into_iter().collect();
        if slot.has(flags::MORE_GRANTS) {
            addresses.clear();
        }
        if slot.has(flags::V4) {
            addresses.push(inline(&slot.v4, &slot.v4_mask, "any-v4", &Ipv4Addr::from(slot.v4)));
        }
        if slot.has(flags::V6) {
            let v6 = Ipv6Addr::from(slot.v6);
            addresses.push(inline(&slot.v6.bytes(), &slot.v6_mask.bytes(), "any-v6", &v6));
        }
        of(slot.mac, slot.vlan, slot.flags, addresses);
    }
    for (key, grant) in &interface.grants {
        let addresses = if key.address == [0; 16] {
            let any = [(flags::V4, "any-v4"), (flags::V6, "any-v6")];
            any.iter()
                .filter(|(flag, _)| grant.flags & flag != 0)
                .map(|(_, n)| (*n).into())
                .chain(rule(slot).filter(|_| grant.flags & flags::LEARNS != 0))
                .collect()
        } else {
            vec![address(key.address)]
        };
        of(key.mac, key.vlan, grant.flags, addresses);
    }
    for ((key, length), grant) in &interface.prefixes {
        let PrefixKey { mac, vlan, address: bytes, .. } = key;
        let mapped = Ipv6Addr::from(*bytes).to_ipv4_mapped();
        let length = if mapped.is_some() { length.saturating_sub(96) } else { *length };
        let text = format!("{}/{length}", address(*bytes));
        // As the kernel programs do: the key is compared as bytes, the number is little-endian.
        of(*mac, u16::from_le_bytes(*vlan), grant.flags, vec![text]);
    }
    for identity in &mut identities {
        identity.addresses.sort();
    }
    identities.sort();
    identities
}

/// How a port learns addresses, if it does.
fn rule(slot: &PortSlot) -> Option<String> {
    let name = if slot.has(flags::FIRST_COME) { "first-come" } else { "dhcp" };
    slot.has(flags::LEARNS).then(|| name.to_owned())
}

/// An address that a port has learned.
pub fn learned(learned: &Learned) -> LearnedView {
    LearnedView {
        mac: learned.mac.to_string(),
        vlan: learned.vlan,
        address: learned.address.to_string(),
        origin: learned.origin.as_str().to_owned(),
        since: Some(moment(learned.since)),
        expires: learned.expires.map(moment),
    }
}

/// The frames of a port.
pub fn counters(counts: Counts) -> CountersView {
    let named = |counts: BTreeMap<Reason, u64>| {
        counts.into_iter().map(|(reason, count)| (reason.as_str().to_owned(), count)).collect()
    };
    CountersView {
        frames: FramesView { from: counts.frames.from, to: counts.frames.to },
        from: named(counts.from),
        to: named(counts.to),
        events_lost: counts.events_lost,
        events_held: counts.events_held,
    }
}

/// A claim that was seen without a grant.
pub fn sighting(seen: &Seen) -> SightingView {
    let claim = &seen.claim;
    let reason = Reason::from_code(claim.reason);
    SightingView {
        mac: claim.mac.to_string(),
        vlan: claim.vlan,
        ethertype: format!("{:#06x}", claim.ethertype),
        address: match Family::from_code(claim.family) {
            Family::None => None,
            Family::V4 | Family::V6 => Some(address(claim.address.bytes())),
        },
        reason: reason
            .map_or_else(|| format!("reason-{}", claim.reason), |r| r.as_str().to_owned()),
        describe: reason.map_or("", Reason::describe).to_owned(),
        first: Some(moment(seen.first)),
        last: Some(moment(seen.last)),
        count: seen.count,
    }
}

#[cfg(test)]
mod tests;

fn address(bytes: [u8; 16]) -> String {
    let address = Ipv6Addr::from(bytes);
    address.to_ipv4_mapped().map_or_else(|| address.to_string(), |v4| v4.to_string())
}

fn inline(address: &[u8], mask: &[u8], any: &str, text: &dyn std::fmt::Display) -> String {
    let length: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    match length as usize {
        0 => any.to_owned(),
        all if all == address.len() * 8 => text.to_string(),
        length => format!("{text}/{length}"),
    }
}
