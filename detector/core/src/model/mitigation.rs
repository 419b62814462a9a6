//! How much verdicts may take away before a person has looked at it, and what they have taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Rejected, Timestamp};

/// How many VMs may lose what they have within some time without a person: the stricter of the two holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlastLimits {
    pub vms: u32,
    /// Of the VMs that have something to lose, from 0 to 100; one may always be cut off unless it is 0.
    pub percent: u8,
    pub window: Duration,
}

impl BlastLimits {
    /// How many of `total` VMs that is.
    pub fn allowed(&self, total: usize) -> usize {
        let most = usize::try_from(self.vms).unwrap_or(usize::MAX);
        let share = match self.percent {
            0 => 0,
            percent => (total.saturating_mul(percent.into()) / 100).max(1),
        };
        most.min(share)
    }
}

/// What the guard over mitigations knows. It is kept over restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mitigations {
    /// The VMs that verdicts have taken something from, and when.
    pub taken: BTreeMap<Uuid, Timestamp>,
    /// Those that keep what they have.
    pub held: BTreeMap<Uuid, Hold>,
    /// Nobody knows what was taken before this moment.
    pub blind_until: Option<Timestamp>,
}

/// Why a VM that is denied keeps what it has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    pub since: Timestamp,
    /// The limits that it would have exceeded.
    pub limits: BlastLimits,
    /// The rules that it fails.
    pub grounds: BTreeSet<String>,
    /// What a person has said; nobody has yet where it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub word: Option<Word>,
}

/// What a person has said of a VM that is held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// It is to lose what it has; otherwise it keeps it while it fails nothing else.
    pub approves: bool,
    pub uid: u32,
    pub at: Timestamp,
    pub why: String,
}

impl Hold {
    /// Whether a person has said that the VM is to lose what it has.
    pub fn is_approved(&self) -> bool {
        self.word.as_ref().is_some_and(|word| word.approves)
    }

    pub fn is_rejected(&self) -> bool {
        self.word.as_ref().is_some_and(|word| !word.approves)
    }
}

/// What of it is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub mitigations: Mitigations,
    /// Why nothing more can be written down: then nothing more is taken without a person.
    pub lost: Option<Rejected>,
}
