use std::collections::BTreeSet;

use super::{Deed, Means, Outcome, Planned, Refusal, Step};
use crate::model::{AttachmentKind, Vm};

/// What a remediation would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub steps: Vec<Planned>,
    /// What it would also do if this host could, and why it cannot.
    pub left_out: Vec<(Deed, String)>,
}

/// Why no VM can take the place of one.
const NOT_PLACED: &str = "a VM that takes its place has its MACs, on the networks where they are, and this one has no \
                          interface, or one that is on no network (user-mode networking, SR-IOV, vhost-user): give it \
                          such interfaces only, or bring it back by another outcome";

/// How a VM reaches others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways {
    /// By a NIC that a guard can be on, and a quarantine with it.
    pub guarded: bool,
    /// By something that no guard can be on, and no quarantine reaches.
    pub unguarded: bool,
    /// By NICs that are all on networks which another VM can be put on.
    pub placed: bool,
}

impl Ways {
    /// By what sources say of it; `told` says whether it was found to have a way out without a guard.
    pub fn of<'a>(said: impl Iterator<Item = &'a Vm>, told: bool) -> Self {
        let (mut nics, mut bare, mut placed, mut listed) =
            (BTreeSet::new(), BTreeSet::new(), true, false);
        for vm in said {
            listed |= !vm.attachments.is_empty();
            nics.extend(vm.nics.iter().map(|nic| nic.mac));
            for (mac, kind) in vm.nics.iter().filter_map(|nic| Some((nic.mac, nic.unguarded?))) {
                bare.insert(mac);
                // Such a macvtap is on a device of the host, by name.
                placed &= kind == AttachmentKind::Macvtap;
            }
        }
        Self {
            guarded: nics.difference(&bare).next().is_some(),
            unguarded: told || listed || !bare.is_empty(),
            placed: placed && !nics.is_empty(),
        }
    }

    /// Whether a quarantine of its ports leaves it no way out.
    const fn are_held(self) -> bool {
        self.guarded && !self.unguarded
    }
}

/// The steps that lead to an outcome.
///
/// # Errors
///
/// What the outcome needs and this host, or the VM, does not have.
pub fn plan(outcome: &Outcome, means: &Means, ways: Ways) -> Result<Plan, Refusal> {
    let mut plan = Plan { steps: Vec::new(), left_out: Vec::new() };
    plan.add(Step::Quarantine);
    plan.add_if_possible(Deed::Evidence, Step::Evidence, means);
    if !ways.are_held() {
        plan.need(Deed::Contain, Step::Contain, means)?;
    }
    if means.sandbox && ways.guarded {
        plan.add(Step::Sandbox);
    }
    match outcome {
        Outcome::Patched { provisioner } => {
            plan.add_if_possible(Deed::Move, Step::Move, means);
            if let Some(name) = provisioner {
                plan.need(Deed::Provision, Step::Provision, means)?;
                let lets_out = || means.lets_out(name).filter(|_| ways.unguarded);
                if let Some(why) = means.no_provisioner(name).or_else(lets_out) {
                    return Err(Refusal(why));
                }
            }
            plan.add(Step::Approve);
        }
        Outcome::Template { .. } => plan.add(Step::Approve),
        Outcome::Replaced { .. } => {
            if !ways.placed {
                return Err(Refusal(NOT_PLACED.to_owned()));
            }
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
