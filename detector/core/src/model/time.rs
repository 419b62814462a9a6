use std::{ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// A moment, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// How long ago `earlier` was; zero when it lies ahead (a clock was set back).
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// What is known of the time of day, which is compared with dates that people have written down: how far
/// it is ahead of [`World::now`](super::World::now), in milliseconds. After somebody has set the clock
/// what it said before and what it says now are believed alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skew {
    pub least: i64,
    pub most: i64,
    /// What the clock says at present.
    pub says: i64,
    /// Since when the two differ.
    pub doubted: Option<Timestamp>,
}

/// The time of day, as far as it is known: from the first to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Today {
    pub earliest: Timestamp,
    pub latest: Timestamp,
}

impl Skew {
    pub fn today(self, now: Timestamp) -> Today {
        Today { earliest: shifted(now, self.least), latest: shifted(now, self.most) }
    }

    /// What the clock says at a moment.
    pub fn day(self, at: Timestamp) -> Timestamp {
        shifted(at, self.says)
    }

    /// The moment at which the clock says so.
    pub fn moment(self, day: Timestamp) -> Timestamp {
        shifted(day, self.says.saturating_neg())
    }
}

impl Today {
    /// Whether a date has come; `None` where it is not known.
    pub fn has_come(self, date: Timestamp) -> Option<bool> {
        match (date <= self.earliest, date <= self.latest) {
            (true, _) => Some(true),
            (_, false) => Some(false),
            (false, true) => None,
        }
    }

    /// How long until more is known of whether the date has come; `None` where it has.
    pub fn until(self, date: Timestamp) -> Option<Duration> {
        match self.has_come(date) {
            Some(true) => None,
            Some(false) => Some(date.since(self.latest)),
            None => Some(date.since(self.earliest)),
        }
    }
}

fn shifted(at: Timestamp, by: i64) -> Timestamp {
    Timestamp(at.0.saturating_add_signed(by))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_has_come_when_every_clock_says_so() {
        let skew = Skew { least: -10, most: 20, ..Skew::default() };
        let today = skew.today(Timestamp(100));
        let ms = |ms| Some(Duration::from_millis(ms));
        for (date, come, until) in [
            (90, Some(true), None),
            (91, None, ms(1)),
            (120, None, ms(30)),
            (121, Some(false), ms(1)),
        ] {
            let date = Timestamp(date);
            assert_eq!((today.has_come(date), today.until(date)), (come, until), "{date:?}");
        }
        let skew = Skew { says: -7, ..Skew::default() };
        assert_eq!(skew.moment(skew.day(Timestamp(100))), Timestamp(100));
    }
}
