//! `expect: "> 0"`: the one-line condition that turns an estimate into a verdict.

use std::fmt;

use crate::claim::Verdict;

/// How the estimate must lie to the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Above,
    AtLeast,
    Below,
    AtMost,
    Equal,
}

/// A parsed `expect`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expect {
    relation: Relation,
    /// The threshold.
    pub(super) threshold: f64,
}

/// Longer signs first: `>=` starts with `>`.
const SIGNS: [(&str, Relation); 5] = [
    (">=", Relation::AtLeast),
    ("<=", Relation::AtMost),
    ("==", Relation::Equal),
    (">", Relation::Above),
    ("<", Relation::Below),
];

impl Expect {
    /// `> 0`, what a comparison of two sides expects where nothing is written.
    pub(super) const POSITIVE: Expect = Expect { relation: Relation::Above, threshold: 0.0 };

    /// Reads `"> 0"`, `">= 0.9"`, `"< 0.51"`, `"<= 1"` or `"== 1"`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let trimmed = text.trim();
        let wrong = || {
            format!(
                "expected one of `>`, `>=`, `<`, `<=`, `==` and a number, such as \"> 0\"; found \"{text}\""
            )
        };
        let (sign, relation) =
            SIGNS.into_iter().find(|(sign, _)| trimmed.starts_with(sign)).ok_or_else(wrong)?;
        let threshold: f64 = trimmed[sign.len()..].trim().parse().map_err(|_| wrong())?;
        if !threshold.is_finite() {
            return Err(wrong());
        }
        Ok(Self { relation, threshold })
    }

    /// Whether one exact value satisfies it; `tolerance` widens `==` only.
    pub(super) fn holds(self, value: f64, tolerance: f64) -> bool {
        let threshold = self.threshold;
        match self.relation {
            Relation::Above => value > threshold,
            Relation::AtLeast => value >= threshold,
            Relation::Below => value < threshold,
            Relation::AtMost => value <= threshold,
            Relation::Equal => (value - threshold).abs() <= tolerance,
        }
    }

    /// Supported where every point of `[low, high]` satisfies it, refuted where none does, else inconclusive.
    pub(super) fn verdict(self, low: f64, high: f64) -> Verdict {
        if self.holds(low, 0.0) && self.holds(high, 0.0) {
            return Verdict::Supported;
        }
        let excluded = self.relation == Relation::Equal && low < self.threshold && high > self.threshold;
        if self.holds(low, 0.0) || self.holds(high, 0.0) || excluded {
            return Verdict::Inconclusive;
        }
        Verdict::Refuted
    }

    /// How far `value` lies on the right side of the threshold (negative on the wrong one).
    pub(super) fn margin(self, value: f64) -> f64 {
        match self.relation {
            Relation::Above | Relation::AtLeast => value - self.threshold,
            Relation::Below | Relation::AtMost => self.threshold - value,
            Relation::Equal => -(value - self.threshold).abs(),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().find(|(_, relation)| *relation == self.relation).map_or("", |(sign, _)| sign);
        write!(f, "{sign} {}", self.threshold)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verdict(expect: &str, low: f64, high: f64) -> Verdict {
        Expect::parse(expect).unwrap().verdict(low, high)
    }

    #[test]
    fn an_interval_is_right_wrong_or_open() {
        assert_eq!(verdict("> 0", 0.1, 0.2), Verdict::Supported);
        assert_eq!(verdict("> 0", 0.0, 0.2), Verdict::Inconclusive);
        assert_eq!(verdict("> 0", -0.2, 0.0), Verdict::Refuted);
        assert_eq!(verdict(">= 0", 0.0, 0.2), Verdict::Supported);
        assert_eq!(verdict(">= 0", -0.2, 0.0), Verdict::Inconclusive);
        assert_eq!(verdict("< 0.51", 0.50, 0.509), Verdict::Supported);
        assert_eq!(verdict("< 0.51", 0.51, 0.52), Verdict::Refuted);
        assert_eq!(verdict("<= 1", 0.5, 1.5), Verdict::Inconclusive);
    }

    #[test]
    fn equality_of_an_interval() {
        assert_eq!(verdict("== 1", 1.0, 1.0), Verdict::Supported);
        assert_eq!(verdict("== 1", 0.9, 1.1), Verdict::Inconclusive);
        assert_eq!(verdict("== 1", 1.0, 1.1), Verdict::Inconclusive);
        assert_eq!(verdict("== 1", 1.1, 1.2), Verdict::Refuted);
    }

    #[test]
    fn only_a_sign_and_a_finite_number_are_read() {
        for text in ["", "0", "> ", "> x", "=> 1", "> inf", "< nan", "> 0 and < 1"] {
            let message = Expect::parse(text).unwrap_err();
            assert!(message.contains(text), "{message}");
        }
        assert_eq!(Expect::parse(" >=0.9 ").unwrap().to_string(), ">= 0.9");
    }
}
