//! Statistics behind the verdicts: intervals, paired differences, resampling, equivalence, multiplicity.
//!
//! Every function refuses what it cannot answer (no values, one value where a spread is needed, a NaN) with a
//! [`StatError`] instead of returning a number that means nothing. Nothing here reads a clock or the system's randomness:
//! the bootstrap draws from a generator of its own with a fixed seed ([`bootstrap`]).

mod bootstrap;
#[cfg(test)]
mod tests;

pub use bootstrap::{RESAMPLES, bootstrap};

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

/// An estimate with its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Point estimate.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Independent values behind it.
    pub n: usize,
}

/// Why a statistic could not be computed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StatError {
    /// Fewer values than the statistic needs.
    #[error("needs at least {needed} values, found {found}")]
    TooFew {
        /// Least number of values.
        needed: usize,
        /// Number of values given.
        found: usize,
    },
    /// A value is NaN or infinite.
    #[error("value {position} of the sample is {value}: expected a finite number")]
    NotFinite {
        /// Position in the sample, from 0.
        position: usize,
        /// The value.
        value: f64,
    },
    /// The result is too large to be represented.
    #[error("the statistic overflows: expected values below about 1e150")]
    Overflow,
    /// A parameter lies outside its range.
    #[error("{name} is {found}: expected {expected}")]
    Parameter {
        /// Name of the parameter.
        name: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was given.
        found: f64,
    },
    /// Two paired samples of different lengths.
    #[error("paired samples have {a} and {b} values: expected as many in both")]
    Unpaired {
        /// Length of the first.
        a: usize,
        /// Length of the second.
        b: usize,
    },
}

/// Result of a statistic.
pub type Result<T> = std::result::Result<T, StatError>;

fn sample(values: &[f64], needed: usize) -> Result<()> {
    if let Some(position) = values.iter().position(|value| !value.is_finite()) {
        return Err(StatError::NotFinite { position, value: values[position] });
    }
    if values.len() < needed {
        return Err(StatError::TooFew { needed, found: values.len() });
    }
    Ok(())
}

fn finite(value: f64) -> Result<f64> {
    if value.is_finite() { Ok(value) } else { Err(StatError::Overflow) }
}

fn level(level: f64) -> Result<f64> {
    if level > 0.0 && level < 1.0 {
        return Ok(level);
    }
    Err(StatError::Parameter { name: "confidence level", expected: "a number between 0 and 1", found: level })
}

