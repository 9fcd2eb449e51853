//! Which timesteps a sampler visits: N of T (Lin et al. 2024, table 2), rounded as numpy rounds.

/// How the N visited timesteps lie among the T of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    /// `k·⌊T/N⌋ + offset`: begins at 0, stops short of the noisiest.
    Leading,
    /// `round(T − k·T/N) − 1`: begins at the noisiest. (For 62 of the possible N of 1000, 61 the first, rounding makes diffusers
    /// visit one timestep more, −1, for which there is neither a level of noise nor a trained model. It is left out here.)
    Trailing,
    /// N numbers from 0 to T − 1, both included.
    Linspace,
}

/// `np.linspace(0, last, count)`.
pub(super) fn linspace(last: f64, count: usize) -> Vec<f64> {
    let step = last / (count.max(2) - 1) as f64;
    let at = |index: usize| if index > 0 && index + 1 == count { last } else { index as f64 * step };
    (0..count).map(at).collect()
}

/// `round(np.arange(from, 0, -step)) − 1`, descending.
///
/// Where `from/step` comes out a little above a whole number, numpy gives an element too many, a timestep of −1.
pub(super) fn trailing(from: usize, step: f64) -> Vec<f64> {
    let from = from as f64;
    let count = (from / step).ceil() as usize;
    // numpy takes the difference of the first two elements for the step.
    let step = (from - step) - from;
    let timesteps = (0..count).map(|index| (from + index as f64 * step).round_ties_even() - 1.0);
    timesteps.filter(|&t| t >= 0.0).collect()
}

/// `k·step + offset` for k = count − 1 … first, descending.
pub(super) fn leading(first: usize, count: usize, step: usize, offset: usize) -> Vec<f64> {
    (first..count).rev().map(|index| (index * step + offset) as f64).collect()
}

/// The descending whole timesteps of `steps` out of `train`.
pub(super) fn whole(spacing: Spacing, train: usize, steps: usize, offset: usize) -> Vec<f64> {
    match spacing {
        Spacing::Leading => leading(0, steps, train / steps, offset),
        Spacing::Trailing => trailing(train, train as f64 / steps as f64),
        Spacing::Linspace => {
            linspace((train - 1) as f64, steps).iter().rev().map(|t| t.round_ties_even()).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_three_spacings_of_table_2() {
        assert_eq!(
            whole(Spacing::Leading, 1000, 10, 0),
            [900., 800., 700., 600., 500., 400., 300., 200., 100., 0.]
        );
        assert_eq!(whole(Spacing::Linspace, 1000, 4, 0), [999., 666., 333., 0.]);
        assert_eq!(whole(Spacing::Trailing, 1000, 4, 0), [999., 749., 499., 249.]);
    }

    #[test]
    fn every_number_of_steps_has_that_many_timesteps_all_different_and_within_the_schedule() {
        for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
            for steps in 1..=1000 {
                let timesteps = whole(spacing, 1000, steps, 0);
                assert_eq!(timesteps.len(), steps, "{spacing:?}");
                assert!(timesteps.windows(2).all(|pair| pair[0] > pair[1]), "{spacing:?} {steps}");
                assert!(timesteps.iter().all(|t| (0.0..1000.0).contains(t)), "{spacing:?} {steps}");
            }
        }
    }
}
