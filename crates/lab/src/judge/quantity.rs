//! What the number of a judgement is, in the terms of its test.

use crate::claim::{Check, Test};

/// What is estimated, such as `test_acc: diffgrad − adam`; `None` for tests without a number of their own.
#[must_use]
pub fn quantity(test: &Test) -> Option<String> {
    let pair = |a: &str, b: &str, metric: &str| format!("{metric}: {a} − {b}");
    let paired = test.paired.as_ref().map(|part| pair(&part.a, &part.b, &part.metric));
    let equal = test.equivalence.as_ref().map(|part| pair(&part.a, &part.b, &part.metric));
    let mean = test.mean.as_ref().map(|part| format!("{}: mean of {}", part.metric, part.arm));
    let share = test.proportion.as_ref().map(|part| format!("{}: share of {}", part.metric, part.arm));
    let all = test.exceeds_all.as_ref().map(|part| pair(&part.a, "best of the others", &part.metric));
    let best =
        test.best_of.as_ref().map(|part| pair("best of the group", "best of the others", &part.metric));
    let spread = test.spread.as_ref().map(|part| pair("best arm", "worst arm", &part.metric));
    let check = test.check.as_ref().map(checked);
    let parts = test.all_of.as_ref().map(|_| "the part that decides".to_owned());
    [paired, equal, mean, share, all, best, spread, check, parts].into_iter().flatten().next()
}

/// Metric, arm and case of an exact check.
fn checked(part: &Check) -> String {
    let place: Vec<&str> = part.arm.iter().chain(&part.only.case).map(String::as_str).collect();
    if place.is_empty() { part.metric.clone() } else { format!("{}: {}", part.metric, place.join(", ")) }
}
