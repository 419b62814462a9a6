use std::{collections::BTreeSet, time::Duration};

use detector_common::quarantine::Cause;

use super::{Deed, Outcome, Planned, Sight, Step, StepState, Workflow};
use crate::model::{Image, PowerState};

/// How long a source may take to say that a VM has been contained.
const SETTLE: Duration = Duration::from_secs(10);

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is to be written down that this step begins.
    Begin(Step),
    /// That is written down: it is to be done.
    Do(Step),
    /// What this step waits for is there.
    Pass(Step, Passed),
    /// This step was done, and is not any more.
    Redo(Step, &'static str),
    /// Nothing, until this has changed.
    Wait(String),
    /// Every step is done.
    End,
    /// It has ended.
    Over,
}

/// What is kept of a step that has waited for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    /// These are approved, by these people.
    Approved(Vec<Image>, BTreeSet<u32>),
    /// Judged, and how.
    Verified(String),
}

impl Workflow {
    /// What comes next, by what is to be seen now.
    pub fn next(&self, sight: &Sight<'_>) -> Next {
        if self.is_over() {
            return Next::Over;
        }
        if let Some(lost) = self.lost(sight) {
            return lost;
        }
        if let Some(why) = self.runs_on(sight) {
            return Next::Redo(Step::Contain, why);
        }
        let Some(planned) = self.current() else { return Next::End };
        if let Some(why) = self.lets_out(planned, sight) {
            return Next::Wait(why);
        }
        match planned.state {
            StepState::Failed(_) => Next::Wait(format!(
                "{} has failed: {}. See to it, and start once more",
                planned.step.as_str(),
                planned.note
            )),
            StepState::Waiting => self.wait_or_begin(planned, sight),
            StepState::Begun(_) | StepState::Done(_) => match planned.step {
                Step::Approve => self.judge_approvals(sight),
                Step::Verify => judge(sight),
                Step::Release if sight.quarantine.is_some() && !sight.passes() => {
                    Next::Redo(Step::Verify, "the verdict on it has changed")
                }
                // Whoever does it is told which source lists the VM.
                step if step.deed().is_some() && sight.power.is_none() => unlisted(),
                step => Next::Do(step),
            },
        }
    }

    /// The quarantine that a step has put there and that somebody has taken away since.
    fn lost(&self, sight: &Sight<'_>) -> Option<Next> {
        let holds = sight.quarantine.is_some_and(|held| held.cause == Cause::Operator);
        // From when it is being lifted on it is not missed.
        let matters = |planned: &Planned| match planned.step {
            Step::Release => planned.state == StepState::Waiting,
            Step::GiveBack | Step::Seal => false,
            _ => true,
        };
        let lost = self.has_done(Step::Quarantine) && !holds && self.current().is_some_and(matters);
        lost.then_some(Next::Redo(Step::Quarantine, "somebody has lifted its quarantine"))
    }

    /// Why a VM that its ports do not hold is contained once more, or after all: it runs, and nothing is done that
    /// has it run.
    fn runs_on(&self, sight: &Sight<'_>) -> Option<&'static str> {
        let is_at_rest = self.current().is_some_and(|planned| match planned.step {
            Step::Evidence | Step::Sandbox | Step::Move | Step::Approve | Step::Replace => true,
            // One that has failed has it run no more. What runs meanwhile may go by the VM's name, and be another.
            Step::Provision => !planned.has_begun(),
            _ => false,
        });
        if !is_at_rest || sight.power != Some(PowerState::Running) {
            return None;
        }
        let contained = self.steps.iter().find(|planned| planned.step == Step::Contain);
        match contained.map(|planned| planned.state) {
            // Until then its source may not have said yet that it does not.
            Some(StepState::Done(at)) if sight.now >= at + SETTLE => {
                Some("somebody has had it run on")
            }
            None if sight.unguarded && sight.means.can(Deed::Contain) => {
                Some("by now it has a way out that no guard can be on")
            }
            _ => None,
        }
    }

    /// Why it is not provisioned yet: it would run with a way out that no guard can be on.
    fn lets_out(&self, planned: &Planned, sight: &Sight<'_>) -> Option<String> {
        let Outcome::Patched { provisioner: Some(name) } = &self.outcome else { return None };
        let is_next = planned.step == Step::Provision && !planned.has_failed();
        sight.means.lets_out(name).filter(|_| is_next && sight.unguarded)
    }

    fn wait_or_begin(&self, planned: &Planned, sight: &Sight<'_>) -> Next {
        let needs_vm = matches!(planned.step, Step::Quarantine) || planned.step.deed().is_some();
        if needs_vm && sight.power.is_none() {
            return unlisted();
        }
        Next::Begin(planned.step)
    }

    fn judge_approvals(&self, sight: &Sight<'_>) -> Next {
        let images = match self.replacing() {
            // Its images go with it, whatever they are.
            Some(_) => Vec::new(),
            None => match sight.images() {
                Ok(images) => images,
                Err(why) => return Next::Wait(format!("nothing can be approved yet: {why}")),
            },
        };
        let needed = self.needed(sight.means.approvals);
        let counted = self.counted(needed);
        let named = self.approvals.last().map(|approval| &approval.digests);
        if let Some(named) = named.filter(|_| self.replacing().is_none()) {
            let there: Vec<_> = images.iter().map(|image| image.sha256).collect();
            let gone = named.iter().find(|digest| !there.contains(digest));
            let unnamed = sight.foreign().into_iter().find(|digest| !named.contains(digest));
            if let Some(digest) = gone {
                return Next::Wait(format!(
                    "sha256 {digest} was approved, and the VM does not boot from it any more: approve what is there"
                ));
            }
            if let Some(digest) = unnamed {
                return Next::Wait(format!(
                    "the VM boots from sha256 {digest}, which was not approved: approve what is there"
                ));
            }
        }
        match usize::from(needed).checked_sub(counted.len()) {
            None | Some(0) => Next::Pass(Step::Approve, Passed::Approved(images, counted)),
            Some(missing) => {
                let who = if needed > 1 { " other than who has started it" } else { "" };
                let people = if missing == 1 { "person has" } else { "people have" };
                Next::Wait(format!("{missing} {people} to approve{who}"))
            }
        }
    }
}

fn unlisted() -> Next {
    let why = "no inventory lists the VM: it goes on when one does; otherwise abort";
    Next::Wait(why.to_owned())
}

/// The verdict on a VM, as it is now.
fn judge(sight: &Sight<'_>) -> Next {
    let Some(verdict) = sight.verdict.filter(|_| sight.runs) else {
        return Next::Wait("it is judged when it runs: start it".to_owned());
    };
    if sight.reading {
        return Next::Wait("what it boots from is being read".to_owned());
    }
    if sight.passes() {
        let of = verdict.template.as_deref().unwrap_or("no template");
        return Next::Pass(
            Step::Verify,
            Passed::Verified(format!("every requirement is met, by {of}")),
        );
    }
    let missing = sight.missing();
    let missing = match &missing[..] {
        [] => "the verdict on it has not fallen yet".to_owned(),
        missing => missing.join("\n"),
    };
    Next::Wait(missing)
}
