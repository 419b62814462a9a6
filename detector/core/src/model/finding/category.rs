//! The categories of findings.

/// What kind of trouble it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Category {
    /// Something runs that nobody approved.
    Rogue,
    /// Somebody speaks as somebody else, or harms others by what is sent.
    Spoof,
    /// Somebody gets around what guards, or takes it away.
    Evasion,
    /// What is approved is not as it should be.
    Compliance,
    /// The detector itself cannot do something.
    Operations,
}
