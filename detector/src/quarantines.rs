//! Quarantines that are kept over a restart of the host, or a change of the maps' schema: the maps
//! themselves outlive only the daemon.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::{Quarantine, QuarantineTarget};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::leases::{boot_id, replace};

const NAME: &str = "quarantines.json";
const DAMAGED: &str = "quarantines.damaged";

/// A quarantine as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(flatten)]
    pub quarantine: Quarantine,
    /// Of one on a port: the name of its interface. Its numbers mean nothing where maps are made anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
}

/// What was in force before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recalled {
    /// On VMs and MACs, and on ports whose interface may still be there.
    pub quarantines: Vec<Kept>,
    /// On ports that have not outlived the restart of the host.
    pub ended: Vec<Kept>,
    /// Why what was kept is not known, or not all of it.
    pub lost: Option<String>,
}

/// The file that they are kept in.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    path: PathBuf,
    /// What could not be read, kept for a person to look at.
    damaged: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct File<Entry> {
    /// Of which boot of the host, and which map in it, this is a copy: while the map is there, what it
    /// holds is right.
    boot: String,
    map: u32,
    quarantines: Vec<Entry>,
}

impl Memory {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME), damaged: state.join(DAMAGED) }
    }

    /// What has to be put in force again, now that the map is this one, and may be `fresh`.
    ///
    /// What cannot be read is put aside, and counts as lost until a person has removed it, whatever
    /// happens to the daemon meanwhile. Nothing is lost where the map is the one that there was.
    pub(crate) fn recall(&self, map: u32, fresh: bool) -> Recalled {
        let (mut recalled, unread) = match self.read() {
            Ok(None) => Default::default(),
            Ok(Some(file)) if (&file.boot, file.map) == (&boot_id(), map) => Default::default(),
            Ok(Some(file)) => sort(file),
            Err(why) => (Recalled::default(), Some(why.to_string())),
        };
        if let Some(why) = &unread {
            tracing::error!(path = %self.path.display(), why, "quarantines of before cannot be read");
        }
        let lost = fresh && unread.is_some();
        if lost && !self.is_lost() {
            // The file itself is written anew with what is known.
            if let Err(error) = fs::copy(&self.path, &self.damaged) {
                tracing::error!(path = %self.damaged.display(), %error, "nor put aside");
            }
        }
        recalled.lost = (lost || self.is_lost()).then(|| {
            format!(
                "what was quarantined before cannot be read, and was put aside as {0}: quarantine anew \
                 what you know of, then remove {0}",
                self.damaged.display()
            )
        });
        recalled
    }

    /// Whether what was kept is not known, and nobody has seen to it yet.
    pub(crate) fn is_lost(&self) -> bool {
        self.damaged.exists()
    }

    /// Keeps these instead, a copy of this map.
    pub(crate) fn write(&self, map: u32, quarantines: &[Kept]) -> io::Result<()> {
        self.put(&File { boot: boot_id(), map, quarantines: quarantines.to_vec() })
    }

    /// Puts one in or takes one out, for whoever changes the map while no daemon runs. Where the file is
    /// of another map it stays so: the daemon has not put in force yet what it holds.
    pub(crate) fn amend(
        &self,
        map: u32,
        target: QuarantineTarget,
        now: Option<Kept>,
    ) -> io::Result<()> {
        let fresh = || File { boot: boot_id(), map, quarantines: Vec::new() };
        let mut file: File<Value> = self.read()?.unwrap_or_else(fresh);
        let is_other = |entry: &Value| {
            let kept: Option<Kept> = serde_json::from_value(entry.clone()).ok();
            kept.is_none_or(|kept| kept.quarantine.target != target)
        };
        file.quarantines.retain(is_other);
        if let Some(kept) = now {
            file.quarantines.push(serde_json::to_value(kept)?);
        }
        self.put(&file)
    }

    fn read(&self) -> io::Result<Option<File<Value>>> {
        match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            read => Ok(Some(serde_json::from_slice(&read?)?)),
        }
    }

    fn put<Entry: Serialize>(&self, file: &File<Entry>) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(file)?)
    }
}

