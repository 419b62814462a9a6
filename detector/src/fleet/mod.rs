//! A host as one of a fleet, and what an administrator does for a fleet (docs/fleet.md).
//!
//! The daemon has a process of its own for it ([`speaker`]), to which it speaks by [`speech`]; [`store`] keeps
//! bundles. Who keeps a fleet's keys works on a directory of files ([`Authority`]) and, for a moment, over a connection
//! ([`connection`]), or for as long as a bundle is rolled out ([`desk`]). What is said and who may say it is in `detector_core::fleet`.

mod authority;
mod certificate;
mod claims;
pub mod connection;
pub mod desk;
pub mod pack;
mod server;
pub(crate) mod settings;
pub mod speaker;
pub(crate) mod speech;
pub(crate) mod store;
pub(crate) mod words;

pub use authority::{Authority, AuthorityError, Found, Member};

#[cfg(test)]
mod tests;
