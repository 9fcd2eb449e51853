//! The UNet of Stable Diffusion 1.x at full size, with random weights: 3.4 GB, and seconds a pass.

use anyhow::Result;
use candle_core::{DType, Device, Tensor, Var};
use sd_core::models::unet::{Config, UNet2DConditionModel};
use sd_core::nn::{Init, Scope, Source};
use sd_core::rng::Rng;
use sd_core::taps::NoTap;

use super::{Amount, Case, Work};

/// Multiplications and additions of one row of the batch at 64×64 latents.
const FLOPS: u64 = 803_200_000_000;

/// Cases that are run where they are named alone: each takes gigabytes.
pub(super) fn all() -> Vec<Case> {
    let name = "unet_sd15/f32/b2s64/fwd".to_owned();
    vec![Case { name, work: Amount::Flops(2 * FLOPS), prepare: Box::new(prepare) }]
}

fn prepare() -> Result<Work> {
    let config = Config::from_json(r#"{"sample_size": 64, "cross_attention_dim": 768}"#)?;
    let mut weights = Uniform(Rng::new(0, "bench/unet", 0));
    let model = UNet2DConditionModel::new(&mut Scope::of(&mut weights), &config)?;
    let sample = weights.draw(&[2, 4, 64, 64], 1.7)?;
    let context = weights.draw(&[2, 77, 768], 1.7)?;
    let pass = move || model.forward(&sample, &[500.0], &context, &mut NoTap);
    let values = pass()?.flatten_all()?.to_vec1::<f32>()?;
    anyhow::ensure!(
        values.iter().all(|value| value.is_finite()),
        "the UNet gave numbers that are not finite"
    );
    Ok(Box::new(move || match pass() {
        Ok(output) => drop(std::hint::black_box(output)),
        Err(error) => unreachable!("the same pass succeeded before: {error}"),
    }))
}

/// Frozen tensors of uniform numbers; of norms' weights, around 1.
struct Uniform(Rng);

impl Uniform {
    /// U(−bound, bound).
    fn draw(&mut self, shape: &[usize], bound: f32) -> candle_core::Result<Tensor> {
        let step = 2.0 * bound / u32::MAX as f32;
        let values: Vec<f32> =
            (0..shape.iter().product()).map(|_| self.0.next_u32() as f32 * step - bound).collect();
        Tensor::from_vec(values, shape, &Device::Cpu)
    }
}

impl Source for Uniform {
    fn parameter(&mut self, _: &str, shape: &[usize], init: Init) -> candle_core::Result<Tensor> {
        match init {
            Init::Uniform(bound) => self.draw(shape, bound as f32),
            Init::Normal(std) => self.draw(shape, 1.7 * std as f32),
            Init::Constant(value) => self.draw(shape, 0.1)? + value,
        }
    }

    fn buffer(&mut self, _: &str, shape: &[usize], value: f64) -> candle_core::Result<Var> {
        Var::from_tensor(&(Tensor::zeros(shape, DType::F32, &Device::Cpu)? + value)?)
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }
}
