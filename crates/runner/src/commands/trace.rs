//! `trace`: one caption through one model.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device};
use causal_trace::judge::{ClipJudge, Judge, MiniJudge};
use causal_trace::lockstep::{Change, Donor, Patch, Run, chunked, row_bytes};
use causal_trace::trace::{CLEAN, CORRUPTED, check, trace_told};
use causal_trace::{
    Caption, Control, Corruption, Half, Mode, Reading, Settings, Sigma, Spec, Targets, Trace, components,
};
use lab::executor::{readable_bytes, readable_seconds};
use sd_core::models::unet::cost;
use sd_core::pipeline::{Parts, StableDiffusion};
use sd_mini::subject::SHIPPED;
use sd_mini::{Judges, Shipped};
use worlds::scenes::{Picture, contact_sheet};

use super::{machine, model};
use crate::output::{print, say};

/// Steps for sd-mini where none are asked for.
const FEW: usize = 10;
/// Standard deviations of noise on sd-mini's subjects where nothing else is asked for: at 3 most pictures keep a style or an object
/// (`experiments/causal-trace/standard.yaml`, the study `sweep`).
const STRONG: f64 = 7.0;
/// Pictures in a row of the sheet.
const ROW: usize = 12;

/// Traces a caption; the table goes to standard output, everything to the folder.
pub(crate) fn run(typed: &cli::Trace) -> Result<u8> {
    let device = machine::device(typed.device)?;
    ensure!(
        typed.other.is_none() || typed.corrupt == cli::Corrupt::Swap,
        "--other: nothing else stands in the subject's place unless it is swapped\n  help: add --corrupt swap, or leave --other out"
    );
    let sigma = sigma(typed)?;
    let found = model::find_pipeline(&typed.model)?;
    machine::threads(typed.threads)?;
    let parts = Parts::open(&found.folder, DType::F32, &device)?;
    let mut spec = spec(typed, &found, sigma);
    let caption = Caption::new(typed.caption.clone(), typed.subject.clone());
    if typed.dry_run {
        print(&planned(typed, &parts, &caption, &spec)?)?;
        return Ok(cli::exit::DONE);
    }
    let pipeline = parts.pipeline(None)?;
    // Before anything is computed: what is wrong with caption, components and judge.
    let read = caption.read(&pipeline.tokenizer)?;
    let all = components::components(pipeline.unet.config(), reading(typed.reading))?;
    typed.component.iter().try_for_each(|name| components::named(&all, name).map(|_| ()))?;
    let judge = judge(typed, &pipeline, &read.prompt, &device)?;
    spec.corruption = spec.corruption.measured(&pipeline, &[&typed.subject])?;
    check(&pipeline, &caption, &spec)?;
    lab::atomic::create_dir_all_synced(&typed.output)?;
    let mut last = 0;
    let mut told = |share: f64| {
        let tenths = (share * 10.0) as usize;
        if tenths > last {
            last = tenths;
            say(&format!("trace: {} %", 10 * tenths));
        }
    };
    let trace = trace_told(&pipeline, &caption, &spec, &mut told)?;
    trace.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    let scores = judge.map(|judge| judge.cosines(&trace.pixels, &typed.caption)).transpose()?;
    write(&typed.output, &trace, scores.as_deref())?;
    print(&shown(&trace, spec.corruption.std, scores.as_deref(), &typed.output)?)?;
    Ok(cli::exit::DONE)
}

/// The noise: what was asked for; else what the specification says, and for sd-mini what its own sweep does.
fn sigma(typed: &cli::Trace) -> Result<Sigma> {
    match typed.sigma.as_deref() {
        Some(text) => text.parse().context("--sigma"),
        None if typed.model == SHIPPED => Ok(Sigma::Deviations(STRONG)),
        None => Ok(Sigma::default()),
    }
}

fn spec(typed: &cli::Trace, found: &model::Model, sigma: Sigma) -> Spec {
    let is_shipped = typed.model == SHIPPED;
    let targets = match typed.text {
        true => Targets::text_states(),
        false => Targets::Unet {
            reading: reading(typed.reading),
            only: typed.component.clone(),
            window: typed.window,
            controls: vec![Control::Clean],
        },
    };
    Spec {
        corruption: Corruption {
            mode: mode(typed.corrupt),
            sigma,
            draw: typed.seed,
            other: typed.other.clone(),
            ..Corruption::default()
        },
        settings: Settings {
            steps: typed.steps.unwrap_or(if is_shipped { FEW } else { found.steps }),
            guidance: typed.guidance.unwrap_or(found.guidance),
            seed: typed.seed,
            sampler: Some(super::generate::kind(typed.sampler)),
            half: half(typed.half),
            restored_steps: typed.restored_steps.clone(),
            memory: typed.mem_budget,
            ..Settings::default()
        },
        targets,
        foreign: None,
    }
}

