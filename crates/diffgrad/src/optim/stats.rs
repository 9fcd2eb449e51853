//! What the friction coefficient `ξ` did in a step: exact mean, and quantiles from a histogram with fixed bins.

use super::config::RuleName;

/// Bins over the range of `ξ`.
const BINS: usize = 8192;
/// Neighbouring elements go to different copies of the histogram: nearly all fall into one bin, and counting would wait for
/// itself. The sum runs in as many lanes, for the same reason.
const LANES: usize = 4;

/// Distribution of `ξ` over parameters, and over steps where merged. Independent of the number of threads.
#[derive(Clone, Debug, PartialEq)]
pub struct XiStats {
    upper: f64,
    count: u64,
    sum: f64,
    bins: Vec<u64>,
}

impl XiStats {
    /// No values yet, with bins that fit the rule's range: `[0, 1]`, or `[0, 5]` for variant 2.
    #[must_use]
    pub fn new(rule: RuleName) -> Self {
        let upper = if rule == RuleName::DiffGrad2 { 5.0 } else { 1.0 };
        Self { upper, count: 0, sum: 0.0, bins: vec![0; BINS] }
    }

    /// Number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Mean of `ξ`; `None` without values. NaN if any value was.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }

    /// The 99th percentile.
    #[must_use]
    pub fn p99(&self) -> Option<f64> {
        self.quantile(0.99)
    }

    /// Upper edge of the bin that holds the `⌈q·count⌉`-th smallest value: at most one bin, 1/8192 of the range, above the
    /// exact quantile and never below it. `None` without values.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q * self.count as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let bin = self.bins.iter().position(|n| {
            below += n;
            below >= rank
        })?;
        Some((bin + 1) as f64 / BINS as f64 * self.upper)
    }

    /// Adds another's values, for example a step's to its epoch's. Both must come from rules with the same range.
    pub fn merge(&mut self, other: &Self) {
        debug_assert_eq!(self.upper.to_bits(), other.upper.to_bits());
        self.count += other.count;
        self.sum += other.sum;
        self.bins.iter_mut().zip(&other.bins).for_each(|(a, b)| *a += b);
    }

    /// Adds one piece's tally. Pieces must come in a fixed order, since sums depend on it.
    pub(super) fn add(&mut self, tally: &Tally) {
        self.count += tally.count;
        self.sum += tally.sum;
        for lane in tally.bins.chunks_exact(BINS) {
            self.bins.iter_mut().zip(lane).for_each(|(a, b)| *a += u64::from(*b));
        }
    }

    pub(super) fn tally(&self) -> Tally {
        Tally { scale: BINS as f64 / self.upper, count: 0, sum: 0.0, bins: vec![0; BINS * LANES] }
    }
}

/// The values of one piece of work.
pub(super) struct Tally {
    scale: f64,
    count: u64,
    sum: f64,
    bins: Vec<u32>,
}

impl Tally {
    /// Counts values; NaN is counted in the lowest bin.
    pub(super) fn count(&mut self, values: impl Iterator<Item = f64>) {
        let (mut sums, mut count) = ([0.0; LANES], 0);
        for (i, xi) in values.enumerate() {
            let (lane, bin) = (i % LANES, ((xi * self.scale) as usize).min(BINS - 1));
            self.bins[lane * BINS + bin] += 1;
            sums[lane] += xi;
            count += 1;
        }
        self.count += count;
        self.sum += sums.iter().sum::<f64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[f64]) -> XiStats {
        let mut stats = XiStats::new(RuleName::DiffGrad);
        let mut tally = stats.tally();
        tally.count(values.iter().copied());
        stats.add(&tally);
        stats
    }

    #[test]
    fn nothing_has_no_mean_and_no_quantile() {
        let stats = XiStats::new(RuleName::DiffGrad);
        assert_eq!((stats.mean(), stats.p99()), (None, None));
    }

    #[test]
    fn mean_is_exact_and_quantile_within_a_bin() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i) / 1000.0).collect();
        let stats = of(&values);
        assert!((stats.mean().unwrap_or(0.0) - 0.4995).abs() < 1e-12);
        let p99 = stats.p99().unwrap_or(0.0);
        assert!((0.989..0.989 + 1.01 / BINS as f64).contains(&p99), "{p99}");
    }

    #[test]
    fn a_constant_half_stays_near_a_half() {
        let stats = of(&[0.5; 77]);
        assert_eq!(stats.mean(), Some(0.5));
        assert!(stats.p99().is_some_and(|p| (0.5..0.5002).contains(&p)));
    }

    #[test]
    fn merging_adds() {
        let mut a = of(&[0.5, 0.6]);
        a.merge(&of(&[0.7]));
        assert_eq!(a.count(), 3);
        assert!((a.mean().unwrap_or(0.0) - 0.6).abs() < 1e-12);
    }

    #[test]
    fn one_and_nan_have_a_bin() {
        let stats = of(&[1.0, f64::NAN]);
        assert_eq!(stats.count(), 2);
        assert!(stats.mean().is_some_and(f64::is_nan));
        assert_eq!(stats.p99(), Some(1.0));
    }
}
