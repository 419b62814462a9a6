//! From claim to verdict.

use crate::{
    addr::mapped,
    parse::{Claim, Source, ethertype},
    port::{Grant, GrantKey, PortSlot, PrefixKey, flags},
    reason::Reason,
};

/// Identities beyond the one that a slot holds inline.
pub trait Grants {
    /// The entry of `GRANTS` with this key.
    fn grant(&self, key: &GrantKey) -> Option<Grant>;
    /// The entry of `PREFIXES` with the longest prefix that covers this key.
    fn prefix(&self, key: &PrefixKey) -> Option<Grant>;
}

/// Whether what `claim` asserts is granted to the port of `slot`.
#[inline(always)]
pub fn judge(slot: &PortSlot, claim: &Claim, more: &impl Grants) -> Reason {
    if !slot.has(flags::GRANTED) {
        return Reason::PortPending;
    }
    if claim.mac == slot.mac && claim.vlan == slot.vlan {
        let refused = judge_inline(slot, claim);
        if refused.passes() || !slot.has(flags::MORE_GRANTS | flags::MORE_PREFIXES) {
            return refused;
        }
    } else if !slot.has(flags::MORE_GRANTS) {
        return if claim.mac == slot.mac { Reason::VlanNotGranted } else { Reason::MacNotGranted };
    }
    judge_listed(slot, claim, more)
}

/// The verdict by what the slot holds itself.
#[inline(always)]
fn judge_inline(slot: &PortSlot, claim: &Claim) -> Reason {
    if let Some(reason) = missing_role(slot.flags, claim) {
        return reason;
    }
    let source = match claim.source {
        Source::None => true,
        Source::V4(v4) => {
            slot.has(flags::V4) && masked4(v4, slot.v4_mask) == u32::from_ne_bytes(slot.v4)
        }
        Source::V6(v6) => inline_v6(slot, &v6),
    };
    if !source {
        return refused_source(claim);
    }
    match claim.target {
        Some(target) if !inline_v6(slot, &target) => Reason::NdTarget,
        _ => Reason::Granted,
    }
}

#[inline(always)]
fn inline_v6(slot: &PortSlot, address: &[u8; 16]) -> bool {
    (slot.has(flags::V6) && masked6(address, &slot.v6_mask) == halves(&slot.v6))
        || halves(address) == halves(&slot.mac.link_local())
}

/// The verdict by the entries of the maps. The entry of the MAC says which families are open and
/// which roles it plays; addresses have entries of their own.
#[inline(always)]
fn judge_listed(slot: &PortSlot, claim: &Claim, more: &impl Grants) -> Reason {
    let key = GrantKey {
        ifindex: slot.ifindex,
        instance: slot.instance,
        mac: claim.mac,
        vlan: claim.vlan,
        address: [0; 16],
    };
    let Some(mac) = more.grant(&key) else {
        return if claim.mac == slot.mac { Reason::VlanNotGranted } else { Reason::MacNotGranted };
    };
    if let Some(reason) = missing_role(mac.flags, claim) {
        return reason;
    }
    let source = match claim.source {
        Source::None => true,
        Source::V4(v4) => mac.flags & flags::V4 != 0 || listed(slot, key, mapped(v4), more),
        Source::V6(v6) => listed_v6(slot, key, mac, v6, more),
    };
    if !source {
        return refused_source(claim);
    }
    match claim.target {
        Some(target) if !listed_v6(slot, key, mac, target, more) => Reason::NdTarget,
        _ => Reason::Granted,
    }
}

#[inline(always)]
fn listed_v6(
    slot: &PortSlot,
    key: GrantKey,
    mac: Grant,
    address: [u8; 16],
    more: &impl Grants,
) -> bool {
    mac.flags & flags::V6 != 0
        || halves(&address) == halves(&key.mac.link_local())
        || listed(slot, key, address, more)
}

#[inline(always)]
fn listed(slot: &PortSlot, key: GrantKey, address: [u8; 16], more: &impl Grants) -> bool {
    if more.grant(&GrantKey { address, ..key }).is_some() {
        return true;
    }
    slot.has(flags::MORE_PREFIXES)
        && more
            .prefix(&PrefixKey {
                ifindex: key.ifindex.to_ne_bytes(),
                instance: key.instance.to_ne_bytes(),
                mac: key.mac,
                vlan: key.vlan.to_ne_bytes(),
                address,
            })
            .is_some()
}

#[inline(always)]
fn missing_role(granted: u32, claim: &Claim) -> Option<Reason> {
    let missing = claim.roles & !granted;
    if missing & flags::DHCP_SERVER != 0 {
        Some(Reason::DhcpServerRole)
    } else if missing & flags::ROUTER != 0 {
        Some(Reason::RouterRole)
    } else {
        None
    }
}

#[inline(always)]
fn refused_source(claim: &Claim) -> Reason {
    match claim.ethertype {
        ethertype::ARP | ethertype::RARP => Reason::ArpSenderAddress,
        ethertype::IPV4 => Reason::Ipv4Source,
        _ => Reason::Ipv6Source,
    }
}

#[inline(always)]
fn masked4(address: [u8; 4], mask: [u8; 4]) -> u32 {
    u32::from_ne_bytes(address) & u32::from_ne_bytes(mask)
}

#[inline(always)]
fn masked6(address: &[u8; 16], mask: &[u8; 16]) -> [u64; 2] {
    let (address, mask) = (halves(address), halves(mask));
    [address[0] & mask[0], address[1] & mask[1]]
}

/// The two halves of an address, for comparison in two steps.
#[inline(always)]
fn halves(address: &[u8; 16]) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes([i, j, k, l, m, n, o, p])]
}

#[cfg(test)]
mod tests;
