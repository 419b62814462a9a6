//! Whether what has been read is still there: looked at again and again while VMs run, and not left to
//! notifications, which tell nothing of what is written through a mapping or on another host.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use detector_core::model::{ImageFile, Layer};

use super::{
    cache::FileState,
    chain::{Walked, walk},
    open::Inode,
    pools::Pools,
};

/// After so many rounds in which nobody asks for a medium it is forgotten.
const FORGOTTEN: u8 = 8;

/// What a medium looks like without reading more of it than headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sight {
    files: Vec<Inode>,
    layers: Vec<Layer>,
    /// `None` for devices, which have no times.
    base: Option<FileState>,
}

impl Sight {
    pub(super) fn of(walked: &Walked) -> Self {
        let layers = walked.overlays.iter().chain([&walked.base]).cloned().collect();
        let metadata = walked.opened.file.metadata().ok();
        let base = metadata.filter(|_| !walked.opened.block_device);
        let base = base.and_then(|metadata| FileState::of(&metadata));
        Self { files: walked.files.clone(), layers, base }
    }

    /// Without what changes as the VM writes to its disk.
    fn lasting(mut self, written: bool) -> Self {
        if written && self.files.len() == 1 {
            self.base = None;
        }
        self
    }
}

#[derive(Debug, Default)]
pub(super) struct Witnesses(Mutex<BTreeMap<ImageFile, Witness>>);

#[derive(Debug)]
struct Witness {
    /// `None` once it could not be looked at.
    sight: Option<Sight>,
    unasked: u8,
}

impl Witnesses {
    pub(super) fn note(&self, file: &ImageFile, sight: Sight) {
        self.lock().insert(file.clone(), Witness { sight: Some(sight), unasked: 0 });
    }

    /// The file of a medium that has no layer beneath it, as it was read.
    pub(super) fn only_file(&self, file: &ImageFile) -> Option<Inode> {
        match self.lock().get(file)?.sight.as_ref()?.files.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    pub(super) fn altered(&self, media: &[(ImageFile, bool)], pools: &Pools) -> Vec<ImageFile> {
        let mut altered = Vec::new();
        for (file, written) in media {
            // Nobody waits while a file system takes its time.
            let before = self.lock().get(file).map(|witness| witness.sight.clone());
            let Some(before) = before else { continue };
            let now = walk(file, pools).ok().map(|walked| Sight::of(&walked));
            let lasting = |sight: &Option<Sight>| sight.clone().map(|one| one.lasting(*written));
            if lasting(&before) == lasting(&now) {
                continue;
            }
            let mut witnesses = self.lock();
            if let Some(witness) = witnesses.get_mut(file).filter(|one| one.sight == before) {
                witness.sight = now;
                altered.push(file.clone());
            }
        }
        let asked: BTreeSet<&ImageFile> = media.iter().map(|(file, _)| file).collect();
        self.lock().retain(|file, witness| {
            witness.unasked =
                if asked.contains(file) { 0 } else { witness.unasked.saturating_add(1) };
            witness.unasked < FORGOTTEN
        });
        altered
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<ImageFile, Witness>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
