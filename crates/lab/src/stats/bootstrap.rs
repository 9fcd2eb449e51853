//! The percentile bootstrap, from a generator whose every draw is fixed by a constant.

use super::{Interval, Result, StatError, finite, level};

/// Number of resamples of every bootstrap.
pub const RESAMPLES: usize = 10_000;

/// Seed of every bootstrap. It is a constant, so an interval depends on the data alone and never on which claims were
/// judged before.
const SEED: u64 = 0x6469_6666_6c61_6231;

/// SplitMix64 read as a counter: draw `k` is a fixed bijective mix of `SEED + k·γ`, with γ the odd number next to 2⁶⁴/φ.
/// Enough for resampling indices; everything that trains or generates uses the engine's generator instead.
struct Counter(u64);

impl Counter {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// An index below `n` by the high half of a 128-bit product; its bias is below n/2⁶⁴.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

/// Percentile bootstrap of any statistic of `n` units (seeds, pairs): `statistic` receives the indices of the units of one
/// resample, and once `0..n` for the point estimate. The ends are the `(1 - level)/2` and `(1 + level)/2` quantiles of
/// [`RESAMPLES`] resampled values, interpolated linearly.
///
/// With few units the interval is too narrow (it cannot reach beyond the most extreme unit); prefer
/// [`super::t_interval`] for means.
///
/// # Errors
/// With fewer than two units, a level outside (0, 1), or a statistic that is not finite.
pub fn bootstrap(n: usize, confidence: f64, statistic: impl Fn(&[usize]) -> f64) -> Result<Interval> {
    let confidence = level(confidence)?;
    if n < 2 {
        return Err(StatError::TooFew { needed: 2, found: n });
    }
    let mut units: Vec<usize> = (0..n).collect();
    let estimate = finite(statistic(&units))?;
    let mut counter = Counter(SEED);
    let mut values = Vec::with_capacity(RESAMPLES);
    for _ in 0..RESAMPLES {
        units.iter_mut().for_each(|unit| *unit = counter.below(n));
        values.push(finite(statistic(&units))?);
    }
    values.sort_by(f64::total_cmp);
    let tail = (1.0 - confidence) / 2.0;
    Ok(Interval { estimate, low: quantile(&values, tail), high: quantile(&values, 1.0 - tail), n })
}

/// Quantile of sorted values with linear interpolation between neighbours (the default of most packages, "type 7").
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let position = q.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (below, share) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    // Equal neighbours are returned as they are: the weighted sum could round away from them.
    if sorted[below] == sorted[above] {
        return sorted[below];
    }
    sorted[below] * (1.0 - share) + sorted[above] * share
}
