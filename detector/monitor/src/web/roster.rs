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
    read: Mutex<Option<(Instant, Option<Accounts>)>>,
}

impl Roster {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: Mutex::default() }
    }

    /// The role of an account, or else the one of whoever has none. Nobody has one while the file cannot be read: the
    /// account may be there.
    pub(super) fn role(&self, name: &str, of_others: Option<Role>) -> Option<Role> {
        let of = |accounts: &Accounts| accounts.role(name).or(of_others);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, accounts)) = &*read
            && at.elapsed() < FRESH
        {
            return accounts.as_ref().and_then(of);
        }
        let accounts = self.read();
        let role = accounts.as_ref().and_then(of);
        *read = Some((Instant::now(), accounts));
        role
    }

    /// The file as it is at this moment.
    pub(super) fn now(&self) -> Accounts {
        self.read().unwrap_or_default()
    }

    fn read(&self) -> Option<Accounts> {
        let read = Accounts::read(&self.path);
        read.inspect_err(|error| tracing::error!(%error, "nobody is let in")).ok()
    }
}
