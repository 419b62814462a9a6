//! What hosts and the monitor of a fleet tell each other, and what a host believes of it; pure.
//!
//! [`subject`] has the places and who may speak there, [`message`] what is said, [`bundle`] the one file by which a
//! fleet's policy comes, [`accept`] whether a host takes it, and [`roll_out`] when which host is
//! to. docs/fleet.md explains the whole.

pub mod accept;
pub mod bundle;
pub mod message;
mod name;
pub mod page;
pub mod report;
pub mod roll_out;
pub mod subject;

pub use name::{BadName, Name};

#[cfg(test)]
mod tests;
