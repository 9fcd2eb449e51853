//! Numbers that round as the tables of a sampler do.
//!
//! diffusers computes betas, ᾱ, σ and every coefficient made of them as float32 tensors of one element. To take the very same steps,
//! a [`Scalar`] of [`Precision::Single`] rounds to float32 after every operation. For `+ − × ÷ √` that is what the processor's
//! float32 instructions give, since a product or quotient of two 24-bit numbers rounded to 53 bits and then to 24 is rounded once
//! only (Figueroa 1995); logarithms and exponentials are the correctly rounded ones.

use std::ops::{Add, Div, Mul, Neg, Sub};

use candle_core::DType;

/// In which arithmetic a sampler's tables and coefficients are computed. What it is applied to keeps its own dtype.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Precision {
    /// float32 after every operation, as diffusers does whatever the dtype of the latents: its pictures, to the last bit that can be had.
    #[default]
    Single,
    /// float64 throughout: the formulas themselves. For latents in float64, where the rounding of tables would be the largest error.
    Double,
}

impl Precision {
    /// What suits latents of `dtype`: double for float64, single for all else.
    #[must_use]
    pub fn of(dtype: DType) -> Self {
        if dtype == DType::F64 { Self::Double } else { Self::Single }
    }

    /// `value` as this arithmetic holds it.
    pub(super) fn round(self, value: f64) -> f64 {
        match self {
            Self::Single => f64::from(value as f32),
            Self::Double => value,
        }
    }

    pub(super) fn scalar(self, value: f64) -> Scalar {
        Scalar { value: self.round(value), precision: self }
    }

    /// `a·b + c`, rounded once.
    pub(super) fn fused(self, a: f64, b: f64, c: f64) -> f64 {
        match self {
            Self::Single => f64::from((a as f32).mul_add(b as f32, c as f32)),
            Self::Double => a.mul_add(b, c),
        }
    }
}

/// A number of a [`Precision`]. Operations with an `f64` round that to the precision first, as PyTorch does with Python's numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scalar {
    value: f64,
    precision: Precision,
}

impl Scalar {
    pub(super) fn value(self) -> f64 {
        self.value
    }

    /// The same number in another precision.
    pub(super) fn within(self, precision: Precision) -> Self {
        precision.scalar(self.value)
    }

    pub(super) fn sqrt(self) -> Self {
        self.precision.scalar(self.value.sqrt())
    }

    pub(super) fn square(self) -> Self {
        self * self
    }

    pub(super) fn ln(self) -> Self {
        self.precision.scalar(self.value.ln())
    }

    pub(super) fn exp(self) -> Self {
        self.precision.scalar(self.value.exp())
    }

    pub(super) fn at_least(self, bound: f64) -> Self {
        self.precision.scalar(self.value.max(bound))
    }

    /// `1 − self`.
    pub(super) fn rest(self) -> Self {
        self.precision.scalar(1.0) - self
    }
}

macro_rules! arithmetic {
    ($($trait:ident $method:ident $sign:tt),*) => {$(
        impl $trait for Scalar {
            type Output = Self;

            fn $method(self, other: Self) -> Self {
                debug_assert_eq!(self.precision, other.precision);
                self.precision.scalar(self.value $sign other.value)
            }
        }

        impl $trait<f64> for Scalar {
            type Output = Self;

            fn $method(self, other: f64) -> Self {
                self $sign self.precision.scalar(other)
            }
        }
    )*};
}

arithmetic!(Add add +, Sub sub -, Mul mul *, Div div /);

impl Neg for Scalar {
    type Output = Self;

    fn neg(self) -> Self {
        self.precision.scalar(-self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_rounds_as_float32_does() {
        let mut bits = 1_u32;
        for _ in 0..10_000 {
            bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (a, b) = ((bits >> 8) as f32 / 3e4, (bits & 0xffff) as f32 / 7e3 + 1e-3);
            let [x, y] = [a, b].map(|v| Precision::Single.scalar(f64::from(v)));
            for (ours, float) in
                [(x + y, a + b), (x - y, a - b), (x * y, a * b), (x / y, a / b), (x.sqrt(), a.sqrt())]
            {
                assert_eq!(ours.value() as f32, float, "{a} {b}");
            }
        }
    }

    #[test]
    fn double_does_not_round() {
        let third = Precision::Double.scalar(1.0) / 3.0;
        assert_eq!(third.value(), 1.0 / 3.0);
        assert_eq!((Precision::Single.scalar(1.0) / 3.0).value() as f32, 1.0_f32 / 3.0);
    }
}
