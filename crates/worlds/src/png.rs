//! Pictures as PNG files.

use image::codecs::png::{CompressionType, FilterType, PngEncoder};
use image::{ExtendedColorType, ImageEncoder, ImageError};

/// A PNG of `width × height` pixels of three bytes, row by row, packed as small as can be: reports carry them along.
pub(crate) fn png(pixels: &[u8], width: usize, height: usize) -> Result<Vec<u8>, ImageError> {
    let mut png = Vec::new();
    let encoder = PngEncoder::new_with_quality(&mut png, CompressionType::Best, FilterType::Adaptive);
    encoder.write_image(pixels, width as u32, height as u32, ExtendedColorType::Rgb8)?;
    Ok(png)
}
