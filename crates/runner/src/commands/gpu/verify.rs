//! `gpu verify`: every kernel on the GPU at hand against its expected values, then timed, then written down.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use candle_core::{CudaDevice, Device};
use kernel_host::cases::{self, Job};
use sd_core::cuda::device::{self, Present};
use sd_core::cuda::{Source, Step, digest};

use super::job::Prepared;
use super::ledger::{self, Entry, Speed};
use super::roofs::Roofs;
use super::{provenance, sources, timing};
use crate::output::{print, say};

/// Checks, and with `cases_only` nothing more.
pub(super) fn run(typed: &cli::GpuVerify, ledger: &Path) -> Result<u8> {
    let gpu = device::present(typed.gpu)
        .with_context(|| format!("gpu verify: GPU {} cannot be used", typed.gpu))?;
    let Device::Cuda(device) = Device::new_cuda(typed.gpu)? else { bail!("candle gave no CUDA device") };
    say(&format!("{}, compute capability {}, driver {}", gpu.name, gpu.capability, gpu.driver));
    let mut checked = check_all(&device, &chosen(&typed.only)?)?;
    if typed.cases_only {
        return Ok(code(&checked));
    }
    if !typed.no_sanitizer {
        sanitize(typed)?;
    }
    let roofs = Roofs::measure(&device, typed.reps)?;
    say(&roofs.to_string());
    time_all(&device, &mut checked, &roofs, typed.reps)?;
    write_down(&checked, &gpu, ledger)?;
    Ok(code(&checked))
}

/// A kernel file with what was found about it.
struct Checked {
    source: &'static Source,
    /// Cases that were right.
    right: usize,
    /// What was wrong, and kernels that no case launched.
    faults: Vec<String>,
    worst: f64,
    slowest: Option<Speed>,
}

fn code(checked: &[Checked]) -> u8 {
    if checked.iter().all(|file| file.faults.is_empty()) { cli::exit::DONE } else { cli::exit::FAILED }
}

fn chosen(prefix: &str) -> Result<Vec<&'static Source>> {
    let all = sources();
    let chosen: Vec<&Source> = all.iter().copied().filter(|source| source.name.starts_with(prefix)).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = all.iter().map(|source| source.name).collect();
        bail!("no kernel file's name begins with `{prefix}`\n  expected: {}", names.join(", "));
    }
    Ok(chosen)
}

