//! The three functions of equations 24 to 26 with their derivatives.
//!
//! At a break-point the left piece applies, in the function and in the derivative. Everything is `f64`: on F2 the first step
//! of Adam lands within 1e-11 of the break-point at −0.9, and single precision falls off the other side of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A function of the synthetic study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Function {
    /// Two parabolas: global minimum 0 at −0.3, local minimum 0.05 at 0.2 (equation 24).
    F1,
    /// A cubic with a sine behind a steep wall: global minimum 1.2e-4 at −0.643, local minima 0.85 at 0 and 0.465 at 0.588;
    /// discontinuous at −0.9 (equation 25).
    F2,
    /// Piecewise linear and quadratic: global minimum 0 at 0, local minima 0.25 at ±0.5 (equation 26).
    F3,
}

impl Function {
    /// All three.
    pub const ALL: [Self; 3] = [Self::F1, Self::F2, Self::F3];

    /// `f1`, `f2` or `f3`, as in the YAML and the rows.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F1 => "f1",
            Self::F2 => "f2",
            Self::F3 => "f3",
        }
    }

    /// F(x).
    #[must_use]
    pub fn value(self, x: f64) -> f64 {
        match self {
            Self::F1 if x <= 0.0 => (x + 0.3).powi(2),
            Self::F1 => (x - 0.2).powi(2) + 0.05,
            Self::F2 if x <= -0.9 => -40.0 * x - 35.15,
            Self::F2 => x.powi(3) + x * (8.0 * x).sin() + 0.85,
            Self::F3 => match piece(x) {
                0 | 5 => x * x,
                1 => 0.75 + x,
                2 => -7.0 * x / 8.0,
                3 => 7.0 * x / 8.0,
                _ => 0.75 - x,
            },
        }
    }

    /// dF/dx. On F2 with the factor 8 of the inner derivative, which the published notebooks leave out while the published
    /// figure has it.
    #[must_use]
    pub fn derivative(self, x: f64) -> f64 {
        match self {
            Self::F1 if x <= 0.0 => 2.0 * x + 0.6,
            Self::F1 => 2.0 * x - 0.4,
            Self::F2 if x <= -0.9 => -40.0,
            Self::F2 => 3.0 * x * x + (8.0 * x).sin() + 8.0 * x * (8.0 * x).cos(),
            Self::F3 => match piece(x) {
                0 | 5 => 2.0 * x,
                1 => 1.0,
                2 => -7.0 / 8.0,
                3 => 7.0 / 8.0,
                _ => -1.0,
            },
        }
    }

    /// Where the global minimum lies.
    #[must_use]
    pub fn global_minimum(self) -> f64 {
        match self {
            Self::F1 => -0.3,
            Self::F2 => -0.642_918_6,
            Self::F3 => 0.0,
        }
    }
}

/// Which of F3's six pieces holds x.
fn piece(x: f64) -> usize {
    [-0.5, -0.4, 0.0, 0.4, 0.5].iter().position(|end| x <= *end).unwrap_or(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Away from break-points the derivative is the slope.
    #[test]
    fn derivatives_are_slopes() {
        let breaks = [-0.9, -0.5, -0.4, 0.0, 0.4, 0.5];
        for function in Function::ALL {
            for i in 0..400 {
                let x = -1.2 + 0.006 * f64::from(i) + 1.7e-4;
                if breaks.iter().any(|at| (x - at).abs() < 1e-4) {
                    continue;
                }
                let slope = (function.value(x + 1e-6) - function.value(x - 1e-6)) / 2e-6;
                let error = (slope - function.derivative(x)).abs();
                assert!(error <= 1e-7, "{function:?} at {x}: {error:e}");
            }
        }
    }

    /// Specification section 4.1.
    #[test]
    fn minima_and_joints_are_those_of_the_specification() {
        assert_eq!(Function::F1.value(0.0), 0.09);
        assert!((Function::F1.value(1e-12) - 0.09).abs() < 1e-9);
        assert!((Function::F2.value(-0.9) - 0.85).abs() < 1e-12);
        assert!((Function::F2.value(-0.9 + 1e-9) - 0.8353).abs() < 1e-4);
        assert!((Function::F2.value(Function::F2.global_minimum()) - 0.000_120).abs() < 1e-6);
        assert!(Function::F2.derivative(Function::F2.global_minimum()).abs() < 1e-4);
        assert!((Function::F2.value(0.588_05) - 0.4653).abs() < 1e-4);
        assert!(
            (Function::F3.value(-0.5) - 0.25).abs() < 1e-12 && (Function::F3.value(0.4) - 0.35).abs() < 1e-12
        );
    }
}
