//! The element-wise functions of the ops: for `f32` without branch or table, so that the loops around them become vector
//! code, and within a few units of the last place of the exact value; for `f64` those of the standard library.

use std::f64::consts::{FRAC_1_SQRT_2, PI};
use std::ops::{Add, Div, Mul, Neg, Sub};

/// What the ops need of an element type beyond arithmetic.
pub(crate) trait Math: Copy {
    /// `self · a + b`, rounded once.
    fn fused(self, a: Self, b: Self) -> Self;
    /// `eˣ` for `x ≤ 0`, also where the result is subnormal. NaN stays NaN.
    fn exp_of_negative(self) -> Self;
    /// Φ and φ, distribution function and density of the standard normal distribution.
    fn normal_cdf_and_density(self) -> (Self, Self);
    /// The logistic function σ(x) = `1/(1 + e⁻ˣ)`, and σ(−x) = 1 − σ(x) with all its digits.
    fn sigmoids(self) -> (Self, Self);

    /// σ(x).
    #[inline(always)]
    fn sigmoid(self) -> Self {
        self.sigmoids().0
    }
}

/// What the `f32` algorithms need: one number, or a register of numbers.
pub(crate) trait Single:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + Neg<Output = Self>
{
    /// `x` in every lane.
    fn of(x: f32) -> Self;
    /// `self · a + b`, rounded once.
    fn multiply_add(self, a: Self, b: Self) -> Self;
    /// `|self|`.
    fn absolute(self) -> Self;
    /// `yes` where `self < bound`, else `no`: also where either is NaN.
    fn if_less(self, bound: Self, yes: Self, no: Self) -> Self;
    /// `self · 2ⁿ`, rounded once, for whole n in −200..=1 and `self` in [½, 2].
    fn scale(self, n: Self) -> Self;
}

