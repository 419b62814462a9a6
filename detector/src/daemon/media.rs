//! Which media are being read, and when one is read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use detector_core::model::{Evidence, MediumSource, PowerState, Timestamp, Vm, World};
use uuid::Uuid;

use super::input::Effect;

/// A medium that could not be read is tried again after this, then after twice as long, and so on…
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(super) struct Media {
    /// What is being read, and the ticket whose result counts.
    reading: BTreeMap<PathBuf, u64>,
    tickets: u64,
    /// To be read again, though there is evidence.
    again: BTreeSet<PathBuf>,
    unreadable: BTreeMap<PathBuf, (u32, Timestamp)>,
}

impl Media {
    /// VMs begin to run: what their media showed in an earlier run proves nothing now. The evidence
    /// of a medium that another running VM has stays until it has been read again, so that nobody
    /// can mute a VM by starting another one.
    pub(super) fn refresh(&mut self, world: &mut World, started: &[Uuid]) {
        for uuid in started {
            let paths: BTreeSet<_> = vms(world)
                .filter(|vm| vm.uuid == *uuid)
                .flat_map(paths_of)
                .map(Path::to_owned)
                .collect();
            for path in paths {
                self.unreadable.remove(&path);
                self.reading.remove(&path);
                let shared = vms(world)
                    .filter(|vm| !started.contains(&vm.uuid) && vm.power != PowerState::Off)
                    .flat_map(paths_of)
                    .any(|other| other == path);
                if shared {
                    self.again.insert(path);
                } else {
                    world.evidence.remove(&path);
                }
            }
        }
    }

    /// A medium has been read. A result that was asked for before the VM began to run does not
    /// count.
    pub(super) fn arrived(
        &mut self,
        world: &mut World,
        path: PathBuf,
        ticket: u64,
        evidence: Evidence,
    ) {
        if self.reading.get(&path) != Some(&ticket) {
            return;
        }
        self.reading.remove(&path);
        if let Evidence::Unreadable(_) = &evidence {
            let tries = self.unreadable.get(&path).map_or(0, |(tries, _)| *tries);
            let wait = FIRST_RETRY.saturating_mul(1 << tries.min(10)).min(LAST_RETRY);
            self.unreadable.insert(path.clone(), (tries.saturating_add(1), world.now + wait));
            if matches!(world.evidence.get(&path), Some(Evidence::Chain(_))) {
                // It was read again for another VM; for those that run, what it showed still holds.
                return;
            }
        } else {
            self.unreadable.remove(&path);
        }
        world.evidence.insert(path, evidence);
    }

    /// Marks what could not be read for another try, where it is due, and forgets what no VM has.
    pub(super) fn retry(&mut self, world: &mut World) {
        if self.unreadable.is_empty() && world.evidence.is_empty() {
            return;
        }
        let now = world.now;
        for (path, (_, due)) in &mut self.unreadable {
            if *due <= now {
                self.again.insert(path.clone());
                *due = now + LAST_RETRY;
            }
        }
        let used: BTreeSet<_> = vms(world).flat_map(paths_of).map(Path::to_owned).collect();
        world.evidence.retain(|path, _| used.contains(path));
        self.unreadable.retain(|path, _| used.contains(path));
        self.again.retain(|path| used.contains(path));
    }

    /// What to read: what the decision wants, and what is to be read again.
    pub(super) fn want(&mut self, world: &World, wanted: &BTreeSet<PathBuf>) -> Vec<Effect> {
        let again = std::mem::take(&mut self.again);
        let mut effects = Vec::new();
        for path in wanted.union(&again) {
            if self.reading.contains_key(path) {
                continue;
            }
            self.tickets += 1;
            self.reading.insert(path.clone(), self.tickets);
            effects.push(Effect::Gather {
                path: path.clone(),
                format: format(world, path),
                ticket: self.tickets,
            });
        }
        effects
    }

    /// Whether any medium of the VM is being read, or is about to be.
    pub(super) fn reads(&self, vm: &Vm) -> bool {
        paths_of(vm).any(|path| self.reading.contains_key(path) || self.again.contains(path))
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.unreadable.values().map(|(_, due)| *due).min()
    }
}

fn vms(world: &World) -> impl Iterator<Item = &Vm> {
    world.sources.values().flat_map(|source| source.vms.values())
}

fn paths_of(vm: &Vm) -> impl Iterator<Item = &Path> {
    vm.media.iter().filter_map(|medium| match &medium.source {
        MediumSource::Path(path) => Some(path.as_path()),
        MediumSource::Remote(_) => None,
    })
}

fn format(world: &World, path: &Path) -> Option<String> {
    vms(world)
        .flat_map(|vm| &vm.media)
        .find(|medium| matches!(&medium.source, MediumSource::Path(at) if at == path))?
        .format
        .clone()
}
