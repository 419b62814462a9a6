//! What is looked at now and then: what is in force, and the processes of the host.

use super::brain::Brain;
use crate::{
    enforcer::{EnforceError, Enforcer, Recheck},
    processes::Scanned,
};

impl<E: Enforcer> Brain<E> {
    /// It has been looked whether what is in force is still in force. True when there is something to
    /// decide on or to tell.
    pub(super) fn looked_around(&mut self, rechecked: Result<Recheck, EnforceError>) -> bool {
        let now = self.world.now;
        match rechecked {
            Ok(Recheck { changed, tampering, refused }) => {
                let told = !tampering.is_empty() || refused.count > 0;
                self.executor.observed();
                self.tampered.note(now, tampering);
                if let Some(entry) = self.refused.note(now, refused) {
                    self.record(entry);
                }
                if changed {
                    self.observe();
                }
                changed || told
            }
            Err(error) => {
                self.executor.unobserved(now, &error);
                true
            }
        }
    }

    /// A scan that has failed says nothing: what an earlier one found stays.
    pub(super) fn scanned(&mut self, scanned: Scanned) {
        let processes = &mut self.world.processes;
        match scanned {
            Ok(found) => {
                (processes.scanned, processes.lost, processes.found) = (true, None, found);
            }
            Err(why) => {
                let since = processes.lost.take().map_or(self.world.now, |(since, _)| since);
                processes.lost = Some((since, why));
            }
        }
    }
}
