//! Typed access to the pinned maps.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, OwnedFd},
};

use aya::maps::{
    Array, HashMap as BpfHashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key,
};
use detector_common::{
    addr::{Mac, Station},
    counters::{Budget, PortCounters, Sighting},
    learned::{Owner, OwnerKey, Place, Router, RouterKey, Transaction},
    maps::{self, MAX_GRANTS, MAX_MAC_OWNERS, MAX_PREFIXES, MAX_QUARANTINES, PORT_SLOTS},
    port::{Grant, GrantKey, MacOwner, PortSlot, PrefixKey},
    quarantine::{QuarantineKey, QuarantineRecord},
    sandbox::Passage,
    services::Service,
    settings::{PROVISIONAL, Settings},
};

use super::{BpfError, PinPaths, pod::Pod, sys};

/// The pinned maps, but for the events.
pub(super) struct Maps {
    settings: Array<MapData, Pod<Settings>>,
    ports: Array<MapData, Pod<PortSlot>>,
    overflow: BpfHashMap<MapData, u32, Pod<PortSlot>>,
    grants: BpfHashMap<MapData, Pod<GrantKey>, Pod<Grant>>,
    /// The same map, for what is done to many entries at a time.
    grants_fd: OwnedFd,
    prefixes: LpmTrie<MapData, Pod<PrefixKey>, Pod<Grant>>,
    quarantine: BpfHashMap<MapData, Pod<QuarantineKey>, Pod<QuarantineRecord>>,
    pub(super) sightings: Array<MapData, Pod<Sighting>>,
    pub(super) budgets: Array<MapData, Pod<Budget>>,
    pub(super) counters: PerCpuArray<MapData, Pod<PortCounters>>,
    mac_owners: BpfHashMap<MapData, Pod<Station>, Pod<MacOwner>>,
    sandbox: BpfHashMap<MapData, u32, Pod<Passage>>,
    services: BpfHashMap<MapData, Pod<Service>, u32>,
    pub(super) owners: BpfHashMap<MapData, Pod<OwnerKey>, Pod<Owner>>,
    pub(super) learned: Array<MapData, Pod<Place>>,
    pub(super) transactions: Array<MapData, Pod<Transaction>>,
    pub(super) routers: BpfHashMap<MapData, Pod<RouterKey>, Pod<Router>>,
}

/// An entry of `PREFIXES`, with the length of its address prefix.
pub(super) type Prefix = (PrefixKey, u8);

/// Where a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SlotPlace {
    /// In `PORTS`, by index.
    Array(u32),
    /// In `PORT_OVERFLOW`, by key.
    Overflow(u32),
}

impl SlotPlace {
    /// Whether the kernel programs look there for the slot of this interface.
    pub(super) fn is_for(self, ifindex: u32) -> bool {
        match self {
            Self::Array(index) => ifindex % PORT_SLOTS == index,
            Self::Overflow(key) => ifindex == key,
        }
    }
}

/// Opens a pinned map.
pub(super) fn open<T>(paths: &PinPaths, name: &str) -> Result<T, BpfError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let path = paths.map(name);
    MapData::from_pin(&path)
        .and_then(Map::from_map_data)
        .and_then(T::try_from)
        .map_err(BpfError::failed(format!("open the pinned map {}", path.display())))
}

impl Maps {
    pub(super) fn open(paths: &PinPaths) -> Result<Self, BpfError> {
        Ok(Self {
            settings: open(paths, maps::SETTINGS)?,
            ports: open(paths, maps::PORTS)?,
            overflow: open(paths, maps::PORT_OVERFLOW)?,
            grants: open(paths, maps::GRANTS)?,
            grants_fd: sys::open_pin(&paths.map(maps::GRANTS)).map_err(BpfError::failed(
                format!("open the pinned map {}", paths.map(maps::GRANTS).display()),
            ))?,
            prefixes: open(paths, maps::PREFIXES)?,
            quarantine: open(paths, maps::QUARANTINE)?,
            sightings: open(paths, maps::SIGHTINGS)?,
            budgets: open(paths, maps::BUDGETS)?,
            counters: open(paths, maps::COUNTERS)?,
            mac_owners: open(paths, maps::MAC_OWNERS)?,
            sandbox: open(paths, maps::SANDBOX)?,
            services: open(paths, maps::SERVICES)?,
            owners: open(paths, maps::ADDRESS_OWNERS)?,
            learned: open(paths, maps::LEARNED)?,
            transactions: open(paths, maps::DHCP_TRANSACTIONS)?,
            routers: open(paths, maps::ROUTERS)?,
        })
    }

