use serde::{Deserialize, Serialize};

use super::{CountersView, Status};

/// What there is to measure, as one moment shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricsView {
    /// Absent when read from the pins.
    pub daemon: Option<DaemonMetrics>,
    /// Whether verdicts are carried out; absent where nothing has been pinned yet.
    pub enforces: Option<bool>,
    pub quarantines: usize,
    pub ports: Vec<PortMetrics>,
}

/// What only the daemon knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonMetrics {
    pub status: Status,
    /// Turns of its loop, and how long they took.
    pub turns: u64,
    pub turns_took_us: u64,
    pub reloads: u64,
    pub reloads_refused: u64,
    /// Whether the configuration on the disk could be used when it was read last.
    pub configured: bool,
}

/// The frames of one interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortMetrics {
    pub name: String,
    pub role: String,
    pub counters: CountersView,
}
