//! What people must know of remediations.

use detector_core::{
    model::{Finding, FindingKey, FindingKind, Severity, Subject},
    remediate::StepState,
};

use crate::{daemon::brain::Brain, enforcer::Enforcer};

/// What a name is cut to in findings.
pub(super) const LONGEST_NAME: usize = 80;

impl<E: Enforcer> Brain<E> {
    pub(in crate::daemon) fn remediation_findings(&self) -> Vec<Finding> {
        let stuck = self.remediation.held.values().filter_map(|held| {
            let workflow = &held.workflow;
            let failed = workflow.current().filter(|planned| planned.has_failed());
            let (since, why) = match (&held.trouble, failed) {
                (Some((since, why)), _) => (*since, why.clone()),
                (None, Some(planned)) => {
                    let StepState::Failed(at) = planned.state else { return None };
                    (at, format!("{}: {}", planned.step.as_str(), planned.note))
                }
                (None, None) => return None,
            };
            let name: String = workflow.name.chars().take(LONGEST_NAME).collect();
            Some(Finding {
                key: FindingKey {
                    kind: FindingKind::RemediationStuck,
                    subject: Subject::Vm(workflow.vm),
                },
                severity: Severity::Medium,
                title: format!("The remediation of VM {name:?} does not go on; it stays cut off."),
                evidence: vec![("why".to_owned(), why)],
                next: Some(format!("detector remediate status {}", workflow.vm)),
                since,
            })
        });
        let lost = self.remediation.lost.iter().map(|(since, why)| Finding {
            key: FindingKey {
                kind: FindingKind::RemediationStuck,
                subject: Subject::Place("remediations.db".to_owned()),
            },
            severity: Severity::High,
            title: "What people have approved for single VMs is not known: whoever needs it is not denied, \
                    and has no network after the next start."
                .to_owned(),
            evidence: vec![("why".to_owned(), why.clone())],
            next: Some("detector remediate status".to_owned()),
            since: *since,
        });
        stuck.chain(lost).chain(self.unstarted_findings()).collect()
    }
}
