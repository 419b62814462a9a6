//! The control interface: newline-delimited JSON on a Unix stream socket.
//!
//! A client sends one request a line, `{"v":1,"request":{"port-show":{"name":"vnet0"}}}`, and gets
//! one line for each, `{"v":1,"ok":{…}}` or `{"v":1,"error":{"code":"not-found","message":"…"}}`.
//! After `quarantine-watch` the daemon keeps sending lines until the client closes. The words of
//! requests and replies are in [`schema`].

pub mod client;
pub mod kernel;
pub mod line;
pub mod peer;
pub mod role;
pub mod schema;
pub mod server;
pub mod socket;
pub mod view;

pub use client::{CallError, Client};
pub use role::Role;
pub use schema::{ApiError, ErrorCode, Reply, Request, VERSION};

#[cfg(test)]
mod tests;
