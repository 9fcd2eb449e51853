//! Killed at any moment and started again, a run ends where it would have ended: byte for byte, whatever the number of
//! jobs and threads.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sd_core::rng::Rng;

use crate::support::{Scratch, succeed, tiny_diffgrad};

const KILLS: u64 = 20;

/// What a run leaves for programs, as bytes: rows, verdicts and tables.
fn results(out: &Path) -> Vec<(String, Vec<u8>)> {
    let tables = fs::read_dir(out.join("tables")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> =
        tables.filter(|path| path.extension().is_some_and(|extension| extension == "csv")).collect();
    paths.extend([out.join("rows.parquet"), out.join("claims.csv")]);
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    };
    paths.iter().map(read).collect()
}

/// Starts the run and kills it after `delay`; whether it was still running then.
fn killed_after(mut run: Command, delay: Duration) -> bool {
    let mut child = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    sleep(delay);
    let running = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    running
}

/// Kills runs [`KILLS`] times at seeded moments, each on what the one before left, lets one end now and then, and holds its
/// results against an uninterrupted run's. A folder in which everything is done is put aside and a new one begun.
///
/// The bench's own tests do the same with trials that keep checkpoints; here it is the program that people run.
#[test]
fn twenty_kills_change_nothing_in_a_tiny_diffgrad() {
    let (scratch, line) = (Scratch::new(), tiny_diffgrad());
    let start = Instant::now();
    succeed(scratch.runner(&format!("{line} --out whole --jobs 1 --threads 1")));
    let mut whole = start.elapsed();
    let shortest = whole / 4;
    let wanted = results(&scratch.path("whole"));
    assert!(wanted.len() >= 3, "rows, claims and at least one table");
    let mut rng = Rng::new(2, "kill moments", 0);
    let (mut kills, mut folders) = (0, 0);
    while kills < KILLS {
        let out = format!("killed{folders}");
        let (jobs, threads) = (1 + folders % 2, 2 - folders % 2);
        let again = format!("{line} --out {out} --jobs {jobs} --threads {threads}");
        // A share of the whole run, so that some moments fall into the first trial and some into the report.
        let killed = killed_after(scratch.runner(&again), whole.mul_f64(rng.uniform() * 0.7));
        kills += u64::from(killed);
        if !killed {
            // It had ended: either all was done before, or the machine is faster now than when the whole run was timed.
            whole = whole.mul_f64(0.8).max(shortest);
        }
        if kills == KILLS || rng.below(4) == 0 {
            succeed(scratch.runner(&again));
            assert!(results(&scratch.path(&out)) == wanted, "{out} differs from the uninterrupted run");
            folders += 1;
        }
    }
    assert!(folders >= 2, "both numbers of jobs and of threads were tried");
}
