//! Forwarding entries of granted MACs.

use std::collections::{BTreeMap, BTreeSet};

use detector_common::addr::Mac;
use detector_core::model::ObservedInterface;

use super::KernelEnforcer;
use crate::{bpf::BpfError, net::ForwardingEntry};

/// A bridge that does not filter VLANs forwards by MAC alone, and keeps its entries without a VLAN.
const NO_VLAN: u16 = 0;

impl KernelEnforcer {
    pub(super) fn pin_forwarding(
        &mut self,
        ifindex: u32,
        mac: Mac,
        vlan: u16,
    ) -> Result<(), BpfError> {
        match self.forwarding.put(ForwardingEntry { ifindex, mac, vlan }) {
            // The bridge does not know the VLAN.
            Err(error) if vlan != NO_VLAN && error.errno() == Some(libc::EINVAL) => {
                self.forwarding.put(ForwardingEntry { ifindex, mac, vlan: NO_VLAN })?;
            }
            result => result?,
        }
        if let Some(interface) = self.mirror.interfaces.get_mut(&ifindex) {
            interface.forwarding.insert((mac, vlan));
        }
        Ok(())
    }

    pub(super) fn unpin_forwarding(
        &mut self,
        ifindex: u32,
        mac: Mac,
        vlan: u16,
    ) -> Result<(), BpfError> {
        let mut others = Vec::new();
        if let Some(interface) = self.mirror.interfaces.get_mut(&ifindex) {
            interface.forwarding.remove(&(mac, vlan));
            others.extend(interface.forwarding.iter().filter(|(m, _)| *m == mac).copied());
        }
        self.forwarding.remove(ForwardingEntry { ifindex, mac, vlan })?;
        if others.is_empty() && vlan != NO_VLAN {
            self.forwarding.remove(ForwardingEntry { ifindex, mac, vlan: NO_VLAN })?;
        }
        // Without VLAN filtering it was their entry too.
        others.into_iter().try_for_each(|(mac, vlan)| self.pin_forwarding(ifindex, mac, vlan))
    }

    /// Finds the entries of the interfaces that are ours, or of some of them.
    pub(super) fn read_forwarding(&mut self, only: Option<&BTreeSet<u32>>) -> Result<(), BpfError> {
        let mut found = self.find_forwarding()?;
        for (ifindex, interface) in &mut self.mirror.interfaces {
            if only.is_none_or(|only| only.contains(ifindex)) {
                interface.forwarding = found.remove(ifindex).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// The entries that there are, by interface. One without a VLAN stands for the VLANs on which
    /// its MAC is granted, where it is granted on none without.
    pub(super) fn find_forwarding(
        &mut self,
    ) -> Result<BTreeMap<u32, BTreeSet<(Mac, u16)>>, BpfError> {
        let mut found: BTreeMap<u32, BTreeSet<(Mac, u16)>> = BTreeMap::new();
        for entry in self.forwarding.list()? {
            let Some(interface) = self.mirror.interfaces.get(&entry.ifindex) else { continue };
            let vlans = vlans_of(interface, entry.mac);
            let entries = found.entry(entry.ifindex).or_default();
            if entry.vlan != NO_VLAN || vlans.is_empty() || vlans.contains(&NO_VLAN) {
                entries.insert((entry.mac, entry.vlan));
            } else {
                entries.extend(vlans.into_iter().map(|vlan| (entry.mac, vlan)));
            }
        }
        Ok(found)
    }
}

fn vlans_of(interface: &ObservedInterface, mac: Mac) -> BTreeSet<u16> {
    let slot = &interface.slot;
    let inline = (slot.mac == mac).then_some(slot.vlan);
    let granted = interface.grants.keys().filter(|key| key.mac == mac).map(|key| key.vlan);
    inline.into_iter().chain(granted).collect()
}
