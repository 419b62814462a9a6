use super::{Deed, Means, Outcome, Planned, Refusal, Step};

/// What a remediation would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Planned>,
    /// What it would also do if this host could, and why it cannot.
    pub left_out: Vec<(Deed, String)>,
}

/// The steps that lead to an outcome. A VM without a port is one that no quarantine reaches.
///
/// # Errors
///
/// What the outcome needs and this host does not have.
pub fn plan(outcome: &Outcome, means: &Means, has_port: bool) -> Result<Plan, Refusal> {
    let mut plan = Plan { steps: Vec::new(), left_out: Vec::new() };
    plan.add(Step::Quarantine);
    plan.add_if_possible(Deed::Evidence, Step::Evidence, means);
    if !has_port {
        plan.need(Deed::Contain, Step::Contain, means)?;
    }
    if means.sandbox && has_port {
        plan.add(Step::Sandbox);
    }
    match outcome {
        Outcome::Patched { provisioner } => {
            plan.add_if_possible(Deed::Move, Step::Move, means);
            if let Some(name) = provisioner {
                plan.need(Deed::Provision, Step::Provision, means)?;
                if let Some(why) = means.no_provisioner(name) {
                    return Err(Refusal(why));
                }
            }
            plan.add(Step::Approve);
        }
        Outcome::Template { .. } => plan.add(Step::Approve),
        Outcome::Replaced { .. } => {
            plan.add(Step::Approve);
            plan.need(Deed::Replace, Step::Replace, means)?;
        }
    }
    plan.add(Step::Verify);
    plan.add(Step::Release);
    Ok(plan)
}

impl Plan {
    fn add(&mut self, step: Step) {
        self.steps.push(Planned::new(step));
    }

    fn add_if_possible(&mut self, deed: Deed, step: Step, means: &Means) {
        if means.can(deed) {
            self.add(step);
        } else {
            self.left_out.push((deed, means.why_not(deed)));
        }
    }

    fn need(&mut self, deed: Deed, step: Step, means: &Means) -> Result<(), Refusal> {
        if !means.can(deed) {
            let why = means.why_not(deed);
            return Err(Refusal(format!("this needs what is not there: {why}")));
        }
        self.add(step);
        Ok(())
    }
}
