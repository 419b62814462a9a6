//! Which files an image may name as its backing file.
//!
//! Whoever may write an overlay chooses the name in its header, and the daemon reads as root: what is
//! named is followed only where images are kept. The medium itself is named by the VM's manager, and is
//! opened wherever it lies.

use std::{
    collections::BTreeMap,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// A host has a handful.
const MOST: usize = 256;

/// Directories in which images are kept.
#[derive(Clone, Debug)]
pub struct Pools {
    /// None where there is no limit.
    configured: Option<Vec<PathBuf>>,
    /// By managers, each about its own.
    told: Arc<Mutex<BTreeMap<String, Vec<PathBuf>>>>,
}

/// What one medium may lead to.
#[derive(Clone, Debug)]
pub(super) enum Reach {
    Anything,
    /// Directories: as they are named, and as they are once every symbolic link is followed.
    Within(Vec<PathBuf>, Vec<PathBuf>),
}

impl Pools {
    /// For a person who names an image and sees what comes of it.
    pub fn anywhere() -> Self {
        Self { configured: None, told: Arc::default() }
    }

    pub fn new(directories: &[PathBuf]) -> Self {
        Self { configured: Some(directories.to_vec()), told: Arc::default() }
    }

    /// A manager says where its images are; this replaces what it has said before, and nothing of what
    /// another has.
    pub fn tell(&self, manager: &str, mut directories: Vec<PathBuf>) {
        directories.truncate(MOST);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(manager.to_owned(), directories);
    }

    /// The pools, and the directory of the medium itself: who may write an overlay there gains nothing
    /// by naming what lies beside it. `real` is where the medium is once links are followed.
    pub(super) fn beneath(&self, named: &Path, real: &Path) -> Reach {
        let Some(pools) = &self.configured else { return Reach::Anything };
        let mut directories = pools.clone();
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        directories.extend(told.values().flatten().cloned());
        drop(told);
        // Not what is neither an image's nor a person's directory.
        let beside = [named, real].into_iter().filter_map(Path::parent);
        let beside = beside.filter(|path| ![Path::new("/"), Path::new("/dev")].contains(path));
        directories.extend(beside.map(Path::to_path_buf));
        let real = directories.iter().filter_map(|path| path.canonicalize().ok()).collect();
        Reach::Within(directories, real)
    }
}

impl Reach {
    /// Whether a file of this name, which is really there, may be opened. A device is known by its name:
    /// what the links of a volume group lead to lies in one directory with every disk of the host.
    pub(super) fn includes(&self, named: &Path, real: &Path, block_device: bool) -> bool {
        let Self::Within(as_named, as_real) = self else { return true };
        if block_device {
            let plain = !named.components().any(|part| part == Component::ParentDir);
            return plain && as_named.iter().any(|pool| named.starts_with(pool));
        }
        as_real.iter().any(|pool| real.starts_with(pool))
    }
}
