//! Responses of the policy that last: grace periods, and VMs that are suspended or shut down.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use detector_common::{quarantine::Cause, settings::Mode};
use detector_core::{
    decide::{VmDecision, VmStatus, policy::Stop},
    model::{
        Finding, FindingKey, FindingKind, PowerState, QuarantineTarget, Severity, Subject,
        Timestamp, World,
    },
};
use uuid::Uuid;

use super::{brain::Brain, input::Effect};
use crate::{enforcer::Enforcer, inventory::Power};

/// Libvirt takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until what could not be kept is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Characters of a name.
const LONGEST_NAME: usize = 80;

/// VMs that libvirt was asked to suspend. Each is asked for once while it is denied: a person who lets it
/// go on has the last word. What has come of it is kept over restarts, once it has: where a crash comes
/// before, it is asked for again, which does nothing to a VM that is suspended already.
#[derive(Debug, Default)]
pub(super) struct Pauses {
    asked: BTreeMap<Uuid, Pause>,
    /// Whether it is known what had been suspended before the start, as far as anybody knows.
    recalled: bool,
    /// Those that were last to be kept; none where nothing is kept yet.
    keeping: Option<BTreeSet<Uuid>>,
    /// Why they cannot be kept.
    trouble: Option<(Timestamp, String)>,
}

#[derive(Debug)]
enum Pause {
    /// Its manager was asked.
    Asked(Timestamp, Power),
    /// Its guest shuts down, or does not.
    Ending(Timestamp),
    Done,
    Failed(Timestamp, String),
}

impl Pauses {
    /// Those whose manager was asked.
    pub(super) fn asked(&self) -> BTreeSet<Uuid> {
        self.asked.keys().copied().collect()
    }

    /// These had been suspended before the start. Where nobody knows, whoever has been denied before is left
    /// as it is.
    pub(super) fn recall(&mut self, known: Option<BTreeSet<Uuid>>, world: &World) {
        let denied = || {
            let quarantines = world.observed.quarantines.values();
            quarantines.filter(|one| one.cause == Cause::Verdict).filter_map(|one| {
                match one.target {
                    QuarantineTarget::Vm(uuid) => Some(uuid),
                    QuarantineTarget::Port { .. } | QuarantineTarget::Mac(_) => None,
                }
            })
        };
        let suspended = known.clone().unwrap_or_else(|| denied().collect());
        self.asked.extend(suspended.into_iter().map(|uuid| (uuid, Pause::Done)));
        self.keeping = known;
        self.recalled = true;
    }

    /// Whether what was to be kept has been.
    pub(super) fn kept(&mut self, now: Timestamp, result: Result<(), String>) {
        self.trouble = result.err().map(|why| (now, why));
    }

    /// What is to be kept, where that has changed.
    fn keep(&mut self, now: Timestamp) -> Option<BTreeSet<Uuid>> {
        let done = |pause: &Pause| matches!(pause, Pause::Done);
        let suspended = self.asked.iter().filter(|(_, pause)| done(pause));
        let suspended: BTreeSet<_> = suspended.map(|(uuid, _)| *uuid).collect();
        // That there are none is written down, too: from then on a denial is known to be a new one.
        let again = self.trouble.as_ref().is_some_and(|(at, _)| *at + RETRY <= now);
        if !self.recalled || (!again && self.keeping.as_ref() == Some(&suspended)) {
            return None;
        }
        if again {
            self.trouble = self.trouble.take().map(|(_, why)| (now, why));
        }
        self.keeping = Some(suspended.clone());
        Some(suspended)
    }

    /// What its manager was asked to do last.
    pub(super) fn wanted(&self, vm: Uuid) -> Power {
        match self.asked.get(&vm) {
            Some(Pause::Asked(_, power)) => *power,
            _ => Power::Suspend,
        }
    }

