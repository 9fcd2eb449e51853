//! Medians and quartiles of repeated runs.

use std::time::Instant;

pub(crate) const HEADER: &str = "name,median_ms,q1_ms,q3_ms,reps,device\n";
const WARM_UPS: usize = 2;

/// Times in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) quartiles: (f64, f64),
    pub(crate) reps: usize,
}

impl Times {
    pub(crate) fn line(&self, name: &str) -> String {
        let (low, high) = self.quartiles;
        format!("{name},{:.4},{low:.4},{high:.4},{},cpu\n", self.median, self.reps)
    }
}

/// Runs `work` twice unmeasured, then `reps` times.
pub(crate) fn time(mut work: impl FnMut(), reps: usize) -> Times {
    (0..WARM_UPS).for_each(|_| work());
    let once = |_| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    summary((0..reps).map(once).collect())
}

fn summary(mut times: Vec<f64>) -> Times {
    times.sort_by(f64::total_cmp);
    let quarter = |i| quantile(&times, i);
    Times { median: quarter(2), quartiles: (quarter(1), quarter(3)), reps: times.len() }
}

/// The `i`-th quartile of sorted values, interpolated at `i(n+1)/4` as Python's `statistics.quantiles` does.
fn quantile(sorted: &[f64], i: usize) -> f64 {
    let n = sorted.len();
    if n < 2 {
        return sorted.first().copied().unwrap_or(f64::NAN);
    }
    let below = (i * (n + 1) / 4).clamp(1, n - 1);
    let share = (i * (n + 1)) as f64 / 4.0 - below as f64;
    sorted[below - 1] * (1.0 - share) + sorted[below] * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_pythons_statistics() {
        // python3 -c "import statistics as s; print(s.quantiles([5,1,4,2,3], n=4), s.quantiles([1,2], n=4))"
        let times = summary(vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((times.quartiles.0, times.median, times.quartiles.1), (1.5, 3.0, 4.5));
        let times = summary(vec![1.0, 2.0]);
        assert_eq!((times.quartiles.0, times.median, times.quartiles.1), (0.75, 1.5, 2.25));
        assert_eq!(summary(vec![7.0]).quartiles, (7.0, 7.0));
    }

    #[test]
    fn warm_ups_are_not_counted() {
        let mut runs = 0;
        assert_eq!(time(|| runs += 1, 3).reps, 3);
        assert_eq!(runs, 5);
    }
}
