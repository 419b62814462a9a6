//! Which signed manifests have been seen, so that an older one is not taken for news.
//!
//! A signature says who wrote a manifest, not that it is the latest one: whoever keeps an old signed
//! one could undo a revocation with it. So a manifest has a serial that only grows, and the highest
//! one of each template is kept in the state directory.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use detector_core::model::{Digest, Rejected, Template};
use serde::{Deserialize, Serialize};

use super::edit;
use crate::config::text::{ReadError, read_text};

const MAX_BYTES: u64 = 64 << 20;

/// Version of the file.
const VERSION: u32 = 1;

#[derive(Debug)]
pub(super) struct Serials {
    path: PathBuf,
    /// By id and version; or why nothing is known.
    seen: Result<BTreeMap<String, Seen>, String>,
    unsaved: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    serial: u64,
    /// Of the whole manifest.
    sha256: Digest,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SerialsFile {
    version: u32,
    manifests: BTreeMap<String, Seen>,
}

impl Serials {
    /// Reads `registry.json` of the state directory. An absent one is empty; one that cannot be read
    /// is a reason to take nothing, since anything could be old.
    pub(super) fn open(state: &Path) -> Self {
        let path = state.join("registry.json");
        let seen = load(&path).map_err(|why| {
            format!(
                "which manifests are the latest cannot be told: {path:?}: {why}; mend it, or remove \
                 it once you are sure that every manifest is the latest one"
            )
        });
        Self { path, seen, unsaved: false }
    }

    /// Takes note of a signed manifest.
    pub(super) fn note(&mut self, template: &Template, sha256: Digest) {
        let Ok(seen) = &mut self.seen else { return };
        let (name, serial) = (template.exact_name(), template.serial.unwrap_or(0));
        if seen.get(&name).is_none_or(|known| known.serial < serial) {
            seen.insert(name, Seen { serial, sha256 });
            self.unsaved = true;
        }
    }

    /// Whether a signed manifest is the latest one of its template.
    pub(super) fn check(&self, template: &Template, sha256: Digest) -> Result<(), String> {
        let seen = self.seen.as_ref().map_err(String::clone)?;
        let serial = template.serial.unwrap_or(0);
        match seen.get(&template.exact_name()) {
            Some(known) if serial < known.serial => Err(format!(
                "its serial {serial} is lower than {}, which has been seen: an older manifest does \
                 not come back; raise the serial and sign it anew",
                known.serial
            )),
            Some(known) if serial == known.serial && sha256 != known.sha256 => Err(format!(
                "its serial {serial} is that of another text, which has been seen; raise the serial \
                 with every change, and sign it anew"
            )),
            _ => Ok(()),
        }
    }

    /// Whether nothing later of this template has been seen.
    pub(super) fn is_latest(&self, template: &Template) -> bool {
        let Ok(seen) = &self.seen else { return true };
        let known = seen.get(&template.exact_name());
        known.is_none_or(|known| known.serial <= template.serial.unwrap_or(0))
    }

    /// Keeps what has been noted; says so where that fails. It is known until the daemon ends then.
    pub(super) fn save(&mut self) -> Result<(), Rejected> {
        let (Ok(seen), true) = (&self.seen, self.unsaved) else { return Ok(()) };
        let file = SerialsFile { version: VERSION, manifests: seen.clone() };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::from);
        let saved = text.and_then(|text| edit::overwrite(&self.path, &text, 0o600));
        self.unsaved = saved.is_err();
        saved.map_err(|error| Rejected {
            place: self.path.display().to_string(),
            why: format!(
                "the serials of manifests cannot be kept: {error}; after a restart an older manifest \
                 could come back"
            ),
        })
    }
}

fn load(path: &Path) -> Result<BTreeMap<String, Seen>, String> {
    let text = match read_text(path, MAX_BYTES) {
        // A link that leads nowhere is not the same as a first start.
        Err(ReadError::Absent) if fs::symlink_metadata(path).is_err() => {
            return Ok(BTreeMap::new());
        }
        Err(why) => return Err(why.to_string()),
        Ok(text) => text,
    };
    let file: SerialsFile = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("it has version {}; expected {VERSION}", file.version));
    }
    Ok(file.manifests)
}
