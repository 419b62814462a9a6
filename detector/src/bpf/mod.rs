//! The only place that knows aya: load, pin, attach, maps, events.
//!
//! What is in force lives in the kernel: maps, and links of the programs to the interfaces, pinned
//! in a directory of a BPF file system. It outlives the daemon. [`KernelEnforcer`] takes it over and
//! carries out actions on it; [`Inspector`] reads it while no daemon runs.

mod attach;
mod clock;
mod enforcer;
mod error;
mod events;
mod features;
mod foreign;
mod inspect;
mod learned;
mod links;
mod load;
mod maps;
pub mod object;
mod pins;
mod pod;
mod remains;
mod ring;
mod schema;
mod shield;
mod signs;
mod sys;
mod traces;

pub use attach::Method;
pub use clock::JiffyClock;
pub(crate) use clock::busy;
pub use enforcer::{KernelEnforcer, Options};
pub use error::BpfError;
pub use events::{Batch, Events};
pub use features::{Features, probe};
pub use foreign::others_ahead;
pub use inspect::{Applied, Inspector, PortView, Snapshot};
pub use pins::{Hook, PinPaths, Pins, holder};
pub use remains::{PinnedLink, Remains};
pub use signs::Signs;