impl Single for f32 {
    #[inline(always)]
    fn of(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn multiply_add(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn if_less(self, bound: Self, yes: Self, no: Self) -> Self {
        if self < bound { yes } else { no }
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        // In two halves: the first product is exact, the second rounds where the result is subnormal.
        let n = (n + ROUND).to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        let half = n >> 1;
        self * power_of_two(half) * power_of_two(n.wrapping_sub(half))
    }
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

impl Math for f32 {
    #[inline(always)]
    fn fused(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        exp_of_negative(self)
    }

    #[inline(always)]
    fn normal_cdf_and_density(self) -> (Self, Self) {
        normal_cdf_and_density(self)
    }

    #[inline(always)]
    fn sigmoids(self) -> (Self, Self) {
        sigmoids(self)
    }
}

impl Math for f64 {
    #[inline(always)]
    fn fused(self, a: Self, b: Self) -> Self {
        self.mul_add(a, b)
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        self.exp()
    }

    fn normal_cdf_and_density(self) -> (Self, Self) {
        let cdf = 0.5 * candle_core::cpu::erf::erfc_f64(-self * FRAC_1_SQRT_2);
        (cdf, (-0.5 * self * self).exp() / (2.0 * PI).sqrt())
    }

    fn sigmoids(self) -> (Self, Self) {
        let e = (-self.abs()).exp();
        let larger = 1.0 / (1.0 + e);
        if self < 0.0 { (e * larger, larger) } else { (larger, e * larger) }
    }
}

/// Adding 1.5·2²³ to a small number rounds it to a whole number, which is left in the low bits.
const ROUND: f32 = 12_582_912.0;

/// `c₀ + c₁x + …` by Horner's rule, each step rounded once.
#[inline(always)]
fn polynomial<F: Single, const N: usize>(x: F, coefficients: [f32; N]) -> F {
    let mut sum = F::of(coefficients[N - 1]);
    for &coefficient in coefficients[..N - 1].iter().rev() {
        sum = sum.multiply_add(x, F::of(coefficient));
    }
    sum
}

/// `eˣ = 2ⁿ·eʳ`, `n` the whole number nearest to `x/ln 2`, `|r| ≤ ln 2/2`, `eʳ` by its Taylor polynomial of degree 7 (truncation
/// below 1e-8).
#[inline(always)]
pub(crate) fn exp_of_negative<F: Single>(x: F) -> F {
    // ln 2 in two parts; the first has 9 bits, so n times it is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const SERIES: [f32; 8] = [1.0, 1.0, 0.5, 1.0 / 6.0, 1.0 / 24.0, 1.0 / 120.0, 1.0 / 720.0, 1.0 / 5040.0];
    // Below −104 the result rounds to 0. NaN passes.
    let lowest = F::of(-104.0);
    let x = x.if_less(lowest, lowest, x);
    let n = x.multiply_add(F::of(std::f32::consts::LOG2_E), F::of(ROUND)) - F::of(ROUND);
    let r = n.multiply_add(F::of(-LN2_LOW), n.multiply_add(F::of(-LN2_HIGH), x));
    polynomial(r, SERIES).scale(n)
}

/// σ(x) and σ(−x). e^{−|x|} cannot overflow; 1/(1+e) is the value at |x|, e/(1+e) the value at −|x|.
#[inline(always)]
pub(crate) fn sigmoids<F: Single>(x: F) -> (F, F) {
    let (zero, one) = (F::of(0.0), F::of(1.0));
    let e = exp_of_negative(-x.absolute());
    let larger = one / (one + e);
    let smaller = e * larger;
    (x.if_less(zero, smaller, larger), x.if_less(zero, larger, smaller))
}

/// With t = |x| and s = 1/(1 + 0.35t), Φ(−t) = e^{−t²/2} · s · P(s): Mills' ratio is a smooth function of s. P, of degree 8, was
/// fitted to ½·erfcx(t/√2)/s on 0 ≤ t ≤ 14.6 for least relative error (Lawson's iteration; 3.2e-8). Φ(t) = 1 − Φ(−t).
#[inline(always)]
pub(crate) fn normal_cdf_and_density<F: Single>(x: F) -> (F, F) {
    const MILLS: [f32; 9] = [
        0.283_244_9,
        0.390_971_7,
        0.300_929_5,
        0.051_889_53,
        -0.099_835_046,
        -0.031_508_286,
        0.054_390_498,
        0.008_318_957,
        -0.029_159_64,
    ];
    const CENTRE: f32 = 0.5818;
    let (zero, one) = (F::of(0.0), F::of(1.0));
    let t = x.absolute();
    let s = one / t.multiply_add(F::of(0.35), one);
    // t² as a rounded square and what the rounding lost: the exponent needs more than 24 bits.
    let square = t * t;
    let lost = t.multiply_add(t, -square);
    let lost = lost.absolute().if_less(one, lost, zero);
    let exp = exp_of_negative(F::of(-0.5) * square);
    let exp = (exp * F::of(-0.5)).multiply_add(lost, exp);
    let lower = exp * (s * polynomial(s - F::of(CENTRE), MILLS));
    (x.if_less(zero, lower, one - lower), exp * F::of(0.398_942_3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error in units of the last place of the exact value (or of the smallest normal number), over a dense grid.
    fn worst_ulp(low: f64, high: f64, ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        (0..=400_000)
            .map(|i| (low + (high - low) * f64::from(i) / 400_000.0) as f32)
            .map(|x| {
                let want = exact(f64::from(x));
                let ulp = 2f64.powf(want.abs().log2().floor().max(-126.0) - 23.0);
                (f64::from(ours(x)) - want).abs() / ulp
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_two_ulp_down_to_the_last_subnormal() {
        let worst = worst_ulp(-110.0, 0.0, Math::exp_of_negative, f64::exp);
        assert!(worst <= 2.0, "{worst}");
        assert_eq!([0.0, f32::NEG_INFINITY].map(Math::exp_of_negative), [1.0, 0.0]);
        assert!(f32::NAN.exp_of_negative().is_nan());
    }

    #[test]
    fn both_sigmoids_are_within_three_ulp() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        for sign in [1.0, -1.0] {
            let ours = |x: f32| if sign > 0.0 { x.sigmoids().0 } else { x.sigmoids().1 };
            let worst = worst_ulp(-100.0, 100.0, ours, |x| logistic(sign * x));
            assert!(worst <= 3.0, "{worst}");
        }
        assert!(f32::NAN.sigmoid().is_nan());
        assert_eq!([f32::INFINITY, f32::NEG_INFINITY].map(Math::sigmoid), [1.0, 0.0]);
    }

    #[test]
    fn the_normal_distribution_keeps_its_digits_in_the_tail() {
        let exact = |x: f64| x.normal_cdf_and_density();
        let worst = worst_ulp(-14.0, 14.0, |x| x.normal_cdf_and_density().0, |x| exact(x).0);
        assert!(worst <= 8.0, "Φ: {worst}");
        let worst = worst_ulp(-14.0, 14.0, |x| x.normal_cdf_and_density().1, |x| exact(x).1);
        assert!(worst <= 4.0, "φ: {worst}");
        assert_eq!(
            [-1e30f32, 1e30, f32::INFINITY].map(|x| x.normal_cdf_and_density()),
            [(0.0, 0.0), (1.0, 0.0), (1.0, 0.0)]
        );
        assert!(f32::NAN.normal_cdf_and_density().0.is_nan());
    }
}
