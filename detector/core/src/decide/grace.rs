//! The time that VMs have which are denied.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{VmDecision, VmStatus, approval, policy::Responses};
use crate::model::{Timestamp, Vm, World};

/// From when until when a VM that is denied keeps what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grace {
    pub since: Timestamp,
    pub until: Timestamp,
}

impl VmDecision {
    /// Whether it is denied, and keeps what is in force for now.
    pub fn is_spared(&self, now: Timestamp) -> bool {
        self.status == VmStatus::Denied && self.grace.is_some_and(|grace| now < grace.until)
    }
}

impl Grace {
    /// That of a VM that is denied: while a grant of it is in force, from its first denial on. A VM that is
    /// started anew has none.
    pub(super) fn of(vm: &Vm, responses: &Responses, world: &World) -> Option<Self> {
        let seconds = responses.grace.filter(|_| world.graces.lost.is_none())?;
        if !approval::is_in_force(vm, world) {
            return None;
        }
        // What lies ahead is no beginning.
        let begun = world.graces.begun.get(&vm.uuid).map(|at| (*at).min(world.now));
        let since = begun.unwrap_or(world.now);
        Some(Self { since, until: since + Duration::from_secs(seconds) })
    }
}
