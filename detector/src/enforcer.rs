//! The one narrow, serialisable interface to what needs privileges.

use detector_core::{model::Observed, reconcile::Action};

/// Carries out actions on the kernel and says what the kernel holds.
///
/// Everything that passes through is plain data, so that an implementation may live in another,
/// more privileged process.
pub trait Enforcer {
    /// What the kernel holds now.
    fn observe(&mut self) -> Result<Observed, EnforceError>;

    /// Carries out one action. Carrying it out again changes nothing.
    fn execute(&mut self, action: &Action) -> Result<(), EnforceError>;
}

/// Why an action was not carried out, with every cause down to the errno, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[error("{0}")]
pub struct EnforceError(pub String);
