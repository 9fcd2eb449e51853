//! Running a trial: a caption, a seed, and what the study asks of them.

mod identities;
mod measured;
mod sweep;
mod text;
mod unet;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Tensor};
use lab::paper::{TrialContext, TrialSpec};
use sd_core::pipeline::StableDiffusion;
use sd_core::rng::Rng;
use sd_mini::subject::{SHIPPED, device, folder_of};
use sd_mini::{Judges, Shipped};

use crate::corruption::{Corruption, deviation};
use crate::experiment::{JUDGE, MODEL, Making, Study, TraceExperiment, captions_of};
use crate::judge::{ClipJudge, Judge, MiniJudge};
use crate::lockstep::Settings;
use crate::probes::{self, Attribute, Probe};

/// Runs a trial of any study.
pub(crate) fn run(experiment: &TraceExperiment, trial: &TrialSpec, context: &mut TrialContext) -> Result<()> {
    let study = experiment.studies.get(&trial.study).context("the experiment has no such study")?;
    let bench = Bench::open(experiment, context)?;
    if let Study::Identities(study) = study {
        return identities::run(&bench, study, context);
    }
    let attribute = experiment.arms.get(&trial.arm).context("the experiment has no such arm")?.attribute;
    let (name, index) = trial.case.rsplit_once('-').context("a case is an arm and a number")?;
    ensure!(name == trial.arm, "case `{}` of the arm `{}`", trial.case, trial.arm);
    let index: usize = index.parse()?;
    let case = bench.case(&trial.arm, attribute, index, [experiment.seed, trial.seed])?;
    let kept = crate::experiment::has_gallery(study, index, trial.seed - experiment.seed);
    match study {
        Study::Identities(_) => Ok(()),
        Study::Unet(study) => unet::run(&bench, study, &case, kept, context),
        Study::Text(study) => text::run(&bench, study, &case, context),
        Study::Sweep(study) => sweep::run(&bench, study, &case, context),
    }
}

/// The model and who judges it.
pub(crate) struct Bench {
    /// As the experiment names it.
    name: String,
    pub(crate) model: StableDiffusion,
    judge: Judging,
}

enum Judging {
    Mini(Box<Judges>),
    Clip(Box<ClipJudge>),
}

/// A caption, how it is to be drawn, and what the unit of its noise is measured on.
pub(crate) struct Case {
    pub(crate) attribute: Attribute,
    pub(crate) probe: Probe,
    /// Seed of latents and noise.
    draw: u64,
    /// The subjects of all captions of the attribute.
    subjects: Vec<String>,
}

/// What judges say of pictures.
pub(crate) struct Scores {
    /// Cosines.
    pub(crate) clip: Vec<f64>,
    /// The probability of the attribute's class, and whether it is the likeliest; empty without a classifier.
    pub(crate) class: Vec<(f64, bool)>,
}

impl Bench {
    fn open(experiment: &TraceExperiment, context: &TrialContext) -> Result<Self> {
        let device = device(&context.device)?;
        let model = StableDiffusion::open(&folder_of(MODEL, &experiment.data[MODEL])?, DType::F32, &device)?;
        let judge = match experiment.data[JUDGE].as_str() {
            SHIPPED => Judging::Mini(Box::new(Judges::open(&Shipped::find()?, &device)?)),
            name => {
                let folder = folder_of(JUDGE, name)?;
                let judge = ClipJudge::open(&folder, &device)?;
                let prompt = model.tokenizer.encode("a photo of a dog")?;
                ensure!(
                    !judge.is_generator(&model.text_encoder, &prompt)?,
                    "data.{JUDGE}: {name}: its text encoder is the generator's own, which would judge itself\n  help: take another CLIP"
                );
                Judging::Clip(Box::new(judge))
            }
        };
        Ok(Self { name: experiment.data[MODEL].clone(), model, judge })
    }

    /// The caption number `index` of an arm. Each (caption, seed) has latents and noise of its own, so that they are independent units.
    fn case(&self, arm: &str, attribute: Attribute, index: usize, [seed, draw]: [u64; 2]) -> Result<Case> {
        let mut all = captions_of(&self.name, attribute, seed);
        ensure!(index < all.len(), "caption {index} of {} of `{arm}`", all.len());
        let subjects = probes::subjects(&all).into_iter().map(str::to_owned).collect();
        let draw =
            Rng::new(draw, &format!("causal-trace/draws/{}", attribute.name()), index as u64).next_u64();
        Ok(Case { attribute, probe: all.swap_remove(index), draw, subjects })
    }

    pub(crate) fn scores(&self, case: &Case, pixels: &Tensor) -> Result<Scores> {
        let caption = &case.probe.caption.text;
        match (&self.judge, case.probe.class) {
            (Judging::Clip(judge), _) => {
                Ok(Scores { clip: judge.cosines(pixels, caption)?, class: Vec::new() })
            }
            (Judging::Mini(judges), class) => {
                let clip = MiniJudge(judges).cosines(pixels, caption)?;
                let asked = case.attribute.asked();
                let class = class.map_or(Ok(Vec::new()), |class| judges.classified(pixels, asked, class))?;
                Ok(Scores { clip, class })
            }
        }
    }
}

impl Case {
    /// How the subject is destroyed; the unit of `std:` is measured on the subjects of all captions of the attribute.
    pub(crate) fn corruption(&self, model: &StableDiffusion, making: &Making) -> Result<Corruption> {
        let subjects: Vec<&str> = self.subjects.iter().map(String::as_str).collect();
        Ok(Corruption {
            mode: making.mode.clone(),
            sigma: making.sigma,
            std: Some(deviation(model, &subjects, &making.mode)?),
            other: Some(self.probe.foreign.subject.clone()),
            draw: self.draw,
        })
    }

    pub(crate) fn settings(&self, making: &Making) -> Settings {
        Settings {
            steps: making.steps,
            guidance: making.guidance,
            sampler: Some(making.sampler.kind()),
            seed: self.draw,
            memory: making.memory_mb.map(|megabytes| megabytes * 1_000_000),
            ..Settings::default()
        }
    }
}
