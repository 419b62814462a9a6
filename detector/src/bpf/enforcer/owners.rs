//! Who has a MAC beyond the host, and who an address.

use detector_common::{
    addr::Mac,
    learned::OwnerKey,
    port::{MacOwner, PortSlot, Role, flags},
};
use detector_core::reconcile::{ProtectedEntry, SeedEntry};

use super::KernelEnforcer;
use crate::{bpf::BpfError, net::native_vlan};

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

    /// Notes in the slot of each uplink what untagged frames from it are taken for: who has a MAC on that
    /// VLAN only is defended against them too. What cannot be read stays as it was.
    pub(super) fn renew_native_vlans(&mut self) -> Result<(), BpfError> {
        let slots = self.mirror.interfaces.values().map(|held| held.slot);
        let uplinks: Vec<_> = slots.filter(|slot| slot.role() == Role::Uplink).collect();
        for slot in uplinks {
            match native_vlan(slot.ifindex) {
                Ok(vlan) if vlan != slot.vlan => {
                    let slot = PortSlot { vlan, ..slot };
                    self.maps.write_slot(slot)?;
                    self.instance(slot.ifindex, slot.instance)?.slot = slot;
                }
                Ok(_) => (),
                Err(error) => tracing::warn!(%error, "uplinks: a VLAN cannot be read"),
            }
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

    /// What a port has learned in the sandbox is over when it leaves, so that it has all its places again.
    pub(super) fn leave_sandbox(&mut self, old: &PortSlot, new: &PortSlot) -> Result<(), BpfError> {
        let learns_there = |slot: &PortSlot| {
            (slot.is_sandboxed() && slot.has(flags::LEARNS)).then_some(slot.scope())
        };
        match learns_there(old) {
            Some(scope) if learns_there(new) != Some(scope) => self.maps.clear_scope(new.id, scope),
            _ => Ok(()),
        }
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
