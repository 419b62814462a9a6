use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use detector_core::model::{Chain, Digest, Evidence, ImageFile, MediumRole};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    certificate::{Birth, Certificates, IN_USE},
    chain::{Walked, walk},
    digest::Digests,
    pools::Pools,
    witness::{Sight, Witnesses},
};

/// How many files are read at a time: hashing takes a core and the disk's throughput, and both
/// belong to the guests.
const READERS: usize = 2;

/// How often a medium whose layers change meanwhile is read anew.
const ATTEMPTS: u32 = 3;

/// Reads what VMs boot from.
///
/// Each request looks at the files again: one that has changed is hashed again, one that has not
/// is answered from the cache. Clones share everything; when the last one is dropped, hashing that
/// is still going on is given up.
#[derive(Clone)]
pub struct Gatherer {
    shared: Arc<Inner>,
    _stop: Arc<StopOnDrop>,
}

type Gathering = Shared<BoxFuture<'static, Evidence>>;

struct Inner {
    pools: Pools,
    /// None where nothing is kept.
    certificates: Option<Certificates>,
    /// Whether disks get certificates of birth. Firmware's variables always do.
    disks: bool,
    /// What each medium looked like when it was read.
    witnesses: Witnesses,
    digests: Digests,
    readers: Semaphore,
    stop: Arc<AtomicBool>,
    /// What is being read, so that everybody who asks for it waits for one reader.
    gathering: Mutex<BTreeMap<ImageFile, Gathering>>,
}

struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Gatherer {
    /// Keeps digests in `digests.json` of the state directory. Blocks while it reads that file. Follows
    /// backing files wherever they lie, for a person who has named the image.
    pub fn open(state: &Path) -> Self {
        Self::new(state, Pools::anywhere(), None, false)
    }

    /// The same, but follows backing files within the pools only, and keeps certificates of birth of
    /// firmware's variables in `certificates.json`.
    pub fn within(state: &Path, pools: Pools) -> Self {
        Self::new(state, pools, Some(Certificates::open(state)), false)
    }

    /// The same, where disks get certificates of birth, too.
    pub fn certifying(state: &Path, pools: Pools) -> Self {
        Self::new(state, pools, Some(Certificates::open(state)), true)
    }

    fn new(state: &Path, pools: Pools, certificates: Option<Certificates>, disks: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let shared = Arc::new(Inner {
            pools,
            certificates,
            disks,
            witnesses: Witnesses::default(),
            digests: Digests::open(state),
            readers: Semaphore::new(READERS),
            stop: Arc::clone(&stop),
            gathering: Mutex::default(),
        });
        Self { shared, _stop: Arc::new(StopOnDrop(stop)) }
    }

    /// Reads a medium. The answer is never [`Evidence::Pending`]; it takes as long as hashing takes.
    /// Needs a tokio runtime.
    pub async fn gather(&self, file: &ImageFile) -> Evidence {
        let inner = Arc::clone(&self.shared);
        let quick = file.clone();
        match spawn_blocking(move || inner.look(&quick)).await {
            Ok(Some(evidence)) => evidence,
            Ok(None) => self.join(file.clone()).await,
            Err(error) => unreadable(&file.path, error),
        }
    }

    /// Which of the media that have been read are not what they were, each told once; the flag says
    /// whether the VM itself writes to the medium. Blocks, but hashes nothing.
    pub fn altered(&self, media: &[(ImageFile, bool)]) -> Vec<ImageFile> {
        self.shared.witnesses.altered(media, &self.shared.pools)
    }

    /// A VM begins to run with a disk or with variables of its own, of which this is the digest before it
    /// ever ran. Blocks for as long as writing a small file takes.
    pub fn begin(&self, role: MediumRole, disk: &ImageFile, digest: Digest) {
        let certified = self.shared.disks || role == MediumRole::Variables;
        let certificates = self.shared.certificates.as_ref().filter(|_| certified);
        let Some(certificates) = certificates else { return };
        let walked = walk(disk, &self.shared.pools).ok();
        let walked = walked.filter(|walked| walked.overlays.is_empty());
        // The file that was read, whatever has the name by now.
        let read = self.shared.witnesses.only_file(disk);
        if let Some(walked) = walked.filter(|walked| read == Some(walked.opened.id)) {
            certificates.begin(&walked.opened, digest);
        }
    }

    /// A VM has ended that began with this disk of its own; nothing is recorded unless nobody else can have had it
    /// by then. Blocks for as long as it takes to write back what the VM has left in memory, and for the clock of
    /// the file system to tick.
    pub fn end(&self, disk: &ImageFile, is_held_up: impl Fn() -> bool) {
        let Some(certificates) = &self.shared.certificates else { return };
        let ended = walk(disk, &self.shared.pools).map_err(|error| error.to_string());
        let ended = ended.and_then(|walked| {
            certificates.end(&walked.opened, is_held_up).map_err(|error| error.to_string())
        });
        if let Err(why) = ended {
            tracing::warn!(disk = %disk.path.display(), %why, "its certificate of birth is void");
        }
    }

    fn join(&self, file: ImageFile) -> Gathering {
        let mut gathering = self.shared.gathering.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = gathering.get(&file) {
            return running.clone();
        }
        // A task of its own, so that it goes on when whoever asked first stops waiting.
        let inner = Arc::clone(&self.shared);
        let path = file.path.clone();
        let reading = tokio::spawn(read(inner, file.clone()))
            .map(move |done| done.unwrap_or_else(|error| unreadable(&path, error)))
            .boxed()
            .shared();
        gathering.insert(file, reading.clone());
        reading
    }
}

