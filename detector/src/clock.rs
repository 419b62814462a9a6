//! The clocks of this host.
//!
//! The time of day can be set, and whoever sets it back by an hour would stop for an hour what waits for
//! it. So what is paced, and what has happened since, goes by a clock that only grows: the time of day
//! when this process looked at it first, and what has passed since by the kernel's own count, with the
//! time that the host has slept.

use std::sync::OnceLock;

use detector_core::model::Timestamp;
use nix::time::{ClockId, clock_gettime};

/// What the time of day is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    pub day: Timestamp,
    /// Whether somebody keeps it in step with other clocks. The kernel forgets so when it is set by hand.
    pub synchronised: bool,
}

/// The time that only grows.
pub fn now() -> Timestamp {
    at_uptime(millis(ClockId::CLOCK_BOOTTIME))
}

/// The moment at which the host had been running for so many milliseconds: another process says another
/// one of it, by the time of day at its own start.
pub fn at_uptime(passed: u64) -> Timestamp {
    Timestamp(beginning().saturating_add(passed))
}

/// For how many milliseconds the host had been running at a moment.
pub fn uptime(at: Timestamp) -> u64 {
    at.0.saturating_sub(beginning())
}

/// What the time of day says now that it was at a moment, also one before it was set.
pub fn day(at: Timestamp) -> Timestamp {
    let ago = now().0.abs_diff(at.0);
    let read = millis(ClockId::CLOCK_REALTIME);
    Timestamp(if at > now() { read.saturating_add(ago) } else { read.saturating_sub(ago) })
}

fn beginning() -> u64 {
    static BEGINNING: OnceLock<u64> = OnceLock::new();
    *BEGINNING.get_or_init(|| {
        millis(ClockId::CLOCK_REALTIME).saturating_sub(millis(ClockId::CLOCK_BOOTTIME))
    })
}

/// The time of day.
pub fn read() -> Reading {
    Reading { day: Timestamp(millis(ClockId::CLOCK_REALTIME)), synchronised: is_synchronised() }
}

fn millis(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * 1000 + u64::try_from(time.tv_nsec()).unwrap_or(0) / 1_000_000
}

fn is_synchronised() -> bool {
    // SAFETY: all zeroes is a `timex` that asks for nothing to be changed.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `timex` of our own, which outlives the call.
    let told = unsafe { libc::adjtimex(&raw mut state) };
    told >= 0 && state.status & libc::STA_UNSYNC == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_agree_while_nobody_sets_one() {
        let (steady, read) = (now(), read());
        assert!(read.day.0.abs_diff(steady.0) < 1000, "{read:?}, {steady:?}");
        assert!(now() >= steady);
        assert_eq!(at_uptime(uptime(steady)), steady);
        for away in [0, 60_000] {
            for at in [steady.0 - away, steady.0 + away] {
                assert!(day(Timestamp(at)).0.abs_diff(at) < 1000, "{at}");
            }
        }
    }
}
