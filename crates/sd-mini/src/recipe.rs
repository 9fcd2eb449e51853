//! The recipe: everything that determines the weights, as it stands in `experiments/sd-mini/*.yaml`.

use std::fmt::Display;

use diffgrad::optim::OptimiserConfig;
use lab::config::Document;
use schemars::JsonSchema;
use sd_core::train::{Decay, Schedule};
use serde::{Deserialize, Serialize};

/// A small Stable Diffusion and its judges, from nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What this recipe is for.
    pub about: String,
    /// Seed of the pipeline: initial values, training pictures, noise.
    pub seed: u64,
    /// Seed of the judges. It differs from `seed`, so that no judge shares pictures or initial values with the pipeline.
    pub judges_seed: u64,
    /// Side of the pictures in pixels; a multiple of 32.
    pub side: usize,
    /// The text encoder.
    pub text: TextRecipe,
    /// The autoencoder.
    pub vae: VaeRecipe,
    /// The denoiser.
    pub unet: UnetRecipe,
    /// Who judges the pictures.
    pub judges: JudgesRecipe,
    /// How the gates are measured.
    pub gates: GatesRecipe,
}

/// How a network is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Steps of the optimiser.
    pub steps: u64,
    /// Examples a step.
    pub batch: usize,
    /// The optimiser, any of the crate `diffgrad`; its `lr` is the peak of the schedule.
    pub optimiser: OptimiserConfig,
    /// Steps over which the learning rate rises linearly from 0.
    #[serde(default)]
    pub warmup: u64,
    /// What the learning rate does after that.
    #[serde(default)]
    pub decay: Fall,
    /// What is left of the peak at the end of a falling schedule, 0 to 1.
    #[serde(default)]
    pub floor: f64,
    /// Decay of the averaged weights, which are the ones that are kept; none: the last weights are kept.
    #[serde(default)]
    pub ema: Option<f64>,
    /// Largest norm of the gradient.
    #[serde(default)]
    pub clip: Option<f64>,
}

/// The course of the learning rate behind the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fall {
    /// It stays.
    #[default]
    Constant,
    /// Half a cosine.
    Cosine,
    /// A straight line.
    Linear,
}

impl Training {
    /// The learning rate by step.
    #[must_use]
    pub fn schedule(&self) -> Schedule {
        let decay = match self.decay {
            Fall::Constant => Decay::Constant,
            Fall::Cosine => Decay::Cosine,
            Fall::Linear => Decay::Linear,
        };
        Schedule { peak: self.optimiser.lr, warmup: self.warmup, decay, steps: self.steps, floor: self.floor }
    }
}

/// The text encoder (transformers' `CLIPTextModel`), trained contrastively with an image tower and then frozen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextRecipe {
    /// Channels.
    pub width: usize,
    /// Layers.
    pub layers: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Positions: the longest prompt, begin and end of text counted.
    pub positions: usize,
    /// Standard deviation of the embeddings of tokens and positions before the first step; CLIP's is 0.02.
    #[serde(default = "unit")]
    pub embedding_std: f64,
    /// Whether half of a batch are hard negatives: groups of up to eight captions that differ in one thing they say, and their pictures. Values
    /// that look alike are told apart sooner.
    #[serde(default)]
    pub hard_negatives: bool,
    /// Largest scale of the cosines in the contrastive loss; CLIP's is 100. The smaller it is, the farther apart captions must lie that say
    /// different things.
    #[serde(default = "largest_scale")]
    pub largest_scale: f64,
    /// Training, together with the image tower.
    pub training: Training,
}

fn unit() -> f64 {
    1.0
}

fn largest_scale() -> f64 {
    crate::clip::LARGEST_SCALE
}

/// The autoencoder (diffusers' `AutoencoderKL`), trained with `mean |x − x̂| + mse·mean (x − x̂)² + kl·mean KL`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VaeRecipe {
    /// Channels of each level, from fine to coarse; each level but the last halves the resolution.
    pub channels: Vec<usize>,
    /// Residual blocks a level of the encoder.
    pub layers: usize,
    /// Weight of the mean square.
    pub mse: f64,
    /// Weight of the mean Kullback–Leibler divergence of a number of the latent from N(0, 1).
    pub kl: f64,
    /// Training.
    pub training: Training,
}