impl Inner {
    /// What can be said without reading a whole file.
    fn look(&self, file: &ImageFile) -> Option<Evidence> {
        match walk(file, &self.pools) {
            Err(error) => Some(Evidence::Unreadable(error.to_string())),
            Ok(walked) => {
                let sight = Sight::of(&walked);
                if let Some(digest) = self.digests.known(&walked.opened) {
                    self.witnesses.note(file, sight);
                    return Some(chain(walked, digest, false));
                }
                let birth = match &self.certificates {
                    Some(certificates) if walked.overlays.is_empty() => {
                        certificates.birth(&walked.opened)
                    }
                    _ => Birth::Unknown,
                };
                match birth {
                    Birth::Unknown => None,
                    Birth::Certified(digest) => {
                        self.witnesses.note(file, sight);
                        Some(chain(walked, digest, true))
                    }
                    Birth::InUse => Some(unreadable(&walked.opened.real, IN_USE)),
                }
            }
        }
    }

    /// Hashes the base, and then looks again whether it still is the base: hashing takes minutes.
    fn look_and_hash(&self, file: &ImageFile) -> Evidence {
        for _ in 0..ATTEMPTS {
            let walked = match walk(file, &self.pools) {
                Err(error) => return Evidence::Unreadable(error.to_string()),
                Ok(walked) => walked,
            };
            // From before it is hashed: what changes afterwards is noticed.
            let sight = Sight::of(&walked);
            let digest = match self.digests.digest(&walked.opened, &self.stop) {
                Err(error) => return unreadable(&walked.opened.real, error),
                Ok(digest) => digest,
            };
            match walk(file, &self.pools) {
                Ok(now) if now.is_same(&walked) => {
                    self.witnesses.note(file, sight);
                    return chain(walked, digest, false);
                }
                _ => {}
            }
        }
        unreadable(&file.path, "its layers keep changing while they are read")
    }
}

/// Files are opened only once it is this medium's turn, so that a long queue holds no descriptors.
async fn read(inner: Arc<Inner>, file: ImageFile) -> Evidence {
    let permit = inner.readers.acquire().await;
    let (blocking, wanted) = (Arc::clone(&inner), file.clone());
    let evidence = match spawn_blocking(move || blocking.look_and_hash(&wanted)).await {
        Ok(evidence) => evidence,
        Err(error) => unreadable(&file.path, error),
    };
    drop(permit);
    inner.gathering.lock().unwrap_or_else(PoisonError::into_inner).remove(&file);
    evidence
}

fn chain(walked: Walked, digest: Digest, at_birth: bool) -> Evidence {
    Evidence::Chain(Chain { overlays: walked.overlays, base: walked.base, digest, at_birth })
}

fn unreadable(path: &Path, error: impl std::fmt::Display) -> Evidence {
    Evidence::Unreadable(format!("{path:?}: {error}"))
}

#[cfg(test)]
mod tests;
