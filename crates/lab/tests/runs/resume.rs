//! What comes out depends on the experiment alone: not on kills, jobs, shards or damage on the way.

use std::fs;
use std::time::Duration;

use crate::toy::{Toy, ended, signal, wait_until};

/// Slow enough that a kill lands in the middle of a trial: 20 pauses of 4 ms in each of 8 trials.
const SLOW: [&str; 2] = ["-s", "studies.table.pause_ms=4"];

#[test]
fn one_and_two_jobs_give_the_same_bytes() {
    let toy = Toy::new();
    toy.done("one", &["--jobs", "1"]);
    toy.done("two", &["--jobs", "2", "--threads", "2"]);
    toy.assert_same("one", "two");
}

#[test]
fn killed_at_twenty_random_moments_and_resumed_gives_the_same_bytes() {
    let toy = Toy::new();
    toy.done("whole", &SLOW);
    let mut resumed = 0;
    for moment in 0..20u64 {
        let out = format!("killed-{moment}");
        let jobs = if moment % 2 == 0 { "1" } else { "2" };
        let words = [&SLOW[..], &["--jobs", jobs]].concat();
        let mut child = toy.start(&out, &words);
        // A fixed sequence of moments, spread over the length of a run.
        std::thread::sleep(Duration::from_millis(20 + moment * 7919 % 631));
        child.kill().unwrap();
        child.wait().unwrap();
        let before = done_trials(&toy, &out);
        let second = toy.done(&out, &words);
        assert!(
            second.said.contains(&format!("8 trials done, {} of them now", 8 - before)),
            "{}",
            second.said
        );
        resumed += usize::from(before > 0 && before < 8);
        toy.assert_same("whole", &out);
        assert_no_leftovers(&toy, &out);
    }
    assert!(resumed > 0, "no kill landed in the middle of a run");
}

fn done_trials(toy: &Toy, out: &str) -> usize {
    // The killed executor's children end by themselves; what they finished until then counts.
    wait_until("the end of orphaned trials", || toy.trials(out).iter().all(|folder| is_free(folder)));
    toy.trials(out).iter().filter(|folder| folder.join("DONE").exists()).count()
}

/// Whether no process holds the trial.
fn is_free(folder: &std::path::Path) -> bool {
    fs::File::open(folder.join(".lock")).map_or(true, |lock| lock.try_lock().is_ok())
}

#[track_caller]
fn assert_no_leftovers(toy: &Toy, out: &str) {
    for folder in toy.trials(out) {
        let names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(!names.iter().any(|name| name.ends_with(".tmp") || name == "checkpoint"), "{names:?}");
    }
}

#[test]
fn a_killed_trial_goes_on_from_its_checkpoint() {
    let toy = Toy::new();
    let words = ["-s", "studies.table.pause_ms=20", "-s", "seeds=1"];
    let mut child = toy.start("out", &words);
    wait_until("a checkpoint", || {
        toy.trials("out").iter().any(|f| f.join("checkpoint/progress.json").exists())
    });
    child.kill().unwrap();
    child.wait().unwrap();
    done_trials(&toy, "out");
    let kept = toy.trials("out").iter().any(|folder| folder.join("checkpoint/progress.json").exists());
    assert!(kept, "the checkpoint must outlive the kill");
    toy.done("out", &words);
    toy.done("whole", &words);
    toy.assert_same("out", "whole");
}

#[test]
fn children_end_when_the_executor_is_killed() {
    let toy = Toy::new();
    let mut child = toy.start("out", &["-s", "studies.table.pause_ms=60000"]);
    wait_until("a running trial", || {
        toy.trials("out").first().is_some_and(|f| f.join("checkpoint/progress.json").exists())
    });
    let folder = toy.trials("out").remove(0);
    assert!(!is_free(&folder), "the trial runs");
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the orphan", || is_free(&folder));
    assert!(!folder.join("DONE").exists());
}

