//! Leases that are known from elsewhere than the kernel: from the files of dnsmasq and libvirt, and
//! from before a restart of the host. And which ports there were before any lease could be seen.

mod adopted;
mod files;
mod remembered;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use detector_core::model::KnownLease;

pub(crate) use adopted::{Adopted, boot_id};
pub(crate) use remembered::Remembered;

/// Where leases are known from.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    patterns: Vec<PathBuf>,
    remembered: Vec<KnownLease>,
    /// By managers, each about its own.
    told: Arc<Mutex<BTreeMap<String, Vec<KnownLease>>>>,
}

impl Leases {
    /// Lease files by these paths, in which the file's name may have `*` and `?`; and what was
    /// remembered in the state directory when the daemon started.
    pub(crate) fn new(state: &Path, patterns: &[PathBuf]) -> Self {
        Self {
            patterns: patterns.to_vec(),
            remembered: Remembered::new(state).read(),
            told: Arc::default(),
        }
    }

    /// A manager says what the servers of its networks have leased; this replaces what it has said before.
    /// Whether it is something else.
    pub(crate) fn tell(&self, manager: &str, leases: Vec<KnownLease>) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let news = told.get(manager) != Some(&leases);
        told.insert(manager.to_owned(), leases);
        news
    }

    /// What they say now; blocks. What cannot be read says nothing.
    pub(crate) fn read(&self) -> Vec<KnownLease> {
        let mut leases = self.remembered.clone();
        for path in self.patterns.iter().flat_map(|pattern| files::matching(pattern)) {
            leases.extend(files::read(&path));
        }
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        leases.extend(told.values().flatten().cloned());
        drop(told);
        leases.sort();
        leases.dedup();
        leases
    }
}

/// Puts a file of the state directory in the place of the one of before, in one step that outlasts a loss
/// of power.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut options = File::options();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(new, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}
