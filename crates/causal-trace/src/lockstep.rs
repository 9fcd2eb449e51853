//! Runs that advance together: clean, corrupted and every restored one are rows of one batch.
//!
//! At every step the UNet sees, for each run, a row without the prompt and one with it. A restored run's activation is replaced inside the
//! pass by that of another row: nothing is stored, and the clean trajectory is computed once for all (specification, section 6, technique
//! 1). Rows whose values are not needed are not computed: a run that gets a whole residual stream from another one needs nothing before
//! that but the skip connections used later (technique 3), and in the first step, where all latents are equal, runs are one row until
//! their ways part (technique 4). None of this changes a bit of any run.

mod rows;
mod tap;

use std::ops::Range;

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Tensor};
use sd_core::models::unet;
use sd_core::pipeline::{Noise, Request, StableDiffusion};
use sd_core::sampling::{Sampler, SamplerKind, State};
use sd_core::taps::Site;
use serde::{Deserialize, Serialize};

use self::rows::Layout;
use crate::network::Network;

/// Which half of classifier-free guidance is restored.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Half {
    /// The rows with the prompt.
    #[default]
    Cond,
    /// The rows without it.
    Uncond,
    /// Both.
    Both,
}

impl Half {
    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cond => "cond",
            Self::Uncond => "uncond",
            Self::Both => "both",
        }
    }

    fn has_cond(self) -> bool {
        self != Self::Uncond
    }

    fn has_uncond(self) -> bool {
        self != Self::Cond
    }
}

/// Where restored values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Donor {
    /// Another run, by its index: its activation at the same step. It must not be restored itself.
    Run(usize),
    /// This run's own latents, with the text of the run of this index: a second row of the same pass (mode `own-latent`, trap T5).
    OwnLatent(usize),
}

/// What is done to the donor's values on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    #[default]
    None,
    /// Control N3: channels are permuted, in the same way everywhere.
    Permuted,
    /// Control N4: Gaussian noise of equal norm.
    Noise,
}

/// What is restored in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patch {
    /// The activations.
    pub sites: Vec<Site>,
    /// Where their values come from.
    pub donor: Donor,
    /// What is done to them.
    pub change: Change,
}

/// One of the runs that advance together.
#[derive(Clone, Debug)]
pub struct Run {
    /// What the UNet is told: an index into the texts.
    pub text: usize,
    /// What is restored; nothing in a plain generation.
    pub patch: Option<Patch>,
}

/// How pictures are made, and how much memory that may take.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Steps of the sampler.
    pub steps: usize,
    /// g in `uncond + g·(cond − uncond)`.
    pub guidance: f64,
    /// The sampler; `None` is the model's own.
    pub sampler: Option<SamplerKind>,
    /// Seed of the latents that every run starts from.
    pub seed: u64,
    /// (height, width) in pixels; `None` is what the model was trained on.
    pub size: Option<[usize; 2]>,
    /// Which half is restored.
    pub half: Half,
    /// Steps of the sampler in which is restored; `None` is all.
    pub restored_steps: Option<Range<usize>>,
    /// Bytes that activations may take; `None` is no limit.
    pub memory: Option<u64>,
    /// Whether rows that are not needed are left out. The same bits, faster.
    pub scheduled: bool,
}

impl Default for Settings {
    /// Specification, section 2.3: 50 steps of DDIM, guidance 7.5, the half with the prompt, all steps.
    fn default() -> Self {
        Self {
            steps: 50,
            guidance: 7.5,
            sampler: Some(SamplerKind::Ddim),
            seed: 0,
            size: None,
            half: Half::Cond,
            restored_steps: None,
            memory: None,
            scheduled: true,
        }
    }
}

impl Settings {
    fn request(&self) -> Request {
        let mut request = Request::new(String::new());
        (request.steps, request.guidance, request.sampler, request.seed) =
            (self.steps, self.guidance, self.sampler, self.seed);
        (request.height, request.width) = (self.size.map(|size| size[0]), self.size.map(|size| size[1]));
        request
    }
}

/// What the runs came to.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The latents after the last step, a row for each run.
    pub latents: Tensor,
    /// Passes of one row through the whole UNet, rows that were left out for a part of the way counted by the share of modules.
    pub row_passes: f64,
    /// Chunks that the memory made necessary.
    pub chunks: usize,
}

/// Told of each step of each chunk: a share of the work that is done.
pub type Told<'t> = dyn FnMut(f64) + 't;

/// Runs of one model that start from the same latents.
pub struct Lockstep<'a> {
    model: &'a StableDiffusion,
    settings: &'a Settings,
    /// Texts (T, D): the one without the prompt, and those that runs name.
    uncond: Tensor,
    texts: &'a [Tensor],
    network: Network,
    sampler: Sampler,
    start: Tensor,
    noise: Noise,
}

