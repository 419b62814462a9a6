//! The monitor: what one host's daemon, or a whole fleet, knows and can be asked, for people.
//!
//! [`estate`] is what is known, made from a [`source`] and nothing else; [`correlate`] what follows from what several
//! hosts say; [`view`] what is shown, the same for the page and the JSON interface ([`web`]) and the command line.

#![forbid(unsafe_code)]

pub mod accounts;
pub mod cli;
pub mod config;
pub mod correlate;
pub mod desk;
pub mod estate;
mod history;
mod metrics;
pub mod source;
pub mod view;
pub mod web;
