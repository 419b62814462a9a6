//! What verdicts have taken away lately, and which VMs are held, kept over restarts of the daemon: else each
//! would begin to count anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::{BlastLimits, Hold, Mitigations, Rejected, Timestamp, Word};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    clock,
    latest::Latest,
    leases::{boot_id, replace},
};

const NAME: &str = "mitigations.json";

/// The file that they are kept in.
#[derive(Clone, Debug)]
pub(crate) struct MitigationFile {
    path: PathBuf,
    next: Latest<Mitigations>,
}

/// Moments are milliseconds of the boot: nobody sets this clock.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    /// Of which boot of the host: no grant outlives it.
    boot: String,
    taken: BTreeMap<Uuid, u64>,
    held: BTreeMap<Uuid, KeptHold>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blind_until: Option<u64>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeptHold {
    since: u64,
    limits: BlastLimits,
    grounds: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    word: Option<Word>,
}

impl MitigationFile {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME), next: Latest::default() }
    }

    /// What was kept. Where that cannot be read nobody knows what was taken before, and the whole window has to
    /// pass.
    pub(crate) fn read(&self) -> Mitigations {
        let read = fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(kept) => Kept::taken_up(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Mitigations::default(),
            Err(error) => {
                tracing::warn!(
                    path = %self.path.display(), %error,
                    "how many VMs were cut off lately cannot be read: none is without a person, for some time"
                );
                Mitigations { blind_until: Some(Timestamp(u64::MAX)), ..Mitigations::default() }
            }
        }
    }

    /// This is to be kept instead; [`Self::write`] does so.
    pub(crate) fn set(&self, mitigations: Mitigations) {
        self.next.set(mitigations);
    }

    /// Writes what is to be kept; blocks.
    pub(crate) fn write(&self) -> Result<(), Rejected> {
        let written: io::Result<()> = self
            .next
            .write(|mitigations| replace(&self.path, &serde_json::to_vec(&Kept::of(mitigations))?));
        written.map_err(|error| Rejected {
            place: self.path.display().to_string(),
            why: format!("{}: {error}", self.path.display()),
        })
    }
}

impl Kept {
    fn of(mitigations: Mitigations) -> Self {
        let Mitigations { taken, held, blind_until } = mitigations;
        let hold = |hold: Hold| {
            let word = hold.word.map(|word| Word { at: Timestamp(clock::uptime(word.at)), ..word });
            let Hold { since, limits, grounds, .. } = hold;
            KeptHold { since: clock::uptime(since), limits, grounds, word }
        };
        Self {
            boot: boot_id(),
            taken: taken.into_iter().map(|(vm, at)| (vm, clock::uptime(at))).collect(),
            held: held.into_iter().map(|(vm, one)| (vm, hold(one))).collect(),
            blind_until: blind_until.map(clock::uptime),
        }
    }

    fn taken_up(self) -> Mitigations {
        if self.boot != boot_id() {
            return Mitigations::default();
        }
        let hold = |hold: KeptHold| {
            let word = hold.word.map(|word| Word { at: clock::at_uptime(word.at.0), ..word });
            let KeptHold { since, limits, grounds, .. } = hold;
            Hold { since: clock::at_uptime(since), limits, grounds, word }
        };
        Mitigations {
            taken: self.taken.into_iter().map(|(vm, at)| (vm, clock::at_uptime(at))).collect(),
            held: self.held.into_iter().map(|(vm, one)| (vm, hold(one))).collect(),
            blind_until: self.blind_until.map(clock::at_uptime),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn known() -> Mitigations {
        let limits = BlastLimits { vms: 10, percent: 25, window: Duration::from_secs(900) };
        let word = Word { approves: false, uid: 7, at: clock::now(), why: "ticket".to_owned() };
        let hold = Hold {
            since: clock::now(),
            limits,
            grounds: ["a".to_owned()].into(),
            word: Some(word),
        };
        Mitigations {
            taken: [(Uuid::from_u128(1), clock::now())].into(),
            held: [(Uuid::from_u128(2), hold)].into(),
            blind_until: Some(clock::now()),
        }
    }

    #[test]
    fn what_is_kept_comes_back_in_the_same_boot_only() {
        let directory = tempfile::tempdir().unwrap();
        let file = MitigationFile::new(directory.path());
        assert_eq!(file.read(), Mitigations::default());
        let known = known();
        file.set(known.clone());
        file.write().unwrap();
        assert_eq!(file.read(), known);
        let path = directory.path().join(NAME);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(boot_id().trim(), "another")).unwrap();
        assert_eq!(file.read(), Mitigations::default());
        for damaged in ["{", "", "{\"boot\": 1}", "[]", &text[..text.len() / 2]] {
            fs::write(&path, damaged).unwrap();
            assert!(file.read().blind_until.is_some(), "{damaged}");
        }
        let nowhere = MitigationFile::new(&directory.path().join("none"));
        nowhere.set(known);
        assert!(nowhere.write().unwrap_err().why.contains("mitigations.json"));
    }
}
