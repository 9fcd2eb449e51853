//! Trainings: what the closed form is compared with.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var};
use diffgrad::optim::Optimiser;
use sd_core::models::unet::{UNet2DConditionModel, cost};
use sd_core::pipeline::{Noise, Request};
use sd_core::rng::Rng;
use sd_core::sampling::{Precision, Sampler, Schedule, ScheduleSettings, State};
use sd_core::taps::NoTap;

use super::{Applied, ConceptAblation, Descent, Esd, Job, Matched, adam};
use crate::edit::Edit;
use crate::encoder::tensor_name;
use crate::model::{Changed, Model};
use crate::rows::Change;
use crate::suites::Asked;

/// Captions of the concept that a training goes round.
const CAPTIONS: usize = 16;
/// Pictures of the anchor that are made at once.
const TOGETHER: usize = 20;

/// Captions of the concept and the anchor, none of which the edit is judged by.
fn training_captions(job: &Job<'_>) -> Vec<Asked> {
    job.items[0].for_training(CAPTIONS, job.seed)
}

/// Floating-point operations of a row's pass through the denoiser.
fn pass_flops(model: &Model) -> Result<f64> {
    let config = model.pipeline.unet.config();
    let side = config.sample_size.unwrap_or(64);
    Ok(2.0 * cost::macs(config, [side, side], model.pipeline.tokenizer.length())?)
}

/// Adam on `‖K ΔWᵀ − R‖² + λ‖ΔW‖²` from ΔW = 0, in single precision and by automatic differentiation, as a training would.
pub(super) fn descend(job: &Job<'_>, descent: &Descent) -> Result<Applied> {
    let changes: Vec<Change> = job.items.iter().map(|item| item.change.clone()).collect();
    let edit = Edit::new(String::new(), descent.settings, changes, Vec::new());
    let solved = edit.solve(&job.model.keys())?;
    let system = solved.system.as_ref().context("gradient descent is compared with systems of few rows")?;
    let lambda = descent.settings.lambda;
    let least =
        system.residual(&solved.original, &solved.change).powi(2) + lambda * solved.change.norm_l2().powi(2);
    let begun = Instant::now();
    let [keys, wanted] = [system.keys().clone(), system.residuals(&solved.original)].map(|mat| {
        let (rows, columns) = (mat.nrows(), mat.ncols());
        let values =
            (0..rows * columns).map(|at| mat[(at / columns, at % columns)] as f32).collect::<Vec<_>>();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu)
    });
    let (keys, wanted) = (keys?, wanted?);
    let (rows, size) = keys.dims2()?;
    let change = Var::zeros((size, size), DType::F32, &Device::Cpu)?;
    let mut optimiser = Optimiser::named(vec![("change".to_owned(), change.clone())], &adam(descent.lr))?;
    let mut taken = 0;
    let mut arrived = false;
    for step in 0..descent.steps {
        let off = (keys.matmul(&change.t()?)? - &wanted)?.sqr()?.sum_all()?;
        let loss = (off + (change.sqr()?.sum_all()? * lambda)?)?;
        taken = step + 1;
        if f64::from(loss.to_scalar::<f32>()?) <= least * (1.0 + descent.within) {
            arrived = true;
            break;
        }
        optimiser.step(&loss.backward()?)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let name = tensor_name(descent.settings.layer);
    let old = job.model.text.get(&name).context("the matrix is not there")?;
    let mut changed = Changed::default();
    let change = change.as_tensor().detach().to_device(old.device())?;
    changed.text.insert(name, (old.to_dtype(DType::F32)? + change)?);
    // K ΔWᵀ, and the gradient with respect to ΔW: keys need none.
    let flops = taken as f64 * 2.0 * 2.0 * (rows * size * size) as f64;
    Ok(Applied { changed, seconds, flops, iterations: taken, arrived: Some(arrived), ..Applied::default() })
}

/// Training of weights of the cross-attentions.
struct Training<'a> {
    model: &'a Model,
    unet: UNet2DConditionModel,
    vars: Vec<(String, Var)>,
    optimiser: Optimiser,
    schedule: Schedule,
    rng: Rng,
    noise: Noise,
    /// Captions of the concept and of its anchor, encoded; the empty one.
    concepts: Tensor,
    anchors: Tensor,
    empty: Tensor,
    begun: Instant,
    /// Time that was not the method's.
    judged: Duration,
    passes: f64,
    matched: Option<Matched>,
}

