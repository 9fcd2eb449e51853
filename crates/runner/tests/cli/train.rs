//! `train`: killed at any moment and started again, it ends with the weights that it would have had.

use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sd_core::rng::Rng;

use crate::support::{Scratch, check, succeed};

const KILLS: u64 = 12;

/// Three stages so small that they take seconds; a checkpoint after every step.
const TINY: &str = "train sd-mini --checkpoint-seconds 0 -s side=32 -s text.width=8 -s text.layers=1 -s text.training.steps=12 -s text.training.batch=4 -s judges.channels=[8,8] \
    -s vae.channels=[8,8,8] -s vae.training.steps=12 -s vae.training.batch=2 \
    -s judges.landmarks.steps=12 -s judges.landmarks.batch=2 \
    -s unet.channels=[8,8,8,8] -s unet.pictures=12 -s unet.training.steps=12 -s unet.training.batch=4 -s unet.samples_every=0";

const STAGES: [&str; 4] = ["text", "vae", "landmarks", "unet"];

/// The weights that the stages gave, and their logs.
fn weights(scratch: &Scratch, out: &str) -> Vec<Vec<u8>> {
    let of = |stage: &str| {
        let folder = scratch.path(out).join(stage);
        ["weights.safetensors", "loss.csv"].map(|name| fs::read(folder.join(name)).unwrap())
    };
    STAGES.iter().flat_map(|stage| of(stage)).collect()
}

#[test]
fn a_dozen_kills_change_no_bit_of_the_weights() {
    let scratch = Scratch::new();
    let line = format!("{TINY} --stages {}", STAGES.join(","));
    let start = Instant::now();
    succeed(scratch.runner(&format!("{line} --out whole --threads 1")));
    let whole = start.elapsed();
    let wanted = weights(&scratch, "whole");
    let mut rng = Rng::new(3, "kill moments", 0);
    let (mut kills, mut folders) = (0, 0);
    while kills < KILLS {
        let (out, threads) = (format!("killed{folders}"), 1 + folders % 2);
        let again = format!("{line} --out {out} --threads {threads}");
        let mut child = scratch.runner(&again).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        sleep(whole.mul_f64(0.6 * rng.uniform()));
        kills += u64::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        let ended = child.wait().unwrap().success();
        if ended || kills == KILLS || rng.below(4) == 0 {
            succeed(scratch.runner(&again));
            assert!(weights(&scratch, &out) == wanted, "{out} differs from the uninterrupted training");
            folders += 1;
        }
    }
}

#[test]
fn a_training_that_is_asked_to_stop_says_so_and_goes_on() {
    let scratch = Scratch::new();
    let line = format!("{TINY} --stages vae -s vae.training.steps=400");
    let child = scratch.runner(&format!("{line} --out stopped")).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = scratch.path("stopped/vae/training.safetensors");
    let start = Instant::now();
    while !checkpoint.exists() && start.elapsed() < Duration::from_secs(300) {
        sleep(Duration::from_millis(5));
    }
    assert!(checkpoint.exists(), "no checkpoint was written");
    let mut kill = Command::new("kill");
    kill.arg("-TERM").arg(child.id().to_string());
    succeed(kill);
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(said.contains("interrupted; the same command goes on from here"), "{said}");
    let refused = format!("{line} -s vae.kl=1.0 --out stopped");
    check(scratch.runner(&refused), 2, &["training.safetensors", "another configuration"]);
    succeed(scratch.runner(&format!("{line} --out stopped")));
    succeed(scratch.runner(&format!("{line} --out whole")));
    let read = |out: &str| fs::read(scratch.path(out).join("vae/weights.safetensors")).unwrap();
    assert!(read("stopped") == read("whole"), "the stopped training ended elsewhere");
}

/// From the recipe to a folder that `generate` takes: every stage, as small as can be.
#[test]
fn a_tiny_training_ends_with_a_pipeline_that_draws() {
    let scratch = Scratch::new();
    let small = "-s judges.clip.steps=2 -s judges.clip.batch=2 -s judges.classifier.steps=2 -s judges.classifier.batch=2 \
        -s judges.frechet.steps=2 -s judges.frechet.batch=2 -s gates.captions=40 -s gates.steps=1";
    let done = scratch.runner(&format!("{TINY} {small} --out all")).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    assert!(said.contains("MISSED"), "gates are met by a training of twelve steps? {said}");
    for file in [
        "gates.csv",
        "report/loss.svg",
        "report/quality.csv",
        "pack/manifest.json",
        "pack/judges/clip.safetensors",
    ] {
        assert!(scratch.path("all").join(file).is_file(), "{file} is not there");
    }
    succeed(scratch.runner("generate star --model all/pack/model --steps 1 -o star.png"));
    assert!(scratch.path("star.png").is_file());
}

#[test]
fn contact_sheets_of_the_world_are_pictures() {
    let scratch = Scratch::new();
    for what in ["attributes", "examples", "edits"] {
        succeed(
            scratch.runner(&format!(
                "worlds show --what {what} --side 16 --seed 1 --split held-out -o {what}.png"
            )),
        );
        let bytes = fs::read(scratch.path(&format!("{what}.png"))).unwrap();
        assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 10_000, "{what}: {} bytes", bytes.len());
    }
}

#[test]
fn a_recipe_that_makes_no_sense_is_refused_with_its_place() {
    let scratch = Scratch::new();
    for (change, words) in [
        ("unet.heads=5", ["unet.heads", "divisor"]),
        ("side=48", ["side", "multiple of 32"]),
        ("judges_seed=0", ["judges_seed", "share no picture"]),
        ("gates.captions=3", ["gates.captions", "at least 40"]),
        ("text.positions=8", ["text.positions", "20 to 77"]),
        ("judges.channels=[8,8,8,8,8,8,8]", ["judges.channels", "at most 6"]),
        ("vae.channels=[12]", ["vae.channels", "multiples of 8"]),
        ("vae.training.optimiser.lr=-1", ["vae.training.optimiser", "lr"]),
        ("vae.training.stps=1", ["stps", "steps"]),
    ] {
        check(scratch.runner(&format!("train sd-mini -s {change} --out none")), 2, &words);
    }
    check(scratch.runner("train sd-mini --scale paper --out none"), 2, &["paper.yaml", "no such recipe"]);
    assert!(!scratch.path("none").exists());
}
