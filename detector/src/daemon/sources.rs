//! What inventory sources say, and what stays of it when they fall silent.

use std::collections::BTreeMap;

use detector_core::model::{Health, PowerState, Source, Timestamp, Vm};
use uuid::Uuid;

use super::{
    brain::{Brain, source_mut},
    input::SourceEvent,
};
use crate::enforcer::Enforcer;

/// A source that has not spoken yet.
pub(super) fn silent(now: Timestamp) -> Source {
    Source {
        health: Health::Lost { since: now, why: "it has not answered yet".to_owned() },
        vms: BTreeMap::new(),
        overlays: BTreeMap::new(),
        rejected: Vec::new(),
    }
}

/// Takes in what a source says. Returns the VMs that begin to run with it.
pub(super) fn take_in<E: Enforcer>(
    brain: &mut Brain<E>,
    name: String,
    said: SourceEvent,
) -> Vec<Uuid> {
    let now = brain.world.now;
    let source = source_mut(&mut brain.world.sources, &name, now);
    let mut started = Vec::new();
    match said {
        SourceEvent::Listed(mut listed) => {
            brain.admissions.hold_against_listing(&name, &mut listed.vms);
            started.extend(
                listed
                    .vms
                    .values()
                    .filter(|vm| runs(vm) && !source.vms.get(&vm.uuid).is_some_and(runs))
                    .map(|vm| vm.uuid),
            );
            if let (Health::Lost { since, .. }, Health::Lost { since: before, .. }) =
                (&mut listed.health, &source.health)
            {
                *since = (*since).min(*before);
            }
            *source = listed;
        }
        SourceEvent::Vm(vm) => {
            if let Some(vm) = brain.admissions.hold_against(&name, vm.uuid, Some(*vm)) {
                if runs(&vm) && !source.vms.get(&vm.uuid).is_some_and(runs) {
                    started.push(vm.uuid);
                }
                source.vms.insert(vm.uuid, vm);
            }
        }
        SourceEvent::Removed(uuid) => {
            if !brain.admissions.holds(&name, uuid) {
                source.vms.remove(&uuid);
            } else {
                brain.admissions.hold_against(&name, uuid, None);
            }
        }
        SourceEvent::Rejected(rejected) => source.rejected = rejected,
        SourceEvent::Lost(why) => match &mut source.health {
            Health::Lost { why: before, .. } => *before = why,
            healthy @ Health::Healthy => *healthy = Health::Lost { since: now, why },
        },
    }
    started
}

pub(super) fn runs(vm: &Vm) -> bool {
    vm.power != PowerState::Off
}
