//! What a run refuses, and what it says then.

use std::fs;

use super::*;

/// A checkpoint after nine steps.
fn stopped(folder: &Path) -> std::path::PathBuf {
    let checkpoint = folder.join("run.safetensors");
    sitting(&checkpoint, &mut StopAfter { steps: Some(9), ..StopAfter::default() }).unwrap();
    checkpoint
}

fn refused(checkpoint: &Path, change: impl FnOnce(&mut Run<'_>)) -> String {
    let error = sitting_with(checkpoint, &mut (), change, |loss, _| Ok(loss)).unwrap_err().to_string();
    assert!(error.starts_with(&checkpoint.display().to_string()), "{error}");
    assert!(error.contains("delete it to start"), "{error}");
    error
}

#[test]
fn another_configuration_is_refused_and_its_difference_named() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let before = fs::read(&checkpoint).unwrap();
    let error = refused(&checkpoint, |run| run.configuration = "model: small\nlr: 0.06\n".to_owned());
    assert!(error.contains("expected `lr: 0.06`, found `lr: 0.05`"), "{error}");
    assert_eq!(fs::read(&checkpoint).unwrap(), before);
}

#[test]
fn a_longer_configuration_and_a_long_line_are_named_too() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let error = refused(&checkpoint, |run| run.configuration.push_str("seed: 1"));
    assert!(error.contains("expected `seed: 1`, found ``"), "{error}");
    let long = "x".repeat(500);
    let error = refused(&checkpoint, |run| run.configuration = long.clone());
    assert!(error.len() < 400, "{error}");
}

#[test]
fn a_run_of_fewer_steps_or_without_the_average_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let error = refused(&checkpoint, |run| run.schedule.steps = 8);
    assert!(error.contains("expected at most 8 steps, found 9"), "{error}");
    let error = refused(&checkpoint, |run| run.ema = None);
    assert!(error.contains("expected no averaged weights, found some"), "{error}");
}

#[test]
fn a_truncated_checkpoint_is_named_wherever_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let bytes = fs::read(&checkpoint).unwrap();
    for kept in [0, 1, 7, 8, 9, 100, bytes.len() / 2, bytes.len() - 100, bytes.len() - 1] {
        fs::write(&checkpoint, &bytes[..kept]).unwrap();
        let error = refused(&checkpoint, |_| {});
        assert!(error.contains("damaged"), "{error}");
        assert!(!error.contains("fetch"), "{error}");
    }
    fs::write(&checkpoint, &bytes).unwrap();
    sitting(&checkpoint, &mut ()).unwrap();
}

#[test]
fn a_checkpoint_of_other_content_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let bytes = fs::read(&checkpoint).unwrap();
    // The record's JSON, an opening brace lost.
    let at = bytes.windows(16).position(|window| window == b"{\"configuration\"").unwrap();
    let mut broken = bytes.clone();
    broken[at] = b' ';
    fs::write(&checkpoint, &broken).unwrap();
    assert!(refused(&checkpoint, |_| {}).contains("its tensor `run`"));
    // Weights of something else.
    let other = BTreeMap::from([("w".to_owned(), Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap())]);
    crate::weights::write_tensors(&checkpoint, &other).unwrap();
    assert!(refused(&checkpoint, |_| {}).contains("there is no tensor `run`"));
}

#[test]
fn a_checkpoint_of_another_model_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let mut parameters = Parameters::default();
    Linear::new(&mut Scope::root(&mut parameters, 1, DType::F32, &Device::Cpu), 2, 2).unwrap();
    let mut optimiser = Sgd::new(&parameters);
    let settings = small_run(&parameters, &mut optimiser, &checkpoint);
    let error = run(settings, &mut |_| bail!("not reached"), &mut ()).unwrap_err().to_string();
    assert!(error.contains("weight: missing") && error.contains("conv.bias: unexpected"), "{error}");
}

#[test]
fn a_loss_that_is_no_number_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = stopped(folder.path());
    let before = fs::read(&checkpoint).unwrap();
    let bent = |loss: Tensor, step| if step == 20 { loss * f64::NAN } else { Ok(loss) };
    let error = sitting_with(&checkpoint, &mut (), |_| {}, bent).unwrap_err().to_string();
    assert!(error.starts_with("training step 20 (from 0): the loss is NaN"), "{error}");
    assert_eq!(fs::read(&checkpoint).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// √0: finite, its derivative not.
#[test]
fn a_gradient_that_is_not_finite_is_named_before_it_is_stepped() {
    let folder = tempfile::tempdir().unwrap();
    let root = |loss: Tensor, _| (&loss - loss.detach())?.sqrt();
    let checkpoint = folder.path().join("run");
    let error = sitting_with(&checkpoint, &mut (), |_| {}, root).unwrap_err().to_string();
    assert!(error.starts_with("training step 0 (from 0): the norm of the gradient is "), "{error}");
    assert!(!checkpoint.exists());
}
