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

    /// Finds the entries of the interfaces that are ours, or of some of them. What is not an entry's own is
    /// not told apart: an entry without a VLAN stands for every VLAN on which its MAC is granted, since
    /// it is what a bridge that filters none has for them, and since the kernel puts it on all VLANs of
    /// the port besides.
    pub(super) fn read_forwarding(&mut self, only: Option<&BTreeSet<u32>>) -> Result<(), BpfError> {
        let wanted = |ifindex: u32| only.is_none_or(|only| only.contains(&ifindex));
        let mut entries: BTreeMap<(u32, Mac), BTreeSet<u16>> = BTreeMap::new();
        for entry in self.forwarding.list()?.into_iter().filter(|entry| wanted(entry.ifindex)) {
            entries.entry((entry.ifindex, entry.mac)).or_default().insert(entry.vlan);
        }
        let interfaces = self.mirror.interfaces.iter_mut().filter(|(ifindex, _)| wanted(**ifindex));
        interfaces.for_each(|(_, interface)| interface.forwarding.clear());
        for ((ifindex, mac), mut vlans) in entries {
            let Some(interface) = self.mirror.interfaces.get_mut(&ifindex) else { continue };
            if vlans.contains(&NO_VLAN) {
                vlans = vlans_of(interface, mac);
                if vlans.is_empty() {
                    vlans.insert(NO_VLAN);
                }
            }
            interface.forwarding.extend(vlans.into_iter().map(|vlan| (mac, vlan)));
        }
        Ok(())
    }

    /// Puts the entries of these interfaces anew: a port may have become a member of a VLAN, on which its
    /// MACs could be taken away.
    pub(super) fn renew_forwarding(&mut self, changed: &BTreeSet<u32>) -> Result<(), BpfError> {
        for ifindex in changed {
            let Some(interface) = self.mirror.interfaces.get(ifindex) else { continue };
            for (mac, vlan) in interface.forwarding.clone() {
                match self.pin_forwarding(*ifindex, mac, vlan) {
                    // It has left its bridge meanwhile, which is the next change to be looked at.
                    Err(BpfError::Net(error))
                        if matches!(error.errno(), Some(libc::ENODEV | libc::EINVAL)) => {}
                    result => result?,
                }
            }
        }
        Ok(())
    }
}

fn vlans_of(interface: &ObservedInterface, mac: Mac) -> BTreeSet<u16> {
    let slot = &interface.slot;
    let inline = (slot.mac == mac).then_some(slot.vlan);
    let granted = interface.grants.keys().filter(|key| key.mac == mac).map(|key| key.vlan);
    inline.into_iter().chain(granted).collect()
}
