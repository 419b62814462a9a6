//! Guests that spoke before their ports were guarded here: those that ran before the daemon was first
//! started, and those that come from another host.

use std::collections::BTreeMap;

use detector_core::model::{Neighbour, PowerState, Vm};

use super::{brain::Brain, input::Effect};
use crate::enforcer::Enforcer;

/// What is known of them when the daemon starts.
#[derive(Clone, Debug)]
pub struct Known {
    /// The instances of ports that were adopted before, by ifindex; `None` at the first start.
    pub ports: Option<BTreeMap<u32, u32>>,
    pub neighbours: Vec<Neighbour>,
}

impl<E: Enforcer> Brain<E> {
    /// At the first start, and where nothing of ours is in force, every interface is adopted; later on those
    /// that were and still live.
    pub(super) fn adopt(&mut self, known: Known) {
        let interfaces = &self.world.observed.interfaces;
        let adopted = &mut self.world.adoption;
        match known.ports {
            None if interfaces.is_empty() => {
                adopted.ports = self.world.links.keys().copied().collect();
                adopted.neighbours = known.neighbours;
                adopted.since = self.world.now;
            }
            None => {}
            Some(ports) => {
                let lives = |ifindex: &u32, instance: u32| {
                    interfaces.get(ifindex).is_some_and(|held| held.slot.instance == instance)
                };
                let living = ports.into_iter().filter(|(ifindex, number)| lives(ifindex, *number));
                adopted.ports = living.map(|(ifindex, _)| ifindex).collect();
            }
        }
    }

    /// Has written down which ports are adopted.
    pub(super) fn keep_adopted(&mut self) {
        let adopted = &self.world.adoption.ports;
        let guests = self.world.observed.interfaces.iter();
        let guests = guests.filter(|(_, held)| held.slot.role().is_guest());
        let ports = guests
            .filter(|(ifindex, _)| adopted.contains(ifindex))
            .map(|(ifindex, held)| (*ifindex, held.slot.instance))
            .collect();
        self.emit(Effect::KeepAdopted(ports));
    }

    /// Takes what is said of a VM that is starting for what it is.
    pub(super) fn note_arrival(&mut self, vm: &mut Vm) {
        let now = self.world.now;
        if self.admissions.arrival(vm, now) {
            self.world.adoption.arrivals.insert(vm.uuid, now);
        }
    }

    /// Keeps track of VMs that come from another host.
    pub(super) fn follow_arrivals(&mut self) {
        let sources = &self.world.sources;
        let now = self.world.now;
        self.world.adoption.keep_up(now, |uuid| {
            let mut said = sources.values().filter_map(|source| source.vms.get(&uuid));
            said.any(|vm| vm.power == PowerState::InTransit)
        });
    }
}
