//! Remediations that the policy starts.

use std::collections::BTreeMap;

use detector_common::quarantine::Cause;
use detector_core::{
    decide::VmStatus,
    model::{Finding, FindingKey, FindingKind, QuarantineTarget, Severity, Subject, Timestamp},
    remediate::{By, Outcome, Workflow},
};
use uuid::Uuid;

use super::findings::LONGEST_NAME;
use crate::{daemon::brain::Brain, enforcer::Enforcer};

/// VMs whose remediation could not be started, by the quarantine that it was wanted for, and why.
pub(super) type Unstarted = BTreeMap<Uuid, (Timestamp, String)>;

/// The user id that the policy acts under.
const DAEMON: u32 = 0;

impl<E: Enforcer> Brain<E> {
    /// Starts the remediation of VMs that the policy wants remediated: once for each quarantine by verdict. Who
    /// has ended one, or started another, has the last word. Not while enforcing is provisional.
    pub(in crate::daemon) fn start_remediations(&mut self) {
        let lasts = !self.world.is_on_trial() && !self.world.is_under_maintenance();
        let mut wanted = Vec::new();
        for (uuid, decision) in &self.decision.vms {
            let asks = decision.responses.remediate
                && decision.status == VmStatus::Quarantined
                && decision.verdict == VmStatus::Denied
                && !decision.guard.keeps();
            let held = self.world.observed.quarantines.get(&QuarantineTarget::Vm(*uuid));
            let held = held.filter(|held| held.cause == Cause::Verdict && !held.provisional);
            let (true, Some(held)) = (asks && lasts, held) else { continue };
            let said = |workflow: &Workflow| workflow.ended.is_none_or(|at| at >= held.since);
            let tried =
                self.remediation.unstarted.get(uuid).is_some_and(|(of, _)| *of == held.since);
            if !tried && !self.remediation.workflow(*uuid).is_some_and(said) {
                let provisioner = decision.responses.provisioner.clone();
                wanted.push((*uuid, held.since, Outcome::Patched { provisioner }));
            }
        }
        let vms = &self.decision.vms;
        self.remediation
            .unstarted
            .retain(|uuid, _| vms.get(uuid).is_some_and(|one| one.status == VmStatus::Quarantined));
        for (uuid, since, outcome) in wanted {
            if let Err(why) = self.start_by_policy(uuid, &outcome) {
                self.remediation.unstarted.insert(uuid, (since, why));
            }
        }
    }

    fn start_by_policy(&mut self, uuid: Uuid, outcome: &Outcome) -> Result<(), String> {
        let Some((_, vm)) = self.vm(uuid) else { return Ok(()) };
        let vm = vm.clone();
        let why = "the policy remediates what it denies".to_owned();
        let by = By { uid: DAEMON, at: self.world.now, why };
        self.make_room_for_remediations(1).map_err(|error| error.message)?;
        let workflow = self.new_workflow(&vm, outcome, &by).map_err(|error| error.message)?;
        tracing::info!(vm = %uuid, "remediation started by the policy");
        self.put_workflows(vec![workflow]);
        Ok(())
    }

    pub(super) fn unstarted_findings(&self) -> impl Iterator<Item = Finding> {
        self.remediation.unstarted.iter().map(|(uuid, (since, why))| {
            let name = self.vm(*uuid).map_or_else(|| uuid.to_string(), |(_, vm)| vm.name.clone());
            let name: String = name.chars().take(LONGEST_NAME).collect();
            Finding {
                key: FindingKey { kind: FindingKind::RemediationStuck, subject: Subject::Vm(*uuid) },
                severity: Severity::Medium,
                title: format!(
                    "The policy wants VM {name:?} remediated, and that cannot be started; it stays cut off."
                ),
                evidence: vec![("why".to_owned(), why.clone())],
                next: Some(format!("detector remediate plan {uuid}")),
                since: *since,
            }
        })
    }
}
