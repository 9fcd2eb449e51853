//! A run that was stopped equals one that was not.

use std::time::Duration;

use super::*;
use crate::rng::Rng;
use crate::train::Outcome;

#[test]
fn a_run_learns_and_logs_every_interval_and_the_last_step() {
    let folder = tempfile::tempdir().unwrap();
    let mut watch = StopAfter::default();
    let (trained, _) = sitting(&folder.path().join("new/run.safetensors"), &mut watch).unwrap();
    assert_eq!((trained.outcome, trained.step), (Outcome::Finished, STEPS));
    let steps: Vec<u64> = trained.log.iter().map(|row| row.step).collect();
    assert_eq!(steps, [7, 14, 21, 28, 35, 40]);
    assert_eq!(watch.rows, trained.log);
    assert_eq!(watch.seen, (1..=STEPS).collect::<Vec<_>>());
    assert!(trained.log[5].loss < trained.log[0].loss, "{:?}", trained.log);
    assert!(trained.log.iter().all(|row| row.gradient_norm > 0.0));
    assert_eq!(trained.log[5].learning_rate, schedule().at(STEPS - 1));
}

#[test]
fn stopped_and_resumed_at_any_steps_equals_uninterrupted_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, weights) = sitting(&folder.path().join("whole"), &mut ()).unwrap();
    for seed in 0..4 {
        let checkpoint = folder.path().join(format!("{seed}"));
        let mut rng = Rng::new(seed, "stops", 0);
        let (trained, resumed) = loop {
            let steps = Some(rng.below(15));
            let sitting = sitting(&checkpoint, &mut StopAfter { steps, ..StopAfter::default() }).unwrap();
            match sitting.0.outcome {
                Outcome::Finished => break sitting,
                Outcome::Stopped { step } => assert_eq!(step, sitting.0.step),
            }
        };
        assert_eq!(bits(&resumed), bits(&weights));
        assert_eq!(bits(&trained.ema.unwrap()), bits(whole.ema.as_ref().unwrap()));
        assert_eq!(trained.log, whole.log);
    }
}

/// The loss of step 25 fails, as a crash would: steps since the last checkpoint are done again.
#[test]
fn a_crash_costs_the_steps_since_the_last_checkpoint_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (whole, weights) = sitting(&folder.path().join("whole"), &mut ()).unwrap();
    let checkpoint = folder.path().join("crashed");
    let every_step = |run: &mut Run<'_>| run.checkpoint_every = Duration::ZERO;
    let fails = |loss, step| if step == 25 { bail!("no such picture") } else { Ok(loss) };
    let error = sitting_with(&checkpoint, &mut (), every_step, fails).unwrap_err().to_string();
    assert!(error.starts_with("training step 25 (from 0): no such picture"), "{error}");
    let mut watch = StopAfter::default();
    let (trained, resumed) = sitting(&checkpoint, &mut watch).unwrap();
    assert_eq!(watch.seen.first(), Some(&26));
    assert_eq!(bits(&resumed), bits(&weights));
    assert_eq!(trained.log, whole.log);
}

#[test]
fn a_finished_run_returns_at_once_with_the_same_result() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("run");
    let (first, weights) = sitting(&checkpoint, &mut ()).unwrap();
    let never = |_, _| bail!("a step was done");
    let (second, same) = sitting_with(&checkpoint, &mut (), |_| {}, never).unwrap();
    assert_eq!((second.outcome, second.step), (Outcome::Finished, STEPS));
    assert_eq!(second.log, first.log);
    assert_eq!(bits(&same), bits(&weights));
    assert_eq!(bits(&second.ema.unwrap()), bits(&first.ema.unwrap()));
}

#[test]
fn without_average_and_clipping_a_run_resumes_too() {
    let folder = tempfile::tempdir().unwrap();
    let plain = |run: &mut Run<'_>| (run.ema, run.clip) = (None, None);
    let keep = |loss, _| Ok(loss);
    let (whole, weights) = sitting_with(&folder.path().join("whole"), &mut (), plain, keep).unwrap();
    let checkpoint = folder.path().join("stopped");
    sitting_with(&checkpoint, &mut StopOnce(9), plain, keep).unwrap();
    let (trained, resumed) = sitting_with(&checkpoint, &mut (), plain, keep).unwrap();
    assert!(trained.ema.is_none());
    assert_eq!(bits(&resumed), bits(&weights));
    assert_eq!(trained.log, whole.log);
}

/// Stops at the question of that number.
struct StopOnce(u64);

impl Watch for StopOnce {
    fn stop(&mut self) -> bool {
        self.0 -= 1;
        self.0 == 0
    }
}
