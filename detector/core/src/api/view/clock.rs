use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is known of the time of day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// What the clock says.
    pub says: Timestamp,
    /// Since when it is not believed; absent where it is.
    pub doubted: Option<Timestamp>,
    /// It is this at the earliest, and that at the latest.
    pub earliest: Timestamp,
    pub latest: Timestamp,
    /// The latest word of a person, since the daemon runs.
    pub confirmed: Option<ConfirmedView>,
}

/// A person has said that the clock is right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmedView {
    /// When, by the clock that was confirmed.
    pub at: Timestamp,
    /// What it would have been by the clock that was believed before.
    pub instead_of: Timestamp,
    pub uid: u32,
    pub reason: String,
}
