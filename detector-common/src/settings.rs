//! What holds for the whole host and may change while programs run.

use crate::layout;

/// Whether a drop verdict is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Verdicts are computed, counted and reported; the frame goes on all the same.
    Observe = 0,
    /// Verdicts are carried out.
    Enforce = 1,
}

impl Mode {
    pub const fn other(self) -> Self {
        match self {
            Self::Observe => Self::Enforce,
            Self::Enforce => Self::Observe,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

/// Added to a [`Mode`] code in [`Settings::mode`]: it holds until [`Settings::change`] ends, and the other
/// one from then on.
pub const PROVISIONAL: u32 = 1 << 1;

const OBSERVE: u32 = Mode::Observe as u32;
const OBSERVE_FOR_NOW: u32 = OBSERVE | PROVISIONAL;
const ENFORCE_FOR_NOW: u32 = Mode::Enforce as u32 | PROVISIONAL;

/// Length of [`Term::note`] in bytes.
pub const NOTE_BYTES: usize = 112;

/// Until when something holds, and who wanted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Term {
    /// In jiffies (`jiffies64`): it needs nobody to end it, and ends with the host. 0 for no end.
    pub until: u64,
    /// Nanoseconds since the Unix epoch, for people.
    pub since: u64,
    /// User id of the person, or of the daemon.
    pub uid: u32,
    /// A [`Cause`] code.
    pub cause: u32,
    /// Why, for people: UTF-8, cut at a character, padded with zero bytes.
    pub note: [u8; NOTE_BYTES],
}

layout!(Term, size 136, until @ 0, since @ 8, uid @ 16, cause @ 20, note @ 24);

impl Term {
    pub const NONE: Self = Self { until: 0, since: 0, uid: 0, cause: 0, note: [0; NOTE_BYTES] };
}

/// How a mode has come about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// The configuration says so, and nobody has said otherwise yet.
    Configured = 0,
    /// A person has said so.
    Operator = 1,
    /// The time of a provisional one was over.
    Lapsed = 2,
}

/// The one entry of `SETTINGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// A [`Mode`] code, with [`PROVISIONAL`] or without; any other value is enforced. The one word by which
    /// modes are switched: what it makes count is written before it.
    pub mode: u32,
    /// `CONFIG_HZ` of this kernel, for the budgets; written by the daemon.
    pub hz: u32,
    /// The instance number that the next port gets.
    pub next_instance: u32,
    /// Whether a mode has been set: 0 until then, while the programs observe.
    pub has_mode: u32,
    /// Of the mode. Its end is looked at with [`PROVISIONAL`] only.
    pub change: Term,
    /// While it lasts, denials are findings only. For the daemon: no program looks at it.
    pub maintenance: Term,
}

layout!(
    Settings, size 288,
    mode @ 0, hz @ 4, next_instance @ 8, has_mode @ 12, change @ 16, maintenance @ 152,
);

impl Settings {
    pub const DEFAULT: Self = Self {
        mode: OBSERVE,
        hz: 250,
        next_instance: 1,
        has_mode: 0,
        change: Term::NONE,
        maintenance: Term::NONE,
    };

    /// Whether drop verdicts are carried out. The clock (`jiffies64`) is asked only while the mode is
    /// provisional.
    #[inline(always)]
    pub fn enforces(&self, now: impl FnOnce() -> u64) -> bool {
        match self.mode {
            OBSERVE => false,
            OBSERVE_FOR_NOW => now() >= self.change.until,
            ENFORCE_FOR_NOW => now() < self.change.until,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provisional_mode_ends_by_itself_and_only_it_asks_for_the_time() {
        let cases = [
            (OBSERVE, None, [false; 3]),
            (Mode::Enforce as u32, None, [true; 3]),
            (OBSERVE_FOR_NOW, Some(()), [false, true, true]),
            (ENFORCE_FOR_NOW, Some(()), [true, false, false]),
            // Damaged: the stricter one.
            (4, None, [true; 3]),
            (u32::MAX, None, [true; 3]),
        ];
        for (mode, asks, enforces) in cases {
            let change = Term { until: 100, ..Term::NONE };
            let settings = Settings { mode, change, ..Settings::DEFAULT };
            for (now, expect) in [99, 100, 101].into_iter().zip(enforces) {
                let mut asked = None;
                let found = settings.enforces(|| {
                    asked = Some(());
                    now
                });
                assert_eq!((found, asked), (expect, asks), "mode {mode} at {now}");
            }
        }
    }
}
