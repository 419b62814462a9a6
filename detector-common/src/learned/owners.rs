//! Who gets an address, who keeps it, and who loses it.

use super::{
    FIRST_COME_SECONDS, Holding, Living, Origin, Owner, OwnerKey, Place, Refused, Table,
    is_learnable, key, routers,
};
use crate::{
    addr::{Address, Station},
    frame::opaque,
    maps::LEARNED_PER_PORT,
    port::{PortSlot, flags},
    reason::Reason,
    settings::Settings,
};

/// How old the time of an address that came first may be: it is not written with each frame.
pub const EXTENDED_SECONDS: u64 = 60;

/// Whether a station of the port has the address, or gets it by coming first. `now` is in jiffies.
#[inline(always)]
pub fn ask(
    table: &mut impl Table,
    slot: &PortSlot,
    settings: &Settings,
    now: u64,
    station: Station,
    address: Address,
) -> Reason {
    let first_come = slot.has(flags::FIRST_COME) || address.is_link_local();
    let hz = u64::from(settings.hz);
    let lifetime = FIRST_COME_SECONDS * hz;
    let key = key(slot, station, address);
    if let Some(living) = table.owner(&key) {
        let owner = living.get();
        match owner.holding(slot.instance, station, now) {
            Holding::Own => {
                // It may have come first under a rule that holds no more.
                if owner.origin == Origin::FirstCome as u32 && !first_come {
                    return Reason::AddressNotLeased;
                }
                let extends = first_come && Origin::is_claim(owner.origin);
                if extends && owner.expires - now < lifetime - EXTENDED_SECONDS * hz {
                    living.prolong(now + lifetime);
                }
                // Of two that two CPUs learn at once for one place, the first has lost it.
                if !stands_for(table.place(owner.place), &key) {
                    table.remove(&key);
                    return Reason::LearnedFull;
                }
                return Reason::Granted;
            }
            Holding::Other if !routers::gives_way(&owner, slot) => return Reason::AddressTaken,
            Holding::Other | Holding::Over => {}
        }
    }
    let (origin, seconds) = if first_come {
        (Origin::FirstCome, FIRST_COME_SECONDS as u32)
    } else {
        lent(slot, settings, now)
    };
    if seconds == 0 || !is_learnable(address) {
        return Reason::AddressNotLeased;
    }
    let expires = now + u64::from(seconds) * hz;
    take(table, slot, &key, &of_port(slot, station, origin, now, expires), false)
}

/// What a port that learns from servers is lent, when it speaks under an address that is nobody's: by
/// which origin, and for how many seconds.
#[inline(always)]
fn lent(slot: &PortSlot, settings: &Settings, now: u64) -> (Origin, u32) {
    if slot.has(flags::ARRIVED) {
        (Origin::Migrated, slot.lends())
    } else if slot.drops(settings, || now) {
        (Origin::Observed, 0)
    } else {
        (Origin::Observed, slot.lends())
    }
}

/// A station of the port as an owner that has no place yet.
#[inline(always)]
pub(super) const fn of_port(
    slot: &PortSlot,
    station: Station,
    origin: Origin,
    now: u64,
    expires: u64,
) -> Owner {
    Owner {
        expires,
        since: now,
        station: station.word(),
        ifindex: slot.ifindex,
        instance: slot.instance,
        place: 0,
        origin: origin as u32,
    }
}

/// Makes a station of the port the owner of an address, if there is place for it. It learns it now
/// (`since`). A server's word (`served`) takes it from whoever only claims it; never from the network
/// itself, and never from the holder of a lease that lasts: who asks a server chooses as whom it asks.
#[inline(never)]
pub(super) fn take<T: Table>(
    table: &mut T,
    slot: &PortSlot,
    key: &OwnerKey,
    owner: &Owner,
    served: bool,
) -> Reason {
    let (station, now) = (Station::from_word(owner.station), owner.since);
    let mut gives_way = false;
    if let Some(known) = table.owner(key) {
        match known.holding(slot.instance, station, now) {
            Holding::Own => {
                known.renew(owner.expires, owner.origin);
                return Reason::Granted;
            }
            Holding::Other
                if !routers::gives_way(&known.get(), slot)
                    && (!served || !Origin::is_claim(known.get().origin)) =>
            {
                return Reason::AddressTaken;
            }
            Holding::Other | Holding::Over => gives_way = true,
        }
    }
    let first = u32::from(slot.id) * LEARNED_PER_PORT;
    let mut left = opaque(LEARNED_PER_PORT as usize) as u32;
    while left > 0 {
        left -= 1;
        let number = first + left;
        if !is_free(table, number, slot.instance, now) {
            continue;
        }
        // CPUs may race for it: then one of two addresses is in no place, and goes when it is asked
        // for, or when the daemon looks around.
        let Some(place) = table.place(number) else { break };
        place.set(Place { key: *key, instance: slot.instance, pad: 0 });
        // Not before there is a place, so that a port that is full takes nothing from anybody.
        if gives_way {
            table.remove(key);
        }
        return match table.insert(key, &Owner { place: number, ..*owner }) {
            Ok(()) => Reason::Granted,
            // Another port was faster.
            Err(Refused::Exists) => Reason::AddressTaken,
            // Nobody has the address.
            Err(Refused::NoRoom) => Reason::LearnedFull,
        };
    }
    Reason::LearnedFull
}

/// Whether a place stands for this address.
#[inline(always)]
fn stands_for(place: Option<Living<'_, Place>>, key: &OwnerKey) -> bool {
    let Some(place) = place else { return false };
    let own = place.get().key;
    let ([high, low], [own_high, own_low]) = (key.address.words(), own.address.words());
    (high ^ own_high) | (low ^ own_low) == 0 && (key.scope, key.vlan) == (own.scope, own.vlan)
}

/// Whether a place stands for no address of this port any more. One whose time is over is cleared
/// away. Where there is no such place it is said to be free.
#[inline(always)]
fn is_free(table: &mut impl Table, number: u32, instance: u32, now: u64) -> bool {
    let Some(place) = table.place(number) else { return true };
    let held = place.get();
    if held.instance != instance {
        return true;
    }
    let Some(owner) = table.owner(&held.key) else { return true };
    let owner = owner.get();
    if owner.place != number {
        return true;
    }
    if owner.expires > now {
        return false;
    }
    table.remove(&held.key);
    true
}

/// Takes an address from the station of the port, if it has it.
#[inline(never)]
pub(super) fn forget<T: Table>(
    table: &mut T,
    slot: &PortSlot,
    key: &OwnerKey,
    station: Station,
    now: u64,
) {
    let Some(owner) = table.owner(key) else { return };
    if !matches!(owner.holding(slot.instance, station, now), Holding::Other) {
        // Its place is free without it.
        table.remove(key);
    }
}
