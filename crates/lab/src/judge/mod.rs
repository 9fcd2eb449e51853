//! Verdicts: every claim of an experiment held against the rows that were measured.

use serde::Serialize;

use crate::claim::{Claim, Verdict};
use crate::row::Row;

/// What was found about one claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Id of the claim.
    pub claim: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Our estimate, in the unit of the metric; absent where nothing could be estimated.
    pub ours: Option<f64>,
    /// Lower end of the interval, where there is one.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Independent units (pairs, seeds, rows of a check) behind the estimate.
    pub n: usize,
    /// Why the verdict is what it is, in words.
    pub note: String,
}

/// Judges every claim, in order. Never fails: what cannot be judged is `not_testable` with a note that says what is missing.
#[must_use]
pub fn judge(claims: &[Claim], rows: &[Row]) -> Vec<Judgement> {
    claims.iter().map(|claim| nothing_measured(claim, rows)).collect()
}

fn nothing_measured(claim: &Claim, rows: &[Row]) -> Judgement {
    Judgement {
        claim: claim.id.clone(),
        verdict: Verdict::NotTestable,
        ours: None,
        low: None,
        high: None,
        n: 0,
        note: format!("not judged yet; {} rows", rows.len()),
    }
}

/// What is wrong with the claims of an experiment: `(key path, message)` for every mistake, such as
/// `("claims.3.test.paired.a", "unknown arm `adm`; did you mean `adam`?")`.
///
/// `arms` and `studies` are the names that the rows will carry; pass an empty slice to leave them unchecked.
#[must_use]
pub fn validate(_claims: &[Claim], _arms: &[&str], _studies: &[&str]) -> Vec<(String, String)> {
    Vec::new()
}
