use detector_common::{
    addr::Mac,
    quarantine::{Cause, QuarantineMode},
};
use detector_core::{
    decide::{Outcome, VmStatus},
    model::{Observed, Quarantine, QuarantineTarget},
    reconcile::Action,
};

use super::{open, operand};
use crate::{
    api::{
        ApiError, ErrorCode, Reply,
        kernel::{cause_name, mode_name},
        schema::{ModeSpec, TargetSpec},
        view::{QuarantineChange, QuarantineView, moment},
    },
    daemon::{brain::Brain, input::Effect},
    enforcer::Enforcer,
};

impl<E: Enforcer> Brain<E> {
    /// Tells watchers what has become of the quarantines since `before`.
    pub(in crate::daemon) fn tell_watchers(&mut self, before: &Observed) {
        if self.watchers.is_empty() || before.quarantines == self.world.observed.quarantines {
            return;
        }
        let changes = changes(self, before);
        for id in self.watchers.clone() {
            for change in &changes {
                let reply = Ok(Reply::QuarantineChange(change.clone()));
                self.emit(Effect::Reply { id, reply, last: false });
            }
        }
    }
}

/// What became of the quarantines since `before`.
fn changes<E: Enforcer>(brain: &Brain<E>, before: &Observed) -> Vec<QuarantineChange> {
    let after = &brain.world.observed.quarantines;
    let lifted = before
        .quarantines
        .iter()
        .filter(|(target, _)| !after.contains_key(target))
        .map(|(_, quarantine)| (false, quarantine));
    let imposed = after
        .iter()
        .filter(|(target, _)| !before.quarantines.contains_key(target))
        .map(|(_, quarantine)| (true, quarantine));
    lifted
        .chain(imposed)
        .map(|(imposed, quarantine)| QuarantineChange {
            imposed,
            quarantine: brain.quarantine_view(quarantine),
        })
        .collect()
}

impl<E: Enforcer> Brain<E> {
    pub(super) fn quarantine_views(&self) -> Vec<QuarantineView> {
        let quarantines = self.world.observed.quarantines.values();
        quarantines.map(|quarantine| self.quarantine_view(quarantine)).collect()
    }

    pub(super) fn quarantine_view(&self, quarantine: &Quarantine) -> QuarantineView {
        QuarantineView {
            target: quarantine.target,
            name: self.name_of(&quarantine.target),
            since: moment(quarantine.since),
            cause: cause_name(quarantine.cause).to_owned(),
            mode: mode_name(quarantine.mode).to_owned(),
            uid: quarantine.uid,
            note: quarantine.note.clone(),
        }
    }

    /// The quarantine in force on a target.
    pub(super) fn quarantine_of(&self, spec: &TargetSpec) -> Result<&Quarantine, ApiError> {
        let target = self.target(spec)?;
        self.world.observed.quarantines.get(&target).ok_or_else(|| {
            let message = format!(
                "{} is not quarantined; detector quarantine list shows what is",
                self.name_of(&target)
            );
            ApiError::new(ErrorCode::NotFound, message)
        })
    }