/// The denoiser (diffusers' `UNet2DConditionModel`) with exactly Stable Diffusion's topology: four levels of two residual blocks,
/// attention on the upper three and in the middle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnetRecipe {
    /// Channels of the four levels.
    pub channels: [usize; 4],
    /// Heads of attention.
    pub heads: usize,
    /// Pictures whose latents are trained on, drawn and encoded once.
    pub pictures: usize,
    /// Share of captions that are left empty, for classifier-free guidance.
    pub caption_dropout: f64,
    /// Cap `c` of the weights `min(1 + 1/SNR(t), c)` of the squared errors of the noise, which are divided by their mean over the
    /// timesteps. 1 weighs all timesteps alike, as Stable Diffusion does; a large one weighs as the prediction of velocity does.
    #[serde(default = "one")]
    pub weight_cap: f64,
    /// Equal parts of a batch that are computed side by side, one a core: for a small network much faster than two cores on one batch. It
    /// changes the order of sums, and so is part of the recipe.
    #[serde(default = "whole")]
    pub parts: usize,
    /// Training.
    pub training: Training,
    /// Steps between two sheets of samples; 0 for none.
    #[serde(default)]
    pub samples_every: u64,
}

fn one() -> f64 {
    1.0
}

fn whole() -> usize {
    1
}

/// Who judges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgesRecipe {
    /// Channels of the convolutional networks' stages, each at half the resolution of the one before.
    pub channels: Vec<usize>,
    /// A second pair of text encoder and image tower.
    pub clip: Training,
    /// The classifier of attributes.
    pub classifier: Training,
    /// The regressor of a face's 68 landmarks.
    pub landmarks: Training,
    /// A second classifier, whose features the Fréchet distance is taken in.
    pub frechet: Training,
}

/// How the gates are measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GatesRecipe {
    /// Captions a gate is measured on.
    pub captions: usize,
    /// Steps of DDIM.
    pub steps: usize,
    /// Guidance.
    pub guidance: f64,
}

impl Recipe {
    /// Reads and checks a recipe.
    ///
    /// # Errors
    /// With file and line where a key or value is not understood, or values do not go together.
    pub fn decode(document: &Document) -> anyhow::Result<Self> {
        let recipe: Self = document.decode()?;
        recipe.check(document)?;
        Ok(recipe)
    }

    /// Every training by the path of its key.
    fn trainings(&self) -> [(&'static str, &Training); 7] {
        [
            ("text.training", &self.text.training),
            ("vae.training", &self.vae.training),
            ("unet.training", &self.unet.training),
            ("judges.clip", &self.judges.clip),
            ("judges.classifier", &self.judges.classifier),
            ("judges.landmarks", &self.judges.landmarks),
            ("judges.frechet", &self.judges.frechet),
        ]
    }

    fn check(&self, document: &Document) -> anyhow::Result<()> {
        let checks = Checks { document };
        self.check_seeds(&checks)?;
        self.check_sizes(&checks)?;
        self.check_numbers(&checks)?;
        self.trainings().into_iter().try_for_each(|(path, training)| training.check(path, &checks))
    }

    fn check_seeds(&self, checks: &Checks<'_>) -> anyhow::Result<()> {
        let own = self.seed != self.judges_seed && self.seed != self.judges_seed.wrapping_add(1);
        let expected =
            "a seed so that neither it nor the next one is `seed`: judges share no picture with the pipeline";
        checks.that(own, "judges_seed", expected, self.judges_seed)
    }

    fn check_sizes(&self, checks: &Checks<'_>) -> anyhow::Result<()> {
        let side = self.side;
        checks.that(side > 0 && side.is_multiple_of(32), "side", "a multiple of 32", side)?;
        let positions = self.text.positions;
        let expected = "20 to 77: the longest caption has 18 words, and begin and end of text";
        checks.that((20..=77).contains(&positions), "text.positions", expected, positions)?;
        let std = self.text.embedding_std;
        checks.that(std > 0.0, "text.embedding_std", "a number above 0", std)?;
        let scale = self.text.largest_scale;
        checks.that(scale > 1.0 && scale.is_finite(), "text.largest_scale", "a number above 1", scale)?;
        checks.that(self.text.layers > 0, "text.layers", "at least 1", self.text.layers)?;
        checks.that(self.vae.layers > 0, "vae.layers", "at least 1", self.vae.layers)?;
        let common = self.unet.channels.iter().fold(0, |all, &one| gcd(all, one));
        checks.divides("text.heads", self.text.heads, self.text.width)?;
        checks.divides("unet.heads", self.unet.heads, common)?;
        // What is left of a side behind the autoencoder is halved three times by the denoiser.
        checks.channels("vae.channels", &self.vae.channels, side / 8)?;
        checks.channels("unet.channels", &self.unet.channels, usize::MAX)?;
        checks.channels("judges.channels", &self.judges.channels, side / 2)
    }

    fn check_numbers(&self, checks: &Checks<'_>) -> anyhow::Result<()> {
        let (unet, gates, not_negative) = (&self.unet, &self.gates, |x: f64| x >= 0.0 && x.is_finite());
        let dropout = unet.caption_dropout;
        checks.that(
            (0.0..1.0).contains(&dropout),
            "unet.caption_dropout",
            "at least 0 and below 1",
            dropout,
        )?;
        let cap = unet.weight_cap;
        checks.that(cap >= 1.0 && cap.is_finite(), "unet.weight_cap", "a number of at least 1", cap)?;
        checks.that(not_negative(self.vae.mse), "vae.mse", "at least 0", self.vae.mse)?;
        checks.that(not_negative(self.vae.kl), "vae.kl", "at least 0", self.vae.kl)?;
        let batch = unet.training.batch;
        checks.divides("unet.parts", unet.parts, batch)?;
        checks.that(
            unet.pictures >= batch,
            "unet.pictures",
            format!("at least a batch, {batch}"),
            unet.pictures,
        )?;
        let sampled = unet.samples_every == 0 || unet.training.ema.is_some();
        checks.that(
            sampled,
            "unet.samples_every",
            "0 without `ema`: samples are of averaged weights",
            unet.samples_every,
        )?;
        checks.that(
            gates.captions >= 40,
            "gates.captions",
            "at least 40, to have 32 to choose from",
            gates.captions,
        )?;
        checks.that((1..=1000).contains(&gates.steps), "gates.steps", "1 to 1000", gates.steps)?;
        checks.that(gates.guidance.is_finite(), "gates.guidance", "a number", gates.guidance)
    }
}

/// Refuses values with their place in the document.
struct Checks<'d> {
    document: &'d Document,
}

