//! Statistics against values worked out independently. The literals come from scipy 1.x:
//!
//! ```python
//! d = numpy.array([0.31, -0.12, 0.44, 0.20, 0.05])
//! stats.t.interval(level, 4, loc=d.mean(), scale=stats.sem(d))
//! stats.ttest_1samp(d, 0, alternative='greater').pvalue
//! max(stats.ttest_1samp(d, -.5, alternative='greater').pvalue, stats.ttest_1samp(d, .5, alternative='less').pvalue)
//! stats.binomtest(k, n).proportion_ci(.95, method='wilson')
//! # exact bootstrap of the mean: all 5**5 resamples
//! numpy.quantile([numpy.mean(c) for c in itertools.product(d, repeat=5)], [.025, .975])
//! ```
#![allow(clippy::unwrap_used)]

use super::*;

const D: [f64; 5] = [0.31, -0.12, 0.44, 0.20, 0.05];

fn close(found: f64, expected: f64, tolerance: f64) {
    let fits = (found - expected).abs() <= tolerance;
    assert!(fits, "expected {expected}, found {found}, tolerance {tolerance}");
}

#[test]
fn mean_and_sd() {
    close(mean(&D).unwrap(), 0.176, 1e-15);
    close(sd(&D).unwrap(), 0.218_929_212_303_886_04, 1e-15);
    assert_eq!(mean(&[7.0]).unwrap(), 7.0);
}

#[test]
fn t_interval_at_three_levels() {
    let expected = [
        (0.90, -0.032_725_111_391_703_365, 0.384_725_111_391_703_3),
        (0.95, -0.095_836_521_072_843_82, 0.447_836_521_072_843_9),
        (0.99, -0.274_778_274_050_530_35, 0.626_778_274_050_530_3),
    ];
    for (level, low, high) in expected {
        let interval = t_interval(&D, level).unwrap();
        close(interval.low, low, 1e-9);
        close(interval.high, high, 1e-9);
        assert_eq!(interval.n, 5);
    }
}

#[test]
fn t_quantiles_of_few_degrees_of_freedom() {
    // stats.t.ppf(.975, df). Two values -1 and 1 have mean 0 and standard error 1.
    close(t_interval(&[-1.0, 1.0], 0.95).unwrap().high, 12.706_204_736_174_694, 1e-8);
    let three = t_interval(&[-1.0, 0.0, 1.0], 0.95).unwrap();
    close(three.high * 3f64.sqrt(), 4.302_652_729_749_462, 1e-8);
}

#[test]
fn one_sided_p_and_equivalence() {
    close(p_above(&D, 0.0).unwrap(), 0.073_323_374_432_957_89, 1e-9);
    close(tost(&D, 0.5).unwrap(), 0.014_837_975_706_269_997, 1e-9);
}

#[test]
fn equivalence_agrees_with_the_ninety_percent_interval() {
    for within in [0.1, 0.3, 0.384, 0.386, 0.5, 2.0] {
        let interval = t_interval(&D, 0.90).unwrap();
        let inside = interval.low > -within && interval.high < within;
        assert_eq!(tost(&D, within).unwrap() < 0.05, inside, "within {within}");
    }
}

#[test]
fn wilson_against_scipy() {
    let expected = [
        (8, 10, 0.490_162_471_536_641_8, 0.943_317_848_545_624_8),
        (0, 5, 0.0, 0.434_482_464_783_174_76),
        (5, 5, 0.565_517_535_216_825_1, 1.0),
        (940, 1000, 0.923_528_925_208_643_4, 0.953_103_527_324_068),
    ];
    for (successes, n, low, high) in expected {
        let interval = wilson(successes, n, 0.95).unwrap();
        close(interval.low, low, 1e-9);
        close(interval.high, high, 1e-9);
    }
}

#[test]
fn bootstrap_approaches_the_exact_one() {
    let interval =
        bootstrap(D.len(), 0.95, |units| units.iter().map(|unit| D[*unit]).sum::<f64>() / units.len() as f64)
            .unwrap();
    close(interval.estimate, 0.176, 1e-15);
    // The exact ends are 0.000 and 0.340; values there are spaced by about 0.01.
    close(interval.low, 0.0, 0.02);
    close(interval.high, 0.34, 0.02);
}