fn mode(typed: cli::Corrupt) -> Mode {
    match typed {
        cli::Corrupt::TokenEmbed => Mode::TokenEmbed,
        cli::Corrupt::EncoderOut => Mode::EncoderOut,
        cli::Corrupt::AllOut => Mode::AllOut,
        cli::Corrupt::Swap => Mode::Swap,
    }
}

fn reading(typed: cli::Reading) -> Reading {
    match typed {
        cli::Reading::Module => Reading::Module,
        cli::Reading::Branch => Reading::Branch,
        cli::Reading::Stream => Reading::Stream,
    }
}

fn half(typed: cli::Half) -> Half {
    match typed {
        cli::Half::Cond => Half::Cond,
        cli::Half::Uncond => Half::Uncond,
        cli::Half::Both => Half::Both,
    }
}

/// Who scores: what was asked for; for sd-mini its own judge; else nobody.
fn judge(
    typed: &cli::Trace,
    pipeline: &StableDiffusion,
    prompt: &sd_core::models::clip::tokenizer::Prompt,
    device: &Device,
) -> Result<Option<Box<dyn Judge>>> {
    match typed.judge.as_deref() {
        None if typed.model == SHIPPED => {
            let judges = Judges::open(&Shipped::find()?, device)?;
            Ok(Some(Box::new(Owned(judges))))
        }
        None => {
            say("note: no --judge: distances between pictures are measured, and no scores");
            Ok(None)
        }
        Some(name) => {
            let judge = ClipJudge::open(&model::find(name)?.folder, device).context("--judge")?;
            ensure!(
                !judge.is_generator(&pipeline.text_encoder, prompt)?,
                "--judge {name}: its text encoder is the model's own, which would judge itself\n  help: take another CLIP"
            );
            Ok(Some(Box::new(judge)))
        }
    }
}

struct Owned(Judges);

impl Judge for Owned {
    fn name(&self) -> String {
        MiniJudge(&self.0).name()
    }

    fn cosines(&self, pixels: &candle_core::Tensor, caption: &str) -> Result<Vec<f64>> {
        MiniJudge(&self.0).cosines(pixels, caption)
    }
}

/// What a trace would take, from the configurations alone.
fn planned(typed: &cli::Trace, parts: &Parts, caption: &Caption, spec: &Spec) -> Result<String> {
    spec.check()?;
    let (tokenizer, scheduler) = (parts.tokenizer()?, parts.scheduler(spec.settings.sampler)?);
    let read = caption.read(&tokenizer)?;
    let config = parts.unet_config()?;
    let size = config.sample_size.unwrap_or(64);
    let all = components::components(&config, reading(typed.reading))?;
    typed.component.iter().try_for_each(|name| components::named(&all, name).map(|_| ()))?;
    let restored = match (typed.text, typed.component.len()) {
        (true, _) => 2 * parts.text_config()?.num_hidden_layers * read.carriers().len(),
        (false, 0) => all.len(),
        (false, some) => some,
    };
    let runs = 2 + restored;
    let is_guided = spec.settings.guidance > 1.0;
    let halves = 1 + usize::from(is_guided);
    let sampler = sd_core::sampling::Sampler::new(
        scheduler.settings(),
        spec.settings.steps,
        sd_core::sampling::Precision::Single,
    )?;
    let evaluations = sampler.evaluations();
    let row = row_bytes(&config, [size, size], DType::F32);
    let macs = cost::macs(&config, [size, size], tokenizer.length())?;
    let chunks = chunked(&stand_ins(typed.text, restored), is_guided, row, spec.settings.memory)?;
    let (together, largest) =
        (chunks.iter().map(Vec::len).sum::<usize>(), chunks.iter().map(Vec::len).max().unwrap_or(0));
    let chunks = chunks.len();
    let passes = together * halves * evaluations;
    let work = macs * passes as f64;
    let seconds = work / cost::macs_per_second(macs) / super::reproduce::cores() as f64;
    Ok(format!(
        "subject: `{}`, tokens {}..{} of {}\nruns: {runs} (clean, corrupted and {} restored), in {chunks} {}: {} rows a pass\n\
         passes of one row: {passes} ({evaluations} steps), {:.3} TMAC each, {:.2} PFLOP in all\n\
         memory: {} of activations a row, {} at once, beside the weights\n\
         about {} on {} cores at {:.0} GMAC/s each\n",
        caption.subject,
        read.subject.start,
        read.subject.end,
        tokenizer.length(),
        runs - 2,
        if chunks == 1 { "chunk" } else { "chunks" },
        largest * halves,
        macs / 1e12,
        2.0 * work / 1e15,
        readable_bytes(row),
        readable_bytes(row * (largest * halves) as u64),
        readable_seconds(seconds),
        super::reproduce::cores(),
        cost::macs_per_second(macs) / 1e9,
    ))
}

