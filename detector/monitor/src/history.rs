//! How the numbers have been, as far as this process has seen it.

use std::collections::VecDeque;

use detector_core::fleet::message::Time;
use serde::Serialize;
use utoipa::ToSchema;

/// Seconds between two samples.
const EVERY: i64 = 10;
/// Samples that are kept: an hour.
const MOST: usize = 360;

/// The numbers of one moment.
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

/// The latest samples, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Sample>);

impl History {
    /// Takes the numbers of this moment, where it is time for that.
    pub(crate) fn take(&mut self, sample: Sample) {
        let due = |last: &Sample| (sample.at.as_second() - last.at.as_second()).abs() >= EVERY;
        if !self.0.back().is_none_or(due) {
            return;
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    pub(crate) fn samples(&self) -> impl Iterator<Item = &Sample> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spaced_and_bounded() {
        let mut history = History::default();
        for second in 0..10_000 {
            let at = Time::from_second(second).unwrap();
            history.take(Sample { at, vms: 1, cut_off: 0, findings: 0, silent: 0 });
        }
        let seconds: Vec<_> = history.samples().map(|sample| sample.at.as_second()).collect();
        assert_eq!((seconds.len(), seconds.last()), (MOST, Some(&9990)));
        assert!(seconds.windows(2).all(|pair| pair[1] - pair[0] == EVERY));
    }
}
