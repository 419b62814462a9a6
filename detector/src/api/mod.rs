//! The control interface: newline-delimited JSON on a Unix stream socket.
//!
//! A client sends one request a line, `{"v":1,"request":{"port-show":{"name":"vnet0"}}}`, and gets
//! one line for each, `{"v":1,"ok":{…}}` or `{"v":1,"error":{"code":"not-found","message":"…"}}`.
//! After `quarantine-watch` the daemon keeps sending lines until the client closes. The words of
//! requests and replies are in [`schema`], which is of the core.

pub mod client;
pub mod kernel;
pub mod line;
pub mod peer;
pub mod server;
pub mod socket;

pub use client::{CallError, Client};
pub use detector_core::api::{
    ApiError, ErrorCode, Reply, Request, Role, VERSION, role, schema, view,
};

#[cfg(test)]
mod tests;
