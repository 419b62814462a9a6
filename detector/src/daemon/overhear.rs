//! Which ports are listened to, so that a finding about one can say what kind of system is behind it.

use detector_core::model::{Finding, FindingKey, FindingKind, Severity, Subject};

use super::{brain::Brain, input::Effect};
use crate::{
    enforcer::Enforcer,
    net::overhear::{PORTS, PortLife},
    part::Heard,
};

impl<E: Enforcer> Brain<E> {
    /// Has those listened to that belong to no VM, as long as nothing has been heard of them.
    pub(super) fn overhear(&mut self) {
        let world = &mut self.world;
        world.overheard.retain(|port, _| world.noticed.contains_key(port));
        let unheard = world.noticed.keys().filter(|(_, instance)| *instance != 0);
        let unheard = unheard.filter(|port| !world.overheard.contains_key(port));
        let ports: Vec<PortLife> = unheard.copied().take(PORTS).collect();
        if ports != self.overhearing {
            self.overhearing.clone_from(&ports);
            self.emit(Effect::Overhear(ports));
        }
    }

    /// Takes in what was heard. False where the port has gone, or belongs to a VM by now.
    pub(super) fn overheard(&mut self, heard: Heard) -> bool {
        match heard {
            Heard::Print(port, print) => {
                let wanted = self.world.noticed.contains_key(&port);
                if wanted {
                    self.world.overheard.insert(port, print);
                }
                wanted
            }
            Heard::Deaf(why) => {
                let before = self.deaf.take();
                let was = before.is_some();
                let since = before.map_or(self.world.now, |(since, _)| since);
                self.deaf = why.map(|why| (since, why));
                was || self.deaf.is_some()
            }
        }
    }

    /// That nobody listens.
    pub(super) fn deaf_findings(&self) -> Option<Finding> {
        let (since, why) = self.deaf.clone()?;
        let subject = Subject::Source("what ports ask for".to_owned());
        Some(Finding {
            key: FindingKey { kind: FindingKind::SourceLost, subject },
            severity: Severity::Medium,
            title:
                "Nobody listens to what ports without a VM ask for, which would tell what they are."
                    .to_owned(),
            evidence: vec![("why".to_owned(), why)],
            next: Some("detector status".to_owned()),
            since,
        })
    }
}
