//! Which media are being read, and when one is read again.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_core::decide::Decision;
use detector_core::model::{
    Chain, Evidence, Finding, FindingKey, FindingKind, ImageFile, Medium, MediumRole, MediumSource,
    PowerState, Severity, Subject, Timestamp, Vm, World,
};
use uuid::Uuid;

use super::{input::Effect, runs::Runs};

/// A medium that could not be read is tried again after this, then after twice as long, and so on…
const FIRST_RETRY: Duration = Duration::from_secs(5);
/// … up to this.
const LAST_RETRY: Duration = Duration::from_secs(300);

/// How often the media of running VMs are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A look that takes longer is held up by a file system that does not answer.
const SLOW: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Media {
    /// What is being read, and the ticket whose result counts.
    reading: BTreeMap<ImageFile, u64>,
    tickets: u64,
    /// To be read again, though there is evidence.
    again: BTreeSet<ImageFile>,
    unreadable: BTreeMap<ImageFile, (u32, Timestamp)>,
    /// Whether somebody looks at media of running VMs now, and since when nobody has.
    looking: bool,
    looked: Timestamp,
    runs: Runs,
}

impl Media {
    /// VMs begin to run: what their media showed before proves nothing for them. For another running
    /// VM with the same medium it stands until the medium has been read again, so that nobody can
    /// mute a VM by starting another one.
    pub(super) fn refresh(&mut self, world: &mut World, started: &[Uuid]) {
        for uuid in started {
            world.booted.remove(uuid);
            self.runs.forget(*uuid);
            let files: BTreeSet<_> =
                vms(world).filter(|vm| vm.uuid == *uuid).flat_map(files_of).cloned().collect();
            for file in files {
                self.unreadable.remove(&file);
                self.reading.remove(&file);
                let shared = vms(world)
                    .filter(|vm| !started.contains(&vm.uuid) && vm.power != PowerState::Off)
                    .flat_map(files_of)
                    .any(|other| *other == file);
                if shared && world.evidence.contains_key(&file) {
                    world.unread.entry(*uuid).or_default().insert(file.clone());
                    self.again.insert(file);
                } else {
                    world.evidence.remove(&file);
                }
            }
        }
    }

    /// A medium has been read. A result that was asked for before the VM began to run does not
    /// count.
    pub(super) fn arrived(
        &mut self,
        world: &mut World,
        file: ImageFile,
        ticket: u64,
        evidence: Evidence,
    ) {
        if self.reading.get(&file) != Some(&ticket) {
            return;
        }
        self.reading.remove(&file);
        if let Evidence::Unreadable(_) = &evidence {
            let tries = self.unreadable.get(&file).map_or(0, |(tries, _)| *tries);
            let wait = FIRST_RETRY.saturating_mul(1 << tries.min(10)).min(LAST_RETRY);
            self.unreadable.insert(file.clone(), (tries.saturating_add(1), world.now + wait));
            if matches!(world.evidence.get(&file), Some(Evidence::Chain(_))) {
                // It was read again for another VM, or because it has changed; for those that run, what
                // it showed still holds.
                let Evidence::Unreadable(why) = evidence else { return };
                world.disturbed.insert(file, why);
                return;
            }
        } else {
            self.unreadable.remove(&file);
        }
        if let Evidence::Chain(now) = &evidence {
            keep_what_was_booted(world, &file, now);
        }
        world.disturbed.remove(&file);
        world.unread.retain(|_, files| {
            files.remove(&file);
            !files.is_empty()
        });
        world.evidence.insert(file, evidence);
    }

    /// Marks what could not be read for another try, where it is due.
    pub(super) fn retry(&mut self, now: Timestamp) {
        for (file, (_, due)) in &mut self.unreadable {
            if *due <= now {
                self.again.insert(file.clone());
                *due = now + LAST_RETRY;
            }
        }
    }

    /// Some media are not what they were. What cannot be read is tried again in its own time.
    pub(super) fn altered(&mut self, files: Vec<ImageFile>) -> bool {
        self.looking = false;
        let news = files.into_iter().filter(|file| !self.unreadable.contains_key(file));
        let before = self.again.len();
        self.again.extend(news);
        self.again.len() > before
    }

    /// These are to be read again.
    pub(super) fn read_again(&mut self, files: BTreeSet<ImageFile>) {
        self.again.extend(files);
    }

    /// Asks to look at the media of running VMs, and of those at rest, where it is time to.
    pub(super) fn look_again(&mut self, world: &World, at_rest: &BTreeSet<Uuid>) -> Option<Effect> {
        if self.looking || world.now < self.looked + LOOK {
            return None;
        }
        let mut media: BTreeMap<&ImageFile, bool> = BTreeMap::new();
        let looked_at = |vm: &&Vm| vm.power != PowerState::Off || at_rest.contains(&vm.uuid);
        for vm in vms(world).filter(looked_at) {
            for medium in &vm.media {
                let MediumSource::File(file) = &medium.source else { continue };
                if matches!(world.evidence.get(file), Some(Evidence::Chain(_))) {
                    let written = vm.power != PowerState::Off && is_written(medium.role);
                    *media.entry(file).or_default() |= written;
                }
            }
        }
        self.looked = world.now;
        self.looking = !media.is_empty();
        let media = media.into_iter().map(|(file, written)| (file.clone(), written)).collect();
        self.looking.then_some(Effect::LookAgain(media))
    }

