//! The plan: every trial, where it stands, and what the rest will cost.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::Shard;
use crate::digest;
use crate::paper::TrialSpec;
use crate::trial::Done;

/// A trial in the plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What it is.
    pub spec: TrialSpec,
    /// Its key.
    pub key: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Whether it belongs to the shard at hand.
    pub mine: bool,
    /// Seconds it took and peak bytes of its process, where it is done.
    pub done: Option<(f64, u64)>,
}

/// Every trial of an experiment in the order of [`crate::paper::Reproduction::trials`].
#[derive(Clone, Debug)]
pub struct Plan {
    /// The trials.
    pub trials: Vec<Planned>,
    jobs: usize,
}

impl Plan {
    /// Plans `specs` for `out`, looking at what is done there.
    ///
    /// # Errors
    /// Where two trials have the same key: they would measure the same thing and share one folder.
    pub fn new(specs: Vec<TrialSpec>, out: &Path, shard: Option<Shard>, jobs: usize) -> anyhow::Result<Plan> {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        let mut trials = Vec::with_capacity(specs.len());
        for (position, spec) in specs.into_iter().enumerate() {
            let key = spec.key();
            if let Some(other) = seen.insert(key.clone(), spec.label()) {
                anyhow::bail!("two trials are the same (key {key}): {other} and {}", spec.label());
            }
            let mine = shard.is_none_or(|shard| shard.holds(position));
            let folder = out.join("trials").join(&key);
            let mut planned = Planned { spec, key, folder, mine, done: None };
            planned.look();
            trials.push(planned);
        }
        Ok(Plan { trials, jobs: jobs.max(1) })
    }

    /// Positions of the trials that this process has to run.
    #[must_use]
    pub fn todo(&self) -> Vec<usize> {
        (0..self.trials.len()).filter(|&at| self.trials[at].mine && self.trials[at].done.is_none()).collect()
    }

    /// Whether every trial is done, those of other shards included.
    #[must_use]
    pub fn complete(&self) -> bool {
        self.trials.iter().all(|trial| trial.done.is_some())
    }

    /// Number of finished trials.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.trials.iter().filter(|trial| trial.done.is_some()).count()
    }

    /// Takes the trials of this process for not done, as `--rerun` asks.
    pub(crate) fn forget(&mut self) {
        self.trials.iter_mut().filter(|trial| trial.mine).for_each(|trial| trial.done = None);
    }

    /// Looks again at what is done.
    pub(crate) fn look(&mut self) {
        self.trials.iter_mut().for_each(Planned::look);
    }

    /// Expected seconds until all of [`Plan::todo`] are done: the trials in their order, each to the job that is free
    /// first.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        let mut free_at = vec![0.0_f64; self.jobs];
        for at in self.todo() {
            if let Some(first) = free_at.iter_mut().min_by(|a, b| a.total_cmp(b)) {
                *first += self.trials[at].spec.seconds;
            }
        }
        free_at.into_iter().fold(0.0, f64::max)
    }

    /// Expected bytes that [`Plan::todo`] will write.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.todo().into_iter().map(|at| self.trials[at].spec.bytes).sum()
    }
}

impl Planned {
    /// Digest of what the trial is; `DONE` holds it.
    pub(crate) fn config_sha256(&self) -> String {
        digest::of_json(&self.spec.identity())
    }

    /// Looks whether it is done.
    pub(crate) fn look(&mut self) {
        let done = Done::valid(&self.folder, &self.config_sha256());
        self.done = done.map(|done| (done.seconds, done.peak_bytes));
    }
}

/// What `--dry-run` shows.
impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for trial in &self.trials {
            let state = match (&trial.done, trial.mine) {
                (Some(_), _) => "done",
                (None, true) => "to run",
                (None, false) => "other shard",
            };
            let time = readable_seconds(trial.spec.seconds);
            writeln!(formatter, "{}  {state:<11}  {time:>8}  {}", trial.key, trial.spec.label())?;
        }
        let todo = self.todo();
        let computing: f64 = todo.iter().map(|&at| self.trials[at].spec.seconds).sum();
        writeln!(formatter, "{} trials, {} done, {} to run", self.trials.len(), self.finished(), todo.len())?;
        write!(
            formatter,
            "about {} with {} at a time ({} of computing on one core), about {} of disk",
            readable_seconds(self.seconds()),
            self.jobs,
            readable_seconds(computing),
            readable_bytes(self.bytes())
        )
    }
}

/// A time for people: `45 s`, `12 min`, `3.5 h`, `2.1 days`.
#[must_use]
pub fn readable_seconds(seconds: f64) -> String {
    match seconds {
        s if s < 99.5 => format!("{s:.0} s"),
        s if s < 5_970.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3_600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}

/// A size for people: `17 B`, `34 kB`, `1.2 GB`.
#[must_use]
pub fn readable_bytes(bytes: u64) -> String {
    let value = bytes as f64;
    match value {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{:.0} kB", b / 1e3),
        b if b < 1e9 => format!("{:.0} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn spec(seed: u64, seconds: f64) -> TrialSpec {
        let (study, arm, case) = ("s".to_owned(), "a".to_owned(), String::new());
        TrialSpec { study, arm, case, seed, config: json!({}), seconds, bytes: 1_500 }
    }

    #[test]
    fn time_is_that_of_the_busiest_job() {
        let specs = vec![spec(0, 10.0), spec(1, 30.0), spec(2, 10.0), spec(3, 5.0)];
        let plan = Plan::new(specs, Path::new("/nowhere"), None, 2).unwrap();
        assert_eq!(plan.seconds(), 30.0);
        assert_eq!(plan.bytes(), 6_000);
    }

    #[test]
    fn shards_are_disjoint_and_together_everything() {
        let holds = |index| (0..10).filter(move |&at| Shard { index, count: 3 }.holds(at));
        let mut all: Vec<usize> = (1..=3).flat_map(holds).collect();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn equal_trials_are_refused() {
        let twice = Plan::new(vec![spec(1, 1.0), spec(1, 9.0)], Path::new("/nowhere"), None, 1);
        assert!(twice.unwrap_err().to_string().contains("two trials are the same"));
    }

    #[test]
    fn key_is_of_what_the_trial_is_and_not_of_its_cost() {
        assert_eq!(spec(1, 1.0).key(), spec(1, 9.0).key());
        assert_ne!(spec(1, 1.0).key(), spec(2, 1.0).key());
        assert_eq!(spec(1, 1.0).key().len(), 16);
    }
}
