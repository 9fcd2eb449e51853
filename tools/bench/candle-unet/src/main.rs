//! One forward pass of candle-transformers' UNet (860 M parameters, batch 2, 64×64 latents, `f32`, CPU), timed.
//!
//! `cargo run --release [repetitions]`; RAYON_NUM_THREADS and CANDLE_NUM_THREADS set the threads.

use std::collections::HashMap;
use std::time::Instant;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::stable_diffusion::unet_2d::{
    BlockConfig, UNet2DConditionModel, UNet2DConditionModelConfig,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let repetitions = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(3);
    let block = |out_channels, use_cross_attn| BlockConfig { out_channels, use_cross_attn, attention_head_dim: 8 };
    let config = UNet2DConditionModelConfig {
        blocks: vec![block(320, Some(1)), block(640, Some(1)), block(1280, Some(1)), block(1280, None)],
        center_input_sample: false,
        cross_attention_dim: 768,
        downsample_padding: 1,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        layers_per_block: 2,
        mid_block_scale_factor: 1.0,
        norm_eps: 1e-5,
        norm_num_groups: 32,
        sliced_attention_size: None,
        use_linear_projection: false,
    };
    let weights = VarBuilder::from_tensors(frozen(config.clone())?, DType::F32, &Device::Cpu);
    let model = UNet2DConditionModel::new(weights, 4, 4, false, config)?;
    let sample = waves(2 * 4 * 64 * 64)?.reshape((2, 4, 64, 64))?;
    let context = waves(2 * 77 * 768)?.reshape((2, 77, 768))?;
    for repetition in 0..=repetitions {
        let start = Instant::now();
        model.forward(&sample, 500.0, &context)?;
        let milliseconds = start.elapsed().as_secs_f64() * 1e3;
        if repetition > 0 {
            println!("unet_sd15/f32/b2s64/fwd,{milliseconds:.1}");
        }
    }
    Ok(())
}

/// Initial weights as plain tensors: through variables a pass would keep its graph and every activation.
fn frozen(config: UNet2DConditionModelConfig) -> Result<HashMap<String, Tensor>> {
    let map = VarMap::new();
    UNet2DConditionModel::new(VarBuilder::from_varmap(&map, DType::F32, &Device::Cpu), 4, 4, false, config)?;
    let vars = map.data().lock().map_err(|error| candle_core::Error::Msg(error.to_string()))?;
    Ok(vars.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor())).collect())
}

/// Numbers of size one: the time does not depend on which.
fn waves(count: u32) -> Result<Tensor> {
    (Tensor::arange(0, count, &Device::Cpu)?.to_dtype(DType::F32)? * 0.7)?.sin()
}
