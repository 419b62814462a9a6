//! The files that administrators edit: templates and the policy.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use detector_core::{
    decide::policy::Rulebook,
    model::{KnownLease, Registry},
};
use tokio::{
    sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, mpsc},
    task::spawn_blocking,
};

use super::input::Input;
use crate::{
    clock,
    leases::Leases,
    mark::{Mark, mark},
    net::{NetError, gateways, host_addresses},
    policy::PolicyFile,
    quarantines::{Memory, Recalled},
    registry::Manifests,
};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The templates, read by whoever needs them fresh.
#[derive(Clone, Debug)]
pub(super) struct Templates {
    /// And the directory that they are in.
    manifests: Arc<Mutex<(Manifests, PathBuf)>>,
    turns: Arc<RwLock<()>>,
}

/// Held by whoever has read the templates until the brain has been told: what they say by the rules before is not
/// heard after what they say by the ones that hold.
pub(super) type Turn = OwnedRwLockReadGuard<()>;

/// Held by who reads them by other rules until it is known whether those hold.
pub(super) type Change = OwnedRwLockWriteGuard<()>;

impl Templates {
    pub(super) fn new(manifests: Manifests, directory: &Path) -> Self {
        let manifests = Arc::new(Mutex::new((manifests, directory.to_owned())));
        Self { manifests, turns: Arc::default() }
    }

    /// Nobody else reads them meanwhile.
    pub(super) async fn change(&self) -> Change {
        Arc::clone(&self.turns).write_owned().await
    }

    /// Reads them by other rules, or elsewhere, from now on, and forgets what they said by the ones before.
    pub(super) fn replace(&self, manifests: Manifests, directory: &Path, _: &Change) {
        let next = (manifests, directory.to_owned());
        *self.manifests.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    fn directory(&self) -> PathBuf {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).1.clone()
    }

    /// Reads them now; blocks.
    pub(super) fn read(&self) -> Registry {
        self.manifests.lock().unwrap_or_else(PoisonError::into_inner).0.reload()
    }

    /// The same; `None` where that breaks.
    pub(super) async fn read_by(&self, _: &Change) -> Option<Registry> {
        self.read_elsewhere().await
    }

    /// Reads them now, by the rules that hold; `None` where that breaks.
    pub(super) async fn fresh(&self) -> (Option<Registry>, Turn) {
        let turn = self.turn().await;
        (self.read_elsewhere().await, turn)
    }

    async fn turn(&self) -> Turn {
        Arc::clone(&self.turns).read_owned().await
    }

    async fn read_elsewhere(&self) -> Option<Registry> {
        let templates = self.clone();
        spawn_blocking(move || templates.read()).await.ok()
    }
}

/// The policy, read by whoever needs it fresh.
#[derive(Clone, Debug)]
pub(super) struct PolicySource {
    file: Arc<Mutex<PolicyFile>>,
}

impl PolicySource {
    pub(super) fn new(path: &Path) -> Self {
        Self { file: Arc::new(Mutex::new(PolicyFile::new(path))) }
    }

    /// Reads another file from now on.
    pub(super) fn follow(&self, path: &Path) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).follow(path);
    }

    fn path(&self) -> PathBuf {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).path().to_owned()
    }

    /// Reads it now; blocks.
    pub(super) fn read(&self) -> Rulebook {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).reload(clock::now())
    }

    /// Reads it now; `None` where that breaks.
    pub(super) async fn fresh(&self) -> Option<Rulebook> {
        let policy = self.clone();
        spawn_blocking(move || policy.read()).await.ok()
    }
}

/// What is read afresh for a request.
#[derive(Clone, Debug)]
pub(super) struct Fresh {
    pub(super) templates: Templates,
    pub(super) policy: PolicySource,
}

