//! Running a trial: a caption, a seed, and what the study asks of them.

mod identities;
mod measured;
mod sweep;
mod text;
mod unet;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use lab::paper::{TrialContext, TrialSpec};
use sd_core::pipeline::StableDiffusion;
use sd_mini::{Judges, Shipped};

use crate::corruption::{Corruption, deviation};
use crate::experiment::{Captions, JUDGE, MODEL, Making, SHIPPED, Study, TraceExperiment, folder_of};
use crate::judge::{ClipJudge, Judge, MiniJudge, classified};
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
    let case = bench.case(attribute, index, experiment.seed, trial.seed)?;
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
    pub(crate) model: StableDiffusion,
    judge: Judging,
}

enum Judging {
    Mini(Box<Judges>),
    Clip(Box<ClipJudge>),
}

/// A caption, how it is to be drawn, and the unit of its noise.
pub(crate) struct Case {
    pub(crate) attribute: Attribute,
    pub(crate) probe: Probe,
    pub(crate) seed: u64,
    pub(crate) std: f64,
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
        Ok(Self { model, judge })
    }

    /// The caption number `index` of an attribute.
    fn case(&self, attribute: Attribute, index: usize, seed: u64, draw: u64) -> Result<Case> {
        let mut all = match self.judge {
            Judging::Mini(_) => probes::of_world(attribute, index + 1, seed)?,
            Judging::Clip(_) => probes::of_paper(attribute),
        };
        ensure!(index < all.len(), "caption {index} of {} of `{}`", all.len(), attribute.name());
        let std = deviation(
            &self.model,
            &self.every_subject(attribute, seed)?.iter().map(String::as_str).collect::<Vec<_>>(),
        )?;
        Ok(Case { attribute, probe: all.swap_remove(index), seed: draw, std })
    }

    fn every_subject(&self, attribute: Attribute, seed: u64) -> Result<Vec<String>> {
        let all = match self.judge {
            Judging::Mini(_) => probes::all_of_world(attribute, seed),
            Judging::Clip(_) => probes::of_paper(attribute),
        };
        Ok(probes::subjects(&all).into_iter().map(str::to_owned).collect())
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
                let class = class.map_or(Ok(Vec::new()), |class| classified(judges, pixels, asked, class))?;
                Ok(Scores { clip, class })
            }
        }
    }
}

impl Case {
    pub(crate) fn corruption(&self, making: &Making) -> Corruption {
        Corruption {
            mode: making.mode.clone(),
            sigma: making.sigma,
            std: Some(self.std),
            other: Some(self.probe.foreign.subject.clone()),
            draw: self.seed,
        }
    }

    pub(crate) fn settings(&self, making: &Making) -> Settings {
        Settings {
            steps: making.steps,
            guidance: making.guidance,
            seed: self.seed,
            memory: making.memory_mb.map(|megabytes| megabytes * 1_000_000),
            ..Settings::default()
        }
    }
}

/// The floors and gates of a study's captions.
pub(crate) fn floors(captions: &Captions) -> [f64; 2] {
    [captions.floor, captions.floor_class]
}

fn device(name: &str) -> Result<Device> {
    match name.strip_prefix("cuda:") {
        None => Ok(Device::Cpu),
        Some(index) => match index.parse() {
            Ok(index) => Ok(Device::new_cuda(index)?),
            Err(_) => bail!("device `{name}`; expected cpu or cuda:n"),
        },
    }
}
