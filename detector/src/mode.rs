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

    fn kept() -> Kept {
        Kept { mode: Mode::Enforce, deed: Deed::new(Timestamp(7), 0, Cause::Configured, "") }
    }
}