    pub(super) fn settings(&self) -> Result<Settings, BpfError> {
        self.settings
            .get(&0, 0)
            .map(|Pod(settings)| settings)
            .map_err(failed("read", maps::SETTINGS))
    }

    /// The kernel copies an entry while programs read it. So a mode is switched by a word alone: whatever it
    /// makes count is there before, and stays until after.
    pub(super) fn write_settings(&mut self, settings: Settings) -> Result<(), BpfError> {
        let old = self.settings()?;
        let provisional = |settings: &Settings| settings.mode & PROVISIONAL != 0;
        let first = if provisional(&settings) {
            Settings { mode: old.mode, ..settings }
        } else {
            Settings { change: old.change, ..settings }
        };
        let mut write = |settings: Settings| {
            self.settings.set(0, Pod(settings), 0).map_err(failed("write", maps::SETTINGS))
        };
        if first != settings && (provisional(&settings) || provisional(&old)) {
            write(first)?;
        }
        write(settings)
    }

    /// Every slot that is not vacant, wherever it is.
    pub(super) fn slots(&self) -> Result<Vec<PortSlot>, BpfError> {
        Ok(self.slot_places()?.into_iter().map(|(_, slot)| slot).collect())
    }

    /// Every slot that is not vacant, with where it is.
    pub(super) fn slot_places(&self) -> Result<Vec<(SlotPlace, PortSlot)>, BpfError> {
        let mut slots = Vec::new();
        for (index, slot) in (0..).zip(self.ports.iter()) {
            let Pod(slot) = slot.map_err(failed("read", maps::PORTS))?;
            if slot.ifindex != 0 {
                slots.push((SlotPlace::Array(index), slot));
            }
        }
        let overflow = entries(self.overflow.iter(), maps::MAX_PORTS, maps::PORT_OVERFLOW)?;
        slots.extend(overflow.into_iter().map(|(key, Pod(slot))| (SlotPlace::Overflow(key), slot)));
        Ok(slots)
    }

    pub(super) fn vacate(&mut self, place: SlotPlace) -> Result<(), BpfError> {
        match place {
            SlotPlace::Array(index) => self
                .ports
                .set(index, Pod(PortSlot::VACANT), 0)
                .map_err(failed("write", maps::PORTS)),
            SlotPlace::Overflow(key) => {
                gone(self.overflow.remove(&key)).map_err(failed("write", maps::PORT_OVERFLOW))
            }
        }
    }

    /// Writes the slot of an interface, beside another one's where they share a place.
    pub(super) fn write_slot(&mut self, slot: PortSlot) -> Result<(), BpfError> {
        let place = slot.ifindex % PORT_SLOTS;
        let Pod(there) = self.ports.get(&place, 0).map_err(failed("read", maps::PORTS))?;
        // One that lives in the overflow stays there: two slots for one interface would be a
        // verdict and its opposite.
        let overflows = there.ifindex != slot.ifindex
            && (there.ifindex != 0 || present(self.overflow.get(&slot.ifindex, 0))?);
        if overflows {
            return self
                .overflow
                .insert(slot.ifindex, Pod(slot), 0)
                .map_err(failed("write", maps::PORT_OVERFLOW));
        }
        self.ports.set(place, Pod(slot), 0).map_err(failed("write", maps::PORTS))
    }

    /// Vacates the slot of an interface, if it has one.
    pub(super) fn clear_slot(&mut self, ifindex: u32) -> Result<(), BpfError> {
        let place = ifindex % PORT_SLOTS;
        let Pod(there) = self.ports.get(&place, 0).map_err(failed("read", maps::PORTS))?;
        if there.ifindex == ifindex {
            let vacant = Pod(PortSlot::VACANT);
            self.ports.set(place, vacant, 0).map_err(failed("write", maps::PORTS))?;
        }
        gone(self.overflow.remove(&ifindex)).map_err(failed("write", maps::PORT_OVERFLOW))
    }

