//! What inventory sources say, and what stays of it when they fall silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_core::model::{
    Finding, FindingKey, FindingKind, Health, PowerState, Source, Subject, Timestamp, Unsettled,
    Vm, World,
};
use uuid::Uuid;

use super::brain::Brain;
use crate::{
    enforcer::Enforcer,
    inventory::{SourceEvent, Update},
};

/// How long a source may be silent before people are told. Nothing new is admitted from the first
/// moment on.
const GRACE: Duration = Duration::from_secs(2);

/// A source that will speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub name: String,
    /// It reports what runs now, so that the ports it names go with their interfaces.
    pub live: bool,
}

impl Expected {
    /// Of which NICs it may have settings before it has spoken. Managers have none.
    pub(super) fn unsettled(&self) -> Unsettled {
        if self.live { Unsettled::default() } else { Unsettled::Any }
    }
}

/// Until when a finding is not told: an inventory that is lost for a moment, as at every start, is none.
pub(super) fn silent_until(finding: &Finding, world: &World) -> Option<Timestamp> {
    let FindingKey { kind: FindingKind::SourceLost, subject: Subject::Source(name) } = &finding.key
    else {
        return None;
    };
    world.sources.contains_key(name).then(|| finding.since + GRACE)
}

/// A source that has not spoken yet. Of one that may have settings for NICs, they are not known.
pub(super) fn silent(now: Timestamp, unsettled: Unsettled) -> Source {
    Source {
        health: Health::Lost { since: now, why: "it has not answered yet".to_owned() },
        vms: BTreeMap::new(),
        outdated: BTreeSet::new(),
        overlays: BTreeMap::new(),
        unsettled,
        rejected: Vec::new(),
    }
}

/// The source of that name, as far as it has spoken.
pub(super) fn source_mut<'a>(
    sources: &'a mut BTreeMap<String, Source>,
    name: &str,
    now: Timestamp,
) -> &'a mut Source {
    let new = || silent(now, Unsettled::default());
    sources.entry(name.to_owned()).or_insert_with(new)
}

/// Takes in what a source says. Returns the VMs that begin to run with it.
pub(super) fn take_in<E: Enforcer>(brain: &mut Brain<E>, event: SourceEvent) -> Vec<Uuid> {
    let now = brain.world.now;
    let SourceEvent { source: name, mut update } = event;
    match &mut update {
        Update::Snapshot { vms, .. } => {
            vms.iter_mut().for_each(|vm| brain.note_arrival(vm));
            brain.admissions.hold_against_listing(&name, vms);
            // It answers again: what the hook said in its place is in the listing now.
            brain.world.sources.remove(&stand_in(&name));
        }
        Update::Changed(vm) => {
            brain.note_arrival(vm);
            if !brain.admissions.yields(&name, vm.uuid, Some(vm)) {
                return Vec::new();
            }
        }
        Update::Gone(uuid) if !brain.admissions.yields(&name, *uuid, None) => return Vec::new(),
        _ => {}
    }
    let source = source_mut(&mut brain.world.sources, &name, now);
    let ran: BTreeMap<_, _> = running(source).collect();
    update.apply(source, now);
    // One that has ended and begun anew may never have been seen off.
    let is_another = |(before, now): (Option<u32>, Option<u32>)| {
        before.is_some() && now.is_some() && before != now
    };
    let begins = |(uuid, run): &(Uuid, Option<u32>)| {
        ran.get(uuid).is_none_or(|before| is_another((*before, *run)))
    };
    running(source).filter(begins).map(|(uuid, _)| uuid).collect()
}

/// The name of the source that holds what the hook says while the source itself is lost.
pub(super) fn stand_in(name: &str) -> String {
    format!("{name} (hook)")
}

/// A source in which the hook's word counts though the manager's own connection is lost: the
/// manager has just shown that it is alive.
pub(super) fn vouched() -> Source {
    Source {
        health: Health::Healthy,
        vms: BTreeMap::new(),
        outdated: BTreeSet::new(),
        overlays: BTreeMap::new(),
        unsettled: Unsettled::default(),
        rejected: Vec::new(),
    }
}

pub(super) fn runs(vm: &Vm) -> bool {
    vm.power != PowerState::Off
}

/// What runs, and which run of it that is.
fn running(source: &Source) -> impl Iterator<Item = (Uuid, Option<u32>)> {
    source.vms.values().filter(|vm| runs(vm)).map(|vm| (vm.uuid, vm.run))
}