    /// Nobody notices changes while a look is held up.
    pub(super) fn findings(&self, now: Timestamp) -> Option<Finding> {
        if !self.looking || now < self.looked + SLOW {
            return None;
        }
        Some(Finding {
            key: FindingKey { kind: FindingKind::NoEvidence, subject: Subject::Host },
            severity: Severity::Medium,
            title:
                "Whether media of running VMs change cannot be seen: a file system does not answer."
                    .to_owned(),
            evidence: Vec::new(),
            next: Some("detector vm list".to_owned()),
            since: self.looked,
        })
    }

    /// Which VMs have begun to run with disks of their own, and which have ended.
    pub(super) fn follow(&mut self, world: &World, decision: &Decision) -> Vec<Effect> {
        self.runs.follow(world, decision)
    }

    /// A VM's manager asks before it starts it.
    pub(super) fn announce(&mut self, uuid: Uuid) {
        self.runs.announce(uuid);
    }

    /// A VM has ended, by the word of who had its files last: those are nobody's now.
    pub(super) fn released(&mut self, world: &World, uuid: Uuid) -> Vec<ImageFile> {
        self.runs.released(world, uuid)
    }

    /// Forgets what no VM has any more.
    pub(super) fn forget_unused(&mut self, world: &mut World) {
        let used: BTreeSet<_> = vms(world).flat_map(files_of).cloned().collect();
        for files in world.unread.values_mut() {
            files.retain(|file| used.contains(file));
        }
        world.unread.retain(|_, files| !files.is_empty());
        world.evidence.retain(|file, _| used.contains(file));
        world.disturbed.retain(|file, _| used.contains(file));
        for files in world.booted.values_mut() {
            files.retain(|file, _| used.contains(file));
        }
        world.booted.retain(|_, files| !files.is_empty());
        self.unreadable.retain(|file, _| used.contains(file));
        self.again.retain(|file| used.contains(file));
    }

    /// What to read: what the decision wants, and what is to be read again.
    pub(super) fn want(&mut self, wanted: &BTreeSet<ImageFile>) -> Vec<Effect> {
        let again = std::mem::take(&mut self.again);
        let mut effects = Vec::new();
        for file in wanted.union(&again) {
            if self.reading.contains_key(file) {
                continue;
            }
            self.tickets += 1;
            self.reading.insert(file.clone(), self.tickets);
            effects.push(Effect::Gather { file: file.clone(), ticket: self.tickets });
        }
        effects
    }

    /// Whether any medium of the VM is being read, or is about to be.
    pub(super) fn reads(&self, vm: &Vm) -> bool {
        files_of(vm).any(|file| self.reading.contains_key(file) || self.again.contains(file))
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.unreadable.values().map(|(_, due)| *due).min()
    }
}

/// A medium shows something else while VMs run that have been judged by what it showed before: that
/// counts for them until they begin to run anew, or a VM that booted a foreign image would be proven by
/// what was put in its place.
fn keep_what_was_booted(world: &mut World, file: &ImageFile, now: &Chain) {
    let Some(Evidence::Chain(before)) = world.evidence.get(file) else { return };
    if before == now {
        return;
    }
    let running = vms(world).filter(|vm| vm.power != PowerState::Off);
    let judged = running.filter(|vm| {
        let unread = world.unread.get(&vm.uuid).is_some_and(|files| files.contains(file));
        !unread && files_of(vm).any(|one| one == file)
    });
    let judged: Vec<_> = judged.map(|vm| vm.uuid).collect();
    let before = before.clone();
    for uuid in judged {
        let booted = world.booted.entry(uuid).or_default();
        booted.entry(file.clone()).or_insert_with(|| before.clone());
    }
}

/// What is to be read again of a VM before people approve it, or it is judged, by that: all but what it writes
/// to itself while it runs.
pub(super) fn to_read_again(world: &World, vm: &Vm) -> BTreeSet<ImageFile> {
    let runs = vm.power != PowerState::Off;
    let own = |medium: &Medium, file: &ImageFile| {
        let evidence = world.evidence.get(file);
        let whole = matches!(evidence, Some(Evidence::Chain(chain)) if chain.overlays.is_empty());
        runs && whole && is_written(medium.role)
    };
    let files = vm.media.iter().filter_map(|medium| match &medium.source {
        MediumSource::File(file) if !own(medium, file) => Some(file.clone()),
        MediumSource::File(_) | MediumSource::Remote(_) => None,
    });
    files.collect()
}

/// What a guest can write to when it is its own base.
fn is_written(role: MediumRole) -> bool {
    matches!(role, MediumRole::Disk | MediumRole::Floppy | MediumRole::Variables)
}

pub(super) fn vms(world: &World) -> impl Iterator<Item = &Vm> {
    world.sources.values().flat_map(|source| source.vms.values())
}

/// Everything that is read for a VM.
fn files_of(vm: &Vm) -> impl Iterator<Item = &ImageFile> {
    let files = vm.media.iter().filter_map(|medium| match &medium.source {
        MediumSource::File(file) => Some(file),
        MediumSource::Remote(_) => None,
    });
    files.flat_map(|file| [Some(file), file.origin.as_deref()]).flatten()
}
