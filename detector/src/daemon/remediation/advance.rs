//! One turn of every remediation.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use detector_common::{
    addr::Mac,
    quarantine::{Cause, QuarantineMode},
};
use detector_core::{
    decide::{VmStatus, layers},
    model::{
        Image, MediumRole, PowerState, Quarantine, QuarantineTarget, Seen, Template,
        TemplateStatus, Timestamp,
    },
    reconcile::Action,
    remediate::{Next, Outcome, Passed, Sight, Step, Workflow},
};
use uuid::Uuid;

use super::{RETRY, Running, records};
use crate::{
    daemon::{brain::Brain, input::Effect, media::to_read_again},
    enforcer::Enforcer,
    remediate::hands::{Order, Patient, TemplateImage},
};

/// Addresses of a VM that a provisioner is told.
const MOST_ADDRESSES: usize = 64;

impl<E: Enforcer> Brain<E> {
    /// Does what comes next of every workflow, by the decision that is there.
    pub(in crate::daemon) fn remediate(&mut self) {
        let now = self.world.now;
        self.remediation.again = None;
        let vms: Vec<Uuid> = self.remediation.held.keys().copied().collect();
        for vm in vms {
            self.read_for(vm);
            self.advance(vm);
        }
        let retries = self.remediation.held.values().filter_map(|held| held.retry);
        let retry = retries.filter(|at| *at > now).min();
        self.remediation.again = self.remediation.again.into_iter().chain(retry).min();
    }

    fn advance(&mut self, vm: Uuid) {
        let now = self.world.now;
        let Some(held) = self.remediation.held.get(&vm) else { return };
        if held.writing.is_some() || held.retry.is_some_and(|at| at > now) {
            return;
        }
        if !held.is_kept() {
            return self.keep(vm);
        }
        let sighting = self.sighting(&held.workflow);
        let sight = self.sight(&sighting);
        let next = held.workflow.next(&sight);
        let failed = failure(&held.workflow, &sight, &next);
        let Some(held) = self.remediation.held.get_mut(&vm) else { return };
        let workflow = &mut held.workflow;
        held.waits = None;
        // Each is what `next` has just asked for, so that none is refused.
        let _ = match next {
            Next::Begin(step) => workflow.begin(step, now),
            Next::Do(step) => return self.do_step(vm, step),
            Next::Pass(step, passed) => {
                let says = match passed {
                    Passed::Approved(images, by) => {
                        workflow.approve_images(images, by);
                        String::new()
                    }
                    Passed::Verified(says) => says,
                };
                workflow.finish(step, now, Ok(says))
            }
            Next::Redo(step, why) => {
                workflow.redo(step, now, why);
                Ok(())
            }
            Next::End => {
                workflow.end(now);
                Ok(())
            }
            Next::Wait(why) => {
                held.waits = Some(why);
                if failed.is_none() || failed == held.failed {
                    return;
                }
                let what = failed.clone().unwrap_or_default();
                held.failed = failed;
                workflow.note(now, None, format!("verification failed: {what}"));
                Ok(())
            }
            Next::Over => return,
        };
        self.keep(vm);
    }

    /// Has a workflow written down as it is.
    fn keep(&mut self, vm: Uuid) {
        let Some(held) = self.remediation.held.get_mut(&vm) else { return };
        held.retry = None;
        held.writing = Some(held.workflow.clone());
        let records = records(held.kept.as_ref(), &held.workflow);
        let workflow = Box::new(held.workflow.clone());
        self.emit(Effect::KeepWorkflow { workflow, records });
    }

    fn do_step(&mut self, vm: Uuid, step: Step) {
        let Some(held) = self.remediation.held.get(&vm) else { return };
        if step.deed().is_some() {
            if held.running.is_none() {
                self.order(vm, step);
            }
            return;
        }
        let actions = self.actions(&held.workflow, step);
        let now = self.world.now;
        let result = actions
            .into_iter()
            .try_for_each(|action| self.executor.carry_out_now(&mut self.enforcer, action, now));
        let Some(held) = self.remediation.held.get_mut(&vm) else { return };
        match result {
            Ok(()) => {
                held.trouble = None;
                let _ = held.workflow.finish(step, now, Ok(String::new()));
                self.observe();
                self.remediation.again = Some(now);
                self.keep(vm);
            }
            Err(error) => {
                let since = held.trouble.as_ref().map_or(now, |(since, _)| *since);
                held.trouble = Some((since, format!("the kernel refused: {error}")));
                held.retry = Some(now + RETRY);
            }
        }
    }

