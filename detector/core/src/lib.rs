//! The core of the detector: what is known, what follows from it, and what has to be done.
//!
//! Nothing here does I/O. [`decide::decide`] computes the state that the host should be in from a
//! [`model::World`], [`reconcile::reconcile`] computes the actions that lead there from what is
//! observed. Fetching the one and carrying out the other is the daemon's work.

#![forbid(unsafe_code)]

pub mod decide;
pub mod model;
pub mod reconcile;

#[cfg(test)]
mod testing;
