//! What people want of a remediation.

use std::collections::{BTreeSet, VecDeque};

use uuid::Uuid;

use super::{
    Approval, By, End, Outcome, Plan, Planned, Refusal, Sight, Step, StepState, Workflow,
    workflow::cut,
};
use crate::model::{Digest, Quarantine};

impl Workflow {
    /// A new one. `former` is the one that the VM had before.
    ///
    /// # Errors
    ///
    /// The one that it has is not over, and waits for nobody to start it once more.
    pub fn start(
        (vm, name): (Uuid, &str),
        outcome: Outcome,
        plan: Plan,
        by: By,
        needed: u8,
        before: Option<Quarantine>,
        former: Option<&Self>,
    ) -> Result<Self, Refusal> {
        if let Some(former) = former.filter(|former| !former.is_over()) {
            return Err(Refusal(format!(
                "its remediation is under way ({}); abort it before another one begins",
                former.stage().as_str()
            )));
        }
        let mut workflow = Self {
            vm,
            name: cut(name.to_owned()),
            goal: outcome.goal(),
            begun: By { why: cut(by.why), ..by },
            outcome,
            needed,
            steps: plan.steps,
            approvals: Vec::new(),
            // What was approved before holds until something else is.
            approved: former.map(|former| former.approved.clone()).unwrap_or_default(),
            approvers: former.map(|former| former.approvers.clone()).unwrap_or_default(),
            before,
            ended: None,
            successor: None,
            history: VecDeque::new(),
            revision: former.map_or(0, |former| former.revision),
        };
        let (at, uid) = (workflow.begun.at, workflow.begun.uid);
        let what = format!("started ({}): {}", workflow.outcome.as_str(), workflow.begun.why);
        workflow.note(at, Some(uid), what);
        Ok(workflow)
    }

    /// What has failed is to be tried once more.
    ///
    /// # Errors
    ///
    /// Nothing has failed.
    pub fn retry(&mut self, by: &By) -> Result<(), Refusal> {
        let failed = self.steps.iter_mut().find(|planned| planned.has_failed());
        match failed.filter(|_| self.ended.is_none()) {
            Some(planned) => {
                *planned = Planned::new(planned.step);
                let what = format!("started once more: {}", by.why);
                self.note(by.at, Some(by.uid), what);
                Ok(())
            }
            None => Err(Refusal("nothing of it has failed".to_owned())),
        }
    }

    /// Somebody approves what the VM boots from, by its digests.
    ///
    /// # Errors
    ///
    /// It is not the time for it, not theirs to say, or not what the VM boots from.
    pub fn approve(
        &mut self,
        by: By,
        digests: BTreeSet<Digest>,
        sight: &Sight<'_>,
    ) -> Result<(), Refusal> {
        let refused = |why: String| Err(Refusal(why));
        let current = self.current().map(|planned| planned.step).filter(|_| !self.is_over());
        match current {
            Some(Step::Approve) => {}
            // Of what is verified another state may be approved.
            Some(Step::Verify) if self.approves_images() => {}
            Some(step) => {
                return refused(format!(
                    "there is nothing to approve yet: {} comes first",
                    step.as_str()
                ));
            }
            None => {
                let stage = self.stage().as_str();
                return refused(format!("there is nothing to approve: it was {stage}"));
            }
        }
        let needed = self.needed(sight.means.approvals);
        if needed > 1 && by.uid == self.begun.uid {
            return refused(format!(
                "user {} has started it, and {needed} others have to approve",
                by.uid
            ));
        }
        match self.replacing() {
            Some(template) => no_digests(template, &digests)?,
            None => all_digests(&digests, sight)?,
        }
        let same = self.approvals.last().is_none_or(|latest| latest.digests == digests);
        if !same {
            self.approvals.clear();
        }
        if self.approvals.iter().any(|approval| approval.by.uid == by.uid) {
            return refused(format!("user {} has approved this already", by.uid));
        }
        if current == Some(Step::Verify) {
            let back = self
                .steps
                .iter_mut()
                .filter(|planned| matches!(planned.step, Step::Approve | Step::Verify));
            back.for_each(|planned| *planned = Planned::new(planned.step));
        }
        self.add(by, digests);
        Ok(())
    }

    fn add(&mut self, by: By, digests: BTreeSet<Digest>) {
        let by = By { why: cut(by.why), ..by };
        let (at, uid) = (by.at, by.uid);
        let named = match self.replacing() {
            Some(template) => format!("its replacement by {template}"),
            None => digests.iter().map(Digest::to_string).collect::<Vec<_>>().join(", "),
        };
        let what = format!("approved {named}: {}", by.why);
        self.approvals.push(Approval { by, digests });
        self.note(at, Some(uid), what);
    }

