//! The core of the detector: what is known, what follows from it, and what has to be done.
//!
//! Nothing here does I/O. [`decide::decide`] computes the state that the host should be in from a
//! [`model::World`], [`reconcile::reconcile`] computes the actions that lead there from what is
//! observed. [`remediate`] says what comes next for a VM that is to be brought back, [`fleet`] what hosts and the
//! monitor tell each other, [`api`] what a daemon can be asked. Fetching the inputs
//! and carrying out what follows is the daemon's work.

#![forbid(unsafe_code)]

pub mod api;
pub mod decide;
pub mod escape;
pub mod fleet;
pub mod model;
pub mod reconcile;
pub mod remediate;

#[cfg(test)]
mod testing;
