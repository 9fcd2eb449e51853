//! How a run ends when trials break, and what is shown on the way.

use std::fs;
use std::process::{Command, Stdio};

use crate::toy::{Toy, ended};

#[test]
fn a_panic_costs_its_trial_only() {
    let toy = Toy::new();
    let broken = toy.run("out", &["--jobs", "2", "-s", "arms.loaded.trouble=panic", "-s", "seeds=2"]);
    assert_eq!(broken.code, Some(1), "{}", broken.said);
    assert!(broken.said.contains("2 of 4 trials failed, 2 are done"), "{}", broken.said);
    assert!(broken.said.contains("the trial panicked: the die is on fire"), "{}", broken.said);
    let log = toy.trial("out", "loaded", 7).join("log.txt");
    assert!(broken.said.contains(&format!("log: {}", log.display())), "{}", broken.said);
    assert!(fs::read_to_string(log).unwrap().contains("examples/toy/paper.rs"), "the log says where");
    assert!(toy.out("out").join("report.html").exists(), "what was measured is shown");
    assert!(!toy.trial("out", "loaded", 7).join("DONE").exists());
}

#[test]
fn every_way_to_break_is_an_error_of_the_trial() {
    let ways = [
        ("error", "the die fell off the table"),
        ("crash", "signal: 6"),
        ("nan", "metric `mean` of trial table/loaded seed 7 is NaN"),
    ];
    for (trouble, expected) in ways {
        let toy = Toy::new();
        let broken = toy.run("out", &["-s", &format!("arms.loaded.trouble={trouble}"), "-s", "seeds=1"]);
        assert_eq!(broken.code, Some(1));
        assert!(broken.said.contains("1 of 2 trials failed, 1 are done"), "{}", broken.said);
        assert!(broken.said.contains(expected), "{}", broken.said);
    }
}

#[test]
#[cfg(unix)]
fn a_disk_that_takes_no_more_costs_trials_and_leaves_nothing_half_written() {
    let toy = Toy::new();
    let words = ["-s", "studies.table.rolls=1000", "-s", "seeds=1"];
    // No file may grow beyond a few kilobytes: what a full disk looks like to a program, without filling one.
    let whole = toy.command("out", &words);
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 4; exec \"$0\" \"$@\""]);
    limited.arg(whole.get_program()).args(whole.get_args()).stderr(Stdio::piped());
    let full = ended(limited.spawn().unwrap());
    assert_eq!(full.code, Some(1), "{}", full.said);
    assert!(full.said.contains("2 of 2 trials failed, 0 are done"), "{}", full.said);
    assert!(full.said.contains("progress.json: cannot write: File too large"), "{}", full.said);
    assert!(full.said.contains("help: free some space or give another folder with --out"), "{}", full.said);
    for folder in toy.trials("out") {
        let whole_json = fs::read(folder.join("checkpoint/progress.json")).unwrap();
        assert!(
            serde_json::from_slice::<serde_json::Value>(&whole_json).is_ok(),
            "the last whole checkpoint is kept"
        );
        assert_eq!(fs::read_dir(folder.join("checkpoint")).unwrap().count(), 1, "no temporary file is left");
        assert!(!folder.join("rows.jsonl").exists() && !folder.join("DONE").exists());
    }
    toy.done("out", &words);
    toy.done("whole", &words);
    toy.assert_same("whole", "out");
}

#[test]
fn fail_fast_stops_where_keep_going_goes_on() {
    let toy = Toy::new();
    // Arms run in the order of their names: `fair` breaks first.
    let words = ["--jobs", "1", "-s", "arms.fair.trouble=error"];
    let stopped = toy.run("fast", &[&words[..], &["--fail-fast"]].concat());
    assert_eq!(stopped.code, Some(1));
    assert!(stopped.said.contains("1 of 8 trials failed, 0 are done"), "{}", stopped.said);
    assert!(!toy.out("fast").join("report.html").exists());
    let on = toy.run("on", &words);
    assert_eq!(on.code, Some(1));
    assert!(on.said.contains("4 of 8 trials failed, 4 are done"), "{}", on.said);
}

