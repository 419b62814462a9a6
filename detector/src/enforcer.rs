//! The one narrow, serialisable interface to what needs privileges.

use std::collections::BTreeMap;

use detector_common::reason::Reason;
use detector_core::{
    model::{Learned, Observed, Seen},
    reconcile::Action,
};

/// Carries out actions on the kernel and says what the kernel holds.
///
/// Everything that passes through is plain data, so that an implementation may live in another,
/// more privileged process.
pub trait Enforcer {
    /// What the kernel holds now.
    fn observe(&mut self) -> Result<Observed, EnforceError>;

    /// Carries out one action. Carrying it out again changes nothing.
    fn execute(&mut self, action: &Action) -> Result<(), EnforceError>;

    /// Looks whether what is in force is still in force, and frees what is not: others may take our
    /// programs away. True when [`Self::observe`] says something else since.
    fn recheck(&mut self) -> Result<bool, EnforceError>;

    /// Reads everything anew.
    fn resync(&mut self) -> Result<(), EnforceError>;

    /// The claims without a grant of each port instance, by ifindex.
    fn seen(&mut self) -> Result<BTreeMap<u32, Vec<Seen>>, EnforceError>;

    /// The addresses that ports have learned and that have not expired, by ifindex.
    fn learned(&mut self) -> Result<BTreeMap<u32, Vec<Learned>>, EnforceError>;

    /// The frames of an interface by reason; `None` when it has no slot.
    fn counts(&mut self, ifindex: u32) -> Result<Option<Counts>, EnforceError>;
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
    /// Received by the host: a guest's port has them from the guest, refused ones included.
    pub from: u64,
    /// Sent by the host; what was refused is not among them.
    pub to: u64,
}

/// Why an action was not carried out, with every cause down to the errno, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{0}")]
pub struct EnforceError(pub String);
