//! Programs of another map schema are still in force: they go when ours stand ahead of them and everything
//! that is known is in force again.

use std::time::Duration;

use detector_common::settings::{Cause, Mode};
use detector_core::{
    decide::VmStatus,
    model::{
        Deed, Finding, FindingKey, FindingKind, Health, ModeRecord, Severity, Subject, Timestamp,
    },
};

use super::{brain::Brain, sources};
use crate::enforcer::Enforcer;

/// How long verdicts may be waited for that do not fall, such as on a medium that cannot be read.
const VERDICTS: Duration = Duration::from_secs(120);

/// How far the change has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Succession {
    /// Nothing but ours is in force.
    #[default]
    Over,
    /// Ours only observe, and the others enforce, until what was granted is granted again.
    Waiting { since: Timestamp, then: ModeRecord },
    /// Ours do what they shall, and the others can go.
    Ending { since: Timestamp, then: Option<ModeRecord> },
}

impl<E: Enforcer> Brain<E> {
    /// Lets the others go on, where there are any. What was to hold from the start, or was confirmed last, holds
    /// later.
    pub(super) fn await_succession(&mut self, confirmed: Option<ModeRecord>) {
        if !self.enforcer.has_predecessors() {
            return;
        }
        let since = self.world.now;
        let deed = Deed::new(since, nix::unistd::geteuid().as_raw(), Cause::Configured, "");
        let configured = ModeRecord::confirmed(self.world.policy.mode, deed.clone());
        let then = self.world.asked.take().or(confirmed).unwrap_or(configured);
        self.world.asked = Some(ModeRecord::confirmed(Mode::Observe, deed));
        tracing::info!("programs of another map schema go on until everything is in force again");
        self.succession = Succession::Waiting { since, then };
    }

    /// Whether the mode that holds is not the one that is to be kept.
    pub(super) fn is_succeeding(&self) -> bool {
        matches!(self.succession, Succession::Waiting { .. })
    }

    /// A person's word counts at once.
    pub(super) fn end_waiting(&mut self) {
        if let Succession::Waiting { since, .. } = self.succession {
            self.succession = Succession::Ending { since, then: None };
        }
    }

    /// Goes on as far as it can by what has been decided last. True when there is something to decide on.
    pub(super) fn succeed(&mut self) -> bool {
        match &self.succession {
            Succession::Over => false,
            Succession::Waiting { since, then } if self.knows_enough(*since) => {
                let (since, then) = (*since, then.clone());
                self.world.asked = Some(then.clone());
                self.succession = Succession::Ending { since, then: Some(then) };
                true
            }
            Succession::Waiting { .. } => false,
            Succession::Ending { then, .. } => {
                let holds = self.world.observed.mode.as_ref().map(|mode| &mode.record);
                if then.as_ref().is_some_and(|then| holds != Some(then)) {
                    return false;
                }
                match self.enforcer.end_predecessors() {
                    Ok(()) => {
                        tracing::info!(
                            "programs of another map schema are gone, and ours in their place"
                        );
                        self.succession = Succession::Over;
                    }
                    Err(error) => tracing::error!(%error, "programs of another map schema stay"),
                }
                false
            }
        }
    }

    /// Losing a source changes nothing: while one is silent, what the others have granted goes on.
    fn knows_enough(&self, since: Timestamp) -> bool {
        let speaks = |health: &Health| matches!(health, Health::Healthy);
        let all_speak = self.world.sources.values().all(|source| speaks(&source.health));
        let runs = |vm| {
            let mut vms = self.world.sources.values().filter_map(|source| source.vms.get(vm));
            vms.any(sources::runs)
        };
        let mut vms = self.decision.vms.iter();
        let settled = !vms.any(|(uuid, vm)| vm.status == VmStatus::Pending && runs(uuid));
        let patient = self.world.now < since + VERDICTS;
        !self.beginning && all_speak && (settled || !patient)
    }

    /// What to tell while it lasts.
    pub(super) fn succession_findings(&self) -> Option<Finding> {
        let (Succession::Waiting { since, .. } | Succession::Ending { since, .. }) =
            self.succession
        else {
            return None;
        };
        Some(Finding {
            key: FindingKey {
                kind: FindingKind::EnforcementImpaired,
                subject: Subject::Place("another map schema".to_owned()),
            },
            severity: Severity::Medium,
            title: "Programs of another release are still in force behind ours: what they have granted goes on, and nothing new does, until every inventory has \
                    spoken."
                .to_owned(),
            evidence: Vec::new(),
            next: Some("detector status".to_owned()),
            since,
        })
    }
}
