//! `gpu`: which kernels are verified on a GPU as they stand, and the verification itself.

#[cfg(feature = "cuda")]
mod job;
mod ledger;
#[cfg(any(test, feature = "cuda"))]
#[cfg_attr(not(feature = "cuda"), allow(dead_code, reason = "without a GPU only the calendar is tested"))]
mod provenance;
#[cfg(feature = "cuda")]
mod roofs;
#[cfg(feature = "cuda")]
mod timing;
#[cfg(feature = "cuda")]
mod verify;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use cli::GpuAction;
use sd_core::cuda::{Source, digest};

use crate::output::{columns, print};
use crate::places;
use ledger::Entry;

/// Says or verifies.
pub(crate) fn run(typed: &cli::Gpu) -> Result<u8> {
    match &typed.action {
        GpuAction::Status => status(),
        GpuAction::Verify(typed) => verify(typed),
    }
}

/// Every kernel file of the workspace.
fn sources() -> Vec<&'static Source> {
    let mut sources = sd_core::cuda::sources();
    sources.push(&diffgrad::optim::cuda::SOURCE);
    sources
}

fn ledger_path() -> Result<PathBuf> {
    let root =
        places::repository().context("the ledger belongs to the repository\n  help: run this inside it")?;
    Ok(root.join("results/gpu/ledger.csv"))
}

fn status() -> Result<u8> {
    print(&report(&sources(), &ledger::read(&ledger_path()?)?))?;
    Ok(cli::exit::DONE)
}

/// A line for each kernel file, and the sum of them.
fn report(sources: &[&Source], entries: &[Entry]) -> String {
    let found = |source: &&Source| ledger::find(entries, source.path, &digest(source));
    let rows: Vec<Vec<String>> =
        sources.iter().map(|source| vec![source.path.to_owned(), verdict(found(source))]).collect();
    columns(&rows) + &sum(sources, entries) + "\n"
}

/// What may be said of all kernel files together; `crates/sd-core/README.md` says the same, which a test sees to.
fn sum(sources: &[&Source], entries: &[Entry]) -> String {
    let missing = |source: &&&Source| ledger::find(entries, source.path, &digest(source)).is_none();
    match (sources.iter().filter(missing).count(), sources.len()) {
        (0, _) => "Every kernel file is verified on a GPU as it stands.".to_owned(),
        (missing, all) if missing == all => "No kernel file is verified on a GPU as it stands.".to_owned(),
        (missing, all) => format!("{missing} of {all} kernel files are not verified on a GPU as they stand."),
    }
}

fn verdict(entry: Option<&Entry>) -> String {
    let Some(entry) = entry else { return "not verified on a GPU".to_owned() };
    let speed = entry.speed.map_or_else(String::new, |speed| {
        format!("; {:.1} {}, {:.0} % of the roof", speed.achieved, speed.unit.name(), 100.0 * speed.share)
    });
    format!(
        "verified on {}, driver {}, {}, {} cases{speed}",
        entry.device, entry.driver, entry.date, entry.cases
    )
}

#[cfg(feature = "cuda")]
fn verify(typed: &cli::GpuVerify) -> Result<u8> {
    verify::run(typed, &ledger_path()?)
}

/// What a build without CUDA can say about a verification.
#[cfg(not(feature = "cuda"))]
fn verify(_: &cli::GpuVerify) -> Result<u8> {
    anyhow::bail!(
        "gpu verify: this build has no CUDA\n  help: on a machine with a GPU, `cargo xtask cuda setup` (or CUDA_HOME set to a \
         toolkit) and then `cargo xtask gpu verify`, which builds the runner with CUDA and starts it"
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    static A: Source =
        Source { name: "a", path: "x/a.cu", text: "// a", kernels: &["a_f32"], stack_limit: 0 };
    static B: Source =
        Source { name: "b", path: "x/b.cu", text: "// b", kernels: &["b_f32"], stack_limit: 0 };

    fn line(source: &Source) -> Entry {
        Entry {
            kernel_file: source.path.to_owned(),
            sha256: digest(source),
            device: "GPU".to_owned(),
            driver: "1".to_owned(),
            date: "2026-11-23".to_owned(),
            commit: "c".to_owned(),
            cases: 3,
            worst_error: 0.5,
            speed: None,
        }
    }

    #[test]
    fn a_kernel_without_a_line_is_said_to_be_unverified() {
        let told = report(&[&A, &B], &[line(&A)]);
        assert!(
            told.contains("x/a.cu  verified on GPU") && told.contains("x/b.cu  not verified on a GPU"),
            "{told}"
        );
        assert!(told.ends_with("1 of 2 kernel files are not verified on a GPU as they stand.\n"), "{told}");
        assert!(
            report(&[&A], &[line(&A)]).ends_with("Every kernel file is verified on a GPU as it stands.\n")
        );
    }

    #[test]
    fn a_kernel_that_was_edited_is_unverified_again() {
        let edited = Source { text: "// a, edited", ..A };
        assert!(report(&[&edited], &[line(&A)]).contains("No kernel file is verified"));
    }

    #[test]
    fn the_documentation_says_what_the_ledger_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let ledger = ledger::read(&root.join("results/gpu/ledger.csv")).unwrap();
        let readme = std::fs::read_to_string(root.join("crates/sd-core/README.md")).unwrap();
        let sum = sum(&sources(), &ledger);
        assert!(readme.contains(&format!("**{sum}**")), "crates/sd-core/README.md must say: {sum}");
    }

    #[test]
    fn the_page_of_the_ledger_has_a_right_line_for_every_kernel_file() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let entries = ledger::read(&root.join("results/gpu/ledger.csv")).unwrap();
        let page = std::fs::read_to_string(root.join("results/gpu/README.md")).unwrap();
        for source in sources() {
            let line = page.lines().find(|line| line.starts_with(&format!("| `{}` |", source.path)));
            let line =
                line.unwrap_or_else(|| panic!("results/gpu/README.md has no line for {}", source.path));
            let verdict = verdict(ledger::find(&entries, source.path, &digest(source)));
            assert!(line.ends_with(&format!("| {verdict} |")), "it must say `{verdict}`: {line}");
        }
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_build_without_cuda_says_how_to_verify() {
        let typed =
            cli::GpuVerify { only: String::new(), gpu: 0, reps: 20, no_sanitizer: false, cases_only: false };
        let error = verify(&typed).unwrap_err().to_string();
        assert!(error.contains("no CUDA") && error.contains("cargo xtask gpu verify"), "{error}");
    }
}