    /// Quarantines in a person's name. An operator's word replaces a verdict's.
    pub(super) fn impose(
        &mut self,
        spec: &TargetSpec,
        reason: &str,
        mode: Option<ModeSpec>,
        uid: u32,
    ) -> Result<QuarantineView, ApiError> {
        let mode = match mode {
            None => self.world.policy.quarantine,
            Some(ModeSpec::Drop) => QuarantineMode::Drop,
            Some(ModeSpec::Sandbox) => QuarantineMode::Sandbox,
        };
        if mode == QuarantineMode::Sandbox && self.world.policy.sandbox.is_none() {
            let message = "there is no sandbox on this host: name its bridge in the configuration as \
                           sandbox.bridge, or quarantine with --mode drop";
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
        let target = self.target(spec)?;
        if let QuarantineTarget::Port { ifindex, instance } = target {
            self.refuse_unless_guest(ifindex, instance)?;
        }
        let now = self.world.now;
        let quarantine = Quarantine::new(target, now, Cause::Operator, uid, reason).in_mode(mode);
        self.act(Action::PutQuarantine(quarantine.clone()))?;
        tracing::info!(uid, target = ?target_kind(&target), "quarantine imposed by an operator");
        let in_force = self.world.observed.quarantines.get(&target).unwrap_or(&quarantine);
        Ok(self.quarantine_view(in_force))
    }

    /// Lifts a quarantine, unless the verdict would impose it again.
    pub(super) fn release(&mut self, spec: &TargetSpec) -> Result<QuarantineTarget, ApiError> {
        // The passing of time may have changed the verdict.
        self.settle();
        let target = self.quarantine_of(spec)?.target;
        if let QuarantineTarget::Vm(uuid) = target {
            self.refuse_while_remediated(uuid)?;
            self.refuse_while_failing(uuid, spec)?;
        }
        self.act(Action::LiftQuarantine(target))?;
        tracing::info!(target = ?target_kind(&target), "quarantine lifted");
        Ok(target)
    }

    fn refuse_unless_guest(&self, ifindex: u32, instance: u32) -> Result<(), ApiError> {
        let held = self.world.observed.interfaces.get(&ifindex);
        match held.filter(|held| held.slot.instance == instance) {
            None => Err(ApiError::new(
                ErrorCode::NotFound,
                format!("no port {ifindex}/{instance} is in force; detector port list shows all"),
            )),
            Some(held) if !held.slot.role().is_guest() => Err(ApiError::new(
                ErrorCode::BadRequest,
                "only guest ports are quarantined: this one is the host's own",
            )),
            Some(_) => Ok(()),
        }
    }

    fn refuse_while_failing(&self, uuid: uuid::Uuid, spec: &TargetSpec) -> Result<(), ApiError> {
        let by_verdict = self
            .world
            .observed
            .quarantines
            .get(&QuarantineTarget::Vm(uuid))
            .is_some_and(|quarantine| quarantine.cause == Cause::Verdict);
        let Some(decision) = self.decision.vms.get(&uuid) else { return Ok(()) };
        if !by_verdict || decision.status == VmStatus::Off {
            return Ok(());
        }
        let open: Vec<String> = open(&decision.requirements)
            .into_iter()
            .map(|requirement| {
                let mark = match requirement.outcome {
                    Outcome::Unknown => "not known yet",
                    _ => "fails",
                };
                format!(
                    "  {} {mark}: {} {}",
                    requirement.id, requirement.finding, requirement.remedy
                )
            })
            .collect();
        if decision.requirements.iter().all(|one| one.outcome == Outcome::Met) {
            return Ok(());
        }
        let name = match spec {
            TargetSpec::Vm(name) => operand(name, uuid),
            _ => uuid.to_string(),
        };
        Err(ApiError::new(
            ErrorCode::StillFailing,
            format!(
                "the quarantine stays, because the VM still does not meet the policy:\n{}\nThen \
                 try again: detector quarantine release vm {name}",
                open.join("\n")
            ),
        ))
    }

    fn act(&mut self, action: Action) -> Result<(), ApiError> {
        let now = self.world.now;
        self.executor.carry_out_now(&mut self.enforcer, action, now).map_err(|error| {
            ApiError::new(ErrorCode::EnforcementFailed, format!("the kernel refused: {error}"))
        })?;
        self.observe();
        self.settle();
        Ok(())
    }

    fn target(&self, spec: &TargetSpec) -> Result<QuarantineTarget, ApiError> {
        match spec {
            TargetSpec::Mac(text) => text
                .parse::<Mac>()
                .map(QuarantineTarget::Mac)
                .map_err(|e| ApiError::new(ErrorCode::BadRequest, format!("{text:?} is {e}"))),
            TargetSpec::Vm(name) => {
                // A VM that no inventory lists any more may still be quarantined.
                let gone = name.parse().ok().map(QuarantineTarget::Vm);
                let gone = gone.filter(|t| self.world.observed.quarantines.contains_key(t));
                match (self.vm_named(name), gone) {
                    (Ok((_, vm)), _) => Ok(QuarantineTarget::Vm(vm.uuid)),
                    (Err(_), Some(target)) => Ok(target),
                    (Err(error), None) => Err(error),
                }
            }
            TargetSpec::Port(name) => {
                let numbers = name.split_once('/').and_then(|(ifindex, instance)| {
                    Some((ifindex.parse().ok()?, instance.parse().ok()?))
                });
                if let Some((ifindex, instance)) = numbers {
                    return Ok(QuarantineTarget::Port { ifindex, instance });
                }
                let ifindex = self.ifindex_of(name)?;
                let interface = self.world.observed.interfaces.get(&ifindex).ok_or_else(|| {
                    let message = format!("no guard is attached to {name} yet: try again");
                    ApiError::new(ErrorCode::NotFound, message)
                })?;
                Ok(QuarantineTarget::Port { ifindex, instance: interface.slot.instance })
            }
        }
    }

    fn name_of(&self, target: &QuarantineTarget) -> String {
        match target {
            QuarantineTarget::Mac(mac) => mac.to_string(),
            QuarantineTarget::Vm(uuid) => {
                self.vm(*uuid).map_or_else(|| uuid.to_string(), |(_, vm)| vm.name.clone())
            }
            QuarantineTarget::Port { ifindex, instance } => {
                let alive = self.world.observed.interfaces.get(ifindex);
                let same = alive.is_some_and(|i| i.slot.instance == *instance);
                match self.world.links.get(ifindex) {
                    Some(link) if same => link.name.clone(),
                    _ => format!("{ifindex}/{instance}"),
                }
            }
        }
    }
}

fn target_kind(target: &QuarantineTarget) -> &'static str {
    match target {
        QuarantineTarget::Port { .. } => "port",
        QuarantineTarget::Mac(_) => "mac",
        QuarantineTarget::Vm(_) => "vm",
    }
}
