//! From claim to verdict.

mod glance;

pub use glance::passes_at_a_glance;

use crate::{
    addr::{Address, Station},
    claim::Family,
    frame::Frame,
    parse::{self, Claim, MetaTag, Reach, Whole, ethertype},
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

/// The verdict on a plain frame from the port of `slot`, if that is in force, with its claim: the
/// same as [`vet`] has. `None` if [`vet`] must be asked.
#[inline(always)]
pub fn vet_plain(
    frame: Frame<'_>,
    tag: MetaTag,
    slot: &PortSlot,
    more: &impl Grants,
    claim: &mut Claim,
) -> Option<Reason> {
    if slot.flags & (flags::GRANTED | flags::ISOLATED | flags::VIRTUAL_MACS) != flags::GRANTED {
        return None;
    }
    parse::parse(frame, tag, claim, &Plain { slot, more }).ok()
}

struct Plain<'a, G> {
    slot: &'a PortSlot,
    more: &'a G,
}

impl<G: Grants> Reach for Plain<'_, G> {
    const WHOLE: bool = false;
    type Verdict = Reason;

    #[inline(always)]
    fn accept(&self, claim: &Claim) -> Reason {
        judge(self.slot, claim, claim.station, self.more, judge_listed_apart)
    }
}

/// The verdict on a frame from the port of `slot`: of a sandboxed one, on whether it may go to the
/// sandbox. `claim` becomes what the frame asserts, as far as it was read.
/// [`Reason::AddressNotLeased`] is for [`settle`] to say the last word on.
#[inline(always)]
pub fn vet(
    frame: Frame<'_>,
    tag: MetaTag,
    slot: &PortSlot,
    more: &impl Grants,
    claim: &mut Claim,
) -> Reason {
    *claim = Claim::default();
    if slot.flags & (flags::ISOLATED | flags::SANDBOXED) == flags::ISOLATED {
        // The sender's MAC is evidence enough, and a flood is cheap to drop.
        if let Some(header) = frame.window::<14>(0) {
            claim.station = header.mac::<6>();
            claim.ethertype = header.u16::<12>();
        }
        return Reason::PortIsolated;
    }
    match parse::parse(frame, tag, claim, &Whole) {
        Ok(()) if !slot.has(flags::GRANTED | flags::SANDBOXED) => Reason::PortPending,
        Ok(()) => {
            claim.roles = frame.forget(claim.roles as usize) as u32;
            let station = stands_for(slot, claim);
            judge(slot, claim, station, more, judge_listed)
        }
        Err(reason)
            if slot.has(flags::GRANTED | flags::SANDBOXED)
                || reason as u8 == Reason::Truncated as u8 =>
        {
            reason
        }
        Err(_) => Reason::PortPending,
    }
}

/// Who the sender of a claim is: a virtual router stands for the slot's own MAC.
#[inline(always)]
fn stands_for(slot: &PortSlot, claim: &mut Claim) -> Station {
    if slot.has(flags::VIRTUAL_MACS) && claim.station.is_virtual_router() {
        claim.roles |= flags::VRRP;
        slot.station().on_vlan(claim.station.vlan())
    } else {
        claim.station
    }
}

/// Whether what `claim` asserts is granted to `station` on the port of `slot`, which may speak, by the
/// slot or else as `listed`.
#[inline(always)]
fn judge<G: Grants>(
    slot: &PortSlot,
    claim: &Claim,
    station: Station,
    more: &G,
    listed: impl Fn(&PortSlot, &Claim, &G) -> Reason,
) -> Reason {
    if station == slot.station() {
        let refused = judge_inline(slot, claim);
        const MORE: u32 = flags::MORE_GRANTS | flags::MORE_PREFIXES;
        if refused.passes() || !slot.has(MORE | flags::LEARNS) {
            return refused;
        }
        if !slot.has(MORE) {
            return unless_learned(refused);
        }
    } else if !slot.has(flags::MORE_GRANTS) {
        return other_station(slot, station);
    }
    // A copy, so that the claim itself need not lie in memory.
    listed(slot, &Claim { station, ..*claim }, more)
}

#[inline(always)]
fn other_station(slot: &PortSlot, station: Station) -> Reason {
    if station.same_mac(slot.station()) { Reason::VlanNotGranted } else { Reason::MacNotGranted }
}

