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

/// The one entry of `SETTINGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// A [`Mode`] code; any other value is enforced.
    pub mode: u32,
    /// `CONFIG_HZ` of this kernel, for the budgets; written by the daemon.
    pub hz: u32,
    /// The instance number that the next port gets.
    pub next_instance: u32,
}

layout!(Settings, size 12, mode @ 0, hz @ 4, next_instance @ 8);

impl Settings {
    pub const DEFAULT: Self = Self { mode: Mode::Observe as u32, hz: 250, next_instance: 1 };

    pub const fn enforces(&self) -> bool {
        self.mode != Mode::Observe as u32
    }
}
