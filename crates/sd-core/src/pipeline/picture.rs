//! From what the autoencoder gives to pixels and back, with diffusers' rounding.

use candle_core::{DType, Device, Result, Tensor, bail};

/// (B, 3, H, W) in [−1, 1] to (B, H, W, 3) of `u8` on the CPU: `round(255·clamp(x/2 + ½, 0, 1))` in `f32`, halves to even.
///
/// # Errors
/// Where the shape is another.
pub fn pixels(pictures: &Tensor) -> Result<Tensor> {
    let &[batch, 3, height, width] = pictures.dims() else {
        bail!("expected pictures (B,3,H,W), found {:?}", pictures.dims());
    };
    let values = pictures.detach().to_device(&Device::Cpu)?.to_dtype(DType::F32)?.permute((0, 2, 3, 1))?;
    let values: Vec<f32> = values.flatten_all()?.to_vec1()?;
    Tensor::from_vec(values.into_iter().map(pixel).collect(), (batch, height, width, 3), &Device::Cpu)
}

fn pixel(x: f32) -> u8 {
    ((x / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8
}

/// (H, W, 3) of bytes, row by row, to (1, 3, H, W) in [−1, 1]: `2·(x/255) − 1` in `f32`.
///
/// # Errors
/// Where there are not H·W·3 bytes.
pub fn from_pixels(bytes: &[u8], height: usize, width: usize) -> Result<Tensor> {
    let values: Vec<f32> = bytes.iter().map(|byte| 2.0 * (f32::from(*byte) / 255.0) - 1.0).collect();
    Tensor::from_vec(values, (1, height, width, 3), &Device::Cpu)?.permute((0, 3, 1, 2))?.contiguous()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pixels_are_clamped_rounded_to_even_and_interleaved() {
        // 2·(k + ½)/255 − 1 lies between two bytes; single precision decides 0.5/255 exactly here.
        assert_eq!([-3.0, -1.0, 1.0, 7.0].map(pixel), [0, 0, 255, 255]);
        assert_eq!(pixel(0.0), 128, "127.5 goes to the even neighbour");
        assert_eq!(pixel(2.0 * (63.4 / 255.0) - 1.0), 63);
        let planes =
            Tensor::from_vec(vec![-1f32, 1.0, 1.0, -1.0, 0.0, 0.0], (1, 3, 1, 2), &Device::Cpu).unwrap();
        let bytes = pixels(&planes).unwrap();
        assert_eq!(bytes.dims(), [1, 1, 2, 3]);
        assert_eq!(bytes.flatten_all().unwrap().to_vec1::<u8>().unwrap(), [0, 255, 128, 255, 0, 128]);
        assert!(pixels(&Tensor::zeros((1, 4, 2, 2), DType::F32, &Device::Cpu).unwrap()).is_err());
    }

    #[test]
    fn every_byte_comes_back() {
        let bytes: Vec<u8> = (0..=255).flat_map(|byte| [byte; 3]).collect();
        let picture = from_pixels(&bytes, 16, 16).unwrap();
        assert_eq!(pixels(&picture).unwrap().flatten_all().unwrap().to_vec1::<u8>().unwrap(), bytes);
        assert!(from_pixels(&bytes, 16, 15).is_err());
    }
}
