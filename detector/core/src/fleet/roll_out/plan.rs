//! In what steps a bundle comes to a fleet.

use serde::{Deserialize, Serialize};

use super::ALL;
use crate::fleet::{Name, message::Unfit};

/// Waves of a plan.
const MOST_WAVES: usize = 32;
/// Hosts that a plan names.
const MOST_NAMED: usize = 256;

/// In what steps a bundle comes, and what stops it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The first wave by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<Name>,
    /// Thousandths of all hosts of each further wave: growing, the last all of them.
    pub waves: Vec<u16>,
    /// Seconds for which every host of a wave goes by the bundle without harm before the next wave begins.
    pub soak: u64,
    /// Seconds in which the hosts of a wave have to be going by it.
    pub patience: u64,
    /// So many VMs more than before may be without network on the hosts that go by it.
    pub most: u64,
    /// So many hosts of a wave may be silent, or not go by it.
    #[serde(default)]
    pub late: u64,
}

/// Why a plan is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    #[error(
        "its waves are {0:?} thousandths; expected growing ones up to 1000, at most {MOST_WAVES}"
    )]
    Waves(Vec<u16>),
    #[error("it names {0} hosts; expected at most {MOST_NAMED}: let a wave have a share")]
    Named(usize),
    #[error("it gives hosts no time to take it")]
    NoTime,
    #[error("{0} is to be among the first and says nothing; name hosts that speak")]
    Silent(Name),
    #[error("no host of the first wave speaks: name some, or let it have a larger share")]
    Nobody,
    #[error("every host is to go by version {0} already")]
    Already(u64),
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

impl Plan {
    /// # Errors
    ///
    /// It is none.
    pub fn check(&self) -> Result<(), BadPlan> {
        let growing = self.waves.windows(2).all(|two| two[0] < two[1]);
        let whole =
            self.waves.first().is_some_and(|first| *first > 0) && self.waves.last() == Some(&ALL);
        if !growing || !whole || self.waves.len() > MOST_WAVES {
            return Err(BadPlan::Waves(self.waves.clone()));
        }
        if self.canaries.len() > MOST_NAMED {
            return Err(BadPlan::Named(self.canaries.len()));
        }
        if self.patience == 0 { Err(BadPlan::NoTime) } else { Ok(()) }
    }

    /// How many waves it has.
    pub fn wave_count(&self) -> usize {
        usize::from(!self.canaries.is_empty()) + self.waves.len()
    }

    /// The share of a wave; 0 in the one of which the hosts are named.
    pub(super) fn share(&self, wave: usize) -> u16 {
        if self.canaries.is_empty() {
            self.waves.get(wave).copied().unwrap_or(ALL)
        } else {
            wave.checked_sub(1).map_or(0, |wave| self.waves.get(wave).copied().unwrap_or(ALL))
        }
    }
}
