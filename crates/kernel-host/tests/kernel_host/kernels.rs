//! Every kernel on its cases, and that nothing is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use kernel_host::cases::{self, Case, Job};
use kernel_host::{Host, Order};
use rayon::prelude::*;
use sd_core::cuda::{Program, Step};

use crate::proof::host;

/// The cases that are small enough for the CPU; with `DIFFLAB_CASES=softmax,f16` those whose name has both words.
fn small() -> Vec<Case> {
    let words = std::env::var("DIFFLAB_CASES").unwrap_or_default();
    let wanted = |case: &Case| words.split(',').all(|word| format!("{case:?}").contains(word));
    let mut cases = cases::all();
    cases.retain(|case| case.timed.is_none() && wanted(case));
    cases
}

/// The largest error of a case as a share of what is allowed, over the orders.
pub(crate) fn run(host: &Host, case: &Case, job: &Job, orders: &[Order]) -> Result<f64, String> {
    let mut worst = 0f64;
    for order in orders {
        let said = |what: String| format!("{case:?}, {order:?}: {what}");
        let got = host.run(&job.program, &job.inputs, *order).map_err(|error| said(error.to_string()))?;
        if got.len() != job.expected.len() {
            return Err(said(format!("{} outputs, {} expected", got.len(), job.expected.len())));
        }
        for (got, expected) in got.iter().zip(&job.expected) {
            let share = expected.check(&got.to_f64()).map_err(|mismatch| said(mismatch.to_string()))?;
            worst = worst.max(share);
        }
    }
    Ok(worst)
}

/// What came of a case: the kernels it launches, and its worst error or why it fails.
struct Outcome {
    name: String,
    kernels: Vec<(&'static str, &'static str)>,
    result: Result<f64, String>,
}

/// Every small case, run once for all tests that look at it. Between the two orders every pair of warps comes in both
/// sequences.
fn outcomes(host: &Host) -> &'static [Outcome] {
    static OUTCOMES: OnceLock<Vec<Outcome>> = OnceLock::new();
    let of = |case: &Case| {
        let job = case.job();
        let kernels = job.as_ref().map(|job| kernels_of(&job.program)).unwrap_or_default();
        let result = job.map_err(|error| format!("{case:?}: no reference: {error}"));
        let result = result.and_then(|job| run(host, case, &job, &[Order::Forward, Order::Reverse]));
        Outcome { name: format!("{case:?}"), kernels, result }
    };
    OUTCOMES.get_or_init(|| small().par_iter().map(of).collect())
}

#[test]
fn every_kernel_gives_what_mathematics_says() {
    let Some(host) = host() else { return };
    let mut broken = Vec::new();
    for outcome in outcomes(&host) {
        match &outcome.result {
            // Seen with `--nocapture`.
            Ok(worst) => eprintln!("{worst:.3} of the tolerance: {}", outcome.name),
            Err(message) => broken.push(message.as_str()),
        }
    }
    assert!(broken.is_empty(), "{} cases fail:\n{}", broken.len(), broken.join("\n"));
}

fn kernels_of(program: &Program) -> Vec<(&'static str, &'static str)> {
    let launched = program.steps.iter().filter_map(|step| match step {
        Step::Launch(launch) => Some((launch.source.path, launch.kernel)),
        _ => None,
    });
    launched.collect()
}

#[test]
fn every_kernel_is_launched_by_a_case() {
    let Some(host) = host().filter(|_| std::env::var_os("DIFFLAB_CASES").is_none()) else { return };
    let launched: BTreeSet<_> = outcomes(&host).iter().flat_map(|outcome| &outcome.kernels).collect();
    for source in kernel_host::sources() {
        for kernel in source.kernels {
            assert!(
                launched.contains(&(source.path, *kernel)),
                "no case launches {kernel} of {}",
                source.path
            );
        }
    }
}

#[test]
fn the_lists_of_kernels_are_those_of_the_files() {
    let Some(host) = host() else { return };
    for source in kernel_host::sources() {
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let listed = source.kernels.iter().map(ToString::to_string).collect();
        assert_eq!(sorted(host.kernels(source).unwrap()), sorted(listed), "{}", source.path);
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// `.cu` files below a folder, build outputs and this crate's tests left out.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let skipped = ["target", ".git", "kernel-host"].iter().any(|name| entry.file_name() == *name);
        if path.is_dir() && !skipped {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "cu") {
            found.push(path);
        }
    }
}

#[test]
fn every_file_of_kernels_is_a_source() {
    let mut found = Vec::new();
    files(&root(), &mut found);
    let relative = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
    let found: BTreeSet<String> = found.iter().map(relative).collect();
    let listed: BTreeSet<String> =
        kernel_host::sources().iter().map(|source| source.path.to_owned()).collect();
    assert_eq!(found, listed, "`.cu` files of the repository, and the sources that the crates list");
    let names: BTreeSet<&str> = kernel_host::sources().iter().map(|source| source.name).collect();
    assert_eq!(names.len(), listed.len(), "two sources share a name");
}
