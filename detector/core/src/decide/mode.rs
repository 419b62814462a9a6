//! Which mode the host should be in, and what follows for quarantines.

use std::collections::BTreeMap;

use detector_common::settings::{Cause, Mode};

use super::DAEMON;
use crate::model::{Deed, ModeRecord, Quarantine, QuarantineTarget, World};

impl World {
    /// The mode that holds, or is about to.
    pub fn mode(&self) -> Mode {
        match (&self.asked, &self.observed.mode) {
            (Some(asked), _) => asked.mode,
            (None, Some(observed)) => observed.effective(),
            (None, None) => self.policy.mode,
        }
    }

    /// Whether enforcing is provisional.
    pub fn is_on_trial(&self) -> bool {
        match (&self.asked, &self.observed.mode) {
            (Some(asked), _) => asked.mode == Mode::Enforce && asked.until.is_some(),
            (None, Some(observed)) => {
                observed.effective() == Mode::Enforce && observed.is_provisional()
            }
            (None, None) => false,
        }
    }

    /// Whether denials are findings only.
    pub fn is_under_maintenance(&self) -> bool {
        match &self.asked {
            Some(asked) => asked.maintenance.is_some(),
            None => self.observed.mode.as_ref().is_some_and(|mode| mode.maintenance.is_some()),
        }
    }
}

/// What should be pinned. A provisional mode that is over has become the other one by itself: that is written
/// down, so that it stays known without a clock.
pub(super) fn wanted(world: &World) -> ModeRecord {
    if let Some(asked) = &world.asked {
        return asked.clone();
    }
    let Some(observed) = &world.observed.mode else {
        let deed = Deed::new(world.now, DAEMON, Cause::Configured, "");
        return ModeRecord::confirmed(world.policy.mode, deed);
    };
    let mut record = observed.record.clone();
    if observed.maintenance.is_none() {
        record.maintenance = None;
    }
    if observed.lapsed {
        record.mode = observed.effective();
        record.until = None;
        let since = observed.until.unwrap_or(record.deed.since);
        record.deed = Deed { cause: Cause::Lapsed, since, ..record.deed };
    }
    record
}

/// What becomes of quarantines that were imposed while enforcing was provisional: confirmed with it, or lifted
/// with it. A person's are none of them.
pub(super) fn settle(quarantines: &mut BTreeMap<QuarantineTarget, Quarantine>, world: &World) {
    match world.mode() {
        Mode::Enforce if world.is_on_trial() => {}
        Mode::Enforce => quarantines.values_mut().for_each(|one| one.provisional = false),
        Mode::Observe => quarantines.retain(|_, one| !one.provisional),
    }
}
