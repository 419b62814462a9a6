//! Addresses that ports have learned, in the maps.

use std::collections::BTreeSet;

use detector_common::{
    addr::{Address, Mac, Station},
    learned::{NEVER, Origin, Owner, OwnerKey, Place, Router},
    maps::{self, LEARNED_PER_PORT, MAX_OWNERS},
    port::PortSlot,
};
use detector_core::{model::Learned, reconcile::SeedEntry};

use super::{
    BpfError, JiffyClock,
    maps::{Maps, entries, failed, gone},
    pod::Pod,
};

/// Addresses that no port may learn.
#[derive(Debug, Default)]
pub(super) struct Nobodys {
    /// Those that the daemon protects.
    pub(super) protected: BTreeSet<OwnerKey>,
    /// Those of routers that somebody who is trusted has named.
    pub(super) routers: BTreeSet<OwnerKey>,
}

impl Maps {
    /// What a port instance has learned and has not lost, in the order of the addresses.
    pub(super) fn learned(
        &self,
        slot: &PortSlot,
        clock: JiffyClock,
    ) -> Result<Vec<Learned>, BpfError> {
        let mut learned = Vec::new();
        for index in places(slot.id) {
            let Some((key, owner)) = self.at_place(index)? else { continue };
            let over = owner.expires <= clock.now();
            if owner.instance != slot.instance || over || key.scope != slot.scope() {
                continue;
            }
            let station = Station::from_word(owner.station);
            learned.push(Learned {
                instance: owner.instance,
                scope: key.scope,
                mac: station.mac(),
                vlan: key.vlan,
                address: std::net::Ipv6Addr::from(key.address).to_canonical(),
                origin: Origin::from_code(owner.origin),
                since: clock.timestamp(owner.since),
                expires: (owner.expires != NEVER).then(|| clock.deadline(owner.expires)),
            });
        }
        learned.sort_by_key(|one| (one.mac, one.vlan, one.address));
        Ok(learned)
    }

    /// The interface of the port that has the address; none where it is nobody's or protected.
    pub(super) fn learner(
        &self,
        key: OwnerKey,
        clock: JiffyClock,
    ) -> Result<Option<u32>, BpfError> {
        let owner = self.owner(key)?;
        let learned = |owner: &Owner| !owner.is_protected() && owner.expires > clock.now();
        Ok(owner.filter(learned).map(|owner| owner.ifindex))
    }

    /// Whether the address is a router's that has been named, and is so still.
    pub(super) fn is_router(&self, key: OwnerKey, clock: JiffyClock) -> Result<bool, BpfError> {
        let named =
            |owner: Owner| owner.origin == Origin::Router as u32 && owner.expires > clock.now();
        Ok(self.owner(key)?.is_some_and(named))
    }

    /// Makes the port the owner of an address, unless it is another's or there is no place for it.
    pub(super) fn teach(
        &mut self,
        slot: &PortSlot,
        seed: &SeedEntry,
        clock: JiffyClock,
    ) -> Result<(), BpfError> {
        let now = clock.now();
        let key = OwnerKey {
            address: Address::from_bytes(seed.address),
            scope: seed.scope,
            vlan: seed.vlan,
            pad: 0,
        };
        let known = self.owner(key)?;
        if known.is_some_and(|owner| owner.expires > now) {
            return Ok(());
        }
        self.disown(key)?;
        for place in places(slot.id) {
            let held = self.at_place(place)?;
            if held.is_some_and(|(_, owner)| owner.instance == slot.instance && owner.expires > now)
            {
                continue;
            }
            if let Some((old, _)) = held {
                self.disown(old)?;
            }
            let owner = Owner {
                expires: seed.expires.map_or(NEVER, |at| clock.jiffies(at)),
                since: now,
                station: Station::new(Mac(seed.mac), seed.vlan).word(),
                ifindex: slot.ifindex,
                instance: slot.instance,
                place,
                origin: seed.origin,
            };
            self.write_place(place, Place { key, instance: slot.instance, pad: 0 })?;
            return self
                .owners
                .insert(Pod(key), Pod(owner), 0)
                .map_err(failed("write", maps::ADDRESS_OWNERS));
        }
        Ok(())
    }

