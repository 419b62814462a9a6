//! In which mode the host is: what is pinned of it, and what people may ask for.

mod request;

use detector_common::settings::{Cause, Mode, NOTE_BYTES, PROVISIONAL, Settings, Term};
use serde::{Deserialize, Serialize};

pub use request::{ModeRefusal, ModeRequest};

use super::Timestamp;

/// A count of the kernel's ticks (`jiffies64`): a moment that no change of the clock moves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ticks(pub u64);

/// Who wanted something, when, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    pub since: Timestamp,
    /// User id of the person, or of the daemon.
    pub uid: u32,
    #[serde(with = "cause_text")]
    pub cause: Cause,
    /// For people: at most [`NOTE_BYTES`] bytes, without NUL. [`Deed::new`] sees to it, so that what is read
    /// back from the kernel is equal to what was put there.
    pub why: String,
}

/// The mode that the host was put into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModeRecord {
    #[serde(with = "mode_text")]
    pub mode: Mode,
    /// When the other mode follows by itself; `None` where this one is confirmed.
    pub until: Option<Ticks>,
    pub deed: Deed,
    pub maintenance: Option<Maintenance>,
}

/// For a while denials are findings only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maintenance {
    pub until: Ticks,
    pub deed: Deed,
}

/// The record as it is pinned, and what has come of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedMode {
    pub record: ModeRecord,
    /// Whether a provisional mode is over.
    pub lapsed: bool,
    /// The end of the provisional mode, by the clock of now.
    pub until: Option<Timestamp>,
    /// The end of the maintenance, by the clock of now; `None` where there is none, or it is over.
    pub maintenance: Option<Timestamp>,
}

impl Deed {
    /// One whose reason is cut to what the record holds.
    pub fn new(since: Timestamp, uid: u32, cause: Cause, why: &str) -> Self {
        let why: String = why.chars().filter(|c| *c != '\0').collect();
        let why = why[..why.floor_char_boundary(NOTE_BYTES)].to_owned();
        Self { since, uid, cause, why }
    }

    fn term(&self, until: Option<Ticks>) -> Term {
        let mut note = [0; NOTE_BYTES];
        let text = &self.why.as_bytes()[..self.why.floor_char_boundary(NOTE_BYTES)];
        note[..text.len()].copy_from_slice(text);
        Term {
            until: until.map_or(0, |ticks| ticks.0),
            since: self.since.0.saturating_mul(NANOS_PER_MILLI),
            uid: self.uid,
            cause: self.cause as u32,
            note,
        }
    }

    fn from_term(term: &Term) -> Self {
        const CONFIGURED: u32 = Cause::Configured as u32;
        const LAPSED: u32 = Cause::Lapsed as u32;
        let cause = match term.cause {
            CONFIGURED => Cause::Configured,
            LAPSED => Cause::Lapsed,
            _ => Cause::Operator,
        };
        let end = term.note.iter().position(|byte| *byte == 0).unwrap_or(NOTE_BYTES);
        let why = String::from_utf8_lossy(&term.note[..end]);
        Self::new(Timestamp(term.since / NANOS_PER_MILLI), term.uid, cause, &why)
    }
}

/// Confirmed, by the daemon itself.
impl From<Mode> for ModeRecord {
    fn from(mode: Mode) -> Self {
        Self::confirmed(mode, Deed::new(Timestamp(0), 0, Cause::Configured, ""))
    }
}

impl ModeRecord {
    pub const fn confirmed(mode: Mode, deed: Deed) -> Self {
        Self { mode, until: None, deed, maintenance: None }
    }

    /// The settings with this mode.
    pub fn write(&self, settings: Settings) -> Settings {
        let provisional = if self.until.is_some() { PROVISIONAL } else { 0 };
        let maintenance = self.maintenance.as_ref();
        Settings {
            mode: self.mode as u32 | provisional,
            has_mode: 1,
            change: self.deed.term(self.until),
            maintenance: maintenance.map_or(Term::NONE, |one| one.deed.term(Some(one.until))),
            ..settings
        }
    }

    /// The mode in these settings. A code that is unknown is the stricter mode, as to the kernel programs.
    pub fn read(settings: &Settings) -> Self {
        let Settings { mode: code, change, maintenance, .. } = settings;
        let known = code & !(PROVISIONAL | Mode::Enforce as u32) == 0;
        let observe = known && code & Mode::Enforce as u32 == 0;
        Self {
            mode: if observe { Mode::Observe } else { Mode::Enforce },
            until: (known && code & PROVISIONAL != 0).then_some(Ticks(change.until)),
            deed: Deed::from_term(change),
            maintenance: (maintenance.until != 0).then(|| Maintenance {
                until: Ticks(maintenance.until),
                deed: Deed::from_term(maintenance),
            }),
        }
    }
}

impl ObservedMode {
    /// What becomes of the record at `now`; `at` says at which time of day a later moment is.
    pub fn at(record: ModeRecord, now: Ticks, at: impl Fn(Ticks) -> Timestamp) -> Self {
        let ends = record.maintenance.as_ref().map(|one| one.until);
        Self {
            lapsed: record.until.is_some_and(|until| now >= until),
            until: record.until.map(&at),
            maintenance: ends.filter(|until| now < *until).map(&at),
            record,
        }
    }

    /// The mode that holds.
    pub const fn effective(&self) -> Mode {
        if self.lapsed { self.record.mode.other() } else { self.record.mode }
    }

    /// Whether the mode that holds ends by itself.
    pub const fn is_provisional(&self) -> bool {
        self.record.until.is_some() && !self.lapsed
    }
}

const NANOS_PER_MILLI: u64 = 1_000_000;

pub mod mode_text {
    use detector_common::settings::Mode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(mode: &Mode, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(mode.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Mode, D::Error> {
        match String::deserialize(from)?.as_str() {
            "observe" => Ok(Mode::Observe),
            "enforce" => Ok(Mode::Enforce),
            other => Err(D::Error::unknown_variant(other, &["observe", "enforce"])),
        }
    }
}

mod cause_text {
    use detector_common::settings::Cause;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(cause: &Cause, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(match cause {
            Cause::Configured => "configured",
            Cause::Operator => "operator",
            Cause::Lapsed => "lapsed",
        })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Cause, D::Error> {
        match String::deserialize(from)?.as_str() {
            "configured" => Ok(Cause::Configured),
            "operator" => Ok(Cause::Operator),
            "lapsed" => Ok(Cause::Lapsed),
            other => Err(D::Error::unknown_variant(other, &["configured", "operator", "lapsed"])),
        }
    }
}

#[cfg(test)]
mod tests;