/// Runs the small cases. What one case finds counts for every file whose kernels it launches.
fn check_all(device: &CudaDevice, chosen: &[&'static Source]) -> Result<Vec<Checked>> {
    let mut checked: Vec<Checked> = chosen.iter().map(|source| Checked::new(source)).collect();
    let mut launched: Vec<&'static str> = Vec::new();
    for case in cases::all().iter().filter(|case| case.timed.is_none()) {
        let job = case.job().with_context(|| format!("{case:?}: the reference"))?;
        let used = kernels(&job.program.steps);
        if !checked.iter().any(|file| file.has_some_of(&used)) {
            continue;
        }
        launched.extend(used.iter().map(|(_, kernel)| *kernel));
        let found = Prepared::new(device, &job).and_then(|mut prepared| prepared.check(&job));
        let found = found.map_err(|fault| format!("{case:?}: {fault:#}"));
        checked.iter_mut().filter(|file| file.has_some_of(&used)).for_each(|file| file.count(&found));
    }
    checked.iter_mut().for_each(|file| file.faults.extend(never_launched(file.source, &launched)));
    for file in &checked {
        print(&format!("{}  {}\n", file.source.path, told(file)))?;
        file.faults.iter().for_each(|fault| say(&format!("error: {fault}")));
    }
    Ok(checked)
}

impl Checked {
    fn new(source: &'static Source) -> Self {
        Self { source, right: 0, faults: Vec::new(), worst: 0.0, slowest: None }
    }

    /// Whether one of these kernels is of this file.
    fn has_some_of(&self, used: &[(&'static Source, &'static str)]) -> bool {
        used.iter().any(|(source, _)| source.path == self.source.path)
    }

    /// Counts a case: its worst error, or what was wrong.
    fn count(&mut self, found: &Result<f64, String>) {
        match found {
            Ok(worst) => (self.right, self.worst) = (self.right + 1, self.worst.max(*worst)),
            Err(fault) => self.faults.push(fault.clone()),
        }
    }
}

fn told(file: &Checked) -> String {
    match file.faults.len() {
        0 => format!("{} cases right, the worst error is {:.3} of what is allowed", file.right, file.worst),
        faults => format!("{} cases right, {faults} faults", file.right),
    }
}

/// Source and name of each kernel that steps launch.
fn kernels(steps: &[Step]) -> Vec<(&'static Source, &'static str)> {
    let launched = steps.iter().filter_map(|step| match step {
        Step::Launch(launch) => Some((launch.source, launch.kernel)),
        _ => None,
    });
    launched.collect()
}

fn never_launched(source: &Source, launched: &[&str]) -> Option<String> {
    let missing: Vec<&str> =
        source.kernels.iter().copied().filter(|kernel| !launched.contains(kernel)).collect();
    (!missing.is_empty()).then(|| format!("{}: no case launches {}", source.path, missing.join(", ")))
}

/// The small cases once more in a child under each tool of compute-sanitizer, where that is installed.
fn sanitize(typed: &cli::GpuVerify) -> Result<()> {
    let this = std::env::current_exe().context("where this program itself lies")?;
    for tool in ["memcheck", "racecheck", "synccheck"] {
        let mut child = Command::new("compute-sanitizer");
        child.args(["--tool", tool, "--error-exitcode", "9", "--print-limit", "20"]).arg(&this);
        child.args(["gpu", "verify", "--cases-only", "--gpu", &typed.gpu.to_string(), "--only", &typed.only]);
        match child.stdout(std::io::stderr()).status() {
            Ok(status) if status.success() => say(&format!("compute-sanitizer {tool}: nothing found")),
            Ok(status) => bail!(
                "compute-sanitizer {tool} found faults ({status}); its report is above. Nothing was written down"
            ),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                say("compute-sanitizer is not installed: not run");
                return Ok(());
            }
            Err(error) => return Err(error).context("cannot start compute-sanitizer"),
        }
    }
    Ok(())
}

/// Times the large cases; a file keeps the one with the smallest share of its roof.
fn time_all(device: &CudaDevice, checked: &mut [Checked], roofs: &Roofs, reps: usize) -> Result<()> {
    print(timing::HEADER)?;
    for case in cases::all() {
        let Some(work) = case.timed else { continue };
        // An op's further files begin with its name: attention, attention_map.
        if !checked.iter().any(|file| file.source.name.starts_with(case.op)) {
            continue;
        }
        let job = case.job().with_context(|| format!("{case:?}: the inputs"))?;
        let milliseconds = time(device, &job, reps)?;
        let speed = roofs.speed(work, &job.program, milliseconds);
        print(&timing::line(&case, milliseconds, &speed))?;
        let used = kernels(&job.program.steps);
        for file in checked.iter_mut().filter(|file| file.has_some_of(&used)) {
            if file.slowest.is_none_or(|slowest| speed.share < slowest.share) {
                file.slowest = Some(speed);
            }
        }
    }
    Ok(())
}

fn time(device: &CudaDevice, job: &Job, reps: usize) -> Result<f64> {
    let mut prepared = Prepared::new(device, job)?;
    timing::median(device, reps, || prepared.go(&job.program))
}

/// A line of the ledger for each file without a fault.
fn write_down(checked: &[Checked], gpu: &Present, ledger: &Path) -> Result<()> {
    let repository = ledger.ancestors().nth(3).unwrap_or(Path::new("."));
    let (date, commit) = (provenance::today(), provenance::commit(repository)?);
    let entries = checked.iter().filter(|file| file.faults.is_empty()).map(|file| Entry {
        kernel_file: file.source.path.to_owned(),
        sha256: digest(file.source),
        device: gpu.name.clone(),
        driver: gpu.driver.clone(),
        date: date.clone(),
        commit: commit.clone(),
        cases: file.right,
        worst_error: file.worst,
        speed: file.slowest,
    });
    let entries: Vec<Entry> = entries.collect();
    entries.iter().try_for_each(ledger::vouch)?;
    ledger::append(ledger, &entries)?;
    say(&format!("{} lines were added to {}", entries.len(), ledger.display()));
    Ok(())
}
