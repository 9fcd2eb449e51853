//! Running a trial: a concept, a seed, and every method of the study on them.

mod editing;
mod identities;
mod joint;

use anyhow::{Context, Result, ensure};
use candle_core::Tensor;
use lab::paper::{TrialContext, TrialSpec};
use sd_core::pipeline::{Request, StableDiffusion, Unwatched};
use sd_core::rng::Rng;
use sd_mini::scores::{ClipJudge, Judge};
use sd_mini::subject::{SHIPPED, device, folder_of};
use sd_mini::{Judges, Shipped};

use crate::experiment::{Asking, JUDGE, MODEL, QuickfixExperiment, Study};
use crate::methods::Making;
use crate::model::Model;
use crate::suites::{self, Asked, Found, Item, Set};

/// Pictures made at once.
const TOGETHER: usize = 20;

/// Runs a trial of any study.
pub(crate) fn run(
    experiment: &QuickfixExperiment,
    trial: &TrialSpec,
    context: &mut TrialContext,
) -> Result<()> {
    let study = experiment.studies.get(&trial.study).context("the experiment has no such study")?;
    let bench = Bench::open(experiment, context)?;
    match study {
        Study::Identities(study) => identities::run(&bench, study, context),
        Study::Editing(study) => {
            let item = item(&trial.case)?;
            let index = study.edits.iter().position(|edit| *edit == trial.case).unwrap_or(usize::MAX);
            let keeps = crate::experiment::has_gallery(study, index, trial.seed - experiment.seed);
            editing::run(&bench, experiment, study, &item, keeps, context)
        }
        Study::Joint(study) => joint::run(&bench, experiment, study, trial.case.parse()?, context),
    }
}

fn item(name: &str) -> Result<Item> {
    suites::named(name).with_context(|| format!("there is no edit `{name}`"))
}

/// The model and who judges it.
pub(crate) struct Bench {
    /// The model's folder.
    folder: std::path::PathBuf,
    model: Model,
    judge: Judging,
}

enum Judging {
    Mini(Box<Judges>),
    Clip(Box<ClipJudge>),
}

/// Captions of a set and what was drawn for them.
struct Drawn {
    set: Set,
    asked: Vec<Asked>,
    /// (N, H, W, 3) of bytes.
    pixels: Tensor,
}

impl Bench {
    fn open(experiment: &QuickfixExperiment, context: &TrialContext) -> Result<Self> {
        let device = device(&context.device)?;
        let folder = folder_of(MODEL, &experiment.data[MODEL])?;
        let model = Model::open(&folder, &device)?;
        let judge = match experiment.data[JUDGE].as_str() {
            SHIPPED => Judging::Mini(Box::new(Judges::open(&Shipped::find()?, &device)?)),
            name => {
                let judge = ClipJudge::open(&folder_of(JUDGE, name)?, &device)?;
                let prompt = model.prompt("a photo of a dog")?;
                ensure!(
                    !judge.is_generator(&model.pipeline.text_encoder, &prompt)?,
                    "data.{JUDGE}: {name}: its text encoder is the generator's own, which would judge itself\n  help: take another CLIP"
                );
                Judging::Clip(Box::new(judge))
            }
        };
        Ok(Self { folder, model, judge })
    }

    /// Pictures of every set of an edit; the noise of a set is the same for every model.
    fn draw(
        &self,
        pipeline: &StableDiffusion,
        item: &Item,
        asking: &Asking,
        making: Making,
        seed: u64,
    ) -> Result<Vec<Drawn>> {
        let sets = Set::ALL.into_iter().filter(|&set| asking.of(set) > 0);
        sets.map(|set| {
            let asked = item.asked(set, asking.of(set), seed);
            let pixels =
                self.pictures(pipeline, &asked, making, &format!("{}/{}", item.name, set.name()), seed)?;
            Ok(Drawn { set, asked, pixels })
        })
        .collect()
    }

