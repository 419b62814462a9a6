//! How the numbers have been, as far as this process has seen it: closely for an hour, in steps for a week.

use std::collections::VecDeque;

use detector_core::fleet::message::Time;
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds between two samples, and how many are kept: of the latest hour, and of the week before.
const TIERS: [(i64, usize); 2] = [(30, 120), (1800, 336)];

/// The highest numbers from one moment on, until the next sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sample {
    #[schema(value_type = String, format = DateTime)]
    pub at: Time,
    pub vms: u64,
    /// Quarantined or denied.
    pub cut_off: u64,
    pub findings: u64,
    pub silent: u64,
}

impl Sample {
    /// What has been for a moment only is seen later all the same.
    fn raise(&mut self, other: &Self) {
        self.vms = self.vms.max(other.vms);
        self.cut_off = self.cut_off.max(other.cut_off);
        self.findings = self.findings.max(other.findings);
        self.silent = self.silent.max(other.silent);
    }
}

/// The latest samples, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History([VecDeque<Sample>; 2]);

impl History {
    /// Takes the numbers of this moment.
    pub(crate) fn take(&mut self, sample: Sample) {
        for ((every, most), kept) in TIERS.into_iter().zip(&mut self.0) {
            match kept.back_mut() {
                // A clock may be set back.
                Some(last) if (sample.at.as_second() - last.at.as_second()).abs() < every => {
                    last.raise(&sample);
                }
                _ => {
                    if kept.len() >= most {
                        kept.pop_front();
                    }
                    kept.push_back(sample);
                }
            }
        }
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        let [close, coarse] = &self.0;
        let begin = close.front().map(|first| first.at);
        coarse.iter().take_while(move |one| begin.is_some_and(|begin| one.at < begin)).chain(close)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(seconds: std::ops::Range<i64>, cut_off: impl Fn(i64) -> u64) -> Vec<(i64, u64)> {
        let mut history = History::default();
        for second in seconds {
            let at = Time::from_second(second).unwrap();
            let cut_off = cut_off(second);
            history.take(Sample { at, vms: 1, cut_off, findings: 0, silent: 0 });
        }
        history.samples().map(|one| (one.at.as_second(), one.cut_off)).collect()
    }

    #[test]
    fn samples_are_spaced_and_bounded() {
        let all = history(0..2_000_000, |_| 0);
        let close = all.len() - TIERS[0].1;
        assert_eq!(all.last().unwrap().0, 1_999_980);
        assert!((TIERS[1].1 - 2..=TIERS[1].1).contains(&close), "{close}");
        let steps = |part: &[(i64, u64)]| {
            part.windows(2).map(|pair| pair[1].0 - pair[0].0).collect::<Vec<_>>()
        };
        assert!(steps(&all[..close]).iter().all(|step| *step == TIERS[1].0));
        assert!(steps(&all[close..]).iter().all(|step| *step == TIERS[0].0));
    }

    #[test]
    fn what_was_for_a_moment_is_seen_later() {
        let all = history(0..100_000, |second| u64::from(second == 2000));
        assert_eq!(all.iter().filter(|(_, cut_off)| *cut_off == 1).count(), 1, "{all:?}");
    }

    #[test]
    fn a_clock_that_was_set_back_loses_nothing() {
        let mut history = History::default();
        for second in [10_000, 10_100, 100, 200] {
            let at = Time::from_second(second).unwrap();
            history.take(Sample { at, vms: 1, cut_off: 0, findings: 0, silent: 0 });
        }
        assert_eq!(history.samples().count(), 4);
    }
}
