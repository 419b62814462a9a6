//! The section `mitigation`: how much verdicts may take away without a person.

use std::time::Duration;

use detector_core::model::{BlastLimits, Curb};
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
    /// What becomes of VMs that no inventory knows.
    pub unknown_processes: UnknownProcesses,
}

/// What becomes of VMs that no inventory knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnknownProcesses {
    /// They are told.
    Report,
    /// They do not run on, and their memory stays.
    Suspend,
    /// Their processes are ended.
    Stop,
}

impl UnknownProcesses {
    /// How they are kept from running on, if they are.
    pub const fn curb(self) -> Option<Curb> {
        match self {
            Self::Report => None,
            Self::Suspend => Some(Curb::Suspend),
            Self::Stop => Some(Curb::Stop),
        }
    }
}

impl Default for MitigationKeys {
    fn default() -> Self {
        Self {
            guard: true,
            max_vms: 10,
            max_percent: 25,
            window: Duration::from_secs(15 * 60),
            unknown_processes: UnknownProcesses::Report,
        }
    }
}

impl MitigationKeys {
    pub fn limits(&self) -> Option<BlastLimits> {
        let Self { guard, max_vms: vms, max_percent: percent, window, .. } = *self;
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
