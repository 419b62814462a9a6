//! From what should be and what is to what has to be done: pure.

mod action;
mod desired;

pub use action::{Action, GrantEntry, SlotEntry};
pub use desired::{AddressSet, Desired, Identity, InterfacePlan, Isolation, PortPlan};

use crate::model::Observed;

/// The actions that lead from `observed` to `desired`, in the order to carry them out. Carrying
/// them all out and observing again leads to no actions.
pub fn reconcile(_desired: &Desired, _observed: &Observed) -> Vec<Action> {
    Vec::new()
}
