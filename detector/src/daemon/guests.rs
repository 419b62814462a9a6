//! What agents inside of guests say. It lasts as long as they say it, and as their VM runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_core::model::{GuestClaims, PowerState, Timestamp, World};
use uuid::Uuid;

use super::media::vms;

/// How long a claim stands that nobody has repeated. An agent is asked each minute.
const LASTS: Duration = Duration::from_secs(300);

/// When each guest has said last what the world holds.
#[derive(Debug, Default)]
pub(super) struct Guests {
    heard: BTreeMap<Uuid, Timestamp>,
}

impl Guests {
    /// Takes in what a guest says, or that it says nothing. Whether that is news.
    pub(super) fn take_in(
        &mut self,
        world: &mut World,
        uuid: Uuid,
        claims: Option<GuestClaims>,
    ) -> bool {
        match claims {
            Some(claims) => {
                self.heard.insert(uuid, world.now);
                let before = world.guests.insert(uuid, claims);
                before.as_ref() != world.guests.get(&uuid)
            }
            None => {
                self.heard.remove(&uuid);
                world.guests.remove(&uuid).is_some()
            }
        }
    }

    /// Forgets who does not run any more, and what was said too long ago. Whether there was any.
    pub(super) fn forget(&mut self, world: &mut World) -> bool {
        if self.heard.is_empty() {
            return false;
        }
        let running: BTreeSet<_> =
            vms(world).filter(|vm| vm.power != PowerState::Off).map(|vm| vm.uuid).collect();
        let now = world.now;
        self.heard.retain(|uuid, at| running.contains(uuid) && now < *at + LASTS);
        let before = world.guests.len();
        world.guests.retain(|uuid, _| self.heard.contains_key(uuid));
        world.guests.len() != before
    }
}