impl<'a> Training<'a> {
    /// Of the weights that `is_trained` picks.
    fn new(job: &Job<'a>, lr: f64, name: &str, is_trained: fn(&str) -> bool) -> Result<Self> {
        ensure!(job.items.len() == 1, "trainings edit one concept");
        let model = job.model;
        let begun = Instant::now();
        let (unet, vars) = model.trainable(&is_trained)?;
        let optimiser = Optimiser::named(vars.clone(), &adam(lr))?;
        let asked = training_captions(job);
        let concepts: Vec<String> = asked.iter().map(|asked| asked.caption.clone()).collect();
        let anchors: Vec<String> = asked.into_iter().map(|asked| asked.anchor).collect();
        let mut rng = Rng::new(job.seed, &format!("diff-quickfix/{name}"), 0);
        let noise = Noise::new(rng.next_u64(), DType::F32, &model.pipeline.device);
        Ok(Self {
            model,
            unet,
            vars,
            optimiser,
            schedule: Schedule::new(&ScheduleSettings::stable_diffusion(), Precision::Single)?,
            rng,
            noise,
            concepts: model.hidden(&concepts)?,
            anchors: model.hidden(&anchors)?,
            empty: model.hidden(&[String::new()])?,
            begun,
            judged: Duration::ZERO,
            passes: 0.0,
            matched: None,
        })
    }

    fn shape(&self, batch: usize) -> [usize; 4] {
        let config = self.unet.config();
        let side = config.sample_size.unwrap_or(64);
        [batch, config.in_channels, side, side]
    }

    fn changed(&self) -> Result<Changed> {
        let copy = |(name, var): &(String, Var)| Ok((name.clone(), var.as_tensor().detach().copy()?));
        Ok(Changed { unet: self.vars.iter().map(copy).collect::<Result<_>>()?, ..Changed::default() })
    }

    /// A step towards `target` (B, …) from `x` at `timesteps` under `text`.
    fn step(&mut self, x: &Tensor, timesteps: &[f64], text: &Tensor, target: &Tensor) -> Result<()> {
        let predicted = self.unet.forward(x, timesteps, text, &mut NoTap)?;
        let loss = sd_mini::losses::mse(&predicted, &target.detach())?;
        self.optimiser.step(&loss.backward()?)?;
        // Forward, and backward through the activations alone: most weights are frozen.
        self.passes += 2.0 * x.dims()[0] as f64;
        Ok(())
    }

    fn predict(
        &mut self,
        unet: Option<&UNet2DConditionModel>,
        x: &Tensor,
        timesteps: &[f64],
        text: &Tensor,
    ) -> Result<Tensor> {
        self.passes += x.dims()[0] as f64;
        Ok(unet.unwrap_or(&self.unet).forward(x, timesteps, text, &mut NoTap)?.detach())
    }

    /// What was taken up to now.
    fn taken(&self, iterations: usize) -> Result<Matched> {
        self.model.pipeline.device.synchronize()?;
        let seconds = self.begun.elapsed().saturating_sub(self.judged).as_secs_f64();
        let flops = self.passes * pass_flops(self.model)?;
        Ok(Matched { seconds, flops, iterations })
    }

    /// Behind step number `iterations`: looks, now and then, whether the concept is gone for the first time.
    fn look(&mut self, job: &mut Job<'_>, iterations: usize) -> Result<()> {
        if self.matched.is_some() || !iterations.is_multiple_of(job.every) {
            return Ok(());
        }
        let here = self.taken(iterations)?;
        let begun = Instant::now();
        if (job.is_gone)(&self.changed()?)? {
            self.matched = Some(here);
        }
        self.judged += begun.elapsed();
        Ok(())
    }

    fn finished(self, job: &Job<'_>, iterations: usize, pictures: f64) -> Result<Applied> {
        let all = self.taken(iterations)?;
        let was_looked_at = job.every < usize::MAX;
        Ok(Applied {
            changed: self.changed()?,
            seconds: all.seconds,
            pictures,
            flops: all.flops,
            iterations,
            arrived: was_looked_at.then_some(self.matched.is_some()),
            matched: was_looked_at.then(|| self.matched.unwrap_or(all)),
            ..Applied::default()
        })
    }

    /// One caption's vectors, as many times as there are rows.
    fn rows(of: &Tensor, rows: &[usize]) -> Result<Tensor> {
        let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        Ok(of.index_select(&Tensor::new(rows, of.device())?, 0)?)
    }
}

