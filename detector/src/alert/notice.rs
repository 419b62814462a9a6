//! What receivers are told: that an alert opens, changes or ends.

use std::fmt;

use detector_core::model::Severity;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::api::view::{FindingView, Mark};

/// One thing that receivers are told. It is kept in the outbox as it is, so that what a retry sends is
/// what was the case when it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Names this notice: the same however often it is tried, so that receivers can drop a second copy.
    pub id: Uuid,
    /// Names the alert, from its opening to its end.
    pub alert: Uuid,
    pub event: Event,
    pub at: Timestamp,
    pub finding: FindingView,
}

/// What has happened to an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    Opened,
    /// It is more severe, or more is known of it.
    Changed,
    Acknowledged,
    /// It is not told of any more, until the suppression ends.
    Suppressed,
    Closed,
    /// Somebody tries whether alerts arrive.
    Test,
}

impl Event {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Changed => "changed",
            Self::Acknowledged => "acknowledged",
            Self::Suppressed => "suppressed",
            Self::Closed => "closed",
            Self::Test => "test",
        }
    }

    /// Whether the alert is over for the receiver.
    pub const fn ends(self) -> bool {
        matches!(self, Self::Closed | Self::Suppressed)
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Notice {
    pub fn severity(&self) -> Severity {
        self.finding.severity
    }

    /// Who has acknowledged or suppressed it, where that is what the notice is about.
    pub fn mark(&self) -> Option<&Mark> {
        match self.event {
            Event::Suppressed => self.finding.suppressed.as_ref(),
            _ => self.finding.acknowledged.as_ref(),
        }
    }
}
