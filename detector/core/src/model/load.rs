use std::time::Duration;

use super::Timestamp;

/// From when on a port floods, and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FloodLimits {
    /// Refused frames a second at which a flood begins…
    pub above: u64,
    /// … once they have come for so long.
    pub after: Duration,
    /// Refused frames a second below which it ends…
    pub below: u64,
    /// … once there have been so few for so long.
    pub calm: Duration,
}

impl FloodLimits {
    /// A guest that speaks as itself has next to nothing refused.
    pub const DEFAULT: Self = Self {
        above: 10_000,
        after: Duration::from_secs(1),
        below: 1_000,
        calm: Duration::from_secs(10),
    };
}

/// How many frames of a port are refused, followed over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// The port instance.
    pub instance: u32,
    /// Refused frames a second at the last look.
    pub rate: u64,
    /// Since when it floods.
    pub flood: Option<Timestamp>,
    high_since: Option<Timestamp>,
    low_since: Option<Timestamp>,
}

impl Load {
    /// A port of which nothing is known yet.
    pub const fn new(instance: u32) -> Self {
        Self { instance, rate: 0, flood: None, high_since: None, low_since: None }
    }

    /// A port that was flooding when it was last heard of.
    pub const fn flooding(instance: u32, since: Timestamp) -> Self {
        Self { flood: Some(since), ..Self::new(instance) }
    }

    /// Takes in that so many frames were refused from `from` to `now`. A span without time in it says
    /// nothing.
    pub fn sample(&mut self, limits: &FloodLimits, from: Timestamp, now: Timestamp, frames: u64) {
        let Ok(millis @ 1..) = u64::try_from(now.since(from).as_millis()) else { return };
        self.rate = frames.saturating_mul(1000) / millis;
        let follow = |since: &mut Option<Timestamp>, holds: bool| {
            *since = if holds { Some(since.unwrap_or(from)) } else { None };
        };
        follow(&mut self.high_since, self.rate >= limits.above);
        follow(&mut self.low_since, self.rate < limits.below);
        let lasts = |since: Option<Timestamp>, span: Duration| {
            since.filter(|since| now.since(*since) >= span)
        };
        self.flood = match self.flood {
            None => lasts(self.high_since, limits.after),
            Some(_) if lasts(self.low_since, limits.calm).is_some() => None,
            since => since,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: FloodLimits = FloodLimits {
        above: 100,
        after: Duration::from_secs(2),
        below: 10,
        calm: Duration::from_secs(3),
    };

    /// Frames of each second, and whether it floods after it.
    fn check(seconds: &[(u64, bool)]) {
        let mut load = Load::new(1);
        let start = Timestamp(1_000_000);
        for (second, (frames, floods)) in (0..).zip(seconds) {
            let [from, now] = [second, second + 1].map(|s| start + Duration::from_secs(s));
            load.sample(&LIMITS, from, now, *frames);
            assert_eq!((load.rate, load.flood.is_some()), (*frames, *floods), "second {second}");
        }
    }

    #[test]
    fn a_flood_begins_and_ends_once_it_is_sure() {
        check(&[(99, false), (500, false), (500, true), (50, true), (9, true), (9, true)]);
        check(&[(500, false), (99, false), (500, false), (100, true)]);
        check(&[
            (100, false),
            (100, true),
            (9, true),
            (9, true),
            (10, true),
            (0, true),
            (0, true),
            (0, false),
            (99, false),
        ]);
    }

    #[test]
    fn a_span_without_time_says_nothing() {
        let at = Timestamp(5);
        let mut load = Load::flooding(1, at);
        load.sample(&LIMITS, at, at, u64::MAX);
        load.sample(&LIMITS, at, Timestamp(4), u64::MAX);
        assert_eq!(load, Load::flooding(1, at));
        load.sample(&LIMITS, at, Timestamp(6), u64::MAX);
        assert_eq!(load.flood, Some(at));
    }
}