    pub(super) fn grants(&self) -> Result<BTreeMap<GrantKey, Grant>, BpfError> {
        let all = entries(self.grants.iter(), MAX_GRANTS, maps::GRANTS)?;
        Ok(all.into_iter().map(|(Pod(key), Pod(grant))| (key, grant)).collect())
    }

    /// Puts many with few calls: a port can be granted a hundred thousand. After an error some may have
    /// been put.
    pub(super) fn put_grants(&mut self, grants: &[(GrantKey, Grant)]) -> Result<(), BpfError> {
        // So few stay in the processor's caches from here to the kernel.
        const AT_ONCE: usize = 2048;
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for some in grants.chunks(AT_ONCE) {
            keys.clear();
            keys.extend(some.iter().map(|(key, _)| *key));
            values.clear();
            values.extend(some.iter().map(|(_, grant)| *grant));
            let what = || format!("write entries of the map {}", maps::GRANTS);
            sys::put_all(self.grants_fd.as_fd(), &keys, &values)
                .map_err(|error| BpfError::failed(what())(error))?;
        }
        Ok(())
    }

    pub(super) fn drop_grant(&mut self, key: GrantKey) -> Result<(), BpfError> {
        gone(self.grants.remove(&Pod(key))).map_err(failed("write", maps::GRANTS))
    }

    pub(super) fn prefixes(&self) -> Result<BTreeMap<Prefix, Grant>, BpfError> {
        let all = entries(self.prefixes.iter(), MAX_PREFIXES, maps::PREFIXES)?;
        let read = |(key, Pod(grant)): (Key<Pod<PrefixKey>>, Pod<Grant>)| {
            let address_bits = key.prefix_len().saturating_sub(PrefixKey::SCOPE_BITS);
            let Pod(data) = key.data();
            ((data, u8::try_from(address_bits).unwrap_or(u8::MAX)), grant)
        };
        Ok(all.into_iter().map(read).collect())
    }

    pub(super) fn put_prefix(&mut self, prefix: Prefix, grant: Grant) -> Result<(), BpfError> {
        self.prefixes
            .insert(&trie_key(prefix), Pod(grant), 0)
            .map_err(failed("write", maps::PREFIXES))
    }

    pub(super) fn drop_prefix(&mut self, prefix: Prefix) -> Result<(), BpfError> {
        gone(self.prefixes.remove(&trie_key(prefix))).map_err(failed("write", maps::PREFIXES))
    }

    pub(super) fn mac_owners(&self) -> Result<BTreeMap<(Mac, u16), MacOwner>, BpfError> {
        let all = entries(self.mac_owners.iter(), MAX_MAC_OWNERS, maps::MAC_OWNERS)?;
        let read = |(Pod(key), Pod(owner)): (Pod<Station>, _)| ((key.mac(), key.vlan()), owner);
        Ok(all.into_iter().map(read).collect())
    }

    /// Who has the MAC; `None` when nobody is known to.
    pub(super) fn mac_owner(&self, (mac, vlan): (Mac, u16)) -> Result<Option<MacOwner>, BpfError> {
        match self.mac_owners.get(&Pod(Station::new(mac, vlan)), 0) {
            Ok(Pod(owner)) => Ok(Some(owner)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed("read", maps::MAC_OWNERS)(error)),
        }
    }

    pub(super) fn put_mac_owner(
        &mut self,
        (mac, vlan): (Mac, u16),
        owner: MacOwner,
    ) -> Result<(), BpfError> {
        self.mac_owners
            .insert(Pod(Station::new(mac, vlan)), Pod(owner), 0)
            .map_err(failed("write", maps::MAC_OWNERS))
    }

    pub(super) fn drop_mac_owner(&mut self, (mac, vlan): (Mac, u16)) -> Result<(), BpfError> {
        gone(self.mac_owners.remove(&Pod(Station::new(mac, vlan))))
            .map_err(failed("write", maps::MAC_OWNERS))
    }

