//! Sides that are compared, measured in turn.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// What one side took in each round, in the order of the rounds; nanoseconds of processor time for
/// each frame.
pub(crate) struct Samples(Vec<f64>);

/// One side: measures one slice, which is short, so that what disturbs the machine disturbs all sides
/// alike.
pub(crate) type Side<'a> = Box<dyn FnMut() -> Result<f64> + 'a>;

/// Slices of each side in a round, whose median is the round's sample.
const SLICES: usize = 31;

/// Measures the sides in turn, slice by slice. The first round only warms up.
pub(crate) fn interleave<const N: usize>(
    rounds: usize,
    sides: [Side<'_>; N],
) -> Result<[Samples; N]> {
    interleave_slices(rounds, SLICES, sides)
}

/// The same with so many slices a round, where one takes long.
pub(crate) fn interleave_slices<const N: usize>(
    rounds: usize,
    slices_each: usize,
    mut sides: [Side<'_>; N],
) -> Result<[Samples; N]> {
    let mut samples = std::array::from_fn(|_| Samples(Vec::with_capacity(rounds)));
    for round in 0..=rounds {
        let mut slices: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(slices_each));
        for _ in 0..slices_each {
            for (side, slices) in sides.iter_mut().zip(&mut slices) {
                slices.push(side()?);
            }
        }
        if round > 0 {
            for (slices, samples) in slices.into_iter().zip(&mut samples) {
                samples.0.push(median(slices.into_iter()));
            }
        }
    }
    Ok(samples)
}

impl Samples {
    /// What this side took relative to the other in the same round.
    pub(crate) fn ratio_to(&self, base: &Self) -> Figure {
        Figure::of(self.0.iter().zip(&base.0).map(|(own, base)| own / base))
    }

    /// What this side took beyond the base, relative to what another took beyond it.
    pub(crate) fn cost_ratio_to(&self, other: &Self, base: &Self) -> Figure {
        let pairs = self.0.iter().zip(&other.0).zip(&base.0);
        Figure::of(pairs.map(|((own, other), base)| (own - base) / (other - base)))
    }
}

/// A median over the rounds, and the quartiles around it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Figure {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Figure {
    /// A figure over all rounds together, of which there is no spread.
    pub(crate) fn alone(value: f64) -> Self {
        Self { median: value, low: value, high: value }
    }

    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<_> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len() - 1;
        Self { median: middle(&values), low: values[last / 4], high: values[last - last / 4] }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    Figure::of(values).median
}

fn middle(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// The processor time that some work takes on this thread: another process that takes its turn
/// meanwhile does not count.
pub(crate) fn processor_time(work: impl FnOnce() -> Result<()>) -> Result<Duration> {
    let before = now()?;
    work()?;
    Ok(now()? - before)
}

fn now() -> Result<Duration> {
    Ok(nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_pairs() {
        let base = Samples(vec![10.0, 20.0, 100.0]);
        let own = Samples(vec![11.0, 30.0, 110.0]);
        let Figure { median: ratio, low, high } = own.ratio_to(&base);
        assert!((ratio - 1.1).abs() < 1e-9 && low <= ratio && ratio <= high);
        let other = Samples(vec![12.0, 40.0, 120.0]);
        assert!((own.cost_ratio_to(&other, &base).median - 0.5).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
    }
}
