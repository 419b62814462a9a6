//! SQLite files of the state directory: opened with care, brought up to date, set aside when they are damaged.
//!
//! What a file holds says its owner by a [`Schema`]; each owner has a file of its own, so that what damages one
//! leaves the others. Nothing here is needed to enforce: a file that cannot be used is an error to tell of.

mod error;
mod open;
mod set_aside;

pub use error::StoreError;
pub use open::{Opened, open, read};
pub use set_aside::{SetAside, set_aside};

/// What a file holds.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// What to call it in errors, such as "the audit".
    pub what: &'static str,
    /// Marks the file as this owner's (`PRAGMA application_id`).
    pub application_id: i32,
    /// Statements that lead from version *n* of the tables (`PRAGMA user_version`) to *n* + 1. What has been
    /// released is never changed: another one is appended.
    pub migrations: &'static [&'static str],
}

impl Schema {
    /// The version that this build makes.
    pub fn version(&self) -> i64 {
        i64::try_from(self.migrations.len()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests;