    /// What a step does to the kernel.
    fn actions(&self, workflow: &Workflow, step: Step) -> Vec<Action> {
        let target = QuarantineTarget::Vm(workflow.vm);
        let held = self.world.observed.quarantines.get(&target);
        let cut_off = |mode: QuarantineMode, word: &str| {
            let note = format!("{word}: {}", workflow.begun.why);
            let (now, uid) = (self.world.now, workflow.begun.uid);
            let since = held.map_or(now, |held| held.since);
            let quarantine = Quarantine::new(target, since, Cause::Operator, uid, &note);
            vec![Action::PutQuarantine(quarantine.in_mode(mode))]
        };
        let sandbox = match self.world.policy.sandbox {
            Some(_) => QuarantineMode::Sandbox,
            None => QuarantineMode::Drop,
        };
        match step {
            Step::Quarantine if workflow.has_done(Step::Sandbox) => cut_off(sandbox, "remediation"),
            Step::Quarantine => cut_off(QuarantineMode::Drop, "remediation"),
            Step::Sandbox => cut_off(sandbox, "remediation"),
            Step::Release => {
                // What was archived stays cut off.
                let archived = workflow.successor.is_some_and(|successor| successor != workflow.vm);
                let lifts = held.filter(|_| !archived);
                lifts.map(|_| Action::LiftQuarantine(target)).into_iter().collect()
            }
            Step::GiveBack => match (&workflow.before, held) {
                // Never lifted in between: whoever dies there leaves it cut off.
                (Some(before), _) => vec![Action::GiveQuarantineBack(before.clone())],
                (None, Some(_)) => cut_off(QuarantineMode::Drop, "remediation aborted"),
                (None, None) => Vec::new(),
            },
            Step::Seal => cut_off(QuarantineMode::Drop, "rejected"),
            _ => Vec::new(),
        }
    }

    /// Has the hands do a step.
    fn order(&mut self, vm: Uuid, step: Step) {
        let Some(held) = self.remediation.held.get(&vm) else { return };
        let workflow = &held.workflow;
        let source = self.vm(vm).map(|(source, _)| source.to_owned()).unwrap_or_default();
        let order = match (step, &workflow.outcome) {
            (Step::Evidence, _) => Ok(Order::Evidence { first_frames: self.first_frames(vm) }),
            (Step::Contain, _) => Ok(Order::Contain),
            (Step::Move, _) => Ok(Order::Move { templates: self.template_files() }),
            (Step::Provision, Outcome::Patched { provisioner: Some(provisioner) }) => {
                let (provisioner, addresses) = (provisioner.clone(), self.addresses_of(vm));
                Ok(Order::Provision { provisioner, addresses })
            }
            (Step::Replace, Outcome::Replaced { template }) => self.replacement(template),
            _ => Err(format!("{} is no step of this outcome", step.as_str())),
        };
        let patient = Patient {
            uuid: vm,
            name: workflow.name.clone(),
            source,
            workflow: workflow.begun.at.0,
        };
        let now = self.world.now;
        let Some(held) = self.remediation.held.get_mut(&vm) else { return };
        match order {
            Ok(order) => {
                let deed = Running { step, workflow: held.workflow.begun.at };
                held.running = Some(deed);
                self.emit(Effect::Remedy { deed, patient, order });
            }
            Err(why) => {
                let _ = held.workflow.finish(step, now, Err(why));
                self.keep(vm);
            }
        }
    }

    fn template_files(&self) -> Vec<PathBuf> {
        let images = self.world.registry.templates.iter().flat_map(|template| &template.images);
        images.filter_map(|image| image.path.clone()).collect()
    }

    fn replacement(&self, name: &str) -> Result<Order, String> {
        let templates = &self.world.registry.templates;
        let approved = TemplateStatus::Approved;
        let template = templates.iter().find(|one| one.is_named(name) && one.status == approved);
        let template = template.ok_or_else(|| {
            format!(
                "the template {name:?} that it is to be made from is not there, or not approved"
            )
        })?;
        Ok(Order::Replace { template: template.exact_name(), images: parts(template)? })
    }

