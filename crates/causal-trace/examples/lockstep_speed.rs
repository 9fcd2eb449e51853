//! How much faster lockstep is than the plain loop, taken in turn in one sitting:
//! `cargo run --release -p causal-trace --example lockstep_speed -- datasets/sd-mini/model [STEPS] [TURNS]`.
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::{DType, Device};
use causal_trace::components::{Component, Reading, components};
use causal_trace::lockstep::{Change, Donor, Lockstep, Patch, Run};
use causal_trace::trace::{CLEAN, CORRUPTED};
use causal_trace::{Caption, Corruption, Settings, Sigma, looped};
use sd_core::pipeline::StableDiffusion;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some(folder) = words.first() else { anyhow::bail!("usage: lockstep_speed FOLDER [STEPS] [TURNS]") };
    let number = |at: usize, usual: usize| words.get(at).map_or(Ok(usual), |word| word.parse());
    let (steps, turns) = (number(1, 4)?, number(2, 3)?);
    let model = StableDiffusion::open(folder.as_ref(), DType::F32, &Device::Cpu)?;
    let caption = Caption::new("a red star", "red");
    let corruption = Corruption { sigma: Sigma::Absolute(0.5), ..Corruption::default() };
    let encoded = corruption.encode(&model, &caption, &caption.read(&model.tokenizer)?)?;
    let texts = [encoded.clean, encoded.corrupted];
    let all = components(model.unet.config(), Reading::Module)?;
    let scheduled = Settings { steps, guidance: 4.0, ..Settings::default() };
    let plain = Settings { scheduled: false, ..scheduled.clone() };
    println!("turn,loop_s,lockstep_s,scheduled_s,loop_over_lockstep,loop_over_scheduled");
    for turn in 0..turns {
        let looped = timed(|| {
            for one in &all {
                looped::one(&model, &plain, [&texts[0], &texts[1]], std::slice::from_ref(&one.site))?;
            }
            Ok(())
        })?;
        let [lockstep, scheduled] = [&plain, &scheduled].map(|settings| {
            timed(|| Lockstep::new(&model, settings, &texts)?.run(&runs(&all), &mut |_| {}).map(|_| ()))
        });
        let (lockstep, scheduled) = (lockstep?, scheduled?);
        println!(
            "{turn},{looped:.2},{lockstep:.2},{scheduled:.2},{:.2},{:.2}",
            looped / lockstep,
            looped / scheduled
        );
    }
    Ok(())
}

/// Clean, corrupted, and one run for each component.
fn runs(all: &[Component]) -> Vec<Run> {
    let plain = |text| Run { text, patch: None };
    let restored = |one: &Component| Run {
        text: CORRUPTED,
        patch: Some(Patch { sites: vec![one.site.clone()], donor: Donor::Run(CLEAN), change: Change::None }),
    };
    [plain(CLEAN), plain(CORRUPTED)].into_iter().chain(all.iter().map(restored)).collect()
}

fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<f64> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed().as_secs_f64())
}