    /// Whoever starts it approves it in the same breath.
    ///
    /// # Errors
    ///
    /// More than one has to approve, or what they name is not what the VM boots from.
    pub fn approve_at_once(
        &mut self,
        by: By,
        digests: BTreeSet<Digest>,
        sight: &Sight<'_>,
    ) -> Result<(), Refusal> {
        let needed = self.needed(sight.means.approvals);
        if needed > 1 {
            return Err(Refusal(format!(
                "{needed} others have to approve it: start it without digests, and have them do so"
            )));
        }
        if let Some(template) = self.replacing() {
            no_digests(template, &digests)?;
        }
        let images = sight.images().map_err(Refusal)?;
        let there: BTreeSet<_> = images.iter().map(|image| image.sha256).collect();
        if let Some(digest) = digests.iter().find(|digest| !there.contains(digest)) {
            return Err(Refusal(format!("the VM does not boot from sha256 {digest}")));
        }
        self.add(by, digests);
        Ok(())
    }

    /// Back to the quarantine of before. What was done to images stays as it is.
    ///
    /// # Errors
    ///
    /// It is over.
    pub fn abort(&mut self, by: &By) -> Result<(), Refusal> {
        if self.is_over() || self.goal == End::Rejected {
            let stage = self.goal.stage().as_str();
            return Err(Refusal(format!("there is nothing to abort: it was {stage}")));
        }
        if self.goal == End::Aborted {
            return Err(Refusal("it is being aborted already".to_owned()));
        }
        self.turn_to(End::Aborted, Step::GiveBack);
        self.note(by.at, Some(by.uid), format!("aborted: {}", by.why));
        Ok(())
    }

    /// The VM does not come back. What was approved for it is void.
    ///
    /// # Errors
    ///
    /// It has been rejected, or replaced.
    pub fn reject(&mut self, by: &By) -> Result<(), Refusal> {
        if self.goal == End::Rejected || (self.is_over() && self.goal == End::Replaced) {
            let stage = self.goal.stage().as_str();
            return Err(Refusal(format!("it was {stage} already")));
        }
        self.ended = None;
        self.approved.clear();
        self.approvers.clear();
        self.approvals.clear();
        self.turn_to(End::Rejected, Step::Seal);
        self.note(by.at, Some(by.uid), format!("rejected: {}", by.why));
        Ok(())
    }

    /// Whether what people approve is the images themselves, for this VM alone.
    pub fn approves_images(&self) -> bool {
        matches!(self.outcome, Outcome::Patched { .. })
    }

    /// The template whose VM takes its place: that is what people approve then, and not its images, which are archived.
    pub(super) fn replacing(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Replaced { template } => Some(template),
            Outcome::Patched { .. } | Outcome::Template { .. } => None,
        }
    }

    fn turn_to(&mut self, goal: End, last: Step) {
        self.goal = goal;
        self.steps.retain(Planned::is_done);
        self.steps.push(Planned { state: StepState::Waiting, ..Planned::new(last) });
    }
}

fn no_digests(template: &str, named: &BTreeSet<Digest>) -> Result<(), Refusal> {
    if named.is_empty() {
        return Ok(());
    }
    Err(Refusal(format!(
        "what is approved here is that a VM of {template} takes its place, and none of its own images: name no digest"
    )))
}

/// Whether they are those of what the VM boots from, and all of them that no template has.
fn all_digests(named: &BTreeSet<Digest>, sight: &Sight<'_>) -> Result<(), Refusal> {
    let images = sight.images();
    let images = images.map_err(|why| Refusal(format!("nothing can be approved yet: {why}")))?;
    let there: BTreeSet<_> = images.iter().map(|image| image.sha256).collect();
    if let Some(digest) = named.iter().find(|digest| !there.contains(digest)) {
        let there: Vec<_> = there.iter().map(Digest::to_string).collect();
        return Err(Refusal(format!(
            "the VM does not boot from sha256 {digest}; it boots from {}",
            there.join(", ")
        )));
    }
    if let Some(digest) = sight.foreign().into_iter().find(|digest| !named.contains(digest)) {
        return Err(Refusal(format!(
            "the VM boots from sha256 {digest} as well, which no template has: look at it, and name it, too"
        )));
    }
    Ok(())
}
