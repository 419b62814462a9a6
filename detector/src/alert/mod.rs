//! Alerts: findings, on their way to people.

pub mod host;
pub mod notice;
pub mod ocsf;
pub mod sink;
pub mod text;