/// Arithmetic mean, `Σ x / n`.
///
/// # Errors
/// With no values, or one that is not finite.
pub fn mean(values: &[f64]) -> Result<f64> {
    sample(values, 1)?;
    finite(values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean with a 95 % percentile bootstrap over the values; no width with a single value, nothing with none or with one that is not finite.
#[must_use]
pub fn bootstrap_mean(values: &[f64]) -> Option<Interval> {
    let estimate = mean(values).ok()?;
    let alone = Interval { estimate, low: estimate, high: estimate, n: values.len() };
    let average = |units: &[usize]| units.iter().map(|&unit| values[unit]).sum::<f64>() / units.len() as f64;
    Some(bootstrap(values.len(), 0.95, average).unwrap_or(alone))
}

/// Sample standard deviation, `sqrt(Σ (x - mean)² / (n - 1))`.
///
/// # Errors
/// With fewer than two values, or one that is not finite.
pub fn sd(values: &[f64]) -> Result<f64> {
    sample(values, 2)?;
    // Equal values have no spread; their mean need not be exact (the mean of three times 0.1 is not 0.1).
    if values.iter().all(|value| *value == values[0]) {
        return Ok(0.0);
    }
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    finite((squares / (values.len() - 1) as f64).sqrt())
}

fn student(degrees: usize) -> StudentsT {
    StudentsT::new(0.0, 1.0, degrees as f64)
        .unwrap_or_else(|_| unreachable!("callers have at least two values"))
}

/// Student's t interval of the mean, `mean ± t(1 - (1 - level)/2, n - 1) · sd / √n`.
///
/// Equal values give an interval of width zero: all the evidence there is says that the quantity does not vary.
///
/// # Errors
/// With fewer than two values, one that is not finite, or a level outside (0, 1).
pub fn t_interval(values: &[f64], confidence: f64) -> Result<Interval> {
    let confidence = level(confidence)?;
    let spread = sd(values)?;
    let estimate = if spread == 0.0 { values[0] } else { mean(values)? };
    let quantile = student(values.len() - 1).inverse_cdf(0.5 + confidence / 2.0);
    let half = finite(if spread == 0.0 { 0.0 } else { quantile * spread / (values.len() as f64).sqrt() })?;
    Ok(Interval { estimate, low: estimate - half, high: estimate + half, n: values.len() })
}

/// One-sided p-value of Student's t test against `mean <= against`: small where the mean is clearly above.
///
/// Equal values give 0 where they lie above `against` and 1 otherwise.
///
/// # Errors
/// As [`t_interval`].
pub fn p_above(values: &[f64], against: f64) -> Result<f64> {
    let spread = sd(values)?;
    if spread == 0.0 {
        return Ok(if values[0] > against { 0.0 } else { 1.0 });
    }
    let statistic = (mean(values)? - against) * (values.len() as f64).sqrt() / spread;
    Ok(student(values.len() - 1).sf(statistic))
}

/// Paired differences `a - b`.
///
/// # Errors
/// Where the lengths differ or a value is not finite.
pub fn differences(a: &[f64], b: &[f64]) -> Result<Vec<f64>> {
    if a.len() != b.len() {
        return Err(StatError::Unpaired { a: a.len(), b: b.len() });
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    sample(&differences, 0)?;
    Ok(differences)
}

/// Wilson's score interval of a proportion: with `p = successes / n` and `z = Φ⁻¹(1 - (1 - level)/2)`,
/// `(p + z²/2n ± z·sqrt(p(1 - p)/n + z²/4n²)) / (1 + z²/n)`.
///
/// # Errors
/// With `n` of 0, more successes than trials, or a level outside (0, 1).
pub fn wilson(successes: usize, n: usize, confidence: f64) -> Result<Interval> {
    let confidence = level(confidence)?;
    if n == 0 {
        return Err(StatError::TooFew { needed: 1, found: 0 });
    }
    if successes > n {
        let found = successes as f64;
        return Err(StatError::Parameter {
            name: "successes",
            expected: "at most the number of trials",
            found,
        });
    }
    let z = Normal::standard().inverse_cdf(0.5 + confidence / 2.0);
    let (p, n_real) = (successes as f64 / n as f64, n as f64);
    let scale = 1.0 + z * z / n_real;
    let centre = (p + z * z / (2.0 * n_real)) / scale;
    let half = z * (p * (1.0 - p) / n_real + z * z / (4.0 * n_real * n_real)).sqrt() / scale;
    // With no or only successes one end is exact; rounding must not push it past.
    let low = if successes == 0 { 0.0 } else { centre - half };
    let high = if successes == n { 1.0 } else { centre + half };
    Ok(Interval { estimate: p, low, high, n })
}

/// Two one-sided t tests of equivalence: the larger of the p-values of `mean <= -within` and `mean >= within`.
///
/// It is below `α` exactly when the `1 - 2α` t interval lies inside `±within`.
///
/// # Errors
/// As [`t_interval`], and where `within` is not positive.
pub fn tost(values: &[f64], within: f64) -> Result<f64> {
    if !(within > 0.0 && within.is_finite()) {
        return Err(StatError::Parameter { name: "within", expected: "a positive number", found: within });
    }
    let negated: Vec<f64> = values.iter().map(|value| -value).collect();
    Ok(p_above(values, -within)?.max(p_above(&negated, -within)?))
}

/// Holm's step-down adjustment: p-values that may be compared with the family's level as they are. In the order of the
/// input; with `p_(k)` the k-th smallest of `m`, `adjusted_(k) = max over j <= k of min(1, (m - j + 1) p_(j))`.
///
/// # Errors
/// Where a p-value lies outside [0, 1].
pub fn holm(p_values: &[f64]) -> Result<Vec<f64>> {
    if let Some(found) = p_values.iter().copied().find(|p| !(0.0..=1.0).contains(p)) {
        return Err(StatError::Parameter { name: "p-value", expected: "a number from 0 to 1", found });
    }
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let mut adjusted = vec![0.0; p_values.len()];
    let mut largest: f64 = 0.0;
    for (rank, index) in order.into_iter().enumerate() {
        largest = largest.max(((p_values.len() - rank) as f64 * p_values[index]).min(1.0));
        adjusted[index] = largest;
    }
    Ok(adjusted)
}

/// Confidence levels that Holm's procedure gives to the intervals of a family at level `family`: the comparison with the
/// k-th smallest p-value is read at `1 - (1 - family)/(m - k + 1)`, and from the first one that is not rejected on, all
/// keep its level. An interval that excludes 0 at its level is then one that Holm rejects.
///
/// `p_values` are two-sided.
///
/// # Errors
/// As [`holm`], and for a family level outside (0, 1).
pub fn holm_levels(p_values: &[f64], family: f64) -> Result<Vec<f64>> {
    let alpha = 1.0 - level(family)?;
    let adjusted = holm(p_values)?;
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|a, b| p_values[*a].total_cmp(&p_values[*b]));
    let rejected = order.iter().take_while(|index| adjusted[**index] <= alpha).count();
    let mut levels = vec![family; p_values.len()];
    for (rank, index) in order.into_iter().enumerate() {
        levels[index] = 1.0 - alpha / (p_values.len() - rank.min(rejected)).max(1) as f64;
    }
    Ok(levels)
}
