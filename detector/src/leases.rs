//! Leases that are known from elsewhere than the kernel: from the files of dnsmasq and libvirt, and
//! from before a restart of the host.

mod files;
mod remembered;

use std::path::{Path, PathBuf};

use detector_core::model::KnownLease;

pub(crate) use remembered::Remembered;

/// Where leases are known from.
#[derive(Clone, Debug)]
pub(crate) struct Leases {
    patterns: Vec<PathBuf>,
    remembered: Vec<KnownLease>,
}

impl Leases {
    /// Lease files by these paths, in which the file's name may have `*` and `?`; and what was
    /// remembered in the state directory when the daemon started.
    pub(crate) fn new(state: &Path, patterns: &[PathBuf]) -> Self {
        Self { patterns: patterns.to_vec(), remembered: Remembered::new(state).read() }
    }

    /// What they say now; blocks. What cannot be read says nothing.
    pub(crate) fn read(&self) -> Vec<KnownLease> {
        let mut leases = self.remembered.clone();
        for path in self.patterns.iter().flat_map(|pattern| files::matching(pattern)) {
            leases.extend(files::read(&path));
        }
        leases.sort();
        leases.dedup();
        leases
    }
}
