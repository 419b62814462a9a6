//! The mode that was confirmed last, kept for after a restart of the host: the maps themselves outlive only the
//! daemon. A provisional mode is never kept.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use detector_common::settings::Mode;
use detector_core::model::{Deed, ModeRecord, mode_text};
use serde::{Deserialize, Serialize};

use crate::leases::replace;

const NAME: &str = "mode.json";

/// What is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    #[serde(with = "mode_text")]
    pub mode: Mode,
    pub deed: Deed,
}

/// The file that it is kept in. Where there is none, this is the first start.
#[derive(Clone, Debug)]
pub(crate) struct ModeFile {
    path: PathBuf,
}

impl Kept {
    /// What is to be kept of a record; `None` while it is provisional.
    pub(crate) fn of(record: &ModeRecord) -> Option<Self> {
        let ModeRecord { mode, until, deed, .. } = record;
        until.is_none().then(|| Self { mode: *mode, deed: deed.clone() })
    }

    pub(crate) fn record(self) -> ModeRecord {
        ModeRecord::confirmed(self.mode, self.deed)
    }
}

impl ModeFile {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME) }
    }

    /// What was kept.
    ///
    /// # Errors
    ///
    /// Why the file, which is there, cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Kept>, String> {
        match fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?)) {
            Ok(kept) => Ok(Some(kept)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("{}: {error}", self.path.display())),
        }
    }

    /// Keeps this instead, in one step; it is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// Why it is not; then what was kept before is.
    pub(crate) fn write(&self, kept: &Kept) -> Result<(), String> {
        serde_json::to_vec(kept)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&self.path, &bytes))
            .map_err(|error| format!("{}: {error}", self.path.display()))
    }
}

#[cfg(test)]
mod tests {
    use detector_common::settings::Cause;
    use detector_core::model::{Ticks, Timestamp};

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_provisional_is_not_kept() {
        let directory = tempfile::tempdir().unwrap();
        let file = ModeFile::new(directory.path());
        assert_eq!(file.read(), Ok(None));
        for mode in [Mode::Enforce, Mode::Observe] {
            let deed = Deed::new(Timestamp(7), 1000, Cause::Operator, "why \"not\"");
            let record = ModeRecord::confirmed(mode, deed);
            file.write(&Kept::of(&record).unwrap()).unwrap();
            assert_eq!(file.read().unwrap().unwrap().record(), record);
            let provisional = ModeRecord { until: Some(Ticks(7)), ..record };
            assert_eq!(Kept::of(&provisional), None);
        }
        for damaged in ["", "{", "{\"mode\":\"both\"}", "\u{0}"] {
            fs::write(directory.path().join(NAME), damaged).unwrap();
            let why = file.read().unwrap_err();
            assert!(why.contains("mode.json"), "{why}");
        }
        assert!(ModeFile::new(Path::new("/nonexistent")).write(&kept()).is_err());
    }

    /// What starts before the daemon, and where there is none, looks at the file by other means.
    #[test]
    fn units_and_hooks_can_tell_what_was_confirmed() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        let unit = include_str!("../../packaging/detector-ready.service");
        let condition = unit.lines().find_map(|line| line.strip_prefix("ExecCondition=")).unwrap();
        let condition = condition.replace("/var/lib/detector", place);
        let holds_up = || {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &condition]).status().unwrap().success()
        };
        assert!(!holds_up(), "before the first start");
        for mode in [Mode::Enforce, Mode::Observe] {
            ModeFile::new(directory.path()).write(&Kept { mode, ..kept() }).unwrap();
            assert_eq!(holds_up(), mode == Mode::Enforce);
            for hook in HOOKS {
                let starts = |words| starts(hook, directory.path(), words);
                let case = format!("{mode:?}, {hook}");
                assert_eq!(starts(["start", "begin"]), mode == Mode::Observe, "{case}");
                assert!(starts(["reconnect", "begin"]), "it runs: {case}");
            }
        }
    }

    const HOOKS: [&str; 2] = [
        include_str!("../../packaging/libvirt-hook-qemu"),
        include_str!("../../packaging/libvirt-hook-lxc"),
    ];

    /// Whether a hook lets a VM start where nothing is pinned and there is no program, or one that crashes.
    fn starts(hook: &str, state: &Path, words: [&str; 2]) -> bool {
        use std::os::unix::fs::PermissionsExt;
        let crashing = state.join("crashing");
        fs::write(&crashing, "#!/bin/sh\nkill -SEGV $$\n").unwrap();
        fs::set_permissions(&crashing, fs::Permissions::from_mode(0o755)).unwrap();
        let place = state.to_str().unwrap();
        let [missing, crashing] = ["/nonexistent", crashing.to_str().unwrap()].map(|program| {
            let hook = hook.replace("detector=/usr/sbin/detector", &format!("detector={program}"));
            let hook = hook.replace("/var/lib/detector", place);
            let hook = hook.replace("/sys/fs/bpf/detector", "/nonexistent");
            let mut shell = std::process::Command::new("sh");
            shell
                .args(["-c", &hook, "hook", "vm"])
                .args(words)
                .arg("-")
                .output()
                .unwrap()
                .status
                .success()
        });
        assert_eq!(missing, crashing);
        missing
    }

    fn kept() -> Kept {
        Kept { mode: Mode::Enforce, deed: Deed::new(Timestamp(7), 0, Cause::Configured, "") }
    }
}
