//! Since when denied VMs have a grace period, kept over restarts of the daemon: else each would begin it
//! anew.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::{Graces, Rejected, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock,
    latest::Latest,
    leases::{boot_id, replace},
};

const NAME: &str = "graces.json";

/// The file that they are kept in.
#[derive(Clone, Debug)]
pub(crate) struct GraceFile {
    path: PathBuf,
    next: Latest<BTreeMap<Uuid, Timestamp>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of which boot of the host: no grant outlives it.
    boot: String,
    /// By VM, after how many milliseconds of that boot: nobody sets this clock.
    begun: BTreeMap<Uuid, u64>,
}

impl GraceFile {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME), next: Latest::default() }
    }

    /// What was kept. Where that cannot be read there is no grace.
    pub(crate) fn read(&self) -> Graces {
        let read = fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(Kept { boot, begun }) if boot == boot_id() => {
                let begun = begun.into_iter().map(|(vm, at)| (vm, clock::at_uptime(at)));
                Graces { begun: begun.collect(), lost: None }
            }
            Ok(_) => Graces::default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Graces::default(),
            Err(error) => {
                let why = format!(
                    "since when VMs have a grace period cannot be read ({error}); mend the file, or \
                     remove it, and restart the daemon"
                );
                Graces { begun: BTreeMap::new(), lost: Some(self.rejected(why)) }
            }
        }
    }

    /// These are to be kept instead; [`Self::write`] does so.
    pub(crate) fn set(&self, begun: BTreeMap<Uuid, Timestamp>) {
        self.next.set(begun);
    }

    /// Writes what is to be kept; blocks.
    pub(crate) fn write(&self) -> Result<(), Rejected> {
        let written = self.next.write(|begun| {
            let begun = begun.iter().map(|(vm, at)| (*vm, clock::uptime(*at))).collect();
            let bytes = serde_json::to_vec(&Kept { boot: boot_id(), begun })?;
            replace(&self.path, &bytes)
        });
        written.map_err(|error| {
            self.rejected(format!(
                "since when VMs have a grace period cannot be kept ({error}); make room, and restart \
                 the daemon"
            ))
        })
    }

    fn rejected(&self, why: String) -> Rejected {
        Rejected { place: self.path.display().to_string(), why }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_in_the_same_boot_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = GraceFile::new(directory.path());
        assert_eq!(file.read(), Graces::default());
        let begun = BTreeMap::from([(Uuid::from_u128(7), clock::now())]);
        file.set(begun.clone());
        file.write().unwrap();
        assert_eq!(file.read(), Graces { begun: begun.clone(), lost: None });
        let path = directory.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(boot_id().trim(), "another")).unwrap();
        assert_eq!(file.read(), Graces::default());
        for damaged in ["{", "", "{\"boot\": 1}", "[]"] {
            fs::write(&path, damaged).unwrap();
            let Graces { begun, lost } = file.read();
            assert!(begun.is_empty() && lost.is_some(), "{damaged}");
        }
        let nowhere = GraceFile::new(&directory.path().join("none"));
        nowhere.set(begun);
        assert!(nowhere.write().is_err());
    }
}
