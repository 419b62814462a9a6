use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use detector_common::addr::Mac;
use uuid::Uuid;

use super::Timestamp;

/// What is known of guests that spoke before their ports were guarded here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Interfaces that were there when the daemon was first started on this host, by ifindex.
    pub ports: BTreeSet<u32>,
    /// What the host's neighbour tables said at that time.
    pub neighbours: Vec<Neighbour>,
    /// That time.
    pub since: Timestamp,
    /// VMs that have come from another host, and when each was last known to be on its way.
    pub arrivals: BTreeMap<Uuid, Timestamp>,
}

/// An entry of a neighbour table: the host has spoken with this MAC under this address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// ifindex of the bridge on which the host has it as a neighbour, itself or by a VLAN device.
    pub bridge: u32,
    /// The VLAN of that device, 0 for none.
    pub vlan: u16,
    pub mac: Mac,
    pub address: IpAddr,
}

/// Which addresses that no server of this host is known to have leased a NIC has for a while
/// nonetheless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdoptionRules {
    /// Those of an adopted port that a neighbour table shows.
    pub neighbours: bool,
    /// Those under which an adopted port speaks while frames are only observed.
    pub observed: bool,
    /// Those under which a VM speaks in its first seconds after it came from another host.
    pub migrated: bool,
    /// For how long it has them; whole seconds count.
    pub lasts: Duration,
}

impl AdoptionRules {
    pub const DEFAULT: Self = Self {
        neighbours: true,
        observed: true,
        migrated: true,
        lasts: Duration::from_secs(24 * 60 * 60),
    };
}

/// How long a VM that has come from another host may take to speak under its addresses. Most systems
/// announce them at once.
const FIRST_WORDS: Duration = Duration::from_secs(60);

impl Adoption {
    /// Whether the VM has just come from another host, or is about to.
    pub fn is_arriving(&self, vm: Uuid, now: Timestamp) -> bool {
        self.arrivals.get(&vm).is_some_and(|at| now < *at + FIRST_WORDS)
    }

    /// Forgets arrivals that are long over; those of which `on_its_way` says so still are now.
    pub fn keep_up(&mut self, now: Timestamp, on_its_way: impl Fn(Uuid) -> bool) {
        self.arrivals.retain(|vm, at| {
            if on_its_way(*vm) {
                *at = now;
            }
            now < *at + FIRST_WORDS
        });
    }
}
