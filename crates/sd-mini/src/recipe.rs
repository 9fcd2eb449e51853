//! The recipe: everything that determines the weights, as it stands in `experiments/sd-mini/*.yaml`.

use anyhow::ensure;
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
    /// Training, together with the image tower.
    pub training: Training,
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
    /// Training.
    pub training: Training,
    /// Steps between two sheets of samples; 0 for none.
    #[serde(default)]
    pub samples_every: u64,
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
        let refuse = |path: &str, expected: &str, found: String| -> anyhow::Result<()> {
            Err(document.error_at(path, expected, found, "").into())
        };
        if self.seed == self.judges_seed {
            refuse("judges_seed", "another seed than `seed`", self.judges_seed.to_string())?;
        }
        if self.side == 0 || !self.side.is_multiple_of(32) {
            refuse("side", "a multiple of 32", self.side.to_string())?;
        }
        if !(3..=77).contains(&self.text.positions) {
            refuse("text.positions", "3 to 77", self.text.positions.to_string())?;
        }
        for (path, width, heads) in [
            ("text.heads", self.text.width, self.text.heads),
            ("unet.heads", self.unet.channels.iter().fold(0, |all, &one| gcd(all, one)), self.unet.heads),
        ] {
            if heads == 0 || width % heads != 0 {
                refuse(path, &format!("a divisor of {width}"), heads.to_string())?;
            }
        }
        for (path, channels) in [
            ("vae.channels", self.vae.channels.as_slice()),
            ("unet.channels", self.unet.channels.as_slice()),
            ("judges.channels", self.judges.channels.as_slice()),
        ] {
            if channels.is_empty() || channels.iter().any(|&one| one == 0 || one % 8 != 0) {
                refuse(path, "multiples of 8, the groups of all norms", format!("{channels:?}"))?;
            }
        }
        if !(0.0..1.0).contains(&self.unet.caption_dropout) {
            refuse("unet.caption_dropout", "at least 0 and below 1", self.unet.caption_dropout.to_string())?;
        }
        self.trainings().into_iter().try_for_each(|(path, training)| training.check(path, document))?;
        ensure!(
            self.unet.pictures >= self.unet.training.batch,
            document.error_at(
                "unet.pictures",
                format!("at least a batch, {}", self.unet.training.batch),
                self.unet.pictures,
                ""
            )
        );
        Ok(())
    }
}

impl Training {
    fn check(&self, path: &str, document: &Document) -> anyhow::Result<()> {
        let at = |key: &str| format!("{path}.{key}");
        ensure!(self.steps > 0, document.error_at(&at("steps"), "at least 1", self.steps, ""));
        ensure!(self.batch > 0, document.error_at(&at("batch"), "at least 1", self.batch, ""));
        ensure!(
            (0.0..=1.0).contains(&self.floor),
            document.error_at(&at("floor"), "0 to 1", self.floor, "it is a share of the peak")
        );
        if let Some(ema) = self.ema {
            ensure!((0.0..1.0).contains(&ema), document.error_at(&at("ema"), "0 to below 1", ema, ""));
        }
        if let Some(clip) = self.clip {
            ensure!(clip > 0.0, document.error_at(&at("clip"), "above 0", clip, "leave it out for none"));
        }
        self.optimiser.validate().map_err(|fault| {
            document.error_at(&at("optimiser"), fault.expected, fault.found, fault.key).into()
        })
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
