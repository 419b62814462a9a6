//! Sides that are compared, measured in turn.

use std::time::Duration;

use anyhow::Result;

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
    mut sides: [Side<'_>; N],
) -> Result<[Samples; N]> {
    let mut samples = std::array::from_fn(|_| Samples(Vec::with_capacity(rounds)));
    for round in 0..=rounds {
        let mut slices: [Vec<f64>; N] = std::array::from_fn(|_| Vec::with_capacity(SLICES));
        for _ in 0..SLICES {
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
    /// The median of what this side took relative to the other in the same round.
    pub(crate) fn ratio_to(&self, base: &Self) -> f64 {
        median(self.0.iter().zip(&base.0).map(|(own, base)| own / base))
    }

    /// The median of what this side took beyond the other in the same round.
    pub(crate) fn beyond(&self, base: &Self) -> f64 {
        median(self.0.iter().zip(&base.0).map(|(own, base)| own - base))
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
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
        assert!((own.ratio_to(&base) - 1.1).abs() < 1e-9);
        assert!((own.beyond(&base) - 10.0).abs() < 1e-9);
        assert!((median([4.0, 1.0, 2.0, 3.0].into_iter()) - 2.5).abs() < 1e-9);
    }
}
