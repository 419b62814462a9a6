//! Quarantines from before the maps were made: put in force again before anything is granted, and written
//! down whenever they change.

use detector_core::{
    model::{Finding, FindingKey, FindingKind, QuarantineTarget, Severity, Subject, Timestamp},
    reconcile::Action,
};

use super::{brain::Brain, input::Effect};
use crate::{
    enforcer::Enforcer,
    quarantines::{Kept, Recalled},
};

#[derive(Debug, Default)]
pub(super) struct Recall {
    /// Not in force yet: of ports without a guard, or refused by the kernel.
    waiting: Vec<Kept>,
    /// Those that have ended with their port, and when that was found.
    ended: Vec<(Timestamp, Kept)>,
    /// Why what was in force is not known.
    lost: Option<String>,
    /// What is written down.
    written: Option<Vec<Kept>>,
}

impl Recall {
    /// What people must know of quarantines that did not outlive their port.
    pub(super) fn findings(&self) -> impl Iterator<Item = Finding> {
        self.ended.iter().map(|(since, kept)| {
            let port = kept.port.as_deref().unwrap_or("a port");
            Finding {
                key: FindingKey {
                    kind: FindingKind::QuarantineEnded,
                    subject: Subject::Place(port.to_owned()),
                },
                severity: Severity::Medium,
                title: format!(
                    "A quarantine was on the port {port} of before, and has ended with it. One that is to \
                     last is put on the VM or its MAC."
                ),
                evidence: vec![
                    ("port".to_owned(), port.to_owned()),
                    ("why".to_owned(), kept.quarantine.note.clone()),
                ],
                next: Some("detector vm list".to_owned()),
                since: *since,
            }
        })
    }
}

impl<E: Enforcer> Brain<E> {
    /// Takes in what was in force before. Said again, it says whether a person has seen to what was lost.
    pub(super) fn recall(&mut self, recalled: Recalled) {
        let now = self.world.now;
        self.recall.lost = recalled.lost;
        self.recall.ended.extend(recalled.ended.into_iter().map(|kept| (now, kept)));
        for kept in recalled.quarantines {
            let lives = |ifindex| {
                let link = self.world.links.get(&ifindex);
                link.is_some_and(|link| Some(&link.name) == kept.port.as_ref())
            };
            match kept.quarantine.target {
                QuarantineTarget::Port { ifindex, .. } if !lives(ifindex) => {
                    self.recall.ended.push((now, kept));
                }
                _ => self.recall.waiting.push(kept),
            }
        }
        self.reimpose();
    }

    /// Puts in force what is not yet. Nothing new is admitted while the kernel refuses one.
    pub(super) fn reimpose(&mut self) {
        let mut refused = None;
        for mut kept in std::mem::take(&mut self.recall.waiting) {
            if let QuarantineTarget::Port { ifindex, instance } = &mut kept.quarantine.target {
                let Some(held) = self.world.observed.interfaces.get(ifindex) else {
                    // Its guard comes first, and until then nothing is granted to it.
                    self.recall.waiting.push(kept);
                    continue;
                };
                *instance = held.slot.instance;
            }
            let action = Action::PutQuarantine(kept.quarantine.clone());
            let (executor, enforcer) = (&mut self.executor, &mut self.enforcer);
            match executor.carry_out_now(enforcer, action, self.world.now) {
                Ok(()) => {
                    let quarantine = kept.quarantine;
                    self.world.observed.quarantines.insert(quarantine.target, quarantine);
                }
                Err(error) => {
                    refused =
                        Some(format!("a quarantine of before cannot be put in force: {error}"));
                    self.recall.waiting.push(kept);
                }
            }
        }
        self.world.quarantines_lost = refused.or_else(|| self.recall.lost.clone());
    }

    /// Has written down what is quarantined, when it is something else than before.
    pub(super) fn keep_quarantines(&mut self) {
        let in_force = self.world.observed.quarantines.values().map(|quarantine| Kept {
            quarantine: quarantine.clone(),
            port: self.port_of(&quarantine.target),
        });
        let kept: Vec<_> = in_force.chain(self.recall.waiting.iter().cloned()).collect();
        if self.recall.written.as_ref() != Some(&kept) {
            self.recall.written = Some(kept.clone());
            self.emit(Effect::KeepQuarantines(kept));
        }
    }

    /// The name of the interface that a quarantine is on. One that is gone keeps the name that it had.
    fn port_of(&self, target: &QuarantineTarget) -> Option<String> {
        let QuarantineTarget::Port { ifindex, instance } = target else { return None };
        let held = self.world.observed.interfaces.get(ifindex);
        let lives = held.is_some_and(|held| held.slot.instance == *instance);
        match self.world.links.get(ifindex) {
            Some(link) if lives => Some(link.name.clone()),
            _ => {
                let before = self.recall.written.iter().flatten();
                before
                    .filter(|kept| kept.quarantine.target == *target)
                    .find_map(|kept| kept.port.clone())
            }
        }
    }
}
