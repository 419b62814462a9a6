//! What people may ask of the mode, and what becomes of it: the same with the daemon and without.

use detector_common::settings::{Cause, Mode};
use serde::{Deserialize, Serialize};

use super::{Deed, Maintenance, ModeRecord, ObservedMode, Ticks};

/// A change that a person asks for. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModeRequest {
    /// Carry verdicts out: provisionally, where it has to be confirmed within some time.
    Enforce {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        confirm_within: Option<u64>,
    },
    /// Let provisional enforcing stay.
    Confirm {},
    /// End provisional enforcing at once.
    Rollback {},
    /// Carry nothing out any more.
    Observe {},
    /// Carry nothing out for some time.
    BreakGlass {
        lasts: u64,
    },
    /// Let denials be findings only for some time.
    Maintenance {
        lasts: u64,
    },
    EndMaintenance {},
}

/// Why a change is refused, with the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ModeRefusal(pub String);

const DAY: u64 = 24 * 60 * 60;
/// The longest times, in seconds.
const LONGEST_TRIAL: u64 = DAY;
const LONGEST_MAINTENANCE: u64 = 7 * DAY;

impl ModeRequest {
    /// The longest reason, since it is pinned with the rest.
    pub const LONGEST_REASON: usize = detector_common::settings::NOTE_BYTES;

    /// How long it holds, in seconds; 0 where it has no end.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::Enforce { confirm_within: Some(span) } => span,
            Self::BreakGlass { lasts } | Self::Maintenance { lasts } => lasts,
            Self::Enforce { confirm_within: None }
            | Self::Confirm {}
            | Self::Rollback {}
            | Self::Observe {}
            | Self::EndMaintenance {} => 0,
        }
    }

    /// What the host is to be put into, from what it is in; `end` lies [`Self::seconds`] ahead.
    ///
    /// # Errors
    ///
    /// Where the request does not fit what holds, or its time is too short or too long.
    pub fn apply(
        self,
        from: &ObservedMode,
        deed: Deed,
        end: Ticks,
    ) -> Result<ModeRecord, ModeRefusal> {
        let holds = from.effective();
        let trial = from.is_provisional() && holds == Mode::Enforce;
        let glass = from.is_provisional() && holds == Mode::Observe;
        let maintenance = from.record.maintenance.clone().filter(|_| from.maintenance.is_some());
        let to =
            |mode, until, deed| ModeRecord { mode, until, deed, maintenance: maintenance.clone() };
        match self {
            Self::Enforce { confirm_within: None } if holds == Mode::Enforce && !trial => {
                // Who has said so first is not forgotten.
                Ok(to(Mode::Enforce, None, from.record.deed.clone()))
            }
            Self::Enforce { confirm_within: None } => Ok(to(Mode::Enforce, None, deed)),
            Self::Enforce { confirm_within: Some(span) } => {
                within(span, LONGEST_TRIAL, "--confirm-within")?;
                if glass {
                    refuse("break-glass is on: `detector enforce` ends it, and enforces for good")?;
                }
                if holds == Mode::Enforce && !trial {
                    refuse("the host enforces already, confirmed: there is nothing to try")?;
                }
                let since = if trial { from.record.deed.since } else { deed.since };
                Ok(to(Mode::Enforce, Some(end), Deed { since, ..deed }))
            }
            Self::Confirm {} if trial => Ok(to(Mode::Enforce, None, deed)),
            Self::Confirm {} => Err(not_on_trial(from, "confirm", glass)),
            Self::Rollback {} if trial => Ok(to(Mode::Observe, None, deed)),
            Self::Rollback {} => Err(not_on_trial(from, "roll back", glass)),
            // Where enforcing has lapsed this takes note of it.
            Self::Observe {}
                if holds == Mode::Observe && !glass && from.record.deed.cause != Cause::Lapsed =>
            {
                Ok(to(Mode::Observe, None, from.record.deed.clone()))
            }
            Self::Observe {} => Ok(to(Mode::Observe, None, deed)),
            Self::BreakGlass { lasts } => {
                within(lasts, LONGEST_TRIAL, "--for")?;
                reason(&deed)?;
                if trial {
                    refuse(
                        "enforcing is provisional: `detector enforce rollback` ends it at once",
                    )?;
                }
                if holds == Mode::Observe && !glass {
                    refuse("nothing is enforced: there is no glass to break")?;
                }
                Ok(to(Mode::Observe, Some(end), deed))
            }
            Self::Maintenance { lasts } => {
                within(lasts, LONGEST_MAINTENANCE, "--for")?;
                reason(&deed)?;
                let maintenance = Some(Maintenance { until: end, deed });
                Ok(ModeRecord { maintenance, ..from.record.clone() })
            }
            Self::EndMaintenance {} if from.maintenance.is_some() => {
                Ok(ModeRecord { maintenance: None, ..from.record.clone() })
            }
            Self::EndMaintenance {} => Err(ModeRefusal("no maintenance is on".to_owned())),
        }
    }
}

fn refuse(why: &str) -> Result<(), ModeRefusal> {
    Err(ModeRefusal(why.to_owned()))
}

fn within(span: u64, most: u64, option: &str) -> Result<(), ModeRefusal> {
    if (1..=most).contains(&span) {
        return Ok(());
    }
    let days = most / DAY;
    Err(ModeRefusal(format!(
        "{option}: {span} seconds: expected one second to {days} day{}",
        if days == 1 { "" } else { "s" }
    )))
}

/// What loosens the host says why.
fn reason(deed: &Deed) -> Result<(), ModeRefusal> {
    if deed.why.trim().is_empty() {
        refuse("--reason is empty: say why, for whoever finds it later")?;
    }
    Ok(())
}

fn not_on_trial(from: &ObservedMode, what: &str, glass: bool) -> ModeRefusal {
    let lapsed = from.lapsed || from.record.deed.cause == Cause::Lapsed;
    ModeRefusal(match (glass, from.effective()) {
        (true, _) => format!(
            "there is nothing to {what}: break-glass is on, which `detector enforce` ends; `detector \
             observe` stays with it"
        ),
        (false, Mode::Observe) if lapsed => format!(
            "there is nothing to {what}: the time for it is over, and the host observes again. \
             `detector enforce --confirm-within 60s` tries once more"
        ),
        (false, Mode::Observe) => format!(
            "there is nothing to {what}: the host observes. `detector enforce --confirm-within 60s` \
             begins to enforce provisionally"
        ),
        (false, Mode::Enforce) => format!(
            "there is nothing to {what}: the host enforces, confirmed. `detector observe` ends that"
        ),
    })
}
