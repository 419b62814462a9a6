//! How a VM that was cut off comes back: what is known of a remediation, and what comes next.
//!
//! A [`Workflow`] is a list of steps, done one after the other. Of a step is written down that it begins, then it is
//! done, then that is written down: whoever was killed in between does it again, which every step bears. What comes
//! next is a function of the workflow and of what is to be seen of its VM ([`Workflow::next`]); what people want of it
//! is another ([`Workflow::approve`] and its like), and either refuses in a sentence.

mod ask;
mod means;
mod next;
mod plan;
mod sight;
mod step;
mod workflow;

pub use means::Means;
pub use next::{Next, Passed};
pub use plan::{Plan, Ways, plan};
pub use sight::{Shown, Sight, SightedMedium};
pub use step::{Deed, Planned, Step, StepState};
pub use workflow::{
    Approval, By, End, Event, LONGEST_TEXT, MOST_EVENTS, Outcome, Refusal, Stage, Workflow,
};

#[cfg(test)]
mod tests;
