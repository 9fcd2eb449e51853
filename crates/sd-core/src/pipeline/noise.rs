//! The noise of a picture: the stream of PyTorch's CPU generator, in diffusers' order.
//!
//! diffusers draws everything from one `torch.Generator("cpu").manual_seed(seed)`: the starting latents of the whole batch at
//! once, for inpainting then the autoencoder's sample of the masked picture, and then, by the samplers that use it, fresh noise
//! in each step. So a batch is not a row of single pictures with seeds of their own: row 1 continues row 0's stream.
//!
//! Numbers are drawn in `f32` whatever the model computes in, so that a seed means the same picture in `f16`.

use candle_core::{DType, Device, Result, Tensor};

use crate::rng::mt19937::TorchCpu;

/// A stream of standard normals.
#[derive(Clone)]
pub struct Noise {
    generator: TorchCpu,
    dtype: DType,
    device: Device,
}

impl Noise {
    /// The stream of `seed`, for latents of `dtype` (`f64` is drawn in `f64`, all else in `f32`) on `device`.
    #[must_use]
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        Self { generator: TorchCpu::new(seed), dtype, device: device.clone() }
    }

    /// The next normals, as `torch.randn(shape, generator=generator)` draws them.
    ///
    /// # Errors
    /// Where the device refuses.
    pub fn draw(&mut self, shape: &[usize]) -> Result<Tensor> {
        let count = shape.iter().product();
        match self.dtype {
            DType::F64 => Tensor::from_vec(self.generator.normals_f64(count), shape, &self.device),
            dtype => {
                let normals = self.generator.normals_f32(count);
                Tensor::from_vec(normals, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(&self.device)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// `torch.Generator().manual_seed(5)`: `torch.randn(2, 8)` and then `torch.randn(16)`, PyTorch 2.11.
    #[test]
    fn later_draws_go_on_in_the_stream() {
        let mut noise = Noise::new(5, DType::F32, &Device::Cpu);
        let first = noise.draw(&[2, 8]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let second = noise.draw(&[16]).unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(first[..3], FIRST);
        assert_eq!(second[..3], SECOND);
    }

    const FIRST: [f32; 3] = [1.842_329_9, 0.518_887_16, -1.711_921_3];
    const SECOND: [f32; 3] = [2.779_863, 1.222_025_3, -0.336_449_35];
}
