//! When a kernel's output counts as right.

use std::fmt;

use sd_core::cuda::Element;

/// How far a value may be from the reference: `|x − ref| ≤ relative · |ref| + absolute · scale`, where `scale` is the root mean
/// square of the reference tensor (what cancellation inside a sum costs grows with the tensor's size, not with the element's).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Share of the reference element.
    pub relative: f64,
    /// Share of the reference tensor's root mean square.
    pub absolute: f64,
}

impl Tolerance {
    /// The one table. Half a unit in the last place of `f16` is 4.9e-4 of a value, of `bf16` 3.9e-3; arithmetic is in `f32`.
    #[must_use]
    pub const fn of(element: Element) -> Self {
        match element {
            Element::F32 => Self { relative: 2e-5, absolute: 2e-5 },
            Element::F16 => Self { relative: 1.5e-3, absolute: 1.5e-3 },
            Element::Bf16 => Self { relative: 1e-2, absolute: 1e-2 },
            Element::U32 | Element::I64 => Self { relative: 0.0, absolute: 0.0 },
        }
    }

    /// Both shares `factor` times as large; for a case that says why.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { relative: self.relative * factor, absolute: self.absolute * factor }
    }
}

/// One output of a program as it should be.
#[derive(Clone, Debug)]
pub struct Expected {
    /// What it is: `dx`.
    pub name: &'static str,
    /// The values, in double precision.
    pub values: Vec<f64>,
    /// How near is near enough.
    pub tolerance: Tolerance,
    /// The least scale that [`Tolerance::absolute`] is a share of: an output that is zero but for rounding needs one.
    pub floor: f64,
}

/// The first element that is wrong, and the worst.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch(String);

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Expected {
    /// An output of `element` with the tolerance of the table.
    #[must_use]
    pub fn new(name: &'static str, element: Element, values: Vec<f64>) -> Self {
        Self { name, values, tolerance: Tolerance::of(element), floor: 1e-2 }
    }

    /// The same with both shares `factor` times as large.
    #[must_use]
    pub fn times(mut self, factor: f64) -> Self {
        self.tolerance = self.tolerance.times(factor);
        self
    }

    /// The same, with errors allowed as if the values were at least of size `floor`.
    #[must_use]
    pub fn at_least(mut self, floor: f64) -> Self {
        self.floor = floor;
        self
    }

    /// The largest error as a share of what is allowed, at most 1.
    ///
    /// # Errors
    /// Where a value is farther off than that, not finite where the reference is, or where the lengths differ.
    pub fn check(&self, got: &[f64]) -> Result<f64, Mismatch> {
        if got.len() != self.values.len() {
            let lengths = format!("{}: {} elements, expected {}", self.name, got.len(), self.values.len());
            return Err(Mismatch(lengths));
        }
        let scale = self.scale();
        let shares = got.iter().zip(&self.values).map(|(got, want)| self.share(*got, *want, scale));
        let (mut worst, mut wrong, mut first) = (0f64, 0, None);
        for (index, share) in shares.enumerate() {
            if !(share <= 1.0) {
                wrong += 1;
                first = first.or(Some(index));
            }
            worst = worst.max(share);
        }
        first.map_or(Ok(worst), |index| Err(self.mismatch(got, index, wrong, worst)))
    }

    /// The error of one element as a share of what is allowed. An infinity must be the same infinity.
    fn share(&self, got: f64, want: f64, scale: f64) -> f64 {
        if got == want {
            return 0.0;
        }
        let share =
            (got - want).abs() / (self.tolerance.relative * want.abs() + self.tolerance.absolute * scale);
        // A NaN, or nothing allowed and something found.
        if share.is_nan() { f64::INFINITY } else { share }
    }

    fn scale(&self) -> f64 {
        let finite = self.values.iter().filter(|value| value.is_finite());
        let (count, squares) = finite.fold((0usize, 0.0), |(n, sum), value| (n + 1, sum + value * value));
        (squares / count.max(1) as f64).sqrt().max(self.floor)
    }

    fn mismatch(&self, got: &[f64], index: usize, wrong: usize, worst: f64) -> Mismatch {
        Mismatch(format!(
            "{}: {wrong} of {} elements are wrong, the first at {index}: {:e}, expected {:e}; the worst error is {worst:.3e} of \
             what is allowed",
            self.name,
            got.len(),
            got[index],
            self.values[index],
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 6 × 7 values of both signs, no two alike.
    fn reference() -> Vec<f64> {
        (0..42).map(|i| (f64::from(i) * 0.7).sin() * 3.0 + f64::from(i) * 1e-3).collect()
    }

    fn transposed(values: &[f64]) -> Vec<f64> {
        (0..42).map(|i| values[i % 6 * 7 + i / 6]).collect()
    }

    #[test]
    fn what_is_right_passes_and_wrong_tensors_do_not() {
        let values = reference();
        let one = |change: fn(&mut f64)| {
            let mut changed = values.clone();
            change(&mut changed[17]);
            changed
        };
        for element in [Element::F32, Element::F16, Element::Bf16] {
            let expected = Expected::new("y", element, values.clone());
            assert_eq!(expected.check(&values), Ok(0.0));
            let near: Vec<f64> =
                values.iter().map(|x| x * (1.0 + 0.5 * expected.tolerance.relative)).collect();
            assert!(expected.check(&near).unwrap() < 1.0);
            let mutants = [
                vec![f64::NAN; 42],
                one(|x| *x = f64::NAN),
                one(|x| *x = f64::INFINITY),
                one(|x| *x += 0.1),
                one(|x| *x = -*x),
                transposed(&values),
                vec![0.0; 42],
                vec![values[0]; 42],
                values[1..].to_vec(),
                values.iter().map(|x| x * (1.0 + 3.0 * expected.tolerance.relative) + 0.01).collect(),
            ];
            for (index, mutant) in mutants.iter().enumerate() {
                assert!(expected.check(mutant).is_err(), "mutant {index} passed for {element:?}");
            }
        }
    }

    #[test]
    fn integers_must_be_equal() {
        let expected = Expected::new("n", Element::U32, vec![1.0, 2.0]);
        assert!(expected.check(&[1.0, 2.0]).is_ok() && expected.check(&[1.0, 3.0]).is_err());
    }

    #[test]
    fn a_nan_or_an_infinity_in_the_reference_hides_nothing() {
        let expected = Expected::new("y", Element::F32, vec![1.0, f64::INFINITY, f64::NAN]);
        assert!(expected.check(&[1.0, f64::INFINITY, f64::NAN]).is_err());
        let expected = Expected::new("y", Element::F32, vec![1.0, f64::INFINITY]);
        assert!(expected.check(&[1.0, f64::INFINITY]).is_ok());
        assert!(expected.check(&[1.0, 1.0]).is_err() && expected.check(&[2.0, f64::INFINITY]).is_err());
    }

    #[test]
    fn an_error_says_where_and_how_far() {
        let expected = Expected::new("dx", Element::F32, vec![1.0, 2.0]);
        let error = expected.check(&[1.0, 2.5]).unwrap_err().to_string();
        assert!(
            error.starts_with("dx: 1 of 2 elements are wrong, the first at 1: 2.5e0, expected 2e0;"),
            "{error}"
        );
    }
}
