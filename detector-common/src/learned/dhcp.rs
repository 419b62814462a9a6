//! What ports learn from DHCP and DHCPv6: what a client has said is noted, and what answers it teaches.

use super::{
    Origin, Table, Transaction, expiry, is_learnable, key,
    owners::{forget, of_port, take},
};
use crate::{
    addr::{Address, Station},
    claim::Family,
    frame::opaque,
    lease::{Act, Exchange, MAX_ADDRESSES},
    maps::TRANSACTIONS_PER_PORT,
    parse::Claim,
    port::{PortSlot, flags},
    reason::Reason,
};

/// Whether what a frame from the port says is for [`heard`], if it goes on: a DHCP client of a port that
/// learns speaks, and not under somebody else's identity, since the answer would be believed to be this
/// port's.
#[inline(always)]
pub fn asks(slot: &PortSlot, claim: &Claim, reason: Reason) -> bool {
    let own = reason.passes() || reason as u8 == Reason::AddressNotLeased as u8;
    own && slot.has(flags::LEARNS) && claim.roles & flags::DHCP_CLIENT != 0
}

/// Whether a frame that is refused for this reason goes on all the same if it prolongs the lease of the
/// address that it comes from (see [`lease::renewed`](crate::lease::renewed)): only the server can judge it.
#[inline(always)]
pub fn may_renew(slot: &PortSlot, claim: &Claim, reason: Reason) -> bool {
    reason as u8 == Reason::AddressNotLeased as u8
        && asks(slot, claim, reason)
        && matches!(claim.family, Family::V4)
}

/// Whether what is delivered to the port may teach somebody something: the port by [`told`], or everybody
/// what a router has.
#[inline(always)]
pub const fn listens(slot: &PortSlot) -> bool {
    slot.has(flags::LEARNS)
}

/// Whether the port has what a server leases to it.
#[inline(always)]
const fn follows(slot: &PortSlot) -> bool {
    slot.flags & (flags::LEARNS | flags::FIRST_COME) == flags::LEARNS
}

/// A DHCP client of the port has said something, and it was let through.
#[inline(always)]
pub fn heard(table: &mut impl Table, slot: &PortSlot, said: &Exchange, now: u64) {
    if said.is(Act::Asks) {
        begin(table, &transaction(slot, said, now), slot.id);
    } else if said.is(Act::GivesUp) {
        give_up(table, slot, said, now);
    }
}

/// Somebody who may be a DHCP server has said something to a station of the port. Whether it is an answer
/// that leases something, so that the routers that it names count too.
#[inline(always)]
pub fn told(table: &mut impl Table, slot: &PortSlot, said: &Exchange, now: u64, hz: u32) -> bool {
    let reply = transaction(slot, said, now);
    let Some(wanted) = answered(table, &reply, slot.id, now, hz) else { return false };
    let station = Station::from_word(said.client);
    let leases = said.is(Act::Leases);
    if !follows(slot) {
        return leases;
    }
    if leases {
        take_leases(table, slot, said, now, hz);
    } else if said.is(Act::Refuses) && wanted != 0 {
        forget(table, slot, &key(slot, station, Address::mapped_word(wanted)), station, now);
    }
    leases
}

#[inline(always)]
fn take_leases(table: &mut impl Table, slot: &PortSlot, said: &Exchange, now: u64, hz: u32) {
    let station = Station::from_word(said.client);
    let mut number = opaque(0);
    while number < MAX_ADDRESSES {
        if let Some(lease) = said.lease(number) {
            let key = key(slot, station, lease.address);
            if lease.seconds == 0 {
                forget(table, slot, &key, station, now);
            } else if is_learnable(lease.address) {
                let expires = expiry(lease.seconds, now, hz);
                let owner = of_port(slot, station, Origin::Dhcp, now, expires);
                take(table, slot, &key, &owner, true);
            }
        }
        number += 1;
    }
}

#[inline(always)]
fn give_up(table: &mut impl Table, slot: &PortSlot, said: &Exchange, now: u64) {
    let station = Station::from_word(said.client);
    let mut number = opaque(0);
    while number < MAX_ADDRESSES {
        if let Some(lease) = said.lease(number) {
            forget(table, slot, &key(slot, station, lease.address), station, now);
        }
        number += 1;
    }
}

/// What a message says of its transaction.
#[inline(always)]
fn transaction(slot: &PortSlot, said: &Exchange, now: u64) -> Transaction {
    Transaction {
        station: said.client,
        begun: now,
        id: said.id,
        wanted: said.wanted,
        instance: slot.instance,
        family: said.family,
    }
}

/// Notes what a client has begun. The oldest of the port's own makes room.
#[inline(never)]
fn begin<T: Table>(table: &mut T, new: &Transaction, id: u16) {
    let first = u32::from(id) * TRANSACTIONS_PER_PORT;
    let (mut best, mut oldest) = (first, u64::MAX);
    let mut left = opaque(TRANSACTIONS_PER_PORT as usize) as u32;
    while left > 0 {
        left -= 1;
        let Some(entry) = table.transaction(first + left) else { break };
        let entry = entry.get();
        let same = (entry.id, entry.family) == (new.id, new.family);
        let age = if entry.instance != new.instance || (same && entry.station == new.station) {
            0
        } else {
            entry.begun
        };
        if age < oldest {
            (best, oldest) = (first + left, age);
        }
    }
    if let Some(entry) = table.transaction(best) {
        // A race can only mix up transactions of this port, of which neither is answered then.
        entry.set(*new);
    }
}

/// Whether the port has begun the transaction of this reply: the address that it named then, or 0.
#[inline(always)]
fn answered(
    table: &mut impl Table,
    reply: &Transaction,
    id: u16,
    now: u64,
    hz: u32,
) -> Option<u32> {
    let first = u32::from(id) * TRANSACTIONS_PER_PORT;
    let mut left = opaque(TRANSACTIONS_PER_PORT as usize) as u32;
    while left > 0 {
        left -= 1;
        let entry = table.transaction(first + left)?.get();
        if entry.is_answered_by(reply, now, hz) {
            return Some(entry.wanted);
        }
    }
    None
}
