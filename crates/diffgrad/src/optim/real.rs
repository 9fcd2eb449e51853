//! The two element types, and the few functions the update rules need of them.

use std::ops::{Add, Div, Mul, Sub};

use candle_core::{CpuStorage, WithDType};

/// An element type of parameters: `f32`, or `f64` for the reference runs and the synthetic functions.
///
/// A multiplication is fused with an addition exactly where [`Real::plus`] says so, on every instruction set: a step gives the
/// same bits everywhere. A processor without such an instruction (x86 before 2013) computes it in software, slowly.
pub trait Real:
    WithDType + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self> + PartialOrd
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Nearest value to `x`.
    fn of(x: f64) -> Self;
    /// `x` as `f64`, exactly.
    fn wide(self) -> f64;
    /// `√x`, correctly rounded.
    fn root(self) -> Self;
    /// `self + a·b`, rounded once.
    fn plus(self, a: Self, b: Self) -> Self;
    /// `|x|`.
    fn magnitude(self) -> Self;
    /// `eˣ` for `x ≤ 0`; where the result is below the smallest normal number it may be off by that much. NaN stays NaN.
    fn exp_of_negative(self) -> Self;
    /// A CPU storage's elements for writing, or `None` if it holds another type.
    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]>;

    /// Logistic function `1/(1 + e^{-x})` of `x ≥ 0`.
    #[inline(always)]
    fn sigmoid_of_positive(self) -> Self {
        Self::ONE / (Self::ONE + (Self::ZERO - self).exp_of_negative())
    }

    /// Logistic function of any `x`, without overflow: `e^x/(1 + e^x)` for `x < 0`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        let e = (Self::ZERO - self.magnitude()).exp_of_negative();
        let numerator = if self < Self::ZERO { e } else { Self::ONE };
        numerator / (Self::ONE + e)
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn plus(self, a: Self, b: Self) -> Self {
        a.mul_add(b, self)
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        exp_of_negative_f32(self)
    }

    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F32(values) = storage { Some(values) } else { None }
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn of(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn wide(self) -> f64 {
        self
    }

    #[inline(always)]
    fn root(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn plus(self, a: Self, b: Self) -> Self {
        a.mul_add(b, self)
    }

    #[inline(always)]
    fn magnitude(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn exp_of_negative(self) -> Self {
        self.exp()
    }

    fn of_storage(storage: &mut CpuStorage) -> Option<&mut [Self]> {
        if let CpuStorage::F64(values) = storage { Some(values) } else { None }
    }
}

/// `eˣ = 2ⁿ·eʳ`, `n` the integer nearest to `x/ln 2`, `|r| ≤ ln 2/2`, `eʳ` by its Taylor polynomial of degree 7 (truncation
/// below 1e-8). No branch and no table, so that the loops around it become vector code. Error below 1.5 ulp (tested on a
/// grid over the whole range).
///
/// Below −87 the result is that of −87 (1.6e-38), which `1 + eˣ` cannot tell from 0.
#[inline(always)]
fn exp_of_negative_f32(x: f32) -> f32 {
    // Adding 1.5·2²³ rounds to an integer and leaves that integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts; the first has 9 bits, so n times it is exact.
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Written so that NaN passes.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    let tail = 1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r * (1.0 / 5040.0))));
    let er = 1.0 + (r + r * r * (0.5 + r * tail));
    let two_to_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    er * two_to_n
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Largest error in units of the last place of the exact value, over a dense grid on `[low, high]`.
    fn worst_ulp(low: f64, high: f64, ours: impl Fn(f32) -> f32, exact: impl Fn(f64) -> f64) -> f64 {
        (0..=400_000)
            .map(|i| (low + (high - low) * f64::from(i) / 400_000.0) as f32)
            .map(|x| {
                let want = exact(f64::from(x));
                let ulp = 2f64.powi(want.abs().log2().floor() as i32 - 23);
                (f64::from(ours(x)) - want).abs() / ulp
            })
            .fold(0.0, f64::max)
    }

    #[test]
    fn exp_is_within_one_and_a_half_ulp() {
        let worst = worst_ulp(-87.0, 0.0, exp_of_negative_f32, f64::exp);
        assert!(worst < 1.5, "{worst}");
    }

    #[test]
    fn sigmoid_is_within_two_and_a_half_ulp_and_never_below_a_half() {
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        let worst = worst_ulp(0.0, 30.0, f32::sigmoid_of_positive, logistic);
        assert!(worst < 1.5, "{worst}");
        let worst = worst_ulp(-80.0, 30.0, Real::sigmoid, logistic);
        assert!(worst < 2.5, "{worst}");
        assert_eq!(0f32.sigmoid_of_positive(), 0.5);
        assert_eq!(f32::INFINITY.sigmoid_of_positive(), 1.0);
        assert!(f32::MIN_POSITIVE.sigmoid_of_positive() >= 0.5);
    }

    #[test]
    fn nan_stays_nan() {
        assert!(f32::NAN.sigmoid_of_positive().is_nan());
        assert!(Real::sigmoid(f32::NAN).is_nan());
        assert!(f64::NAN.sigmoid_of_positive().is_nan());
    }
}
