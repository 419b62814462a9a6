//! Which ports were there before the daemon was first started on this host, kept over its restarts.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::replace;

const NAME: &str = "adopted.json";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The file that they are kept in. Where there is none, this is the first start.
#[derive(Clone, Debug)]
pub(crate) struct Adopted {
    path: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    /// Of which boot of the host: its interfaces do not outlive it.
    boot: String,
    /// The instance of each port, by ifindex.
    ports: BTreeMap<u32, u32>,
}

impl Adopted {
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(NAME) }
    }

    /// The instance of each port that was adopted, by ifindex; `None` at the first start. Where the file
    /// cannot be read nothing is adopted.
    pub(crate) fn read(&self) -> Option<BTreeMap<u32, u32>> {
        let read = fs::read(&self.path).and_then(|bytes| Ok(serde_json::from_slice(&bytes)?));
        match read {
            Ok(Kept { boot, ports }) if boot == boot_id() => Some(ports),
            Ok(_) => Some(BTreeMap::new()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "no port is adopted");
                Some(BTreeMap::new())
            }
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps these; from now on no start is the first.
    pub(crate) fn write(&self, ports: BTreeMap<u32, u32>) {
        let kept = Kept { boot: boot_id(), ports };
        let written = serde_json::to_vec(&kept)
            .map_err(io::Error::from)
            .and_then(|bytes| replace(&self.path, &bytes));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "adopted ports cannot be kept");
        }
    }
}

/// Names this boot of the host.
pub(crate) fn boot_id() -> String {
    fs::read_to_string(BOOT_ID).unwrap_or_default().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_is_the_one_without_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let adopted = Adopted::new(directory.path());
        assert_eq!(adopted.read(), None);
        let ports = BTreeMap::from([(7, 1), (9, 2)]);
        adopted.write(ports.clone());
        assert_eq!(adopted.read(), Some(ports.clone()));
        let other = Kept { boot: "another".to_owned(), ports };
        let path = directory.path().join(NAME);
        fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(adopted.read(), Some(BTreeMap::new()), "of an earlier boot");
        fs::write(&path, "{").unwrap();
        assert_eq!(adopted.read(), Some(BTreeMap::new()), "damaged");
    }
}