/// Tells of every change of the files.
pub(super) async fn watch(templates: Templates, policy: PolicySource, inputs: mpsc::Sender<Input>) {
    // Read once more after the start: what changed in between is not missed.
    let mut seen_templates = None;
    let mut seen_policy = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let _turn = templates.turn().await;
        let (look, policy) = (templates.clone(), policy.clone());
        let before = (seen_templates.clone(), seen_policy);
        let looked = spawn_blocking(move || {
            let marks = (directory_marks(&look.directory()), mark(&policy.path()));
            let registry = (before.0.as_ref() != Some(&marks.0)).then(|| look.read());
            let rules = (before.1.as_ref() != Some(&marks.1)).then(|| policy.read());
            (marks, registry, rules)
        });
        let Ok((marks, registry, rules)) = looked.await else { continue };
        seen_templates = Some(marks.0);
        seen_policy = Some(marks.1);
        let changes = [registry.map(Input::Registry), rules.map(Input::Rules)];
        for change in changes.into_iter().flatten() {
            if inputs.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Tells of every change of leases, of the host's own addresses, and of its gateways. A host may have very
/// many routes: looking takes at most a fiftieth of the time.
pub(super) async fn watch_leases(leases: Leases, inputs: mpsc::Sender<Input>) {
    let mut told = Told::default();
    let mut took = Duration::ZERO;
    loop {
        tokio::time::sleep(LOOK.max(took * 50)).await;
        let look = leases.clone();
        let looked = spawn_blocking(move || {
            let start = Instant::now();
            let found = (look.read(), host_addresses(), gateways());
            (found, start.elapsed())
        });
        let Ok(((leases, addresses, gateways), time)) = looked.await else { continue };
        took = time;
        for change in told.changes(leases, addresses, gateways) {
            if inputs.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Tells when a person has seen to quarantines that could not be read.
pub(super) async fn watch_memory(memory: Memory, inputs: mpsc::Sender<Input>) {
    while memory.is_lost() {
        tokio::time::sleep(LOOK).await;
    }
    // Nobody is left to tell when this fails.
    let _ = inputs.send(Input::Recalled(Recalled::default())).await;
}

/// What was told last.
#[derive(Default)]
struct Told {
    leases: Vec<KnownLease>,
    addresses: BTreeSet<IpAddr>,
    gateways: BTreeSet<IpAddr>,
}

impl Told {
    /// What has changed. Addresses and gateways that cannot be listed now stay protected.
    fn changes(
        &mut self,
        leases: Vec<KnownLease>,
        addresses: Result<BTreeSet<IpAddr>, NetError>,
        gateways: Result<BTreeSet<IpAddr>, NetError>,
    ) -> Vec<Input> {
        let mut changes = Vec::new();
        if leases != self.leases {
            self.leases.clone_from(&leases);
            changes.push(Input::Leases(leases));
        }
        match addresses {
            Ok(addresses) if addresses != self.addresses => {
                self.addresses.clone_from(&addresses);
                changes.push(Input::Addresses(addresses));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                %error,
                "cannot list the host's own addresses, which ports must not learn"
            ),
        }
        match gateways {
            Ok(gateways) if gateways != self.gateways => {
                self.gateways.clone_from(&gateways);
                changes.push(Input::Gateways(gateways));
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(
                %error,
                "cannot list the host's gateways, whose addresses ports must not learn"
            ),
        }
        changes
    }
}

fn directory_marks(path: &Path) -> Vec<(PathBuf, Mark)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut marks: Vec<_> =
        entries.map(|entry| entry.path()).map(|path| (path.clone(), mark(&path))).collect();
    marks.push((path.to_owned(), mark(path)));
    marks.sort();
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_cannot_be_listed_stay_as_they_are() {
        type Found = Result<BTreeSet<IpAddr>, NetError>;
        let refused = || -> Found {
            let source = std::io::Error::from_raw_os_error(libc::ENOBUFS);
            Err(NetError::Refused { what: "list addresses".into(), source })
        };
        let own: BTreeSet<IpAddr> = [[192, 0, 2, 1].into()].into();
        let known = || -> Found { Ok(own.clone()) };
        let mut told = Told::default();
        // First the host's own, then its gateways.
        let mut told_of = |addresses: Found, gateways: Found| -> Vec<(bool, BTreeSet<IpAddr>)> {
            let changes = told.changes(Vec::new(), addresses, gateways).into_iter();
            let of = |change| match change {
                Input::Addresses(addresses) => (true, addresses),
                Input::Gateways(gateways) => (false, gateways),
                other => panic!("{other:?}"),
            };
            changes.map(of).collect()
        };
        assert_eq!(told_of(refused(), refused()), [], "before any is known");
        assert_eq!(told_of(known(), refused()), [(true, own.clone())]);
        assert_eq!(told_of(refused(), known()), [(false, own.clone())]);
        assert_eq!(told_of(refused(), refused()), []);
        assert_eq!(told_of(known(), known()), [], "they are as before");
        let gone = [(true, BTreeSet::new()), (false, BTreeSet::new())];
        assert_eq!(told_of(Ok(BTreeSet::new()), Ok(BTreeSet::new())), gone, "they are gone indeed");
    }
}
