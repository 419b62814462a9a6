//! What the maps hold. Only this process writes to them while it lives, but for what the kernel
//! programs count.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::{
    port::{MacOwner, PortSlot},
    sandbox::Passage,
    settings::Settings,
};
use detector_core::model::{self, ModeRecord, QuarantineTarget};

use super::super::KernelEnforcer;
use crate::{bpf::BpfError, enforcer::Tampered};

/// Entries that differ, by the port that they are for, if it has any in force: how many, and whether they are put back.
type Differences = BTreeMap<Option<(u32, u32)>, (u32, Result<(), BpfError>)>;

impl KernelEnforcer {
    /// A mode that has ended by itself is no change: its end is part of what was written.
    pub(super) fn verify_settings(&mut self) -> Result<(), BpfError> {
        let found = self.maps.settings()?;
        if found != self.settings {
            let put_back = self.maps.write_settings(self.settings);
            let Settings { mode, hz, next_instance, .. } = found;
            let told = ModeRecord::read(&found);
            let found = format!("mode {mode}, hz {hz}, next instance {next_instance}: {told:?}");
            self.watch.found(None, Tampered::Settings, found, put_back);
        }
        Ok(())
    }

    /// Each interface in force has its slot, in its place, and no other interface has one.
    pub(super) fn verify_slots(&mut self) -> Result<(), BpfError> {
        let mut present = BTreeSet::new();
        let mut foreign = BTreeMap::new();
        for (place, slot) in self.maps.slot_places()? {
            let held = self.mirror.interfaces.get(&slot.ifindex).map(|held| held.slot);
            if held == Some(slot) && place.is_for(slot.ifindex) && present.insert(slot.ifindex) {
                continue;
            }
            self.maps.vacate(place)?;
            foreign.insert(slot.ifindex, slot);
        }
        let slots: Vec<_> = self.mirror.interfaces.values().map(|held| held.slot).collect();
        for slot in slots {
            let changed = foreign.remove(&slot.ifindex);
            if changed.is_none() && present.contains(&slot.ifindex) {
                continue;
            }
            let put_back = self.maps.write_slot(slot);
            let found = changed.map_or_else(|| "it was removed".to_owned(), |slot| told(&slot));
            self.watch.found(Some((slot.ifindex, slot.instance)), Tampered::Slot, found, put_back);
        }
        for slot in foreign.into_values() {
            let found = format!("one for interface {}: {}", slot.ifindex, told(&slot));
            self.watch.found(None, Tampered::Slot, found, Ok(()));
        }
        Ok(())
    }

    /// Addresses that no port may learn; what ports have learned is the kernel programs' to write.
    /// Owners that nothing stands for are cleared away.
    pub(super) fn verify_protected(&mut self) -> Result<(), BpfError> {
        let living = self.mirror.interfaces.values().map(|held| held.slot.instance).collect();
        let nobodys = self.maps.sweep_owners(&living, self.clock)?;
        self.mirror.routers = nobodys.routers;
        let found = nobodys.protected;
        let (foreign, missing) = differing(&found, &self.mirror.protected);
        let count = missing.len() + foreign.len();
        let dropped = foreign.into_iter().try_for_each(|key| self.maps.disown(key));
        let put_back = dropped.and(missing.into_iter().try_for_each(|key| self.maps.protect(key)));
        if count > 0 {
            let found = format!("{count} protected addresses were added or removed");
            self.watch.found(None, Tampered::Grants, found, put_back);
        }
        Ok(())
    }

    pub(super) fn verify_grants(&mut self) -> Result<(), BpfError> {
        let held = || self.mirror.interfaces.values();
        let wanted = held().flat_map(|held| held.grants.clone()).collect();
        let mut differences = Differences::new();
        for (key, grant) in different(&self.maps.grants()?, &wanted) {
            let put_back = match grant {
                Some(grant) => self.maps.put_grants(&[(key, grant)]),
                None => self.maps.drop_grant(key),
            };
            count(&mut differences, self.port((key.ifindex, key.instance)), put_back);
        }
        let held = || self.mirror.interfaces.values();
        let wanted = held().flat_map(|held| held.prefixes.clone()).collect();
        for (prefix, grant) in different(&self.maps.prefixes()?, &wanted) {
            let (key, _) = prefix;
            let place = [key.ifindex, key.instance].map(u32::from_ne_bytes);
            let put_back = match grant {
                Some(grant) => self.maps.put_prefix(prefix, grant),
                None => self.maps.drop_prefix(prefix),
            };
            count(&mut differences, self.port(place.into()), put_back);
        }
        for (port, (count, put_back)) in differences {
            let found = format!("{count} entries were added, changed or removed");
            self.watch.found(port, Tampered::Grants, found, put_back);
        }
        Ok(())
    }

