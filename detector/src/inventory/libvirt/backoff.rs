//! How long to wait before libvirt is asked for a connection again.

use std::time::Duration;

/// After the first failure.
pub(super) const FIRST: Duration = Duration::from_secs(1);

/// After many.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// Grows with each failure. There is no chance in it: it is this host's own libvirt, and nobody else asks.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The pause after a connection that could be followed for so long; zero if it never came about. One
    /// that is lost over and over again is as bad as none, so that only one that has lasted counts as a
    /// success.
    pub(super) fn pause_after(&mut self, lasted: Duration) -> Duration {
        if lasted >= LONGEST {
            self.failures = 0;
        }
        let pause = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_is_capped_and_begins_anew() {
        let mut backoff = Backoff::default();
        let pauses = |backoff: &mut Backoff, lasted: &[u64]| -> Vec<u64> {
            let each = lasted.iter().map(|lasted| Duration::from_secs(*lasted));
            each.map(|lasted| backoff.pause_after(lasted).as_secs()).collect()
        };
        assert_eq!(pauses(&mut backoff, &[0; 7]), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(pauses(&mut backoff, &[29, 30, 0, 5]), [30, 1, 2, 4], "one that lasted");
        assert_eq!(Backoff { failures: u32::MAX }.pause_after(Duration::ZERO), LONGEST);
    }
}