impl<'a> Lockstep<'a> {
    /// Draws the latents that every run starts from.
    ///
    /// # Errors
    /// Where the settings do not go with the model.
    pub fn new(model: &'a StableDiffusion, settings: &'a Settings, texts: &'a [Tensor]) -> Result<Self> {
        let request = settings.request();
        let size = model.size(&request)?;
        let sampler = model.sampler(&request)?;
        let dtype = model.latent_dtype();
        let mut noise = Noise::new(settings.seed, dtype, &model.device);
        let start = model.latents(1, size, &sampler, &mut noise)?;
        let uncond = model.encode(&[String::new()], &mut sd_core::taps::NoTap)?.get(0)?;
        let network = Network::of(model.unet.config())?;
        Ok(Self { model, settings, uncond, texts, network, sampler, start, noise })
    }

    /// Advances all `runs` to the last step.
    ///
    /// # Errors
    /// Where a run names a text, run or activation that is not there, the memory is too small for a single restored run, or a computation
    /// fails or gives infinite numbers.
    pub fn run(&self, runs: &[Run], told: &mut Told<'_>) -> Result<Outcome> {
        let chunks = self.planned(runs)?;
        let mut rows: Vec<Option<Tensor>> = vec![None; runs.len()];
        let mut row_passes = 0.0;
        let count = chunks.len();
        for (index, chunk) in chunks.iter().enumerate() {
            let mut told = |share: f64| told((index as f64 + share) / count as f64);
            let (latents, passes) = self.advance(runs, chunk, &mut told)?;
            row_passes += passes;
            for (place, &run) in chunk.iter().enumerate() {
                rows[run] = Some(latents.get(place)?);
            }
        }
        let rows: Vec<Tensor> = rows.into_iter().flatten().collect();
        Ok(Outcome { latents: Tensor::stack(&rows, 0)?, row_passes, chunks: count })
    }

    fn check(&self, runs: &[Run]) -> Result<()> {
        ensure!(!runs.is_empty(), "no run to advance; expected at least one");
        let restores = runs.iter().any(|run| run.patch.is_some());
        ensure!(
            self.is_guided() || self.settings.half == Half::Cond || !restores,
            "guidance {} leaves out the half without the prompt, and `{}` would restore it\n  expected: guidance above 1, or the half `cond`",
            self.settings.guidance,
            self.settings.half.name()
        );
        let steps = self.sampler.evaluations();
        if let Some(range) = &self.settings.restored_steps {
            ensure!(
                range.start < range.end && range.end <= steps,
                "restoring in steps {}..{} of {steps}\n  expected: a range within 0..{steps} that is not empty",
                range.start,
                range.end
            );
        }
        for (index, run) in runs.iter().enumerate() {
            ensure!(
                run.text < self.texts.len(),
                "run {index} names text {} of {}",
                run.text,
                self.texts.len()
            );
            let Some(patch) = &run.patch else { continue };
            match patch.donor {
                Donor::OwnLatent(donor) | Donor::Run(donor) if donor >= runs.len() => {
                    bail!(
                        "run {index} takes values of run {donor} of {}; runs are counted from 0",
                        runs.len()
                    )
                }
                Donor::Run(donor) if runs[donor].patch.is_some() => {
                    bail!(
                        "run {index} takes values of run {donor}, which is restored itself; name one that is not"
                    )
                }
                _ => {}
            }
            patch.sites.iter().try_for_each(|site| self.network.home(site).map(|_| ()))?;
        }
        Ok(())
    }

    fn is_guided(&self) -> bool {
        self.settings.guidance > 1.0
    }

    /// Which runs are computed at a time, by their numbers.
    ///
    /// # Errors
    /// Where [`Lockstep::run`] refuses them before it computes anything.
    pub fn planned(&self, runs: &[Run]) -> Result<Vec<Vec<usize>>> {
        self.check(runs)?;
        let (_, _, height, width) = self.start.dims4()?;
        let row = row_bytes(self.model.unet.config(), [height, width], self.model.dtype);
        chunked(runs, self.is_guided(), row, self.settings.memory)
    }

    /// The latents of the runs of a chunk after the last step, and the row passes.
    fn advance(&self, runs: &[Run], chunk: &[usize], told: &mut Told<'_>) -> Result<(Tensor, f64)> {
        let layout = Layout::new(&self.network, runs, chunk, self.settings.half, self.is_guided())?;
        let context = self.context(runs, &layout)?;
        let mut latents = self.start.repeat((chunk.len(), 1, 1, 1))?;
        let (mut state, mut noise) = (State::new(), self.noise.clone());
        let steps = self.sampler.evaluations();
        let mut row_passes = 0.0;
        for step in 0..steps {
            let restored = self.settings.restored_steps.as_ref().is_none_or(|range| range.contains(&step));
            let scheduled = self.settings.scheduled;
            let pass = layout.pass(
                restored,
                scheduled,
                scheduled && step == 0,
                [self.settings.seed, step as u64],
            )?;
            row_passes += pass.row_passes;
            let input = layout.input(&self.sampler.scale_model_input(&latents, step)?)?;
            let timestep = self.sampler.timesteps()[step];
            let input = input.to_dtype(self.model.dtype)?;
            let mut tap = pass.tap;
            let unet = &self.model.unet;
            let output = unet.forward_rows(&input, &[timestep], &context, &pass.plan, &mut tap)?;
            let output = output.to_dtype(latents.dtype())?;
            latents = self.step(&mut state, &output, step, &latents, &mut noise)?;
            told((step + 1) as f64 / steps as f64);
        }
        let sum = latents.to_dtype(DType::F64)?.sum_all()?.to_scalar::<f64>()?;
        ensure!(
            sum.is_finite(),
            "a run came to infinite numbers or none: do the weights belong to this model?"
        );
        Ok((latents, row_passes))
    }

