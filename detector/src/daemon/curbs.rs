//! VMs that no inventory knows are kept from running on, where that is configured.

use std::collections::BTreeMap;

use detector_core::model::{Curb, Curbed, ProcessId};

use super::{brain::Brain, input::Effect, trail::entries::curbed};
use crate::enforcer::Enforcer;

impl<E: Enforcer> Brain<E> {
    /// Says which are to be kept from running on, where that has changed.
    pub(super) fn curb_processes(&mut self) {
        if self.curbing == self.decision.curb {
            return;
        }
        let wanted = self.decision.curb.clone();
        let before = std::mem::replace(&mut self.curbing, wanted.clone());
        let news: Vec<(ProcessId, Option<Curb>)> = wanted
            .iter()
            .filter(|(id, how)| before.get(*id) != Some(*how))
            .map(|(id, how)| (*id, Some(*how)))
            .chain(before.keys().filter(|id| !wanted.contains_key(id)).map(|id| (*id, None)))
            .collect();
        for (id, how) in news {
            // What has ended by itself is no news.
            if how.is_some() || self.world.processes.found.contains_key(&id) {
                let found = self.world.processes.found.get(&id);
                self.record(curbed(id, found, how, None));
            }
        }
        self.emit(Effect::Curb(wanted.into_iter().collect()));
    }

    /// What has become of them.
    pub(super) fn curbed(&mut self, told: BTreeMap<ProcessId, Curbed>) {
        for (id, state) in &told {
            if self.world.processes.curbed.get(id) != Some(state) {
                let found = self.world.processes.found.get(id);
                let how = self.curbing.get(id).copied();
                self.record(curbed(*id, found, how, Some(state)));
            }
        }
        self.world.processes.curbed = told;
    }
}
