//! Who has a MAC beyond the host, and who an address.

use detector_common::{addr::Mac, learned::OwnerKey, port::MacOwner};
use detector_core::reconcile::{ProtectedEntry, SeedEntry};

use super::KernelEnforcer;
use crate::bpf::BpfError;

impl KernelEnforcer {
    pub(super) fn defend_mac(
        &mut self,
        ifindex: u32,
        instance: u32,
        station: (Mac, u16),
    ) -> Result<(), BpfError> {
        self.instance(ifindex, instance)?;
        self.maps.put_mac_owner(station, MacOwner { ifindex, instance })?;
        self.instance(ifindex, instance)?.defended.insert(station);
        Ok(())
    }

    /// The MAC may be another port's by now.
    pub(super) fn yield_mac(
        &mut self,
        ifindex: u32,
        instance: u32,
        station: (Mac, u16),
    ) -> Result<(), BpfError> {
        if self.maps.mac_owner(station)? == Some(MacOwner { ifindex, instance }) {
            self.maps.drop_mac_owner(station)?;
        }
        if let Some(interface) = self.mirror.interfaces.get_mut(&ifindex)
            && interface.slot.instance == instance
        {
            interface.defended.remove(&station);
        }
        Ok(())
    }

    pub(super) fn teach(
        &mut self,
        ifindex: u32,
        instance: u32,
        seeds: &[SeedEntry],
    ) -> Result<(), BpfError> {
        let slot = self.instance(ifindex, instance)?.slot;
        seeds.iter().try_for_each(|seed| self.maps.teach(&slot, seed, self.clock))
    }

    pub(super) fn protect(&mut self, entries: &[ProtectedEntry]) -> Result<(), BpfError> {
        for key in entries.iter().copied().map(OwnerKey::from) {
            self.maps.protect(key)?;
            self.mirror.protected.insert(key);
        }
        Ok(())
    }

    pub(super) fn unprotect(&mut self, entries: &[ProtectedEntry]) -> Result<(), BpfError> {
        for key in entries.iter().copied().map(OwnerKey::from) {
            self.maps.disown(key)?;
            self.mirror.protected.remove(&key);
        }
        Ok(())
    }
}
