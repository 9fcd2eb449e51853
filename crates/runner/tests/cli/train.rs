//! `train`: killed at any moment and started again, it ends with the weights that it would have had.

use std::fs;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sd_core::rng::Rng;

use crate::support::{Scratch, check, succeed};

const KILLS: u64 = 12;

/// Three stages so small that they take seconds; a checkpoint after every step.
const TINY: &str = "train sd-mini --stages text,vae,unet --checkpoint-seconds 0 -s side=32 \
    -s text.width=8 -s text.layers=1 -s text.training.steps=12 -s text.training.batch=4 -s judges.channels=[8,8] \
    -s vae.channels=[8,8,8] -s vae.training.steps=12 -s vae.training.batch=2 \
    -s unet.channels=[8,8,8,8] -s unet.pictures=12 -s unet.training.steps=12 -s unet.training.batch=3 -s unet.samples_every=0";

/// The weights that the stages gave, and their logs.
fn weights(scratch: &Scratch, out: &str) -> Vec<Vec<u8>> {
    let of = |stage: &str| {
        let folder = scratch.path(out).join(stage);
        ["weights.safetensors", "loss.csv"].map(|name| fs::read(folder.join(name)).unwrap())
    };
    ["text", "vae", "unet"].iter().flat_map(|stage| of(stage)).collect()
}

#[test]
fn a_dozen_kills_change_no_bit_of_the_weights() {
    let scratch = Scratch::new();
    let start = Instant::now();
    succeed(scratch.runner(&format!("{TINY} --out whole --threads 1")));
    let whole = start.elapsed();
    let wanted = weights(&scratch, "whole");
    let mut rng = Rng::new(3, "kill moments", 0);
    let (mut kills, mut folders) = (0, 0);
    while kills < KILLS {
        let (out, threads) = (format!("killed{folders}"), 1 + folders % 2);
        let again = format!("{TINY} --out {out} --threads {threads}");
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
    let long = format!("{TINY} --stages vae -s vae.training.steps=100000 --out stopped");
    let mut child = scratch.runner(&long).stderr(Stdio::piped()).spawn().unwrap();
    let checkpoint = scratch.path("stopped/vae/training.safetensors");
    let start = Instant::now();
    while !checkpoint.exists() && start.elapsed() < Duration::from_secs(300) {
        sleep(Duration::from_millis(20));
    }
    assert!(checkpoint.exists(), "no checkpoint was written");
    succeed({
        let mut kill = std::process::Command::new("kill");
        kill.arg("-TERM").arg(child.id().to_string());
        kill
    });
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let refused = format!("{TINY} --stages vae -s vae.kl=1.0 --out stopped");
    check(scratch.runner(&refused), 2, &["training.safetensors", "configuration"]);
}

#[test]
fn a_recipe_that_makes_no_sense_is_refused_with_its_place() {
    let scratch = Scratch::new();
    for (change, words) in [
        ("unet.heads=5", ["unet.heads", "divisor"]),
        ("side=48", ["side", "multiple of 32"]),
        ("judges_seed=0", ["judges_seed", "another seed"]),
        ("vae.channels=[12]", ["vae.channels", "multiples of 8"]),
        ("vae.training.optimiser.lr=-1", ["vae.training.optimiser", "lr"]),
        ("vae.training.stps=1", ["stps", "steps"]),
    ] {
        check(scratch.runner(&format!("train sd-mini -s {change} --out none")), 2, &words);
    }
    check(scratch.runner("train sd-mini --scale paper --out none"), 2, &["paper.yaml", "no such recipe"]);
    assert!(!scratch.path("none").exists());
}
