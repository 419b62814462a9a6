//! Which denied VMs have been suspended, kept over restarts of the daemon: where a crash comes between a
//! denial and its suspension that is still to come, and a VM that a person has let go on since is not
//! suspended again.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    latest::Latest,
    leases::{boot_id, replace},
};

const NAME: &str = "pauses.json";

/// The file that they are kept in.
#[derive(Clone, Debug)]
pub(crate) struct PauseFile {
    path: PathBuf,
    next: Latest<BTreeSet<Uuid>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of which boot of the host: no VM outlives it.
    boot: String,
    suspended: BTreeSet<Uuid>,
}

impl PauseFile {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME), next: Latest::default() }
    }

    /// Those that have been suspended; `None` where nobody knows.
    pub(crate) fn read(&self) -> Option<BTreeSet<Uuid>> {
        let read = fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(Kept { boot, suspended }) if boot == boot_id() => Some(suspended),
            Ok(_) => Some(BTreeSet::new()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(
                    path = %self.path.display(), %error,
                    "which VMs have been suspended cannot be read: those that are denied already are \
                     left as they are"
                );
                None
            }
        }
    }

    /// These are to be kept instead; [`Self::write`] does so.
    pub(crate) fn set(&self, suspended: BTreeSet<Uuid>) {
        self.next.set(suspended);
    }

    /// Writes what is to be kept; blocks.
    pub(crate) fn write(&self) -> Result<(), String> {
        let written = self.next.write(|suspended| {
            let bytes = serde_json::to_vec(&Kept { boot: boot_id(), suspended })?;
            replace(&self.path, &bytes)
        });
        written.map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_in_the_same_boot_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = PauseFile::new(directory.path());
        assert_eq!(file.read(), None);
        let suspended = BTreeSet::from([Uuid::from_u128(7)]);
        file.set(suspended.clone());
        file.write().unwrap();
        assert_eq!(file.read(), Some(suspended.clone()));
        let path = directory.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(boot_id().trim(), "another")).unwrap();
        assert_eq!(file.read(), Some(BTreeSet::new()));
        for damaged in ["{", "", "{\"boot\": 1}", "[]", &text[..text.len() / 2]] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(file.read(), None, "{damaged}");
        }
        let nowhere = PauseFile::new(&directory.path().join("none"));
        nowhere.set(suspended);
        assert!(nowhere.write().unwrap_err().contains("pauses.json"));
    }
}