#[test]
fn dry_run_lists_trials_time_and_disk_and_writes_nothing() {
    let toy = Toy::new();
    let dry = toy.done("out", &["--dry-run", "-s", "studies.table.pause_ms=1000", "--jobs", "2"]);
    assert_eq!(dry.said.lines().filter(|line| line.contains("to run  ")).count(), 8, "{}", dry.said);
    assert!(dry.said.contains("8 trials, 0 done, 8 to run"), "{}", dry.said);
    assert!(
        dry.said
            .contains("about 80 s with 2 at a time (3 min of computing on one core), about 160 kB of disk"),
        "{}",
        dry.said
    );
    assert!(!toy.out("out").exists());
}

#[test]
fn json_progress_is_one_object_a_line_and_ends_with_all_done() {
    let toy = Toy::new();
    let said = toy.done("out", &["--json", "-s", "seeds=1"]).said;
    let events: Vec<serde_json::Value> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let count = |name: &str| events.iter().filter(|event| event["event"] == name).count();
    assert_eq!((count("start"), count("done"), count("failed")), (2, 2, 0), "{said}");
    let last = events.iter().rfind(|event| event["event"] == "done").unwrap();
    assert_eq!((last["done"].as_u64(), last["total"].as_u64()), (Some(2), Some(2)));
}

#[test]
fn run_json_holds_what_is_needed_to_do_it_again() {
    let toy = Toy::new();
    toy.done("out", &["-s", "seeds=2"]);
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(toy.out("out").join("run.json")).unwrap()).unwrap();
    assert!(run["command"].as_str().unwrap().contains("-s seeds=2"));
    assert_eq!(run["overrides"][0], "seeds=2");
    assert_eq!(run["config"]["seeds"], 2);
    assert_eq!(run["trials"]["done"], 4);
    assert!(run["seconds"].as_f64().unwrap() > 0.0);
    assert!(run["peak_bytes"].as_u64().unwrap() > 1_000_000);
    for key in ["cpu", "device", "versions", "seed"] {
        assert!(!run[key].is_null(), "{key}");
    }
}

#[test]
fn the_array_runs_the_same_trials() {
    let toy = Toy::new();
    // A scheduler of five lines: runs every element of the array, one after the other.
    let sbatch = toy.folder.path().join("sbatch");
    let text = "#!/bin/sh\nn=$(sed -n 's/^#SBATCH --array=1-\\([0-9]*\\)%.*/\\1/p' \"$1\")\n\
                i=1; while [ $i -le $n ]; do SLURM_ARRAY_TASK_ID=$i sh \"$1\" </dev/null >/dev/null || exit 1; i=$((i+1)); done\n\
                echo Submitted batch job 1\n";
    fs::write(&sbatch, text).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&sbatch).status().unwrap().success());
    let submitted = toy.done("out", &["--sbatch", sbatch.to_str().unwrap()]);
    assert!(submitted.said.contains("8 trials submitted: Submitted batch job 1"), "{}", submitted.said);
    assert!(toy.done("out", &[]).said.contains("8 trials done, 0 of them now"));
    toy.done("whole", &[]);
    toy.assert_same("whole", "out");
}

#[test]
fn a_cluster_without_slurm_is_an_error_that_says_what_to_do() {
    let toy = Toy::new();
    let refused = toy.run("out", &["--sbatch", "/nowhere/sbatch"]);
    assert_eq!(refused.code, Some(2));
    assert!(
        refused.said.contains("/nowhere/sbatch: cannot submit the job array: No such file"),
        "{}",
        refused.said
    );
    assert!(
        refused.said.contains("help: run where Slurm's `sbatch` is, or use --executor local"),
        "{}",
        refused.said
    );
}
