//! The one narrow, serialisable interface to what needs privileges.

mod ledger;
pub mod message;
pub mod part;
pub mod raw;
pub mod remote;
pub(crate) mod serve;
#[cfg(test)]
mod tests;
mod warden;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_common::{learned::OwnerKey, reason::Reason};
use detector_core::{
    model::{Digest, Learned, Observed, Seen, Ticks},
    reconcile::Action,
};
use serde::{Deserialize, Serialize};

/// Carries out actions on the kernel and says what the kernel holds.
///
/// Everything that passes through is plain data, so that an implementation may live in another,
/// more privileged process.
pub trait Enforcer {
    /// What the kernel holds now.
    fn observe(&mut self) -> Result<Observed, EnforceError>;

    /// Carries out one action. Carrying it out again changes nothing.
    fn execute(&mut self, action: &Action) -> Result<(), EnforceError>;

    /// The kernel's count of ticks so many seconds from now.
    fn ticks_after(&mut self, seconds: u64) -> Result<Ticks, EnforceError>;

    /// Looks whether what is in force is still in force, and puts back what somebody else has
    /// changed.
    fn recheck(&mut self) -> Result<Recheck, EnforceError>;

    /// The same for what these signs are about, at once.
    fn recheck_for(&mut self, signs: &BTreeSet<Sign>) -> Result<Recheck, EnforceError>;

    /// Reads everything anew.
    fn resync(&mut self) -> Result<(), EnforceError>;

    /// The claims without a grant of each port instance, by ifindex.
    fn seen(&mut self) -> Result<BTreeMap<u32, Vec<Seen>>, EnforceError>;

    /// The addresses that ports have learned and that have not expired, by ifindex.
    fn learned(&mut self) -> Result<BTreeMap<u32, Vec<Learned>>, EnforceError>;

    /// Those of one interface; none when it has no slot.
    fn learned_by(&mut self, ifindex: u32) -> Result<Vec<Learned>, EnforceError>;

    /// The interface whose port has learned the address and has it still.
    fn owner_of(&mut self, address: OwnerKey) -> Result<Option<u32>, EnforceError>;

    /// Whether the address is that of a router which somebody who is trusted has named.
    fn is_router(&mut self, address: OwnerKey) -> Result<bool, EnforceError>;

    /// The frames of an interface by reason; `None` when it has no slot.
    fn counts(&mut self, ifindex: u32) -> Result<Option<Counts>, EnforceError>;

    /// Whether programs of another map schema are in force behind ours.
    fn has_predecessors(&self) -> bool {
        false
    }

    /// Takes them off, once ours do what they shall.
    fn end_predecessors(&mut self) -> Result<(), EnforceError> {
        Ok(())
    }

    /// How many frames of an interface have been refused so far; `None` when it has no slot.
    fn refused(&mut self, ifindex: u32) -> Result<Option<u64>, EnforceError>;

    /// The processor time that looking has taken so far, where that was another process's.
    fn spent(&self) -> Duration {
        Duration::ZERO
    }

    /// The configuration may be another one by now: that of this text, which was read from the file. Another text
    /// than that one is not gone by.
    fn reload(&mut self, _text: Option<Digest>) -> Result<(), EnforceError> {
        Ok(())
    }
}

/// A sign that somebody may have touched what is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Sign {
    /// A queueing discipline or a filter has come or gone.
    Programs,
    /// A name below the pin directory has.
    Pins,
    /// A static forwarding entry has.
    Forwarding,
}

/// What looking around has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recheck {
    /// [`Enforcer::observe`] says something else since.
    pub changed: bool,
    pub tampering: Vec<Tampering>,
    /// What has been refused since it was asked last.
    pub refused: Refusals,
}

/// Orders that nobody gives who has not been tampered with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    pub count: u64,
    /// Why; the first few.
    pub why: Vec<String>,
}

impl Refusals {
    /// How many are told of one by one.
    const TOLD: usize = 8;

    pub fn note(&mut self, why: String) {
        self.count += 1;
        if self.why.len() < Self::TOLD && !self.why.contains(&why) {
            self.why.push(why);
        }
    }

    pub fn add(&mut self, more: Self) {
        self.count += more.count;
        self.why.extend(more.why);
        self.why.truncate(Self::TOLD);
    }
}

/// Something that somebody else has changed in what is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tampering {
    /// The interface and the instance that it is; `None` for what the whole host has.
    pub port: Option<(u32, u32)>,
    pub what: Tampered,
    /// What was found, in a few words.
    pub found: String,
    /// `None` when it has been put back, else why it has not.
    pub left: Option<String>,
}

/// What was tampered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tampered {
    /// Our program was taken off.
    Program,
    /// Somebody else's program runs before ours.
    Order,
    /// A pin was removed or replaced.
    Pin,
    /// Mode, stamp and what else holds for the host.
    Settings,
    /// The slot of an interface.
    Slot,
    /// Grants beyond the slot.
    Grants,
    /// The records of quarantines.
    Quarantines,
    /// Which MACs the uplinks bring in from nobody.
    MacOwners,
    /// Which way the frames of sandboxed ports go.
    Passages,
    /// A sticky forwarding entry.
    Forwarding,
    /// An XDP program, which sees a port's frames before its guard.
    Xdp,
}

impl Tampered {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Program => "program",
            Self::Order => "order",
            Self::Pin => "pin",
            Self::Settings => "settings",
            Self::Slot => "slot",
            Self::Grants => "grants",
            Self::Quarantines => "quarantines",
            Self::MacOwners => "mac-owners",
            Self::Passages => "passages",
            Self::Forwarding => "forwarding",
            Self::Xdp => "xdp",
        }
    }
}

/// The frames of an interface; those that were refused by reason, added up over the CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All frames, since there is the interface.
    pub frames: Frames,
    /// Refused from the port's side; only reasons that have occurred.
    pub from: BTreeMap<Reason, u64>,
    /// Refused towards the port's side.
    pub to: BTreeMap<Reason, u64>,
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Events that the port's budget held back.
    pub events_held: u64,
}

/// What an interface itself counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Received by the host: a guest's port has them from the guest, refused ones included, but for
    /// those that a shield drops.
    pub from: u64,
    /// Sent by the host; what was refused is not among them.
    pub to: u64,
}

/// Why an action was not carried out, with every cause down to the errno, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{0}")]
pub struct EnforceError(pub String);