    pub(super) fn quarantines(
        &self,
    ) -> Result<BTreeMap<QuarantineKey, QuarantineRecord>, BpfError> {
        let all = entries(self.quarantine.iter(), MAX_QUARANTINES, maps::QUARANTINE)?;
        Ok(all.into_iter().map(|(Pod(key), Pod(record))| (key, record)).collect())
    }

    pub(super) fn put_quarantine(
        &mut self,
        key: QuarantineKey,
        record: QuarantineRecord,
    ) -> Result<(), BpfError> {
        self.quarantine.insert(Pod(key), Pod(record), 0).map_err(failed("write", maps::QUARANTINE))
    }

    pub(super) fn lift_quarantine(&mut self, key: QuarantineKey) -> Result<(), BpfError> {
        gone(self.quarantine.remove(&Pod(key))).map_err(failed("write", maps::QUARANTINE))
    }

    /// The entries of sandboxed ports, and of the inner ends of their passages.
    pub(super) fn passages(&self) -> Result<BTreeMap<u32, Passage>, BpfError> {
        let all = entries(self.sandbox.iter(), maps::MAX_PASSAGES, maps::SANDBOX)?;
        Ok(all.into_iter().map(|(ifindex, Pod(passage))| (ifindex, passage)).collect())
    }

    pub(super) fn passage(&self, ifindex: u32) -> Result<Option<Passage>, BpfError> {
        match self.sandbox.get(&ifindex, 0) {
            Ok(Pod(passage)) => Ok(Some(passage)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed("read", maps::SANDBOX)(error)),
        }
    }

    pub(super) fn put_passage(&mut self, ifindex: u32, passage: Passage) -> Result<(), BpfError> {
        self.sandbox.insert(ifindex, Pod(passage), 0).map_err(failed("write", maps::SANDBOX))
    }

    /// What ports in the sandbox may reach there.
    pub(super) fn services(&self) -> Result<BTreeSet<Service>, BpfError> {
        let all = entries(self.services.iter(), maps::MAX_SERVICES, maps::SERVICES)?;
        Ok(all.into_iter().map(|(Pod(service), _)| service).collect())
    }

    pub(super) fn put_service(&mut self, service: Service) -> Result<(), BpfError> {
        self.services.insert(Pod(service), 1, 0).map_err(failed("write", maps::SERVICES))
    }

    pub(super) fn drop_service(&mut self, service: Service) -> Result<(), BpfError> {
        gone(self.services.remove(&Pod(service))).map_err(failed("write", maps::SERVICES))
    }

    pub(super) fn drop_passage(&mut self, ifindex: u32) -> Result<(), BpfError> {
        gone(self.sandbox.remove(&ifindex)).map_err(failed("write", maps::SANDBOX))
    }
}

fn trie_key((key, address_bits): Prefix) -> Key<Pod<PrefixKey>> {
    Key::new(PrefixKey::SCOPE_BITS + u32::from(address_bits), Pod(key))
}

/// Every entry of a map. Another process may change it meanwhile: what is gone by then is left out.
/// A walk starts anew when the entry that it stands on is removed, so it has a bound; an entry may
/// come twice.
pub(super) fn entries<K, V>(
    walk: impl Iterator<Item = Result<(K, V), MapError>>,
    most: u32,
    name: &'static str,
) -> Result<Vec<(K, V)>, BpfError> {
    walk.take(2 * most as usize).collect::<Result<_, _>>().map_err(failed("read", name))
}

fn present<T>(result: Result<T, MapError>) -> Result<bool, BpfError> {
    match result {
        Ok(_) => Ok(true),
        Err(MapError::KeyNotFound) => Ok(false),
        Err(error) => Err(failed("read", maps::PORT_OVERFLOW)(error)),
    }
}

/// Removing what is not there is done already.
pub(super) fn gone(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(libc::ENOENT) =>
        {
            Ok(())
        }
        result => result,
    }
}

pub(super) fn failed(verb: &str, name: &str) -> impl FnOnce(MapError) -> BpfError {
    BpfError::failed(format!("{verb} the map {name}"))
}
