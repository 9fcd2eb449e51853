//! Pictures that are to be filled in, read from files.

use std::path::Path;

use anyhow::{Context as _, Result};
use candle_core::{Device, Tensor};
use image::DynamicImage;
use sd_core::pipeline::from_pixels;

/// (1, 3, H, W) in −1 ..= 1.
pub(super) fn colours(path: &Path) -> Result<Tensor> {
    let picture = open(path)?.into_rgb8();
    Ok(from_pixels(picture.as_raw(), picture.height() as usize, picture.width() as usize)?)
}

/// (1, 1, H, W) in 0 ..= 1: white is 1.
pub(super) fn mask(path: &Path) -> Result<Tensor> {
    let mask = open(path)?.into_luma8();
    let (height, width) = (mask.height() as usize, mask.width() as usize);
    let values: Vec<f32> = mask.as_raw().iter().map(|byte| f32::from(*byte) / 255.0).collect();
    Ok(Tensor::from_vec(values, (1, 1, height, width), &Device::Cpu)?)
}

fn open(path: &Path) -> Result<DynamicImage> {
    let bytes =
        std::fs::read(path).with_context(|| format!("{}: cannot read the picture", path.display()))?;
    image::load_from_memory(&bytes).with_context(|| {
        format!("{}: not a picture that can be read\n  expected: PNG or JPEG", path.display())
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn colours_and_masks_have_their_ranges_and_shapes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        image::RgbImage::from_fn(2, 1, |x, _| image::Rgb([255 * x as u8; 3])).save(&path).unwrap();
        let picture = colours(&path).unwrap();
        assert_eq!(picture.dims(), [1, 3, 1, 2]);
        let values: Vec<f32> = picture.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(values, [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0]);
        let mask = mask(&path).unwrap();
        assert_eq!(mask.flatten_all().unwrap().to_vec1::<f32>().unwrap(), [0.0, 1.0]);
    }

    #[test]
    fn a_file_that_is_no_picture_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        assert!(colours(&path).unwrap_err().to_string().contains("p.png: cannot read"));
        std::fs::write(&path, "no picture").unwrap();
        assert!(colours(&path).unwrap_err().to_string().contains("p.png: not a picture"));
    }
}