impl Checks<'_> {
    fn that(
        &self,
        holds: bool,
        path: &str,
        expected: impl Display,
        found: impl Display,
    ) -> anyhow::Result<()> {
        if holds {
            Ok(())
        } else {
            Err(self.document.error_at(path, expected, found, "change it in the recipe").into())
        }
    }

    fn divides(&self, path: &str, divisor: usize, of: usize) -> anyhow::Result<()> {
        let holds = divisor > 0 && of.is_multiple_of(divisor);
        self.that(holds, path, format!("a divisor of {of}"), divisor)
    }

    /// Multiples of 8, and no more levels than halve `side` down to 1.
    fn channels(&self, path: &str, channels: &[usize], side: usize) -> anyhow::Result<()> {
        let eights = !channels.is_empty() && channels.iter().all(|&one| one > 0 && one.is_multiple_of(8));
        self.that(eights, path, "multiples of 8, the groups of all norms", format!("{channels:?}"))?;
        let most = side.ilog2() as usize + 1;
        self.that(
            channels.len() <= most,
            path,
            format!("at most {most} of them at this `side`"),
            channels.len(),
        )
    }
}

impl Training {
    fn check(&self, path: &str, checks: &Checks<'_>) -> anyhow::Result<()> {
        let at = |key: &str| format!("{path}.{key}");
        checks.that(self.steps > 0, &at("steps"), "at least 1", self.steps)?;
        checks.that(self.batch > 0, &at("batch"), "at least 1", self.batch)?;
        checks.that(
            (0.0..=1.0).contains(&self.floor),
            &at("floor"),
            "0 to 1, a share of the peak",
            self.floor,
        )?;
        let ema = self.ema.unwrap_or(0.0);
        checks.that((0.0..1.0).contains(&ema), &at("ema"), "at least 0 and below 1", ema)?;
        let clip = self.clip.unwrap_or(1.0);
        checks.that(clip > 0.0, &at("clip"), "above 0, or left out", clip)?;
        let refused = |fault: diffgrad::optim::ConfigFault| {
            checks.document.error_at(&at("optimiser"), fault.expected, fault.found, fault.key)
        };
        Ok(self.optimiser.validate().map_err(refused)?)
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
