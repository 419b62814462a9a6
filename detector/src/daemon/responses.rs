//! Responses of the policy that last: grace periods, and VMs that are suspended.

use std::{collections::BTreeMap, time::Duration};

use detector_common::{quarantine::Cause, settings::Mode};
use detector_core::{
    decide::{VmDecision, VmStatus},
    model::{
        Finding, FindingKey, FindingKind, PowerState, QuarantineTarget, Severity, Subject,
        Timestamp, World,
    },
};
use uuid::Uuid;

use super::{brain::Brain, input::Effect};
use crate::enforcer::Enforcer;

/// Libvirt takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Characters of a name.
const LONGEST_NAME: usize = 80;

/// VMs that libvirt was asked to suspend. Each is asked for once while it is denied: a person who lets it
/// go on has the last word.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    asked: BTreeMap<Uuid, Pause>,
}

#[derive(Debug)]
enum Pause {
    Asked(Timestamp),
    Done,
    Failed(Timestamp, String),
}

impl Pauses {
    pub(super) fn answered(&mut self, vm: Uuid, now: Timestamp, result: Result<(), String>) {
        if let Some(pause) = self.asked.get_mut(&vm) {
            *pause = match result {
                Ok(()) => Pause::Done,
                Err(why) => Pause::Failed(now, why),
            };
        }
    }

    /// VMs that go on running although they were to be suspended.
    pub(super) fn findings(&self, world: &World) -> Vec<Finding> {
        let running = |uuid: &Uuid| {
            let (_, vm) = live(world, *uuid)?;
            Some(vm.name.chars().take(LONGEST_NAME).collect::<String>())
        };
        let late = |pause: &Pause| match pause {
            Pause::Asked(at) if world.now >= *at + PATIENCE => {
                Some((*at, "libvirt does not answer".to_owned()))
            }
            Pause::Failed(at, why) => Some((*at, why.clone())),
            Pause::Asked(_) | Pause::Done => None,
        };
        let failed = self.asked.iter().filter_map(|(uuid, pause)| {
            let ((since, why), name) = (late(pause)?, running(uuid)?);
            Some(Finding {
                key: FindingKey { kind: FindingKind::PauseFailed, subject: Subject::Vm(*uuid) },
                severity: Severity::Medium,
                title: format!(
                    "VM {name:?} was to be suspended and goes on running; its ports are isolated all \
                     the same."
                ),
                evidence: vec![("uuid".to_owned(), uuid.to_string()), ("why".to_owned(), why)],
                next: Some(format!("virsh suspend {uuid}")),
                since,
            })
        });
        failed.collect()
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let due = self.asked.values().filter_map(|pause| match pause {
            Pause::Asked(at) => Some(*at + PATIENCE),
            Pause::Done | Pause::Failed(..) => None,
        });
        due.min()
    }
}

impl<E: Enforcer> Brain<E> {
    /// Has written down since when VMs have a grace period, where that has changed.
    pub(super) fn keep_graces(&mut self) {
        let graces = &mut self.world.graces;
        if graces.lost.is_some() {
            return;
        }
        let since = |uuid: &Uuid, decision: &VmDecision| match (decision.grace, decision.status) {
            (Some(grace), _) => Some(grace.since),
            // What is looked at again meanwhile does not begin anew.
            (None, VmStatus::Pending) => graces.begun.get(uuid).copied(),
            (None, _) => None,
        };
        let vms = self.decision.vms.iter();
        let listed = vms.filter_map(|(uuid, one)| Some((*uuid, since(uuid, one)?)));
        // What no source lists at present, as at every start, keeps what is in force as well.
        let begun = graces.begun.iter().filter(|(uuid, _)| !self.decision.vms.contains_key(uuid));
        let begun: BTreeMap<_, _> = begun.map(|(uuid, at)| (*uuid, *at)).chain(listed).collect();
        if begun != graces.begun {
            graces.begun.clone_from(&begun);
            self.emit(Effect::KeepGraces(begun));
        }
    }

    /// Asks libvirt to suspend VMs that have come to be denied. Not while enforcing is provisional or there is
    /// maintenance: nothing would let them go on when that ends.
    pub(super) fn pause_denied(&mut self) {
        let mut wanted = Vec::new();
        let lasts = !self.world.is_on_trial() && !self.world.is_under_maintenance();
        self.pauses.asked.retain(|uuid, _| {
            let status = self.decision.vms.get(uuid).map(|one| one.status);
            matches!(status, Some(VmStatus::Denied | VmStatus::Quarantined))
        });
        for (uuid, decision) in &self.decision.vms {
            let asks = lasts && decision.responses.pause && decision.verdict == VmStatus::Denied;
            if !asks || self.pauses.asked.contains_key(uuid) || !self.is_cut_off(*uuid, decision) {
                continue;
            }
            let Some((source, vm)) = live(&self.world, *uuid) else { continue };
            if self.live.contains(source) && self.world.mode_of(vm) == Mode::Enforce {
                wanted.push((source.to_owned(), *uuid));
            }
        }
        for (source, vm) in wanted {
            self.pauses.asked.insert(vm, Pause::Asked(self.world.now));
            self.record_pause(vm, None);
            self.emit(Effect::Pause { source, vm });
        }
    }

    /// Whether the verdict has cut it off since the daemon runs: of those from before, a person may have let
    /// one go on.
    fn is_cut_off(&self, uuid: Uuid, decision: &VmDecision) -> bool {
        match decision.status {
            VmStatus::Denied => decision.responses.isolate && !decision.is_spared(self.world.now),
            VmStatus::Quarantined => {
                let held = self.world.observed.quarantines.get(&QuarantineTarget::Vm(uuid));
                held.is_some_and(|held| held.cause == Cause::Verdict && held.since >= self.started)
            }
            _ => false,
        }
    }
}

/// A VM that runs, and by whose word.
fn live(world: &World, uuid: Uuid) -> Option<(&str, &detector_core::model::Vm)> {
    world.sources.iter().find_map(|(name, source)| {
        let vm = source.vms.get(&uuid).filter(|vm| vm.power == PowerState::Running)?;
        Some((name.as_str(), vm))
    })
}
