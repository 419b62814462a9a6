use std::{path::PathBuf, time::Duration};

use detector_core::model::AdoptionRules;
use serde::Deserialize;

use super::text::duration;

/// What ports that learn addresses know at the start.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Learning {
    /// Lease files of DHCP servers on this host; `*` and `?` in the last part of a path stand for any
    /// characters and any one.
    pub leases: Vec<PathBuf>,
    /// What else such a port is believed to have, when its guest spoke before it came under guard.
    pub adopt: Vec<Adopt>,
    /// For how long: a minute to a week.
    #[serde(deserialize_with = "duration")]
    pub adopt_for: Duration,
}

/// By what an address is taken for a guest's that no server is known to have leased to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Adopt {
    /// The host's neighbour tables, for VMs from before the daemon's first start.
    Neighbours,
    /// What such a VM sends in observe mode.
    Observed,
    /// What a VM sends first that comes from another host.
    Migrated,
}

impl Default for Learning {
    fn default() -> Self {
        let leases = [
            "/var/lib/libvirt/dnsmasq/*.status",
            "/var/lib/libvirt/dnsmasq/*.leases",
            "/var/lib/misc/dnsmasq*.leases",
        ];
        Self {
            leases: leases.map(PathBuf::from).into(),
            adopt: vec![Adopt::Neighbours, Adopt::Observed, Adopt::Migrated],
            adopt_for: AdoptionRules::DEFAULT.lasts,
        }
    }
}

impl Learning {
    pub(super) fn adoption(&self) -> AdoptionRules {
        let has = |what| self.adopt.contains(&what);
        AdoptionRules {
            neighbours: has(Adopt::Neighbours),
            observed: has(Adopt::Observed),
            migrated: has(Adopt::Migrated),
            lasts: self.adopt_for,
        }
    }
}