/// The prediction under the concept's caption is drawn to the model's own, not followed backwards, under the anchor's, on noisy pictures of the
/// anchor (the model-based variant).
pub(super) fn ablate(job: &mut Job<'_>, ablation: &ConceptAblation) -> Result<Applied> {
    let is_trained = |name: &str| name.contains("attn2.to_k") || name.contains("attn2.to_v");
    let mut training = Training::new(job, ablation.lr, "concept-ablation", is_trained)?;
    let (latents, captions) = anchor_pictures(job, ablation.anchors)?;
    let pictures = training.begun.elapsed().as_secs_f64();
    training.passes +=
        (ablation.anchors * job.making.steps * if job.making.guidance > 1.0 { 2 } else { 1 }) as f64;
    for step in 0..ablation.steps {
        let picked: Vec<usize> =
            (0..ablation.batch).map(|_| training.rng.below(ablation.anchors as u64) as usize).collect();
        let timesteps: Vec<usize> = (0..ablation.batch).map(|_| training.rng.below(1000) as usize).collect();
        let noise = training.noise.draw(&training.shape(ablation.batch))?;
        let x = training.schedule.add_noise(&Training::rows(&latents, &picked)?, &noise, &timesteps)?;
        let times: Vec<f64> = timesteps.iter().map(|&t| t as f64).collect();
        let said: Vec<usize> = picked.iter().map(|&row| captions[row]).collect();
        let target = {
            let text = Training::rows(&training.anchors, &said)?;
            training.predict(None, &x, &times, &text)?
        };
        let text = Training::rows(&training.concepts, &said)?;
        training.step(&x, &times, &text, &target)?;
        training.look(job, step + 1)?;
    }
    training.finished(job, ablation.steps, pictures)
}

/// Latents of pictures of the anchor (N, 4, h, w), and the number of each one's caption.
fn anchor_pictures(job: &Job<'_>, count: usize) -> Result<(Tensor, Vec<usize>)> {
    let asked = training_captions(job);
    let captions: Vec<usize> = (0..count).map(|index| index % asked.len()).collect();
    let mut all = Vec::new();
    for (chunk, some) in captions.chunks(TOGETHER).enumerate() {
        let mut request = Request::new(String::new());
        request.prompts = some.iter().map(|&caption| asked[caption].anchor.clone()).collect();
        (request.steps, request.guidance) = (job.making.steps, job.making.guidance);
        request.seed = Rng::new(job.seed, "diff-quickfix/anchors", chunk as u64).next_u64();
        let pictures = job.model.pipeline.generate(&request, &mut sd_core::pipeline::Unwatched)?;
        all.push(pictures.latents);
    }
    Ok((Tensor::cat(&all, 0)?, captions))
}

/// From a picture of the concept that the model under training has denoised in part, the prediction under the concept's caption is drawn to
/// `ε₀(z, ∅) − η·(ε₀(z, c) − ε₀(z, ∅))` of the original model.
pub(super) fn erase(job: &mut Job<'_>, esd: &Esd) -> Result<Applied> {
    let mut training = Training::new(job, esd.lr, "esd", |name| name.contains(".attn2."))?;
    let original = &job.model.pipeline.unet;
    for step in 0..esd.steps {
        let caption = step % training.concepts.dims()[0];
        let text = Training::rows(&training.concepts, &[caption])?;
        let (z, timestep) = partly_denoised(&mut training, esd, &text)?;
        let both = Tensor::cat(&[&training.empty, &text], 0)?;
        let twice = Tensor::cat(&[&z, &z], 0)?;
        let predicted = training.predict(Some(original), &twice, &[timestep], &both)?;
        let (empty, concept) = (predicted.narrow(0, 0, 1)?, predicted.narrow(0, 1, 1)?);
        let target = (&empty - ((concept - &empty)? * esd.eta)?)?;
        training.step(&z, &[timestep], &text, &target)?;
        training.look(job, step + 1)?;
    }
    training.finished(job, esd.steps, 0.0)
}

/// Latents (1, 4, h, w) before a random step of the sampler, and that step's time.
fn partly_denoised(training: &mut Training<'_>, esd: &Esd, text: &Tensor) -> Result<(Tensor, f64)> {
    let scheduler =
        training.model.pipeline.scheduler.convert(sd_core::sampling::SamplerKind::Ddim)?.for_latents()?;
    let sampler = Sampler::new(scheduler.settings(), esd.sampler_steps, Precision::Single)?;
    let until = training.rng.below(esd.sampler_steps as u64) as usize;
    let mut latents = (training.noise.draw(&training.shape(1))? * sampler.init_noise_sigma())?;
    let both = Tensor::cat(&[&training.empty, text], 0)?;
    let mut state = State::new();
    for index in 0..until {
        let input = sampler.scale_model_input(&latents, index)?;
        let twice = Tensor::cat(&[&input, &input], 0)?;
        let output = training.predict(None, &twice, &[sampler.timesteps()[index]], &both)?;
        let halves = [&output.narrow(0, 0, 1)?, &output.narrow(0, 1, 1)?];
        latents = sampler.guided_step(&mut state, halves, esd.guidance, index, &latents, None)?.detach();
    }
    Ok((sampler.scale_model_input(&latents, until)?, sampler.timesteps()[until]))
}
