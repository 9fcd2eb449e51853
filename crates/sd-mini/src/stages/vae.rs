//! The autoencoder.

use anyhow::Result;
use candle_core::{DType, Result as TensorResult, Tensor};
use sd_core::models::vae::AutoencoderKL;
use sd_core::nn::{Parameters, Scope};
use sd_core::taps::{Action, Site, Tap};
use sd_core::weights::Rules;
use serde_json::json;
use worlds::scenes::{Split, World};

use crate::workshop::{State, Task, Workshop};
use crate::{data, losses, networks};

/// Name of the stage.
pub const STAGE: &str = "vae";
/// Pictures that the scaling factor and the reconstruction error are measured on.
const MEASURED: usize = 512;
/// Pictures at once when no gradient is wanted.
const BATCH: usize = 32;

/// The trained autoencoder.
pub struct Vae {
    /// The network, frozen; its configuration has the scaling factor.
    pub model: AutoencoderKL,
    /// Its weights.
    pub state: State,
    /// Mean over test pictures of the peak signal-to-noise ratio of their reconstructions, in dB.
    pub psnr: f64,
}

/// Wants an activation, so that the autoencoder takes its batch at once and not picture by picture: small pictures keep no core busy
/// alone.
struct AtOnce;

impl Tap for AtOnce {
    fn wants(&self, site: &Site) -> bool {
        matches!(site.path(), "encoder.conv_in" | "decoder.conv_in")
    }

    fn visit(&mut self, _: &Site, _: &Tensor) -> TensorResult<Action> {
        Ok(Action::Keep)
    }
}

/// Latents' means (B, 4, h, w), not scaled, of pictures taken at once.
pub(crate) fn encode(vae: &AutoencoderKL, pictures: &Tensor) -> TensorResult<[Tensor; 2]> {
    let latents = vae.encode(pictures, &mut AtOnce)?;
    Ok([latents.mean, latents.logvar])
}

/// Pictures of latents, taken at once.
pub(crate) fn decode(vae: &AutoencoderKL, latents: &Tensor) -> TensorResult<Tensor> {
    vae.decode(latents, &mut AtOnce)
}

/// Trains the autoencoder, and measures it.
///
/// # Errors
/// Where the training fails or is interrupted.
pub fn train(workshop: &Workshop<'_>) -> Result<Vae> {
    let (recipe, training) = (&workshop.recipe, &workshop.recipe.vae.training);
    if let Some(state) = workshop.taken("model/vae")? {
        return measure(workshop, state);
    }
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, recipe.seed, DType::F32, &workshop.device);
    let vae = AutoencoderKL::new(&mut scope, &networks::autoencoder(recipe, 1.0))?;
    start_certain(&parameters)?;
    let world = World::new(recipe.seed, Split::Train);
    let mut task = |step| {
        let examples = data::examples(&world, step, training.batch);
        let pictures = data::pictures_of(&examples, recipe.side, &workshop.device)?;
        let [mean, logvar] = encode(&vae, &pictures)?;
        let first = step * training.batch as u64;
        let noise = data::noise(recipe.seed, "vae/noise", first, mean.dims(), &workshop.device)?;
        let latents = (&mean + ((&logvar * 0.5)?.exp()? * noise)?)?;
        let decoded = decode(&vae, &latents)?;
        let off = (losses::l1(&decoded, &pictures)? + (losses::mse(&decoded, &pictures)? * recipe.vae.mse)?)?;
        off + (losses::kl(&mean, &logvar)? * recipe.vae.kl)?
    };
    let depends = json!({
        "seed": recipe.seed, "side": recipe.side, "channels": recipe.vae.channels, "layers": recipe.vae.layers,
        "mse": recipe.vae.mse, "kl": recipe.vae.kl,
    });
    let state =
        workshop.fit(STAGE, training, &parameters, &depends, Task::Whole(&mut task), &mut |_, _| Ok(()))?;
    measure(workshop, state)
}

/// Lets the encoder start with little noise, ln σ² = −6: with σ = 1, which random weights give, thousands of steps pass before the decoder
/// hears anything beside the noise.
fn start_certain(parameters: &Parameters) -> TensorResult<()> {
    const LOGVAR: f32 = -6.0;
    let found = parameters.named().find(|(name, _)| *name == "quant_conv.bias");
    let Some((_, bias)) = found else { candle_core::bail!("the autoencoder has no quant_conv.bias") };
    let mut values = bias.to_vec1::<f32>()?;
    values[networks::LATENT_CHANNELS..].fill(LOGVAR);
    bias.set(&Tensor::new(values, bias.device())?)
}

/// The frozen network, with the factor that gives its latents a root mean square of 1, and its error.
fn measure(workshop: &Workshop<'_>, state: State) -> Result<Vae> {
    let recipe = &workshop.recipe;
    let build = |factor| {
        let config = networks::autoencoder(recipe, factor);
        workshop.frozen(&state, &Rules::strict(), |scope| AutoencoderKL::new(scope, &config))
    };
    let plain = build(1.0)?;
    let factor = scaling_factor(workshop, &plain)?;
    let psnr = reconstruction(workshop, &plain)?;
    Ok(Vae { model: build(factor)?, state, psnr })
}

/// `1/√mean μ²` over the means μ of training pictures.
fn scaling_factor(workshop: &Workshop<'_>, vae: &AutoencoderKL) -> Result<f64> {
    let (mut squares, mut numbers) = (0.0, 0usize);
    measured(workshop, &World::new(workshop.recipe.seed, Split::Train), |pictures| {
        let [mean, _] = encode(vae, pictures)?;
        squares += f64::from(mean.sqr()?.sum_all()?.to_scalar::<f32>()?);
        numbers += mean.elem_count();
        Ok(())
    })?;
    Ok((numbers as f64 / squares).sqrt())
}

/// Mean peak signal-to-noise ratio over test pictures, in dB.
fn reconstruction(workshop: &Workshop<'_>, vae: &AutoencoderKL) -> Result<f64> {
    let mut sum = 0.0;
    measured(workshop, &World::new(workshop.recipe.judges_seed, Split::Test), |pictures| {
        let [mean, _] = encode(vae, pictures)?;
        sum += peak_signal_to_noise(&decode(vae, &mean)?, pictures)?.iter().sum::<f64>();
        Ok(())
    })?;
    Ok(sum / MEASURED as f64)
}

/// Calls `look` with batch after batch of a world's pictures.
fn measured(
    workshop: &Workshop<'_>,
    world: &World,
    mut look: impl FnMut(&Tensor) -> TensorResult<()>,
) -> Result<()> {
    for step in 0..(MEASURED / BATCH) as u64 {
        let examples = data::examples(world, step, BATCH);
        look(&data::pictures_of(&examples, workshop.recipe.side, &workshop.device)?)?;
    }
    Ok(())
}

/// `−10·log₁₀ mean ((x − y)/2)²` of each picture in dB, where values go from −1 to 1; `x` is cut to that.
///
/// # Errors
/// Where shapes differ.
pub fn peak_signal_to_noise(x: &Tensor, y: &Tensor) -> TensorResult<Vec<f64>> {
    let off = (x.clamp(-1.0, 1.0)? - y)?.sqr()?.flatten_from(1)?.mean(1)?;
    Ok(off.to_vec1::<f32>()?.into_iter().map(|off| -10.0 * f64::from(off / 4.0).max(1e-12).log10()).collect())
}
