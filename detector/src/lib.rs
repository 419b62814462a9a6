//! The host daemon and its command line.
//!
//! The library is for this workspace: the binary, the tests and the benchmarks. What the daemon
//! decides is in `detector-core`; here is what fetches the inputs and carries out the actions.

pub mod alert;
pub mod api;
pub mod audit;
pub mod bpf;
pub mod cli;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod enforcer;
pub mod findings;
pub mod fleet;
mod graces;
pub mod inventory;
mod journal;
mod latest;
mod leases;
mod logging;
mod mark;
pub mod metrics;
mod mitigations;
mod mode;
pub mod net;
pub mod part;
mod pauses;
pub mod policy;
mod privilege;
pub mod processes;
pub mod quarantines;
pub mod registry;
pub mod remediate;
mod rights;
mod sandbox;
mod stopped;
pub mod store;
mod suggest;

use detector_core::escape;
