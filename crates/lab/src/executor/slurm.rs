//! The Slurm executor: one job array whose elements are the trials, each the same command that the local pool starts.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use super::process::arguments;
use super::{Plan, RunOptions};
use crate::atomic;
use crate::error::RunError;

/// Writes `<out>/slurm/{trials.txt,job.sh}` and submits the script; gives what the submitting program said.
///
/// Several resource flags differ from cluster to cluster: they are read from the environment variables that `sbatch`
/// itself knows (`SBATCH_PARTITION`, `SBATCH_TIMELIMIT`, `SBATCH_ACCOUNT`, `SBATCH_GPUS`, …).
pub(crate) fn submit(plan: &Plan, options: &RunOptions, sbatch: &Path) -> Result<String, RunError> {
    let keys: Vec<&str> = plan.todo().into_iter().map(|at| plan.trials[at].key.as_str()).collect();
    let folder = options.out.join("slurm");
    atomic::create_dir_all_synced(&folder)?;
    let list = folder.join("trials.txt");
    let script = folder.join("job.sh");
    atomic::write_bytes(&list, (keys.join("\n") + "\n").as_bytes())?;
    atomic::write_bytes(&script, job_script(keys.len(), &list, options).as_bytes())?;
    let failed = |why: String| RunError::Slurm { program: sbatch.to_owned(), script: script.clone(), why };
    let output = Command::new(sbatch).arg(&script).output().map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failed(format!("{}: {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The array runs at most `jobs` elements at a time; element `i` runs the trial in line `i` of `list`.
fn job_script(count: usize, list: &Path, options: &RunOptions) -> String {
    let logs = options.out.join("slurm").join("%A_%a.out");
    let words: Vec<String> = arguments("$key", options).iter().map(|word| quote(word)).collect();
    let mut script = String::from("#!/bin/sh\n");
    let head = [
        "--job-name=difflab".to_owned(),
        format!("--array=1-{count}%{}", options.jobs.max(1)),
        format!("--cpus-per-task={}", options.threads.max(1)),
        format!("--output={}", logs.display()),
    ];
    for line in head {
        // A String takes any text.
        let _ = writeln!(script, "#SBATCH {line}");
    }
    let list = quote(&list.to_string_lossy());
    let log = format!("{}/trials/$key/log.txt", options.out.display()).replace('"', "\\\"");
    let _ = write!(
        script,
        "set -eu\nkey=$(sed -n \"${{SLURM_ARRAY_TASK_ID}}p\" {list})\nmkdir -p \"$(dirname \"{log}\")\"\n\
         export RAYON_NUM_THREADS={threads}\nexec {program} {words} 2>>\"{log}\"\n",
        threads = options.threads,
        program = quote(&options.runner.to_string_lossy()),
        words = words.join(" "),
    );
    script
}

/// One word of a shell command; `$key` alone stays a variable.
fn quote(word: &str) -> String {
    if word == "$key" { "\"$key\"".to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}
