//! The words of the control interface: requests, replies and what they show, and which role each request takes. They
//! are here so that whoever speaks with a daemon need not be one.

pub mod role;
pub mod schema;
pub mod view;

pub use role::Role;
pub use schema::{ApiError, ErrorCode, Reply, Request, VERSION};
