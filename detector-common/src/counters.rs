//! Per-port counters and bounds.

use crate::{claim::ClaimRecord, layout, reason::REASON_SLOTS};

/// Per-CPU counters of one port; userspace adds the CPUs up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortCounters {
    /// Frames from the port that were refused, by reason code.
    pub from: [u64; REASON_SLOTS],
    /// Frames towards the port (or to the host, or out of it, where the slot is a gate's) that were
    /// refused, by reason code.
    pub to: [u64; REASON_SLOTS],
    /// Events that the ring buffer had no room for.
    pub events_lost: u64,
    /// Events that the port's budget held back.
    pub events_held: u64,
}

layout!(PortCounters, size 1040, from @ 0, to @ 512, events_lost @ 1024, events_held @ 1032);

impl PortCounters {
    pub const ZERO: Self =
        Self { from: [0; REASON_SLOTS], to: [0; REASON_SLOTS], events_lost: 0, events_held: 0 };
}

/// A claim seen without a grant. Each port has [`SIGHTINGS_PER_PORT`](crate::maps::SIGHTINGS_PER_PORT)
/// of them, placed by a hash of the claim: a newer claim may take an older one's place, but only
/// ever one of the same port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Sighting {
    /// `jiffies64` of the first frame.
    pub first: u64,
    /// `jiffies64` of the latest frame.
    pub last: u64,
    /// Frames seen since `first`.
    pub count: u64,
    pub claim: ClaimRecord,
    /// The port instance, so that a reused slot's old sightings are not the new port's.
    pub instance: u32,
    pub pad: u32,
}

layout!(Sighting, size 64, first @ 0, last @ 8, count @ 16, claim @ 24, instance @ 56, pad @ 60);

/// Token bucket of one port's events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Budget {
    /// `jiffies64` of the latest refill.
    pub refilled: u64,
    /// Events that may still be reported.
    pub tokens: u32,
    /// Events held back since the last one that was reported.
    pub held: u32,
}

layout!(Budget, size 16, refilled @ 0, tokens @ 8, held @ 12);