    pub(super) fn answered(&mut self, vm: Uuid, now: Timestamp, result: Result<(), String>) {
        if let Some(pause) = self.asked.get_mut(&vm) {
            *pause = match (result, &*pause) {
                // A guest that cannot be asked is one that does not shut down.
                (_, Pause::Asked(at, Power::ShutDown)) => Pause::Ending(*at),
                (Ok(()), _) => Pause::Done,
                (Err(why), _) => Pause::Failed(now, why),
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
            Pause::Asked(at, _) if world.now >= *at + PATIENCE => {
                Some((*at, "libvirt does not answer".to_owned()))
            }
            Pause::Failed(at, why) => Some((*at, why.clone())),
            Pause::Asked(..) | Pause::Ending(_) | Pause::Done => None,
        };
        let failed = self.asked.iter().filter_map(|(uuid, pause)| {
            let ((since, why), name) = (late(pause)?, running(uuid)?);
            Some(Finding {
                key: FindingKey { kind: FindingKind::PauseFailed, subject: Subject::Vm(*uuid) },
                severity: Severity::Medium,
                title: format!(
                    "VM {name:?} was to be suspended or shut down and goes on running; its ports are \
                     isolated all the same."
                ),
                evidence: vec![("uuid".to_owned(), uuid.to_string()), ("why".to_owned(), why)],
                next: Some(format!("virsh suspend {uuid}")),
                since,
            })
        });
        failed.chain(self.unkept()).collect()
    }

    fn unkept(&self) -> Option<Finding> {
        let (since, why) = self.trouble.clone()?;
        Some(Finding {
            key: FindingKey {
                kind: FindingKind::PauseFailed,
                subject: Subject::Place("pauses.json".to_owned()),
            },
            severity: Severity::Low,
            title: "Which VMs have been suspended cannot be kept: after a restart of the daemon each that \
                    is still denied may be suspended once more."
                .to_owned(),
            evidence: vec![("why".to_owned(), why)],
            next: Some("detector status".to_owned()),
            since,
        })
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let due = self.asked.values().filter_map(|pause| match pause {
            Pause::Asked(at, _) => Some(*at + PATIENCE),
            // The loop looks often enough.
            Pause::Ending(_) | Pause::Done | Pause::Failed(..) => None,
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

    /// Asks libvirt to suspend, or to shut down, VMs that have come to be denied. Not while enforcing is
    /// provisional or there is maintenance: nothing would let them go on when that ends.
    pub(super) fn stop_denied(&mut self) {
        let mut wanted = Vec::new();
        let lasts = !self.world.is_on_trial() && !self.world.is_under_maintenance();
        self.pauses.asked.retain(|uuid, pause| match self.decision.vms.get(uuid) {
            // Nobody wants its power any more.
            Some(one) if matches!(pause, Pause::Ending(_)) && is_spared_its_power(one) => false,
            Some(one) => matches!(one.status, VmStatus::Denied | VmStatus::Quarantined),
            // At each start nobody lists it yet.
            None => self.world.observed.quarantines.contains_key(&QuarantineTarget::Vm(*uuid)),
        });
        for (uuid, decision) in &self.decision.vms {
            let Some(stop) = decision.responses.stops() else { continue };
            let asks = lasts && decision.verdict == VmStatus::Denied;
            if !asks || self.pauses.asked.contains_key(uuid) || !self.is_cut_off(*uuid, decision) {
                continue;
            }
            let Some((source, vm)) = live(&self.world, *uuid) else { continue };
            if self.live.contains(source) && self.world.mode_of(vm) == Mode::Enforce {
                let power = match stop {
                    Stop::Suspend => Power::Suspend,
                    Stop::ShutDown => Power::ShutDown,
                };
                wanted.push((source.to_owned(), *uuid, power));
            }
        }
        if lasts {
            wanted.extend(self.force());
        }
        for (source, vm, power) in wanted {
            self.pauses.asked.insert(vm, Pause::Asked(self.world.now, power));
            self.record_stop(vm, power, None);
            self.emit(Effect::Stop { source, vm, power });
        }
        if let Some(suspended) = self.pauses.keep(self.world.now) {
            self.emit(Effect::KeepPauses(suspended));
        }
    }

    /// The VMs whose guests do not shut down in time, and whose power is to be taken.
    fn force(&mut self) -> Vec<(String, Uuid, Power)> {
        let (now, rules) = (self.world.now, self.world.policy.shut_down);
        let mut forced = Vec::new();
        let decisions = &self.decision.vms;
        let is_denied =
            |uuid| decisions.get(uuid).is_some_and(|one| one.verdict == VmStatus::Denied);
        for (uuid, pause) in &mut self.pauses.asked {
            let Pause::Ending(since) = *pause else { continue };
            match live(&self.world, *uuid) {
                None => *pause = Pause::Done,
                Some(_) if now < since + rules.grace => {}
                // What is looked at again, or only observed by now, waits.
                Some((_, vm)) if self.world.mode_of(vm) != Mode::Enforce || !is_denied(uuid) => {}
                Some((source, _)) if rules.force => {
                    forced.push((source.to_owned(), *uuid, Power::Off));
                }
                Some(_) => {
                    *pause = Pause::Failed(now, "its guest has not shut down in time".to_owned());
                }
            }
        }
        forced
    }

    /// Whether the verdict has cut it off, in this life of the daemon or before.
    fn is_cut_off(&self, uuid: Uuid, decision: &VmDecision) -> bool {
        match decision.status {
            _ if decision.guard.keeps() => false,
            VmStatus::Denied => decision.responses.isolate && !decision.is_spared(self.world.now),
            VmStatus::Quarantined => {
                let held = self.world.observed.quarantines.get(&QuarantineTarget::Vm(uuid));
                held.is_some_and(|held| held.cause == Cause::Verdict)
            }
            _ => false,
        }
    }
}

/// Whether a VM that was asked to shut down may go on, as far as the policy is concerned.
fn is_spared_its_power(decision: &VmDecision) -> bool {
    match decision.verdict {
        VmStatus::Approved => true,
        VmStatus::Denied => decision.responses.stops() != Some(Stop::ShutDown),
        _ => false,
    }
}

/// A VM that runs, and by whose word.
fn live(world: &World, uuid: Uuid) -> Option<(&str, &detector_core::model::Vm)> {
    world.sources.iter().find_map(|(name, source)| {
        let vm = source.vms.get(&uuid).filter(|vm| vm.power == PowerState::Running)?;
        Some((name.as_str(), vm))
    })
}
