//! The accounts as their file has them now: who is taken out of it is out.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use detector_core::api::Role;

use crate::accounts::Accounts;

/// How long it is not looked again.
const FRESH: Duration = Duration::from_secs(1);

pub(super) struct Roster {
    path: PathBuf,
    read: Mutex<Option<(Instant, Accounts)>>,
}

impl Roster {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// The role of an account; nobody has one while the file cannot be read.
    pub(super) fn role(&self, name: &str) -> Option<Role> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, accounts)) = &*read
            && at.elapsed() < FRESH
        {
            return accounts.role(name);
        }
        let accounts = self.now();
        let role = accounts.role(name);
        *read = Some((Instant::now(), accounts));
        role
    }

    /// The file as it is at this moment.
    pub(super) fn now(&self) -> Accounts {
        Accounts::read(&self.path).unwrap_or_else(|error| {
            tracing::error!(%error, "nobody is let in");
            Accounts::default()
        })
    }
}