    /// Under which addresses a VM is known: what its NICs are granted, and what they have learned or leased.
    fn addresses_of(&self, vm: Uuid) -> Vec<IpAddr> {
        let world = &self.world;
        let listed = world.sources.values().filter_map(|source| source.vms.get(&vm));
        let nics: Vec<_> = listed.flat_map(|vm| &vm.nics).collect();
        let granted = nics.iter().flat_map(|nic| &nic.addresses);
        let granted = granted.filter(|net| net.prefix_len() == net.max_prefix_len());
        let is_own = |mac: Mac| nics.iter().any(|nic| nic.mac == mac);
        let lasts = |expires: Option<Timestamp>| expires.is_none_or(|at| at > world.now);
        let learned = world.learned.values().flatten();
        let learned = learned.filter(|one| is_own(one.mac) && lasts(one.expires));
        let leased = world.leases.iter().filter(|one| is_own(one.mac) && lasts(one.expires));
        let all: BTreeSet<_> = granted
            .map(ipnet::IpNet::addr)
            .chain(learned.map(|one| one.address))
            .chain(leased.map(|one| one.address))
            .collect();
        all.into_iter().take(MOST_ADDRESSES).collect()
    }

    /// What a VM has claimed without a right to, and how the first frame of each claim began, as far as that is known.
    fn first_frames(&self, vm: Uuid) -> Vec<String> {
        let ports = self.decision.ports.iter().filter(|(_, port)| port.vm == Some(vm));
        let of_port = |ifindex: &u32| {
            let seen = self.world.seen.get(ifindex).into_iter().flatten();
            let told = seen.map(|Seen { claim, count, .. }| {
                format!("from {} as {:?}, {count} times", claim.mac, claim.address)
            });
            let frames = self.world.frames.get(ifindex).into_iter().flatten();
            told.chain(frames.map(|frame| layers(frame).join("; "))).collect::<Vec<_>>()
        };
        ports.flat_map(|(ifindex, _)| of_port(ifindex)).collect()
    }

    /// Has read again what a VM boots from before it is approved, or judged by it.
    fn read_for(&mut self, vm: Uuid) {
        let Some(held) = self.remediation.held.get(&vm).filter(|held| held.is_about_images())
        else {
            return;
        };
        let begun = held.workflow.current().filter(|planned| planned.has_begun());
        let Some(step) = begun.map(|planned| planned.step) else { return };
        let judged = held.workflow.successor.unwrap_or(vm);
        let Some((_, described)) = self.vm(judged) else { return };
        let wants = Some((step, described.power == PowerState::Off));
        if held.read == wants {
            return;
        }
        let files = to_read_again(&self.world, described);
        self.media.read_again(files);
        if let Some(held) = self.remediation.held.get_mut(&vm) {
            held.read = wants;
        }
        self.remediation.again = Some(self.world.now);
    }
}

/// What a VM of the template is made from.
///
/// # Errors
///
/// Why none can be made.
fn parts(template: &Template) -> Result<Vec<TemplateImage>, String> {
    let name = template.exact_name();
    let mut parts = Vec::new();
    for role in [MediumRole::Disk, MediumRole::Kernel, MediumRole::Initrd] {
        let mut of_role = template.images.iter().filter(|image| image.role == role);
        let Some(Image { sha256, path, format, .. }) = of_role.next() else { continue };
        let role_is = role.as_str();
        if of_role.next().is_some() {
            return Err(format!(
                "the template {name} has several images of the role {role_is}, and a VM is made from one: replace \
                 this VM by hand, or from a template of one"
            ));
        }
        let path = path.clone().ok_or_else(|| {
            format!(
                "the template {name} does not say where its image of the role {role_is} is: add `path` to that image"
            )
        })?;
        let format = format.map(|format| format.as_str().to_owned());
        parts.push(TemplateImage { role, sha256: *sha256, path, format });
    }
    Ok(parts)
}

/// What a verification lacks, once a verdict has fallen.
fn failure(workflow: &Workflow, sight: &Sight<'_>, next: &Next) -> Option<String> {
    let current = workflow.current().map(|planned| planned.step);
    let denied =
        sight.runs && sight.verdict.is_some_and(|verdict| verdict.verdict == VmStatus::Denied);
    match next {
        Next::Wait(why) if current == Some(Step::Verify) && denied && !sight.reading => {
            Some(why.clone())
        }
        _ => None,
    }
}
