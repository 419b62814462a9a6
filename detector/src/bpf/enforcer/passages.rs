//! Passages between sandboxed ports and the sandbox, and what may be reached there.

use std::collections::BTreeSet;

use detector_common::{maps::programs, sandbox, services::Service};
use detector_core::{model::Passage, reconcile::ServiceEntry};

use super::KernelEnforcer;
use crate::{
    bpf::{BpfError, Hook, attach::Standing},
    net::{InnerEnd, inner_end, inner_ends, leads_to},
};

impl KernelEnforcer {
    /// Makes the bridge that passages lead to.
    pub(super) fn make_sandbox(&mut self, name: &str) -> Result<(), BpfError> {
        Ok(self.passages.make_bridge(name)?)
    }

    pub(super) fn offer_services(&mut self, entries: &[ServiceEntry]) -> Result<(), BpfError> {
        for service in entries.iter().copied().map(Service::from) {
            self.maps.put_service(service)?;
            self.mirror.services.insert(service);
        }
        Ok(())
    }

    pub(super) fn withdraw_services(&mut self, entries: &[ServiceEntry]) -> Result<(), BpfError> {
        for service in entries.iter().copied().map(Service::from) {
            self.maps.drop_service(service)?;
            self.mirror.services.remove(&service);
        }
        Ok(())
    }

    /// Opens the passage of a port. Its frames are dropped until the last step.
    pub(super) fn open_passage(
        &mut self,
        ifindex: u32,
        instance: u32,
        bridge: u32,
    ) -> Result<(), BpfError> {
        self.instance(ifindex, instance)?;
        self.close_passage(ifindex)?;
        let inner = self.passages.make(ifindex, bridge)?;
        if let Err(error) = self.connect(ifindex, instance, inner) {
            self.remove_passage(ifindex, inner)?;
            return Err(error);
        }
        self.instance(ifindex, instance)?.passage = Some(Passage { inner, bridge });
        Ok(())
    }

    fn connect(&mut self, ifindex: u32, instance: u32, inner: u32) -> Result<(), BpfError> {
        self.attach_passage(inner)?;
        self.maps.put_passage(inner, sandbox::Passage { peer: ifindex, instance })?;
        self.passages.bring_up(inner)?;
        self.maps.put_passage(ifindex, sandbox::Passage { peer: inner, instance })
    }

    pub(super) fn attach_passage(&mut self, inner: u32) -> Result<(), BpfError> {
        let program = programs::PASSAGE_INGRESS;
        self.method.attach(&mut self.programs, program, &self.pins, inner, Hook::Ingress)
    }

    /// Closes the passage of a port, if it has one.
    pub(super) fn close_passage(&mut self, ifindex: u32) -> Result<(), BpfError> {
        if let Some(passage) = self.maps.passage(ifindex)? {
            self.remove_passage(ifindex, passage.peer)?;
        }
        if let Some(held) = self.mirror.interfaces.get_mut(&ifindex) {
            held.passage = None;
        }
        Ok(())
    }

    /// Finds the passages that are whole, and removes what is left of others.
    pub(super) fn read_passages(&mut self) -> Result<(), BpfError> {
        let mut whole = BTreeSet::new();
        let ports: Vec<_> = self.mirror.interfaces.keys().copied().collect();
        for ifindex in ports {
            let passage = self.whole_passage(ifindex)?;
            if let Some(passage) = passage {
                whole.extend([ifindex, passage.inner]);
            }
            if let Some(held) = self.mirror.interfaces.get_mut(&ifindex) {
                held.passage = passage;
            }
        }
        for (ifindex, _) in self.maps.passages()? {
            if !whole.contains(&ifindex) {
                self.maps.drop_passage(ifindex)?;
            }
        }
        for inner in inner_ends()? {
            if !whole.contains(&inner) {
                self.passages.remove(inner)?;
            }
        }
        Ok(())
    }

    /// Closes the passages that somebody has damaged. Whether there were any.
    pub(super) fn recheck_passages(&mut self) -> Result<bool, BpfError> {
        let open = self.mirror.interfaces.iter().filter(|(_, held)| held.passage.is_some());
        let open: Vec<_> = open.map(|(ifindex, held)| (*ifindex, held.passage)).collect();
        let mut closed = false;
        for (ifindex, passage) in open {
            if self.whole_passage(ifindex)? != passage {
                self.close_passage(ifindex)?;
                closed = true;
            }
        }
        Ok(closed)
    }

    /// The passage of a port, if nothing of it is missing.
    fn whole_passage(&self, ifindex: u32) -> Result<Option<Passage>, BpfError> {
        let Some(held) = self.mirror.interfaces.get(&ifindex) else { return Ok(None) };
        let instance = held.slot.instance;
        let Some(there) = self.maps.passage(ifindex)? else { return Ok(None) };
        let inner = there.peer;
        let back = sandbox::Passage { peer: ifindex, instance };
        if there.instance != instance || self.maps.passage(inner)? != Some(back) {
            return Ok(None);
        }
        let Some(bridge) = leads_to(ifindex, inner)? else { return Ok(None) };
        let program = programs::PASSAGE_INGRESS;
        let alive = self.standing(inner, Hook::Ingress, program)? != Standing::Absent;
        Ok(alive.then_some(Passage { inner, bridge }))
    }

    /// The port's own entry goes first: from then on its frames are dropped.
    fn remove_passage(&mut self, ifindex: u32, inner: u32) -> Result<(), BpfError> {
        self.maps.drop_passage(ifindex)?;
        // The index may be somebody else's by now.
        if self.maps.passage(inner)?.is_some_and(|back| back.peer == ifindex) {
            self.maps.drop_passage(inner)?;
        }
        match inner_end(ifindex, inner)? {
            InnerEnd::Ours => self.passages.remove(inner)?,
            InnerEnd::Gone => {}
            // Renamed, if our program is on it still; else the index is somebody else's by now.
            InnerEnd::Other => {
                let program = programs::PASSAGE_INGRESS;
                let is_port = self.mirror.interfaces.contains_key(&inner);
                if is_port || self.standing(inner, Hook::Ingress, program)? == Standing::Absent {
                    return Ok(());
                }
                self.passages.remove(inner)?;
            }
        }
        self.method.detach(&self.pins, inner)
    }
}
