use std::time::Duration;

use serde::Deserialize;

use super::{
    check::{Checked, ensure},
    sections::duration,
};
use crate::audit::Limits;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Beyond this it is an archive, which other software keeps better.
const MAX_MEGABYTES: u64 = 64 << 10;

/// How much of the audit is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditKeys {
    /// For ever, where it is zero; otherwise at least a day.
    #[serde(deserialize_with = "duration")]
    pub retention: Duration,
    /// Size of the database, in units of 2^20 bytes.
    pub max_megabytes: u64,
}

impl Default for AuditKeys {
    fn default() -> Self {
        Self { retention: 365 * DAY, max_megabytes: 256 }
    }
}

impl AuditKeys {
    pub fn limits(&self) -> Limits {
        Limits { retention: self.retention, size: self.max_megabytes << 20 }
    }

    pub(super) fn check(&self) -> Checked {
        ensure(self.retention.is_zero() || self.retention >= DAY, &["audit", "retention"], || {
            "expected at least one day (\"1day\"), or \"0s\" to keep all that there is room for"
                .to_owned()
        })?;
        ensure(
            (1..=MAX_MEGABYTES).contains(&self.max_megabytes),
            &["audit", "max_megabytes"],
            || format!("expected 1 to {MAX_MEGABYTES}"),
        )
    }
}