/// Clean, corrupted and so many restored runs, as far as memory is concerned: those of the UNet need the clean one beside them.
fn stand_ins(is_text: bool, restored: usize) -> Vec<Run> {
    let patch = Patch { sites: Vec::new(), donor: Donor::Run(CLEAN), change: Change::None };
    let one = |patch| Run { text: CLEAN, patch };
    let rest = std::iter::repeat_n(one((!is_text).then_some(patch)), restored);
    [one(None), one(None)].into_iter().chain(rest).collect()
}

/// `trace.csv` and `pictures.png`.
fn write(folder: &Path, trace: &Trace, scores: Option<&[f64]>) -> Result<()> {
    let mut csv = "run,score,recovery,distance_to_clean,distance_to_corrupted\n".to_owned();
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value}"));
    for (index, run) in trace.runs.iter().enumerate() {
        let [score, recovery] = [score(scores, index), recovery(scores, index)].map(number);
        let clean = number(trace.distance(index, CLEAN)?);
        let corrupted = number(trace.distance(index, CORRUPTED)?);
        writeln!(csv, "{run},{score},{recovery},{clean},{corrupted}")?;
    }
    lab::atomic::write_bytes(folder.join("trace.csv"), csv.as_bytes())?;
    let (_, height, width, _) = trace.pixels.dims4()?;
    if height == width {
        let all = sd_mini::stages::unet::to_pictures(&trace.pixels)?;
        let rows: Vec<Vec<Picture>> = all.chunks(ROW).map(<[Picture]>::to_vec).collect();
        lab::atomic::write_bytes(folder.join("pictures.png"), &contact_sheet(&rows, 1)?)?;
    }
    Ok(())
}

fn score(scores: Option<&[f64]>, index: usize) -> Option<f64> {
    scores.and_then(|scores| scores.get(index).copied())
}

/// (S − S(corrupted)) / (S(clean) − S(corrupted)), where the corruption lowered the score.
fn recovery(scores: Option<&[f64]>, index: usize) -> Option<f64> {
    let scores = scores?;
    let total = scores[CLEAN] - scores[CORRUPTED];
    (total > 0.0).then(|| (scores[index] - scores[CORRUPTED]) / total)
}

/// The runs that come nearest to the clean one, by score where there is one.
fn shown(trace: &Trace, std: Option<f64>, scores: Option<&[f64]>, folder: &Path) -> Result<String> {
    const SHOWN: usize = 10;
    let mut lines: Vec<(usize, f64, Option<f64>)> = Vec::new();
    for index in 2..trace.runs.len() {
        if let Some(distance) = trace.distance(index, CLEAN)? {
            lines.push((index, distance, recovery(scores, index)));
        }
    }
    lines
        .sort_by(|a, b| b.2.partial_cmp(&a.2).unwrap_or(std::cmp::Ordering::Equal).then(a.1.total_cmp(&b.1)));
    let mut text = String::new();
    if let Some(std) = std {
        writeln!(text, "embeddings of the subject: standard deviation {std:.4}")?;
    }
    // A swap has none.
    if trace.applied.noise > 0.0 {
        let applied = &trace.applied;
        let (sigma, noise, embedding) = (applied.sigma, applied.noise, applied.embedding);
        writeln!(text, "noise: sigma {sigma:.4}, norm {noise:.3} on embeddings of norm {embedding:.3}")?;
    }
    if let Some(scores) = scores {
        let (clean, corrupted) = (scores[CLEAN], scores[CORRUPTED]);
        writeln!(
            text,
            "score: clean {clean:.4}, corrupted {corrupted:.4}, total effect {:.4}",
            clean - corrupted
        )?;
    }
    writeln!(text, "recovery  distance to clean  restored")?;
    for (index, distance, recovery) in lines.iter().take(SHOWN) {
        let recovery = recovery.map_or_else(|| "-".to_owned(), |recovery| format!("{recovery:.3}"));
        writeln!(text, "{recovery:>8}  {distance:>17.3}  {}", trace.runs[*index])?;
    }
    writeln!(text, "all {} runs: {}", trace.runs.len(), folder.join("trace.csv").display())?;
    Ok(text)
}
