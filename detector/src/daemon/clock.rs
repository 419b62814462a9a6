//! Whether the time of day can be believed.

use std::time::Duration;

use detector_core::model::{Skew, Timestamp};

use crate::clock::Reading;

/// The two clocks differ by more only where one was set.
pub(super) const JUMP: u64 = 3_000;
/// A clock is brought into step by making it run faster or slower, at most by so much (chrony's
/// `maxslewrate` is a twelfth).
const SLEWED: u64 = 8;
/// How long both have to agree again before a jump is forgotten.
const AGREED: Duration = Duration::from_secs(120);
/// How long a clock that is kept in step with others has to stand by what it says.
const HELD: Duration = Duration::from_secs(300);

/// Follows the time of day by the time that only grows. A jump is doubted: until it is set back, or
/// somebody who keeps it in step with other clocks stands by it, or a person says that it is right, both
/// count.
#[derive(Debug)]
pub(super) struct DayClock {
    /// What is believed: how far the time of day is ahead of the one that only grows, in milliseconds.
    offset: i64,
    read: Timestamp,
    doubt: Option<Doubt>,
    confirmed: Option<Confirmed>,
}

/// A person's word that the clock is right; both times are times of day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Confirmed {
    pub(super) at: Timestamp,
    /// What it would have been by what was believed before.
    pub(super) instead_of: Timestamp,
    pub(super) uid: u32,
    pub(super) reason: String,
}

#[derive(Debug)]
struct Doubt {
    since: Timestamp,
    /// What else the clock has said, from the least to the most.
    said: (i64, i64),
    latest: i64,
    /// Since when it has said so, or what was believed before.
    held: Timestamp,
}

impl DayClock {
    /// At the start there is nothing to compare the clock with: what it says then is taken.
    pub(super) fn new(now: Timestamp) -> Self {
        Self { offset: 0, read: now, doubt: None, confirmed: None }
    }

    /// True where what is known of the time of day is something else now.
    pub(super) fn take(&mut self, now: Timestamp, reading: Reading) -> bool {
        let before = self.skew();
        let says = difference(reading.day, now);
        let passed = now.since(self.read).as_millis();
        self.read = now;
        let agrees = says.abs_diff(self.offset) <= JUMP;
        match &mut self.doubt {
            None if agrees => {
                let most = i64::try_from(passed).unwrap_or(i64::MAX) / SLEWED as i64;
                self.offset += (says - self.offset).clamp(-most, most);
                // Following is no news.
                return false;
            }
            None => {
                self.doubt =
                    Some(Doubt { since: now, said: (says, says), latest: says, held: now });
            }
            Some(doubt) => {
                if says.abs_diff(doubt.latest) > JUMP {
                    doubt.held = now;
                }
                doubt.latest = says;
                doubt.said = (doubt.said.0.min(says), doubt.said.1.max(says));
                let held = now.since(doubt.held);
                if (agrees && held >= AGREED) || (reading.synchronised && held >= HELD) {
                    self.offset = says;
                    self.doubt = None;
                }
            }
        }
        before != self.skew()
    }

    /// What the clock says holds, by a person's word.
    pub(super) fn confirm(&mut self, word: Confirmed) {
        if let Some(doubt) = self.doubt.take() {
            self.offset = doubt.latest;
        }
        self.confirmed = Some(word);
    }

    /// The latest word of a person.
    pub(super) fn confirmed(&self) -> Option<&Confirmed> {
        self.confirmed.as_ref()
    }

    /// The time of day as it was believed before it was doubted.
    pub(super) fn believed(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.offset))
    }

    pub(super) fn skew(&self) -> Skew {
        let (least, most) = self.doubt.as_ref().map_or((self.offset, self.offset), |doubt| {
            (self.offset.min(doubt.said.0), self.offset.max(doubt.said.1))
        });
        let says = self.doubt.as_ref().map_or(self.offset, |doubt| doubt.latest);
        Skew { least, most, says, doubted: self.doubt.as_ref().map(|doubt| doubt.since) }
    }
}

fn difference(day: Timestamp, now: Timestamp) -> i64 {
    let span = |span: u64| i64::try_from(span).unwrap_or(i64::MAX);
    if day >= now { span(day.0 - now.0) } else { -span(now.0 - day.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    struct Clocks {
        clock: DayClock,
        now: u64,
        synchronised: bool,
    }

    impl Clocks {
        fn new() -> Self {
            let now = 1_800_000_000_000;
            Self { clock: DayClock::new(Timestamp(now)), now, synchronised: false }
        }

        /// Time passes, and the clock says this much more than it would.
        fn pass(&mut self, seconds: u64, ahead: i64) -> Skew {
            for _ in 0..seconds * 2 {
                self.now += 500;
                let day = Timestamp(self.now.saturating_add_signed(ahead));
                let reading = Reading { day, synchronised: self.synchronised };
                self.clock.take(Timestamp(self.now), reading);
            }
            self.clock.skew()
        }
    }

    #[test]
    fn a_jump_is_doubted_either_way_until_it_is_set_back() {
        for jump in [HOUR, -HOUR, 3_001, -50_000 * HOUR] {
            let mut clocks = Clocks::new();
            assert_eq!(clocks.pass(5, 0), Skew::default());
            let skew = clocks.pass(1000, jump);
            assert_eq!((skew.least, skew.most), (jump.min(0), jump.max(0)), "{jump}");
            assert!(skew.doubted.is_some());
            // A second jump widens the doubt, and coming back does not end it at once.
            let skew = clocks.pass(10, 2 * jump);
            assert_eq!((skew.least, skew.most), ((2 * jump).min(0), (2 * jump).max(0)));
            assert!(clocks.pass(119, 0).doubted.is_some());
            assert_eq!(clocks.pass(3, 0), Skew::default());
        }
    }

    #[test]
    fn a_clock_that_is_kept_in_step_is_believed_after_a_while() {
        let mut clocks = Clocks::new();
        clocks.synchronised = true;
        assert!(clocks.pass(299, HOUR).doubted.is_some());
        let skew = clocks.pass(3, HOUR);
        assert_eq!(skew, Skew { least: HOUR, most: HOUR, says: HOUR, doubted: None });
        // What flaps is not.
        for _ in 0..10 {
            clocks.pass(200, 2 * HOUR);
            assert!(clocks.pass(200, 3 * HOUR).doubted.is_some());
        }
    }

    #[test]
    fn a_clock_that_is_slewed_is_followed_and_one_that_is_moved_in_small_steps_is_not() {
        let mut clocks = Clocks::new();
        for second in 0..600 {
            assert_eq!(clocks.pass(1, second * 80).doubted, None, "a twelfth too fast");
        }
        assert!(clocks.clock.skew().says > 40_000);
        let mut clocks = Clocks::new();
        let doubted = (0..60).any(|second| clocks.pass(1, second * 2_000).doubted.is_some());
        assert!(doubted);
    }
}
