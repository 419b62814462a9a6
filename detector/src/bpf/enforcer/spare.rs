//! A second copy of the programs, which goes ahead of others where the first is behind them: the kernel
//! cannot move a link, and runs no program twice on one hook.
//!
//! Loading it takes the verifier up to seconds on a busy host, and what was put ahead of ours is put back
//! within one. So it is loaded ahead of need, once the start is over, by a thread of its own, and stays
//! loaded: it has the maps of the first.

use std::{
    mem,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use detector_common::{maps, stamp::Stamp};

use super::KernelEnforcer;
use crate::bpf::{BpfError, PinPaths, load::Programs};

/// How long after the start, or after a failure, it is loaded: the daemon has guarded by then what there is.
pub(super) const QUIET: Duration = Duration::from_secs(5);

/// The copy, or the way to it.
#[derive(Debug)]
pub(super) enum Spare {
    /// There is none since then.
    Absent(Instant),
    Loading(Loader),
    Ready(Box<Programs>),
}

impl Spare {
    pub(super) fn none() -> Self {
        Self::Absent(Instant::now())
    }
}

/// A thread that loads the copy.
#[derive(Debug)]
pub(super) struct Loader(Option<JoinHandle<Result<Programs, BpfError>>>);

impl Loader {
    /// `None` where there can be no thread: the copy is loaded when it is needed.
    fn begin(paths: &PinPaths, stamp: Stamp, stays: bool) -> Option<Self> {
        let paths = paths.clone();
        let load = move || Programs::load_over(&paths, stamp, stays);
        match thread::Builder::new().name("spare-programs".to_owned()).spawn(load) {
            Ok(thread) => Some(Self(Some(thread))),
            Err(error) => {
                tracing::debug!(%error, "no thread to load programs ahead of need");
                None
            }
        }
    }

    fn has_ended(&self) -> bool {
        self.0.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// What it comes to, once it has.
    fn end(mut self) -> Result<Programs, BpfError> {
        let died = || BpfError::Refused("the thread that loads programs has died".to_owned());
        self.0.take().and_then(|thread| thread.join().ok()).ok_or_else(died)?
    }
}

/// Whoever opens the pins next is not to find somebody who is still loading over them.
impl Drop for Loader {
    fn drop(&mut self) {
        // What it has loaded goes with it.
        let _ = self.0.take().map(JoinHandle::join);
    }
}

impl KernelEnforcer {
    /// Has the copy loaded once it is quiet; looks whether it is.
    pub(super) fn prepare_spare(&mut self) {
        self.spare = match mem::replace(&mut self.spare, Spare::none()) {
            Spare::Absent(since) if since.elapsed() >= QUIET => {
                let stays = !self.predecessors.is_empty();
                Loader::begin(self.pins.paths(), self.stamp, stays)
                    .map_or_else(Spare::none, Spare::Loading)
            }
            Spare::Loading(loader) if loader.has_ended() => {
                match loader.end().and_then(|spare| self.over_our_maps(spare)) {
                    Ok(spare) => Spare::Ready(Box::new(spare)),
                    Err(error) => {
                        tracing::debug!(%error, "programs could not be loaded ahead of need");
                        Spare::none()
                    }
                }
            }
            unchanged => unchanged,
        };
    }

    /// Whether going ahead of others needs no waiting.
    #[cfg(test)]
    pub(super) fn has_spare(&self) -> bool {
        matches!(self.spare, Spare::Ready(_))
    }

    /// The copy, loaded now if it is not yet.
    pub(super) fn take_spare(&mut self) -> Result<Box<Programs>, BpfError> {
        let loaded = match mem::replace(&mut self.spare, Spare::none()) {
            Spare::Ready(spare) => return Ok(spare),
            Spare::Loading(loader) => loader.end(),
            Spare::Absent(_) => {
                let stays = !self.predecessors.is_empty();
                Programs::load_over(self.pins.paths(), self.stamp, stays)
            }
        };
        self.over_our_maps(loaded?).map(Box::new)
    }

    /// The loader takes over what is pinned at that moment, which must still be ours.
    fn over_our_maps(&mut self, mut spare: Programs) -> Result<Programs, BpfError> {
        let (theirs, used) = (spare.map_ids()?, self.programs.map_ids()?);
        for name in maps::ALL {
            let id = self.map_id(name)?;
            if used.contains(&id) && !theirs.contains(&id) {
                return Err(BpfError::Refused(format!(
                    "the map {name} was replaced while programs were being loaded over it"
                )));
            }
        }
        Ok(spare)
    }
}
