//! The audit: what was decided and what people did, each record chained to the one before it by its hash, and
//! the chain signed now and then (docs/audit.md).
//!
//! Nothing that is enforced depends on it. One thread writes while the daemon lives ([`Writer`]); the command line
//! reads the file itself, and writes what it does to the pins while no daemon lives ([`aside`]).

pub mod aside;
mod chain;
mod entry;
mod key;
mod line;
mod prune;
mod verify;
mod who;
mod writer;

pub use chain::{
    Chain, Head, behind, checkpoints, fleet_commands, head, mentioned, reader, record, sign,
};
pub use entry::{Entry, Kind, Subject};
pub use key::{PublicKeys, SigningKey};
pub use line::{Record, with_hash};
pub use prune::Limits;
pub use verify::{Anchor, Checked, Fault, Verifier, each_record};
pub use who::{Person, Via, Who};
pub use writer::{Asked, Trouble, Writer};

use std::path::{Path, PathBuf};

/// Where the audit is.
#[derive(Clone, Debug)]
pub struct Place {
    pub database: PathBuf,
    /// The key that signs, for its owner alone.
    pub key: PathBuf,
    /// The public part of it.
    pub public: PathBuf,
    /// What could not be written into the database, for the daemon's next start.
    pub spool: PathBuf,
}

impl Place {
    pub fn new(state: &Path) -> Self {
        Self {
            database: state.join("audit.db"),
            key: state.join("audit.key"),
            public: state.join("audit.pub"),
            spool: state.join("audit.spool"),
        }
    }
}

#[cfg(test)]
mod tests;
