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
use crate::{
    enforcer::Enforcer,
    inventory::{NotDone, Power},
};

/// Libvirt takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until what could not be kept is tried again.
const RETRY: Duration = Duration::from_secs(30);

/// Until libvirt is asked again where it has not heard.
const ASK_AGAIN: Duration = Duration::from_secs(5);

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
struct Pause {
    state: State,
    /// When its guest was asked to shut down, or refused to be asked.
    guest_asked: Option<Timestamp>,
    /// Since when its manager does not hear of it, and why.
    unheard: Option<(Timestamp, String)>,
}

#[derive(Debug)]
enum State {
    /// Its manager is being asked.
    Asked(Timestamp, Power),
    /// Its manager has not heard of it, and is asked again then.
    Unasked(Timestamp, Power),
    /// Its guest shuts down, or does not.
    Ending(Timestamp),
    Done,
    Failed(Timestamp, String),
}

impl Pause {
    fn done() -> Self {
        Self { state: State::Done, guest_asked: None, unheard: None }
    }

    /// What is still to be done to it, if anything is.
    fn waits_for(&self) -> Option<Power> {
        match self.state {
            State::Unasked(_, power) => Some(power),
            State::Ending(_) => Some(Power::Off),
            State::Asked(..) | State::Done | State::Failed(..) => None,
        }
    }
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
        self.asked.extend(suspended.into_iter().map(|uuid| (uuid, Pause::done())));
        self.keeping = known;
        self.recalled = true;
    }

    /// Whether what was to be kept has been.
    pub(super) fn kept(&mut self, now: Timestamp, result: Result<(), String>) {
        self.trouble = result.err().map(|why| (now, why));
    }

    /// What is to be kept, where that has changed.
    fn keep(&mut self, now: Timestamp) -> Option<BTreeSet<Uuid>> {
        let done = |pause: &Pause| matches!(pause.state, State::Done);
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

    /// What has come of asking its manager for it. Answers what is worth a record: that nobody hears is one, and
    /// not each time.
    fn answered(
        &mut self,
        vm: Uuid,
        now: Timestamp,
        result: Result<(), NotDone>,
    ) -> Option<(Power, Result<(), NotDone>)> {
        let pause = self.asked.get_mut(&vm)?;
        let State::Asked(_, power) = pause.state else { return None };
        let known = pause.unheard.is_some();
        pause.state = match (&result, power) {
            (Err(NotDone::Unasked(why)), _) => {
                let since = pause.unheard.take().map_or(now, |(since, _)| since);
                pause.unheard = Some((since, why.clone()));
                State::Unasked(now + ASK_AGAIN, power)
            }
            // A guest that cannot be asked is one that does not shut down.
            (_, Power::ShutDown) => {
                pause.guest_asked = Some(now);
                State::Ending(now)
            }
            (Ok(()), _) => State::Done,
            (Err(NotDone::Refused(why)), _) => State::Failed(now, why.clone()),
        };
        let unasked = matches!(pause.state, State::Unasked(..));
        if !unasked {
            pause.unheard = None;
        }
        (!(unasked && known)).then_some((power, result))
    }

    /// Its manager is asked for it now. Answers whether that is news, and when its guest was asked.
    fn ask(&mut self, vm: Uuid, now: Timestamp, power: Power) -> (bool, Option<Timestamp>) {
        let pause = self.asked.entry(vm).or_insert_with(Pause::done);
        pause.state = State::Asked(now, power);
        (pause.unheard.is_none(), pause.guest_asked)
    }

    /// VMs that go on running although they were to be suspended.
    pub(super) fn findings(&self, world: &World) -> Vec<Finding> {
        let running = |uuid: &Uuid| {
            let (_, vm) = live(world, *uuid)?;
            Some(vm.name.chars().take(LONGEST_NAME).collect::<String>())
        };
        let late = |pause: &Pause| match (&pause.state, &pause.unheard) {
            (_, Some(unheard)) => Some(unheard.clone()),
            (State::Asked(at, _), None) if world.now >= *at + PATIENCE => {
                Some((*at, "libvirt does not answer".to_owned()))
            }
            (State::Failed(at, why), None) => Some((*at, why.clone())),
            (_, None) => None,
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

    /// What was due when it was last looked at has been seen to, as far as it could be.
    pub(super) fn wake_at(&self, looked: Timestamp) -> Option<Timestamp> {
        let due = self.asked.values().filter_map(|pause| match pause.state {
            State::Asked(at, _) => Some(at + PATIENCE),
            State::Unasked(again, _) => Some(again),
            // The loop looks often enough.
            State::Ending(_) | State::Done | State::Failed(..) => None,
        });
        due.filter(|at| *at > looked).min()
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
            // Nobody wants it any more.
            Some(one) if pause.waits_for().is_some_and(|power| is_spared(one, power)) => false,
            Some(one) => matches!(one.status, VmStatus::Denied | VmStatus::Quarantined),
            // At each start nobody lists it yet.
            None => self.world.observed.quarantines.contains_key(&QuarantineTarget::Vm(*uuid)),
        });
        for (uuid, decision) in &self.decision.vms {
            let Some(stop) = decision.responses.stops() else { continue };
            let power = match (self.pauses.asked.get(uuid).map(|pause| &pause.state), stop) {
                (None, Stop::Suspend) => Power::Suspend,
                (None, Stop::ShutDown) => Power::ShutDown,
                (Some(State::Unasked(again, power)), _) if *again <= self.world.now => *power,
                (Some(_), _) => continue,
            };
            let asks = lasts && decision.verdict == VmStatus::Denied;
            if !asks || !self.is_cut_off(*uuid, decision) {
                continue;
            }
            let Some((source, vm)) = live(&self.world, *uuid) else { continue };
            if self.live.contains(source) && self.world.mode_of(vm) == Mode::Enforce {
                wanted.push((source.to_owned(), *uuid, power));
            }
        }
        if lasts {
            wanted.extend(self.force());
        }
        for (source, vm, power) in wanted {
            let (is_new, guest_asked) = self.pauses.ask(vm, self.world.now, power);
            if is_new {
                self.record_stop(vm, power, guest_asked, None);
            }
            self.emit(Effect::Stop { source, vm, power });
        }
        if let Some(suspended) = self.pauses.keep(self.world.now) {
            self.emit(Effect::KeepPauses(suspended));
        }
    }

    /// What libvirt says of what it was asked for, or that nobody could ask it.
    pub(super) fn stopped(&mut self, vm: Uuid, result: Result<(), NotDone>) {
        if let Some((power, result)) = self.pauses.answered(vm, self.world.now, result) {
            self.record_stop(vm, power, None, Some(result));
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
            let since = match pause.state {
                State::Ending(since) => since,
                // What was to be taken has gone by itself meanwhile: the next start is another one.
                State::Unasked(_, Power::Off) if !has_power(&self.world, *uuid) => {
                    pause.state = State::Done;
                    continue;
                }
                _ => continue,
            };
            match live(&self.world, *uuid) {
                None if !has_power(&self.world, *uuid) => pause.state = State::Done,
                // It sleeps, and may wake.
                None => {}
                Some(_) if now < since + rules.grace => {}
                // What is looked at again, or only observed by now, waits.
                Some((_, vm)) if self.world.mode_of(vm) != Mode::Enforce || !is_denied(uuid) => {}
                Some((source, _)) if rules.force => {
                    forced.push((source.to_owned(), *uuid, Power::Off));
                }
                Some(_) => {
                    let why = "its guest has not shut down in time".to_owned();
                    pause.state = State::Failed(now, why);
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

/// Whether a VM to which this is still to be done may go on, as far as the policy is concerned.
fn is_spared(decision: &VmDecision, power: Power) -> bool {
    let stop = match power {
        Power::Suspend => Stop::Suspend,
        Power::ShutDown | Power::Off => Stop::ShutDown,
    };
    match decision.verdict {
        VmStatus::Approved => true,
        VmStatus::Denied => decision.responses.stops() != Some(stop),
        _ => false,
    }
}

/// A VM that runs, and by whose word.
/// Whether somebody lists it as anything but off.
fn has_power(world: &World, uuid: Uuid) -> bool {
    let mut listed = world.sources.values().filter_map(|source| source.vms.get(&uuid));
    listed.any(|vm| vm.power != PowerState::Off)
}

fn live(world: &World, uuid: Uuid) -> Option<(&str, &detector_core::model::Vm)> {
    world.sources.iter().find_map(|(name, source)| {
        let vm = source.vms.get(&uuid).filter(|vm| vm.power == PowerState::Running)?;
        Some((name.as_str(), vm))
    })
}
