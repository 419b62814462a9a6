//! From the kernel's `jiffies64` to moments ([`crate::clock`]).

use detector_core::model::{Ticks, Timestamp};
use nix::time::{ClockId, clock_getres, clock_gettime};

use super::BpfError;

/// Converts `jiffies64`, in which sightings and events are stamped, to moments. Exact to a few
/// ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JiffyClock {
    tick_nanos: u64,
}

const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

impl JiffyClock {
    /// The clock of this kernel. A coarse clock moves once a tick, so its resolution is the tick:
    /// `TICK_NSEC`, one `CONFIG_HZ`th of a second.
    pub fn new() -> Result<Self, BpfError> {
        let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
            .map_err(BpfError::failed("read the resolution of the coarse clock"))?;
        let tick_nanos = u64::try_from(tick.tv_nsec()).unwrap_or(0);
        if tick.tv_sec() != 0 || tick_nanos == 0 {
            return Err(BpfError::Refused(format!("the coarse clock ticks every {tick}")));
        }
        Ok(Self { tick_nanos })
    }

    /// Ticks in a second: `CONFIG_HZ`.
    pub fn hz(self) -> u32 {
        let hz = (NANOS_PER_SECOND + self.tick_nanos / 2) / self.tick_nanos;
        u32::try_from(hz).unwrap_or(u32::MAX)
    }

    /// The moment of a count of ticks. Later ones than now, and what is no count at all, are
    /// now or the beginning of the host.
    pub fn timestamp(self, jiffies: u64) -> Timestamp {
        let uptime = nanos(ClockId::CLOCK_MONOTONIC);
        let age = uptime.saturating_sub(self.since_boot(jiffies));
        Timestamp(crate::clock::now().0.saturating_sub(age / NANOS_PER_MILLI))
    }

    /// The count of ticks now.
    pub fn now(self) -> u64 {
        self.initial().saturating_add(nanos(ClockId::CLOCK_MONOTONIC) / self.tick_nanos)
    }

    /// The same as plain data.
    pub fn ticks(self) -> Ticks {
        Ticks(self.now())
    }

    /// The count of ticks so many seconds from now.
    pub fn ticks_after(self, seconds: u64) -> Ticks {
        Ticks(self.now().saturating_add(seconds.saturating_mul(u64::from(self.hz()))))
    }

    /// The count of ticks at a moment: that of now for what has passed.
    pub fn jiffies(self, at: Timestamp) -> u64 {
        let ahead = at.0.saturating_sub(crate::clock::now().0).saturating_mul(NANOS_PER_MILLI);
        let uptime = nanos(ClockId::CLOCK_MONOTONIC).saturating_add(ahead);
        self.initial().saturating_add(uptime / self.tick_nanos)
    }

    /// The moment of a count of ticks that may lie ahead.
    pub fn deadline(self, jiffies: u64) -> Timestamp {
        let uptime = nanos(ClockId::CLOCK_MONOTONIC);
        let ahead = self.since_boot(jiffies).saturating_sub(uptime) / NANOS_PER_MILLI;
        Timestamp(self.timestamp(jiffies).0.saturating_add(ahead))
    }

    /// Counting starts five minutes before the 32-bit counter wraps (`INITIAL_JIFFIES` in
    /// `linux/jiffies.h`), and follows the monotonic clock.
    fn since_boot(self, jiffies: u64) -> u64 {
        jiffies.saturating_sub(self.initial()).saturating_mul(self.tick_nanos)
    }

    fn initial(self) -> u64 {
        (1_u64 << 32) - 300 * u64::from(self.hz())
    }
}

fn nanos(clock: ClockId) -> u64 {
    let Ok(time) = clock_gettime(clock) else { return 0 };
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    seconds * NANOS_PER_SECOND + u64::try_from(time.tv_nsec()).unwrap_or(0)
}

/// How much processor time this thread has used.
pub(crate) fn busy() -> std::time::Duration {
    let used = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID);
    used.map_or(std::time::Duration::ZERO, Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_rates() {
        for hz in [100, 250, 300, 1000] {
            let clock = JiffyClock { tick_nanos: (NANOS_PER_SECOND + hz / 2) / hz };
            assert_eq!(u64::from(clock.hz()), hz);
            let initial = (1 << 32) - 300 * hz;
            assert_eq!(clock.since_boot(initial), 0);
            assert!(clock.since_boot(initial + hz).abs_diff(NANOS_PER_SECOND) < hz);
            assert_eq!(clock.since_boot(0), 0);
        }
    }

    #[test]
    fn this_kernel_agrees_with_its_configuration() {
        let clock = JiffyClock::new().unwrap();
        assert!([100, 250, 300, 1000].contains(&clock.hz()), "{}", clock.hz());
        let now = crate::clock::now().0;
        assert!(clock.timestamp(u64::MAX).0.abs_diff(now) < 1000);
        assert!(clock.timestamp(0).0 < now);
        for ahead in [0, 1_000, 3_600_000] {
            let at = Timestamp(now + ahead);
            let there_and_back = clock.deadline(clock.jiffies(at));
            assert!(there_and_back.0.abs_diff(at.0) < 1000, "{ahead}: {there_and_back:?}");
        }
    }
}