    /// Pictures of captions; `purpose` and seed name their noise.
    fn pictures(
        &self,
        pipeline: &StableDiffusion,
        asked: &[Asked],
        making: Making,
        purpose: &str,
        seed: u64,
    ) -> Result<Tensor> {
        let mut all = Vec::new();
        for (chunk, some) in asked.chunks(TOGETHER).enumerate() {
            let mut request = Request::new(String::new());
            request.prompts = some.iter().map(|asked| asked.caption.clone()).collect();
            (request.steps, request.guidance) = (making.steps, making.guidance);
            request.sampler = Some(sd_core::sampling::SamplerKind::Ddim);
            request.seed = Rng::new(seed, &format!("diff-quickfix/{purpose}"), chunk as u64).next_u64();
            all.push(
                pipeline.generate(&request, &mut Unwatched)?.pixels.to_device(&candle_core::Device::Cpu)?,
            );
        }
        Ok(Tensor::cat(&all, 0)?)
    }

    /// Pictures where the judge is.
    fn seen(&self, pixels: &Tensor) -> Result<Tensor> {
        Ok(pixels.to_device(&self.model.pipeline.device)?)
    }

    /// For each picture whether all of `what(index)` is found in it; none without a classifier.
    fn found(&self, pixels: &Tensor, what: impl Fn(usize) -> Found) -> Result<Option<Vec<bool>>> {
        let Judging::Mini(judges) = &self.judge else { return Ok(None) };
        let classes = judges.classifier.classes(&judges.units(&self.seen(pixels)?)?)?;
        let one = |(index, classes): (usize, &[usize; 7])| {
            what(index).iter().all(|&(attribute, class)| classes[attribute as usize] == class)
        };
        Ok(Some(classes.iter().enumerate().map(one).collect()))
    }

    /// The mean cosine of each picture and its own caption.
    fn cosine(&self, drawn: &Drawn) -> Result<f64> {
        self.cosines(drawn, |asked| &asked.caption)
    }

    /// The same with the caption about what the concept is to act as.
    fn anchor_cosine(&self, drawn: &Drawn) -> Result<f64> {
        self.cosines(drawn, |asked| &asked.anchor)
    }

    fn cosines(&self, drawn: &Drawn, caption: fn(&Asked) -> &str) -> Result<f64> {
        let mut sum = 0.0;
        for (index, asked) in drawn.asked.iter().enumerate() {
            let picture = self.seen(&drawn.pixels.narrow(0, index, 1)?)?;
            let cosines = match &self.judge {
                Judging::Mini(judges) => judges.cosines(&judges.units(&picture)?, caption(asked))?,
                Judging::Clip(judge) => judge.cosines(&picture, caption(asked))?,
            };
            sum += cosines.first().copied().unwrap_or_default();
        }
        Ok(sum / drawn.asked.len().max(1) as f64)
    }
}

/// The share of `true`.
fn share(of: &[bool]) -> f64 {
    of.iter().filter(|&&one| one).count() as f64 / of.len().max(1) as f64
}

/// Root of the mean squared difference of two sets of pictures, of values from 0 to 1.
fn distance(a: &Tensor, b: &Tensor) -> Result<f64> {
    let float = |x: &Tensor| x.to_dtype(candle_core::DType::F64);
    let off = ((float(a)? - float(b)?)? / 255.0)?;
    Ok(off.sqr()?.mean_all()?.to_scalar::<f64>()?.sqrt())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::Device;

    use super::*;

    #[test]
    fn distances_are_shares_of_full_light() {
        let of = |value: u8| Tensor::from_vec(vec![value; 12], (1, 2, 2, 3), &Device::Cpu).unwrap();
        assert_eq!(distance(&of(0), &of(255)).unwrap(), 1.0);
        assert_eq!(distance(&of(7), &of(7)).unwrap(), 0.0);
        assert_eq!(share(&[true, false, false, true]), 0.5);
    }
}
