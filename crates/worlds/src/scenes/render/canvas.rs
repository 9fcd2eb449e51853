//! A picture while it is painted, and when it is done.

use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};

use super::outline::unit;
use crate::scenes::{Light, Rgb};

/// A finished picture: bytes of red, green and blue, `(3, side, side)`.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture {
    /// Width and height in pixels.
    pub side: usize,
    /// All of red row by row, then green, then blue.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// The values scaled to [−1, 1], `(3, side, side)`.
    #[must_use]
    pub fn to_unit(&self) -> Vec<f32> {
        self.pixels.iter().map(|&byte| f32::from(byte) / 127.5 - 1.0).collect()
    }

    /// The picture as a PNG file.
    ///
    /// # Errors
    /// Where the picture has no pixels or is too large to encode.
    pub fn png(&self) -> Result<Vec<u8>, image::ImageError> {
        let area = self.side * self.side;
        let interleaved: Vec<u8> =
            (0..area).flat_map(|k| [0, 1, 2].map(|c| self.pixels[c * area + k])).collect();
        let mut png = Vec::new();
        let side = self.side as u32;
        PngEncoder::new(&mut png).write_image(&interleaved, side, side, ExtendedColorType::Rgb8)?;
        Ok(png)
    }
}

/// Colours of all pixels, row by row.
pub(super) struct Canvas {
    pub(super) side: usize,
    pixels: Vec<Rgb>,
}

impl Canvas {
    /// A canvas whose pixels have the colour of their centre, given in shares of the side.
    pub(super) fn new(side: usize, colour: impl Fn(f32, f32) -> Rgb) -> Self {
        let share = |k: usize| (k as f32 + 0.5) / side as f32;
        let pixels = (0..side * side).map(|k| colour(share(k % side), share(k / side))).collect();
        Self { side, pixels }
    }

    /// Paints over each pixel by its share of 255 in `coverage`.
    pub(super) fn paint(&mut self, coverage: &[u8], colour: impl Fn(usize) -> Rgb) {
        for (index, (pixel, &share)) in self.pixels.iter_mut().zip(coverage).enumerate() {
            if share > 0 {
                *pixel = mix(*pixel, colour(index), f32::from(share) / 255.0);
            }
        }
    }

    /// Lets the light fall on everything, and rounds to bytes.
    pub(super) fn finish(self, light: &Light) -> Picture {
        let (side, [cos, sin]) = (self.side, unit(light.angle));
        let area = side * side;
        let mut pixels = vec![0; 3 * area];
        for (index, colour) in self.pixels.iter().enumerate() {
            let from_middle = |k: usize| (k as f32 + 0.5) / side as f32 - 0.5;
            let along = from_middle(index % side) * cos + from_middle(index / side) * sin;
            let gain = 1.0 + light.ramp * along.clamp(-0.5, 0.5);
            for channel in 0..3 {
                let value = colour[channel] * light.tint[channel] * gain;
                // `as` saturates and cuts; the half makes it round.
                pixels[channel * area + index] = (value * 255.0 + 0.5) as u8;
            }
        }
        Picture { side, pixels }
    }
}

/// `(1 − w)·a + w·b`.
pub(super) fn mix(a: Rgb, b: Rgb, w: f32) -> Rgb {
    [a[0] + (b[0] - a[0]) * w, a[1] + (b[1] - a[1]) * w, a[2] + (b[2] - a[2]) * w]
}

/// Every channel times `gain`.
pub(super) fn shade(colour: Rgb, gain: f32) -> Rgb {
    colour.map(|value| value * gain)
}