    pub(super) fn verify_mac_owners(&mut self) -> Result<(), BpfError> {
        let mut wanted = BTreeMap::new();
        for (ifindex, held) in &self.mirror.interfaces {
            let owner = MacOwner { ifindex: *ifindex, instance: held.slot.instance };
            wanted.extend(held.defended.iter().map(|station| (*station, owner)));
        }
        for (station, owner) in different(&self.maps.mac_owners()?, &wanted) {
            let port = owner.map(|owner| (owner.ifindex, owner.instance));
            let put_back = match owner {
                Some(owner) => self.maps.put_mac_owner(station, owner),
                None => self.maps.drop_mac_owner(station),
            };
            let (mac, vlan) = station;
            let found = format!("the owner of {mac} on VLAN {vlan} was added, changed or removed");
            self.watch.found(port, Tampered::MacOwners, found, put_back);
        }
        Ok(())
    }

    /// Each open passage has its two entries, and no other interface has one.
    pub(super) fn verify_passages(&mut self) -> Result<(), BpfError> {
        let mut wanted = BTreeMap::new();
        for (ifindex, held) in &self.mirror.interfaces {
            let Some(model::Passage { inner, .. }) = held.passage else { continue };
            let instance = held.slot.instance;
            wanted.insert(*ifindex, Passage { peer: inner, instance });
            wanted.insert(inner, Passage { peer: *ifindex, instance });
        }
        for (ifindex, passage) in different(&self.maps.passages()?, &wanted) {
            let put_back = match passage {
                Some(passage) => self.maps.put_passage(ifindex, passage),
                None => self.maps.drop_passage(ifindex),
            };
            // The port's own entry, or that of the inner end of its passage.
            let port = [Some(ifindex), passage.map(|passage| passage.peer)].into_iter().flatten();
            let held = port.filter_map(|port| self.mirror.interfaces.get(&port)).next();
            let port = held.map(|held| (held.slot.ifindex, held.slot.instance));
            let found = format!("the way of interface {ifindex} was added, changed or removed");
            self.watch.found(port, Tampered::Passages, found, put_back);
        }
        Ok(())
    }

    /// What may be reached in the sandbox is what was put there.
    pub(super) fn verify_services(&mut self) -> Result<(), BpfError> {
        let found = self.maps.services()?;
        let (foreign, missing) = differing(&found, &self.mirror.services);
        let count = missing.len() + foreign.len();
        let dropped = foreign.into_iter().try_for_each(|one| self.maps.drop_service(one));
        let put_back =
            dropped.and(missing.into_iter().try_for_each(|one| self.maps.put_service(one)));
        if count > 0 {
            let found = format!("{count} services of the sandbox were added or removed");
            self.watch.found(None, Tampered::Passages, found, put_back);
        }
        Ok(())
    }

    pub(super) fn verify_quarantines(&mut self) -> Result<(), BpfError> {
        let quarantines = self.mirror.quarantines.values();
        let wanted = quarantines.map(|one| (one.target.into(), one.record())).collect();
        for (key, record) in different(&self.maps.quarantines()?, &wanted) {
            let put_back = match record {
                Some(record) => self.maps.put_quarantine(key, record),
                // One that this version cannot read was left as it was.
                None if QuarantineTarget::try_from(key).is_err() => continue,
                None => self.maps.lift_quarantine(key),
            };
            let what = QuarantineTarget::try_from(key);
            let what = what.map_or_else(|_| "one".to_owned(), |target| format!("{target:?}"));
            let found = format!("the record of {what} was added, changed or removed");
            self.watch.found(None, Tampered::Quarantines, found, put_back);
        }
        Ok(())
    }

    /// The port, if this instance is in force.
    fn port(&self, (ifindex, instance): (u32, u32)) -> Option<(u32, u32)> {
        let held = self.mirror.interfaces.get(&ifindex)?;
        (held.slot.instance == instance).then_some((ifindex, instance))
    }
}

fn count(differences: &mut Differences, port: Option<(u32, u32)>, put_back: Result<(), BpfError>) {
    let (count, known) = differences.entry(port).or_insert((0, Ok(())));
    *count += 1;
    if known.is_ok() {
        *known = put_back;
    }
}

/// What is in the first set only, and what in the second. The former goes first: somebody may have filled the map.
fn differing<K: Ord + Copy>(found: &BTreeSet<K>, wanted: &BTreeSet<K>) -> (Vec<K>, Vec<K>) {
    (found.difference(wanted).copied().collect(), wanted.difference(found).copied().collect())
}

/// The keys on which two maps differ, with what the second has; what it lacks comes first.
fn different<K: Ord + Copy, V: PartialEq + Copy>(
    found: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>)> {
    let surplus = found.keys().filter(|key| !wanted.contains_key(key)).map(|key| (*key, None));
    let lacking = wanted.iter().filter(|(key, value)| found.get(key) != Some(value));
    surplus.chain(lacking.map(|(key, value)| (*key, Some(*value)))).collect()
}

fn told(slot: &PortSlot) -> String {
    let PortSlot { instance, flags, mac, vlan, .. } = slot;
    let role = slot.role();
    format!("{role:?} instance {instance}, flags {flags:#x}, MAC {mac}, VLAN {vlan}")
}
