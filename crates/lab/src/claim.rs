//! Claims as data: what a paper says, the number it printed, and the typed test that judges it.
//!
//! The tests are a closed set of comparisons ([`Test`]), not an expression language. Each gives an estimate with an
//! interval (or an exact check), which `expect` turns into a verdict.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::row::Selector;

/// One claim of a paper.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Short unique name, as in the specification (`C1c`, `K1`).
    pub id: String,
    /// The claim as a sentence that can be true or false.
    pub says: String,
    /// Where the paper says it.
    pub source: Source,
    /// The numbers the paper printed, by name; `null` where a number was looked for and not found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub published: BTreeMap<String, Option<f64>>,
    /// Unit of the published numbers and of ours, such as `% top-1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// How it is judged.
    pub test: Test,
    /// Conditions on the runs themselves without which the test says nothing about the paper.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<Gate>,
    /// What a reader must know beside the verdict.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Where a claim or number was read.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Table, figure, section or equation.
    #[serde(rename = "where")]
    pub place: String,
    /// Version of the paper.
    pub version: String,
    /// How sure we are of it.
    pub seen: Seen,
}

/// How a published statement reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// Read in the paper itself.
    InText,
    /// Read off a figure.
    Digitised,
    /// Stated by the authors elsewhere (repository, issue).
    AuthorStatement,
    /// Derived by us from what the paper says, or a control of our own.
    Derived,
    /// Looked for and not found.
    NotFound,
}

/// One comparison (exactly one of the keys below but `expect`) and what is expected of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Test {
    /// Difference of two arms, paired over seeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paired: Option<Paired>,
    /// Mean of one arm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean: Option<Mean>,
    /// Two arms are equal to within a margin (two one-sided tests).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equivalence: Option<Equivalence>,
    /// Share of rows with a non-zero value, Wilson interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proportion: Option<Mean>,
    /// One arm beats every other one (paired differences, Holm over the others).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exceeds_all: Option<ExceedsAll>,
    /// The best arm of a group beats the best of another group (bootstrap over seeds of the difference of maxima).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_of: Option<BestOf>,
    /// Largest minus smallest arm mean (bootstrap over seeds).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spread: Option<Spread>,
    /// Every selected value satisfies `expect`: for what is exact, with no sampling error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Check>,
    /// All of these hold (refuted if one is refuted, supported if all are).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all_of: Option<Vec<Test>>,
    /// No test is possible here, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub untested: Option<Untested>,
    /// What is expected of the estimate: `"> 0"`, `">= 0.9"`, `"< 0.51"`, `"<= 1"`, `"== 1"`. Absent for
    /// `equivalence`, `all_of`, `untested`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<String>,
}

/// How an interval is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Interval {
    /// Student's t.
    #[default]
    T,
    /// Percentile bootstrap, 10,000 resamples from a fixed seed.
    Bootstrap,
}

/// What a comparison pairs or averages over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// One value a seed.
    #[default]
    Seed,
    /// One value a case.
    Case,
    /// One value a (case, seed).
    CaseSeed,
}

/// Difference `a - b` of a metric between two arms.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Paired {
    /// The metric.
    pub metric: String,
    /// The arm expected to be larger where `expect` is `> 0`.
    pub a: String,
    /// The arm it is compared with.
    pub b: String,
    /// What is paired.
    #[serde(default)]
    pub over: Over,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// How the interval is made.
    #[serde(default)]
    pub interval: Interval,
    /// Confidence level.
    #[serde(default = "level_95")]
    pub level: f64,
    /// Pre-registered refutation: refuted if the interval's upper end is below this (the published margin) and the interval
    /// reaches down to 0 or below. Without it: refuted if the whole interval is on the wrong side of `expect`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuted_below: Option<f64>,
}

/// Mean (or share) of a metric in one arm.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mean {
    /// The metric.
    pub metric: String,
    /// The arm.
    pub arm: String,
    /// What is averaged over.
    #[serde(default)]
    pub over: Over,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// How the interval is made (`proportion` always uses Wilson's).
    #[serde(default)]
    pub interval: Interval,
    /// Confidence level.
    #[serde(default = "level_95")]
    pub level: f64,
}

/// Equality of two arms to within `within`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Equivalence {
    /// The metric.
    pub metric: String,
    /// One arm.
    pub a: String,
    /// The other.
    pub b: String,
    /// What is paired.
    #[serde(default)]
    pub over: Over,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// Half-width of the equivalence region, in the metric's unit.
    pub within: f64,
    /// Level of the interval that must lie inside the region (0.90 is the two-one-sided-tests convention).
    #[serde(default = "level_90")]
    pub level: f64,
}

/// One arm against each of several.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExceedsAll {
    /// The metric.
    pub metric: String,
    /// The arm said to be best.
    pub a: String,
    /// The arms it is said to beat.
    pub others: Vec<String>,
    /// What is paired.
    #[serde(default)]
    pub over: Over,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// Family-wise confidence level.
    #[serde(default = "level_95")]
    pub level: f64,
    /// As in [`Paired::refuted_below`], for the difference to the best of the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuted_below: Option<f64>,
}

/// Best mean of a group of arms against the best mean of another.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BestOf {
    /// The metric.
    pub metric: String,
    /// The group said to hold the best arm.
    pub group: Vec<String>,
    /// The other arms.
    pub others: Vec<String>,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// Confidence level.
    #[serde(default = "level_95")]
    pub level: f64,
}

/// Range of the arm means.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The metric.
    pub metric: String,
    /// The arms.
    pub arms: Vec<String>,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// Confidence level.
    #[serde(default = "level_95")]
    pub level: f64,
}

/// Every selected value satisfies `expect`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Check {
    /// The metric.
    pub metric: String,
    /// The arm; every arm where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// Absolute tolerance of `==`.
    #[serde(default)]
    pub tolerance: f64,
}

/// A claim that this experiment cannot test.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Untested {
    /// Why.
    pub reason: String,
}

/// A condition on the runs: the mean of `metric` over `arm` must lie in `[at_least, at_most]`, else the verdict is `otherwise`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// The metric.
    pub metric: String,
    /// The arm; every arm that has the metric where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arm: Option<String>,
    /// Which rows.
    #[serde(default, rename = "where")]
    pub only: Selector,
    /// Lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// Upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The verdict where the condition fails.
    #[serde(default)]
    pub otherwise: Otherwise,
    /// What a failed gate means, for the report's note.
    pub because: String,
}

/// Verdict of a claim whose gate failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Otherwise {
    /// The runs are outside the regime that the claim is about.
    #[default]
    NotTestable,
    /// The runs are in the regime, yet too noisy or too few.
    Inconclusive,
}

/// What was found about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The interval lies wholly where the claim says.
    Supported,
    /// The interval excludes what the claim says (or the pre-registered rule refutes it).
    Refuted,
    /// Neither.
    Inconclusive,
    /// Not testable at this scale, or at all.
    NotTestable,
}

fn level_95() -> f64 {
    0.95
}

fn level_90() -> f64 {
    0.90
}