/// What is kept, by what can become of it, and why an entry cannot be read, which leaves the others as
/// they are.
fn sort(file: File<Value>) -> (Recalled, Option<String>) {
    let is_boot = file.boot == boot_id();
    let (mut recalled, mut unread) = (Recalled::default(), None);
    for entry in file.quarantines {
        match serde_json::from_value::<Kept>(entry) {
            Ok(kept)
                if !is_boot && matches!(kept.quarantine.target, QuarantineTarget::Port { .. }) =>
            {
                recalled.ended.push(kept);
            }
            Ok(kept) => recalled.quarantines.push(kept),
            Err(error) => unread = Some(error.to_string()),
        }
    }
    (recalled, unread)
}

#[cfg(test)]
mod tests {
    use detector_common::{addr::Mac, quarantine::Cause};
    use detector_core::model::Timestamp;
    use uuid::Uuid;

    use super::*;

    const PORT: QuarantineTarget = QuarantineTarget::Port { ifindex: 7, instance: 3 };
    const MAC: QuarantineTarget = QuarantineTarget::Mac(Mac([2, 0, 0, 0, 0, 1]));
    const VM: QuarantineTarget = QuarantineTarget::Vm(Uuid::from_u128(5));

    fn kept(target: QuarantineTarget) -> Kept {
        let quarantine =
            Quarantine::new(target, Timestamp(1), Cause::Operator, 1000, "incident 42");
        Kept { quarantine, port: (target == PORT).then(|| "vnet3".to_owned()) }
    }

    fn all() -> Vec<Kept> {
        [PORT, MAC, VM].map(kept).to_vec()
    }

    #[test]
    fn what_is_kept_comes_back_where_the_map_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(directory.path());
        assert_eq!(memory.recall(1, true), Recalled::default(), "the first start");
        memory.write(1, &all()).unwrap();
        assert_eq!(memory.recall(1, true), Recalled::default(), "the map holds it");
        assert_eq!(memory.recall(2, true), Recalled { quarantines: all(), ..Recalled::default() });
        assert_eq!(memory.recall(2, true).quarantines.len(), 3, "until it has been written again");

        let text = fs::read_to_string(directory.path().join(NAME)).unwrap();
        fs::write(directory.path().join(NAME), text.replace(&boot_id(), "another boot")).unwrap();
        let ended = Recalled {
            quarantines: [MAC, VM].map(kept).to_vec(),
            ended: vec![kept(PORT)],
            lost: None,
        };
        assert_eq!(memory.recall(1, true), ended);
    }

    #[test]
    fn one_is_changed_without_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::new(directory.path());
        memory.amend(1, MAC, Some(kept(MAC))).unwrap();
        memory.amend(1, VM, Some(kept(VM))).unwrap();
        memory.amend(1, MAC, Some(kept(MAC))).unwrap();
        assert_eq!(memory.recall(2, true).quarantines, [kept(VM), kept(MAC)]);
        // The daemon has not yet put in force what is kept of another map.
        memory.amend(2, VM, None).unwrap();
        assert_eq!(memory.recall(2, true).quarantines, [kept(MAC)]);
    }

    #[test]
    fn what_cannot_be_read_is_lost_until_a_person_has_seen_to_it() {
        let whole = serde_json::to_string(&kept(MAC)).unwrap();
        let one_bad = format!(r#"{{"boot":"b","map":1,"quarantines":[{whole},{{"target":7}}]}}"#);
        for (text, rest) in [("{", 0), ("", 0), ("[]", 0), (one_bad.as_str(), 1)] {
            let directory = tempfile::tempdir().unwrap();
            let memory = Memory::new(directory.path());
            fs::write(directory.path().join(NAME), text).unwrap();
            assert_eq!(memory.recall(1, false).lost, None, "the map holds it: {text}");
            let recalled = memory.recall(1, true);
            assert_eq!(recalled.quarantines.len(), rest, "{text}");
            assert!(recalled.lost.unwrap().contains(DAMAGED), "{text}");
            memory.write(1, &all()).unwrap();
            assert!(memory.recall(1, true).lost.is_some(), "over a restart: {text}");
            assert_eq!(fs::read_to_string(directory.path().join(DAMAGED)).unwrap(), text);
            fs::remove_file(directory.path().join(DAMAGED)).unwrap();
            assert_eq!(memory.recall(1, true), Recalled::default());
        }
    }
}