/// The verdict by what the slot holds itself.
#[inline(always)]
fn judge_inline(slot: &PortSlot, claim: &Claim) -> Reason {
    if let Some(reason) = missing_role(slot.flags, claim) {
        return reason;
    }
    let source = match claim.family {
        Family::None => true,
        Family::V4 => slot.has(flags::V4) && inline_v4(slot, claim.source),
        Family::V6 => inline_v6(slot, claim.source),
    };
    if !source {
        return refused_source(claim);
    }
    if claim.target == Address::UNSPECIFIED || inline_v6(slot, claim.target) {
        Reason::Granted
    } else {
        Reason::NdTarget
    }
}

#[inline(always)]
fn inline_v4(slot: &PortSlot, address: Address) -> bool {
    address.v4_word() & u32::from_ne_bytes(slot.v4_mask) == u32::from_ne_bytes(slot.v4)
}

#[inline(always)]
fn inline_v6(slot: &PortSlot, address: Address) -> bool {
    (slot.has(flags::V6) && address.is_within(slot.v6, slot.v6_mask))
        || address == slot.station().link_local()
}

/// The verdict by the entries of the maps. The entry of the MAC says which families are open and
/// which roles it plays; addresses have entries of their own.
#[inline(always)]
fn judge_listed(slot: &PortSlot, claim: &Claim, more: &impl Grants) -> Reason {
    let key = GrantKey {
        ifindex: slot.ifindex,
        instance: slot.instance,
        mac: claim.station.mac(),
        vlan: claim.station.vlan(),
        address: [0; 16],
    };
    let Some(mac) = more.grant(&key) else { return other_station(slot, claim.station) };
    if let Some(reason) = missing_role(mac.flags, claim) {
        return reason;
    }
    let source = match claim.family {
        Family::None => true,
        Family::V4 => mac.flags & flags::V4 != 0 || listed(slot, key, claim.source, more),
        Family::V6 => listed_v6(slot, key, mac, claim.source, more),
    };
    if !source {
        return refused_source(claim);
    }
    if claim.target == Address::UNSPECIFIED || listed_v6(slot, key, mac, claim.target, more) {
        // What is granted to one that learns is where it may learn.
        if mac.flags & flags::LEARNS == 0 { Reason::Granted } else { Reason::AddressNotLeased }
    } else {
        Reason::NdTarget
    }
}

/// The verdict on a claim whose addresses are none of those that a port has without learning.
#[inline(always)]
const fn unless_learned(refused: Reason) -> Reason {
    match refused {
        Reason::ArpSenderAddress | Reason::Ipv4Source | Reason::Ipv6Source | Reason::NdTarget => {
            Reason::AddressNotLeased
        }
        other => other,
    }
}

/// The last word on a claim of which [`vet`] or [`vet_plain`] says [`Reason::AddressNotLeased`]: each
/// address that it asserts, but for the link-local one formed from the MAC, has to be the port's own
/// by what `ask` says. An address that is refused becomes the claim's source, to be told of. What routers
/// share they have by turns, so that under a virtual router's MAC there is nothing to learn.
#[inline(always)]
pub fn settle(claim: &mut Claim, mut ask: impl FnMut(Station, Address) -> Reason) -> Reason {
    let station = claim.station;
    let asserts = !matches!(claim.family, Family::None) || claim.target != Address::UNSPECIFIED;
    if asserts && station.is_virtual_router() {
        return Reason::AddressNotLeased;
    }
    let own = station.link_local();
    if !matches!(claim.family, Family::None) && claim.source != own {
        let reason = ask(station, claim.source);
        if !reason.passes() {
            return reason;
        }
    }
    if claim.target == Address::UNSPECIFIED || claim.target == own {
        return Reason::Granted;
    }
    let reason = ask(station, claim.target);
    if !reason.passes() {
        claim.family = Family::V6;
        claim.source = claim.target;
    }
    reason
}

/// [`judge_listed`] as a function of its own, where it is rarely wanted.
#[inline(never)]
fn judge_listed_apart(slot: &PortSlot, claim: &Claim, more: &impl Grants) -> Reason {
    judge_listed(slot, claim, more)
}

#[inline(always)]
fn listed_v6(
    slot: &PortSlot,
    key: GrantKey,
    mac: Grant,
    address: Address,
    more: &impl Grants,
) -> bool {
    mac.flags & flags::V6 != 0
        || address == Station::new(key.mac, 0).link_local()
        || listed(slot, key, address, more)
}

#[inline(always)]
fn listed(slot: &PortSlot, key: GrantKey, address: Address, more: &impl Grants) -> bool {
    let address = address.bytes();
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
    } else if missing & flags::VRRP != 0 {
        Some(Reason::VrrpRole)
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

#[cfg(test)]
mod tests;
