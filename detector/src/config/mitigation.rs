//! The section `mitigation`: how much verdicts may take away without a person.

use std::time::Duration;

use detector_core::model::BlastLimits;
use serde::Deserialize;

use super::{
    check::{Checked, ensure},
    text::duration,
};

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// The section `mitigation`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MitigationKeys {
    /// Whether there are limits.
    pub guard: bool,
    /// How many VMs may be cut off within the window; 0 has a person asked for each.
    pub max_vms: u32,
    /// Of the VMs that have something to lose, 0 to 100.
    pub max_percent: u8,
    /// A second to a week.
    #[serde(deserialize_with = "duration")]
    pub window: Duration,
}

impl Default for MitigationKeys {
    fn default() -> Self {
        Self { guard: true, max_vms: 10, max_percent: 25, window: Duration::from_secs(15 * 60) }
    }
}

impl MitigationKeys {
    pub fn limits(&self) -> Option<BlastLimits> {
        let Self { guard, max_vms: vms, max_percent: percent, window } = *self;
        guard.then_some(BlastLimits { vms, percent, window })
    }

    pub(super) fn check(&self) -> Checked {
        ensure(self.max_percent <= 100, &["mitigation", "max_percent"], || {
            "expected 0 to 100".to_owned()
        })?;
        ensure((SHORTEST..=LONGEST).contains(&self.window), &["mitigation", "window"], || {
            "expected \"1s\" to \"7days\"".to_owned()
        })
    }
}