#[test]
fn bootstrap_is_a_function_of_its_data() {
    let spread = |units: &[usize]| units.iter().map(|unit| D[*unit]).fold(f64::MIN, f64::max);
    assert_eq!(bootstrap(5, 0.9, spread).unwrap(), bootstrap(5, 0.9, spread).unwrap());
}

#[test]
fn bootstrap_draws_every_unit_equally_often() {
    let counts = std::cell::RefCell::new([0usize; 3]);
    bootstrap(3, 0.9, |units| {
        units.iter().for_each(|unit| counts.borrow_mut()[*unit] += 1);
        0.0
    })
    .unwrap();
    // 30,000 draws of one in three: standard deviation 82, so 400 is nearly five of them.
    for count in *counts.borrow() {
        assert!(count.abs_diff(RESAMPLES) < 400, "{count}");
    }
}

#[test]
fn holm_against_its_definition() {
    // Sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1, made monotone: 0.02, 0.03, 0.06, 0.06.
    let adjusted = holm(&[0.01, 0.04, 0.03, 0.005]).unwrap();
    for (found, expected) in adjusted.iter().zip([0.03, 0.06, 0.06, 0.02]) {
        close(*found, expected, 1e-15);
    }
    assert_eq!(holm(&[0.9, 0.8]).unwrap(), [1.0, 1.0]);
    assert!(holm(&[]).unwrap().is_empty());
}

#[test]
fn holm_levels_stop_at_the_first_that_is_not_rejected() {
    let levels = holm_levels(&[0.01, 0.04, 0.03, 0.005], 0.95).unwrap();
    for (found, divisor) in levels.iter().zip([3.0, 2.0, 2.0, 4.0]) {
        close(*found, 1.0 - 0.05 / divisor, 1e-12);
    }
    let all_rejected = holm_levels(&[0.001, 0.002], 0.95).unwrap();
    close(all_rejected[1], 0.95, 1e-12);
}

#[test]
fn equal_values_have_an_interval_of_no_width() {
    let interval = t_interval(&[0.1, 0.1, 0.1], 0.95).unwrap();
    assert_eq!((interval.estimate, interval.low, interval.high), (0.1, 0.1, 0.1));
    assert_eq!(p_above(&[0.1; 3], 0.0).unwrap(), 0.0);
    assert_eq!(p_above(&[0.0; 3], 0.0).unwrap(), 1.0);
    let constant = bootstrap(3, 0.95, |_| 0.1).unwrap();
    assert_eq!((constant.low, constant.high), (0.1, 0.1));
}

#[test]
fn too_few_values_are_refused() {
    assert_eq!(mean(&[]), Err(StatError::TooFew { needed: 1, found: 0 }));
    assert_eq!(t_interval(&[1.0], 0.95), Err(StatError::TooFew { needed: 2, found: 1 }));
    assert_eq!(tost(&[1.0], 0.5), Err(StatError::TooFew { needed: 2, found: 1 }));
    assert!(matches!(bootstrap(1, 0.95, |_| 0.0), Err(StatError::TooFew { .. })));
    assert!(matches!(wilson(0, 0, 0.95), Err(StatError::TooFew { .. })));
}

#[test]
fn what_is_not_finite_is_refused() {
    assert!(matches!(mean(&[1.0, f64::NAN]), Err(StatError::NotFinite { position: 1, .. })));
    assert!(matches!(t_interval(&[f64::INFINITY, 1.0], 0.95), Err(StatError::NotFinite { position: 0, .. })));
    assert!(matches!(differences(&[f64::NAN], &[1.0]), Err(StatError::NotFinite { .. })));
    assert_eq!(t_interval(&[1e308, -1e308, 1e308], 0.95), Err(StatError::Overflow));
    assert_eq!(bootstrap(2, 0.95, |_| f64::NAN), Err(StatError::Overflow));
    assert!(matches!(holm(&[f64::NAN]), Err(StatError::Parameter { .. })));
}

#[test]
fn parameters_out_of_range_are_refused() {
    for level in [0.0, 1.0, 95.0, f64::NAN] {
        assert!(matches!(t_interval(&D, level), Err(StatError::Parameter { .. })), "{level}");
    }
    assert!(matches!(wilson(3, 2, 0.95), Err(StatError::Parameter { .. })));
    assert!(matches!(tost(&D, 0.0), Err(StatError::Parameter { .. })));
    assert_eq!(differences(&[1.0], &[1.0, 2.0]), Err(StatError::Unpaired { a: 1, b: 2 }));
}
