//! What holds for the whole host, read by every program.

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

/// Where a frame carries the stamp that says a guard has vetted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Carrier {
    /// The bits `stamp_mask` of `skb->mark`.
    Mark = 0,
    /// `skb->tc_index` (16 bits).
    TcIndex = 1,
}

/// The one entry of `SETTINGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// A [`Mode`] code; any other value is enforced.
    pub mode: u32,
    /// A [`Carrier`] code.
    pub carrier: u32,
    /// Bits of the carrier that are ours.
    pub stamp_mask: u32,
    /// What those bits hold on a vetted frame.
    pub stamp_value: u32,
    /// `CONFIG_HZ` of this kernel, for the budgets; written by the daemon.
    pub hz: u32,
    /// The instance number that the next port gets.
    pub next_instance: u32,
}

layout!(
    Settings, size 24,
    mode @ 0, carrier @ 4, stamp_mask @ 8, stamp_value @ 12, hz @ 16, next_instance @ 20,
);

impl Settings {
    /// The default stamp: bit 30 of the mark. The low bits are taken by others (a host's own IGMP
    /// frames, Kubernetes, Cilium), and bit 31 is left for a second value.
    pub const DEFAULT: Self = Self {
        mode: Mode::Observe as u32,
        carrier: Carrier::Mark as u32,
        stamp_mask: 0xc000_0000,
        stamp_value: 0x4000_0000,
        hz: 250,
        next_instance: 1,
    };

    pub const fn enforces(&self) -> bool {
        self.mode != Mode::Observe as u32
    }
}
