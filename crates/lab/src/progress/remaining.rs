//! The time left, from what the trials were expected to cost and what they have cost so far.

use std::collections::BTreeMap;
use std::time::Instant;

struct Cost {
    expected: f64,
    fraction: f64,
    started: Option<Instant>,
}

/// Expected against spent, over the trials that were not done at the start.
pub(super) struct Remaining {
    costs: BTreeMap<usize, Cost>,
    /// Expected and real seconds of what was finished.
    finished: (f64, f64),
    jobs: f64,
}

impl Remaining {
    pub(super) fn new(trials: impl Iterator<Item = (usize, f64)>, jobs: usize) -> Remaining {
        let cost = |expected: f64| Cost { expected: expected.max(1e-3), fraction: 0.0, started: None };
        let costs = trials.map(|(at, expected)| (at, cost(expected))).collect();
        Remaining { costs, finished: (0.0, 0.0), jobs: jobs.max(1) as f64 }
    }

    pub(super) fn started(&mut self, at: usize) {
        if let Some(cost) = self.costs.get_mut(&at) {
            cost.started = Some(Instant::now());
        }
    }

    pub(super) fn advanced(&mut self, at: usize, fraction: f64) {
        if let Some(cost) = self.costs.get_mut(&at) {
            cost.fraction = fraction.clamp(0.0, 1.0);
        }
    }

    pub(super) fn ended(&mut self, at: usize) {
        let Some(cost) = self.costs.remove(&at) else { return };
        self.finished.0 += cost.expected;
        self.finished.1 += cost.started.map_or(0.0, |since| since.elapsed().as_secs_f64());
    }

    /// `rate · Σ expected · (1 - fraction) / jobs`, where `rate` is spent over expected seconds so far; nothing before there is
    /// something to learn the rate from.
    pub(super) fn seconds(&self) -> Option<f64> {
        let under_way = |cost: &Cost| (cost.expected * cost.fraction, spent(cost));
        let seen = self.costs.values().filter(|cost| cost.fraction > 0.0).map(under_way);
        let (expected, real) = seen.fold(self.finished, |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let left = self.costs.values().map(|cost| cost.expected * (1.0 - cost.fraction));
        // Not `sum`: that of nothing is -0, and is shown so.
        let left = left.fold(0.0, |sum, one| sum + one);
        (expected > 0.0).then(|| real / expected * left / self.jobs.min(self.costs.len().max(1) as f64))
    }
}

fn spent(cost: &Cost) -> f64 {
    cost.started.map_or(0.0, |since| since.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_known_before_the_first_trial_and_nothing_is_left_after_the_last() {
        let mut remaining = Remaining::new([(0, 1.0), (1, 1.0)].into_iter(), 2);
        assert_eq!(remaining.seconds(), None);
        [0, 1].into_iter().for_each(|at| remaining.started(at));
        remaining.ended(0);
        assert!(remaining.seconds().is_some_and(|left| left >= 0.0));
        remaining.ended(1);
        assert_eq!(remaining.seconds().map(|left| left.to_string()), Some("0".to_owned()), "not -0");
    }
}