#[test]
fn sigterm_and_sigint_stop_cleanly_and_say_how_to_go_on() {
    for name in ["TERM", "INT"] {
        let toy = Toy::new();
        let child = toy.start("out", &[&SLOW[..], &["--jobs", "2"]].concat());
        wait_until("the first done trial", || toy.trials("out").iter().any(|f| f.join("DONE").exists()));
        signal(name, child.id());
        let stopped = ended(child);
        assert_eq!(stopped.code, Some(1), "{}", stopped.said);
        assert!(
            stopped.said.contains("trials are done and kept\nto go on: toy reproduce"),
            "{}",
            stopped.said
        );
        assert!(!stopped.said.contains("failed"), "{}", stopped.said);
        assert!(toy.trials("out").iter().all(|folder| is_free(folder)), "no child is left");
        assert!(!toy.out("out").join("rows.parquet").exists());
        toy.done("out", &SLOW);
        toy.done("whole", &SLOW);
        toy.assert_same("out", "whole");
    }
}

#[test]
fn finished_trials_are_only_presented_again() {
    let toy = Toy::new();
    toy.done("out", &[]);
    let before = fs::read(toy.out("out").join("rows.parquet")).unwrap();
    fs::remove_file(toy.out("out").join("rows.parquet")).unwrap();
    let again = toy.done("out", &[]);
    assert!(again.said.contains("8 trials done, 0 of them now"), "{}", again.said);
    assert_eq!(fs::read(toy.out("out").join("rows.parquet")).unwrap(), before);
}

#[test]
fn rerun_forgets_what_is_done() {
    let toy = Toy::new();
    toy.done("out", &[]);
    assert!(toy.done("out", &["--rerun"]).said.contains("8 trials done, 8 of them now"));
}

/// Something that happens to a finished trial's folder.
type Harm = fn(&std::path::Path);

#[test]
fn a_checkpoint_that_outlived_its_trial_is_removed() {
    let toy = Toy::new();
    toy.done("out", &[]);
    for folder in toy.trials("out") {
        // As a kill between `DONE` and the removal of the checkpoint leaves it.
        fs::create_dir(folder.join("checkpoint")).unwrap();
        fs::write(folder.join("checkpoint/progress.json"), "{}").unwrap();
    }
    assert!(toy.done("out", &[]).said.contains("8 trials done, 0 of them now"));
    assert_no_leftovers(&toy, "out");
}

#[test]
fn a_damaged_trial_is_done_again() {
    let toy = Toy::new();
    toy.done("whole", &[]);
    toy.done("out", &[]);
    let damage: [(&str, Harm); 4] = [
        ("rows changed", |f| fs::write(f.join("rows.jsonl"), "{}\n").unwrap()),
        ("artifact cut", |f| fs::write(f.join("pips.txt"), "").unwrap()),
        ("artifact gone", |f| fs::remove_file(f.join("pips.txt")).unwrap()),
        ("DONE cut", |f| fs::write(f.join("DONE"), "{\"config_sha256\": \"").unwrap()),
    ];
    for (what, harm) in damage {
        harm(&toy.trial("out", "loaded", 8));
        let again = toy.done("out", &[]);
        assert!(again.said.contains("8 trials done, 1 of them now"), "{what}: {}", again.said);
        toy.assert_same("whole", "out");
    }
}

#[test]
fn shards_together_are_the_whole_and_the_last_one_presents() {
    let toy = Toy::new();
    toy.done("whole", &[]);
    let first = toy.done("out", &["--shard", "1/3"]);
    assert!(first.said.contains("this shard is done; 3 of all 8 trials are"), "{}", first.said);
    assert!(!toy.out("out").join("report.html").exists());
    toy.done("out", &["--shard", "3/3"]);
    let last = toy.done("out", &["--shard", "2/3"]);
    assert!(last.said.contains("report:"), "{}", last.said);
    toy.assert_same("whole", "out");
}

#[test]
fn shards_at_the_same_time_share_a_folder() {
    let toy = Toy::new();
    toy.done("whole", &SLOW);
    let shards: Vec<_> = ["1/2", "2/2"]
        .map(|shard| toy.start("out", &[&SLOW[..], &["--shard", shard]].concat()))
        .into_iter()
        .collect();
    for shard in shards {
        let ended = ended(shard);
        assert_eq!(ended.code, Some(0), "{}", ended.said);
    }
    toy.done("out", &SLOW);
    toy.assert_same("whole", "out");
}