    /// What each row of the batch is told.
    fn context(&self, runs: &[Run], layout: &Layout<'_>) -> Result<Tensor> {
        let text = |run: usize| -> Result<&Tensor> {
            self.texts.get(runs[run].text).context("a run names a text that is not there")
        };
        let texts: Vec<&Tensor> =
            layout.rows().map(|row| row.told_by.map_or(Ok(&self.uncond), text)).collect::<Result<_>>()?;
        Ok(Tensor::stack(&texts, 0)?)
    }

    fn step(
        &self,
        state: &mut State,
        output: &Tensor,
        step: usize,
        latents: &Tensor,
        noise: &mut Noise,
    ) -> Result<Tensor> {
        let count = latents.dims()[0];
        let fresh = self.sampler.takes_noise(step).then(|| noise.draw(self.start.dims())).transpose()?;
        // All runs share the noise.
        let fresh = fresh.map(|fresh| fresh.repeat((count, 1, 1, 1))).transpose()?;
        let first = output.narrow(0, 0, count)?;
        if !self.is_guided() {
            return Ok(self.sampler.step(state, &first, step, latents, fresh.as_ref())?);
        }
        let halves = [&first, &output.narrow(0, count, count)?];
        Ok(self.sampler.guided_step(state, halves, self.settings.guidance, step, latents, fresh.as_ref())?)
    }
}

/// Rows of the UNet's batch that a run needs.
fn rows_of(run: &Run, is_guided: bool) -> usize {
    let own = matches!(run.patch, Some(Patch { donor: Donor::OwnLatent(_), .. }));
    1 + usize::from(is_guided) + usize::from(own)
}

/// Runs that fit into a memory of so many bytes together, by their numbers, each with the donor that it needs: what is computed at a time. A
/// row takes `row` bytes, see [`row_bytes`].
///
/// # Errors
/// Where the memory does not hold a single run and its donor.
pub fn chunked(runs: &[Run], is_guided: bool, row: u64, memory: Option<u64>) -> Result<Vec<Vec<usize>>> {
    let Some(budget) = memory else { return Ok(vec![(0..runs.len()).collect()]) };
    let capacity = (budget / row.max(1)) as usize;
    let donor = |run: usize| match runs[run].patch {
        Some(Patch { donor: Donor::Run(donor), .. }) => Some(donor),
        _ => None,
    };
    let mut chunks: Vec<Vec<usize>> = Vec::new();
    let mut filled = usize::MAX;
    for run in 0..runs.len() {
        let adds = |chunk: Option<&Vec<usize>>| {
            let new = |run: usize| chunk.is_none_or(|chunk| !chunk.contains(&run));
            let mut adds: Vec<usize> = donor(run).into_iter().filter(|&donor| new(donor)).collect();
            adds.extend(new(run).then_some(run));
            adds
        };
        let rows = |adds: &[usize]| adds.iter().map(|&run| rows_of(&runs[run], is_guided)).sum::<usize>();
        let mut more = adds(chunks.last());
        if filled.saturating_add(rows(&more)) > capacity {
            chunks.push(Vec::new());
            filled = 0;
            more = adds(None);
        }
        filled += rows(&more);
        ensure!(
            filled <= capacity,
            "a run and its donor need {filled} rows of {} MB; the memory budget of {} MB holds {capacity}\n  help: allow at least {} MB",
            row.div_ceil(MEGABYTE),
            budget / MEGABYTE,
            (row * filled as u64).div_ceil(MEGABYTE)
        );
        if let Some(chunk) = chunks.last_mut() {
            chunk.extend(more);
        }
    }
    Ok(chunks)
}

/// As memory budgets are typed.
const MEGABYTE: u64 = 1_000_000;

/// Bytes that one row of a pass takes at most, estimated: all skip connections, and at the finest level the joined input of a residual
/// block with its two temporaries, or the feed-forward's gates.
#[must_use]
pub fn row_bytes(config: &unet::Config, [height, width]: [usize; 2], dtype: DType) -> u64 {
    let Some(finest) = config.levels.first() else { return 0 };
    let area = |level: usize| (height >> level).max(1) * (width >> level).max(1);
    let skips: usize = config
        .levels
        .iter()
        .enumerate()
        .map(|(index, level)| (level.layers + 1) * level.channels * area(index))
        .sum();
    // Joined input, its norm, the convolution's tiles; or 2·4·C gates, 4·C products and the stream.
    let working = area(0) * finest.channels * 16;
    ((skips + working) * dtype.size_in_bytes()) as u64
}