    /// Lets no port have the address.
    pub(super) fn protect(&mut self, key: OwnerKey) -> Result<(), BpfError> {
        self.owners
            .insert(Pod(key), Pod(Owner::PROTECTED), 0)
            .map_err(failed("write", maps::ADDRESS_OWNERS))
    }

    /// Makes an address nobody's.
    pub(super) fn disown(&mut self, key: OwnerKey) -> Result<(), BpfError> {
        gone(self.owners.remove(&Pod(key))).map_err(failed("write", maps::ADDRESS_OWNERS))
    }

    /// Makes the addresses of the port with this id nobody's.
    pub(super) fn clear_learned(&mut self, id: u16) -> Result<(), BpfError> {
        for place in places(id) {
            if let Some((key, _)) = self.at_place(place)? {
                self.disown(key)?;
            }
            self.write_place(place, Place::default())?;
        }
        Ok(())
    }

    /// Makes what the port with this id has learned in one place nobody's there.
    pub(super) fn clear_scope(&mut self, id: u16, scope: u32) -> Result<(), BpfError> {
        for place in places(id) {
            if let Some((key, _)) = self.at_place(place)?
                && key.scope == scope
            {
                self.disown(key)?;
                self.write_place(place, Place::default())?;
            }
        }
        Ok(())
    }

    /// Clears away owners whose instance is no more, those that no place stands for, which two CPUs can
    /// leave that learn at the same time for one port, and routers whose time is over. Returns the addresses
    /// that no port may learn.
    pub(super) fn sweep_owners(
        &mut self,
        living: &BTreeSet<u32>,
        clock: JiffyClock,
    ) -> Result<Nobodys, BpfError> {
        let now = clock.now();
        let all = entries(self.owners.iter(), MAX_OWNERS, maps::ADDRESS_OWNERS)?;
        let mut nobodys = Nobodys::default();
        for (Pod(key), Pod(owner)) in all {
            if owner.origin == Origin::Router as u32 {
                if owner.expires > now {
                    nobodys.routers.insert(key);
                } else {
                    self.disown(key)?;
                }
            } else if owner.is_protected() {
                nobodys.protected.insert(key);
            } else if !living.contains(&owner.instance) || self.place(owner.place)?.key != key {
                self.disown(key)?;
            }
        }
        let places = entries(self.routers.iter(), maps::MAX_ROUTERS, maps::ROUTERS)?;
        let mut stood_for = BTreeSet::new();
        for (Pod(place), Pod(Router { address })) in places {
            let key = OwnerKey { address, scope: place.scope, vlan: place.vlan, pad: 0 };
            stood_for.insert(key);
            // It may have come since the owners were read.
            if !nobodys.routers.contains(&key) && !self.is_router(key, clock)? {
                gone(self.routers.remove(&Pod(place))).map_err(failed("write", maps::ROUTERS))?;
            }
        }
        // A place is there before its owner, so what none stands for by now has lost it.
        let orphans: Vec<_> = nobodys.routers.difference(&stood_for).copied().collect();
        for key in orphans {
            self.disown(key)?;
            nobodys.routers.remove(&key);
        }
        Ok(nobodys)
    }

    /// The address that a place stands for.
    fn at_place(&self, index: u32) -> Result<Option<(OwnerKey, Owner)>, BpfError> {
        let place = self.place(index)?;
        if place.instance == 0 {
            return Ok(None);
        }
        let owner = self.owner(place.key)?;
        Ok(owner.filter(|owner| owner.place == index).map(|owner| (place.key, owner)))
    }

    fn place(&self, index: u32) -> Result<Place, BpfError> {
        let Pod(place) = self.learned.get(&index, 0).map_err(failed("read", maps::LEARNED))?;
        Ok(place)
    }

    fn write_place(&mut self, index: u32, place: Place) -> Result<(), BpfError> {
        self.learned.set(index, Pod(place), 0).map_err(failed("write", maps::LEARNED))
    }

    fn owner(&self, key: OwnerKey) -> Result<Option<Owner>, BpfError> {
        match self.owners.get(&Pod(key), 0) {
            Ok(Pod(owner)) => Ok(Some(owner)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed("read", maps::ADDRESS_OWNERS)(error)),
        }
    }
}

fn places(id: u16) -> std::ops::Range<u32> {
    let first = u32::from(id) * LEARNED_PER_PORT;
    first..first + LEARNED_PER_PORT
}
