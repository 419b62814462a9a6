//! Since when ports and VMs have had the status they have.

use std::collections::BTreeMap;

use detector_core::{
    decide::{Decision, PortStatus, VmStatus},
    model::{Observed, Timestamp},
};
use uuid::Uuid;

#[derive(Debug, Default)]
pub(super) struct Since {
    ports: BTreeMap<(u32, u32), (PortStatus, Timestamp)>,
    vms: BTreeMap<Uuid, (VmStatus, Timestamp)>,
}

impl Since {
    pub(super) fn update(&mut self, now: Timestamp, decision: &Decision, observed: &Observed) {
        let ports = decision.ports.iter().filter_map(|(ifindex, port)| {
            let instance = observed.interfaces.get(ifindex)?.slot.instance;
            Some(((*ifindex, instance), port.status))
        });
        carry_over(&mut self.ports, ports, now);
        carry_over(&mut self.vms, decision.vms.iter().map(|(uuid, vm)| (*uuid, vm.status)), now);
    }

    pub(super) fn port(&self, ifindex: u32, instance: u32) -> Option<Timestamp> {
        self.ports.get(&(ifindex, instance)).map(|(_, since)| *since)
    }

    pub(super) fn vm(&self, uuid: Uuid) -> Option<Timestamp> {
        self.vms.get(&uuid).map(|(_, since)| *since)
    }
}

fn carry_over<Key: Ord, Status: PartialEq>(
    known: &mut BTreeMap<Key, (Status, Timestamp)>,
    current: impl Iterator<Item = (Key, Status)>,
    now: Timestamp,
) {
    let mut next = BTreeMap::new();
    for (key, status) in current {
        let since = match known.get(&key) {
            Some((before, since)) if *before == status => *since,
            _ => now,
        };
        next.insert(key, (status, since));
    }
    *known = next;
}
