//! The canvas: a background, textured shapes, bars in front, light and noise.

use sd_core::rng::Rng;
use tiny_skia::Mask;

use super::geometry::{Placement, Point, coverage, direction};
use crate::classification::{CHANNELS, PICTURE_BYTES, SIDE};

/// A colour: red, green and blue in 0..=255.
pub(super) type Colour = [f32; 3];

/// Names of the textures; with the family they make a class of `shapes100`.
pub const TEXTURES: [&str; 10] =
    ["plain", "stripes", "checks", "dots", "rings", "glow", "ramp", "halves", "core", "quarters"];

/// A picture being painted: one colour per pixel, row by row.
pub(super) struct Canvas {
    pixels: Vec<Colour>,
    mask: Mask,
    core: Mask,
}

/// A shape with its surface.
pub(super) struct Figure {
    pub(super) family: usize,
    pub(super) texture: usize,
    pub(super) placement: Placement,
    pub(super) colours: [Colour; 2],
    pub(super) opacity: f32,
}

impl Canvas {
    /// A black canvas, or `None` where no mask can be had.
    pub(super) fn new() -> Option<Self> {
        let [mask, core] = [super::geometry::empty_mask()?, super::geometry::empty_mask()?];
        Some(Self { pixels: vec![[0.0; 3]; SIDE * SIDE], mask, core })
    }

    /// Fills the canvas with a ramp from one colour to the other along a direction.
    pub(super) fn background(&mut self, from: Colour, to: Colour, turns: f64) {
        let [cos, sin] = direction(turns).map(|value| value as f32);
        for (pixel, [x, y]) in self.pixels.iter_mut().zip(centres()) {
            let along = 0.5 + ((x - 16.0) * cos + (y - 16.0) * sin) / 45.0;
            *pixel = blend(from, to, along);
        }
    }

    /// A soft spot: full at its centre, nothing beyond `radius` pixels.
    pub(super) fn spot(&mut self, centre: Point, radius: f32, colour: Colour, strength: f32) {
        for (pixel, [x, y]) in self.pixels.iter_mut().zip(centres()) {
            let (dx, dy) = (x - centre[0], y - centre[1]);
            let fall = (1.0 - (dx * dx + dy * dy) / (radius * radius)).max(0.0);
            *pixel = blend(*pixel, colour, strength * fall);
        }
    }

    /// Paints a figure over what is there.
    pub(super) fn figure(&mut self, figure: &Figure) {
        coverage(figure.family, figure.placement, &mut self.mask);
        if TEXTURES.get(figure.texture) == Some(&"core") {
            coverage(figure.family, figure.placement.scaled(0.55), &mut self.core);
        }
        let shares = self.mask.data().iter().zip(self.core.data());
        for ((pixel, centre), (&share, &core)) in self.pixels.iter_mut().zip(centres()).zip(shares) {
            if share > 0 {
                let second = weight_of_second(figure, centre, core);
                let colour = blend(figure.colours[0], figure.colours[1], second);
                *pixel = blend(*pixel, colour, figure.opacity * f32::from(share) / 255.0);
            }
        }
    }

    /// A straight bar across the whole canvas through `point`, `width` pixels wide.
    pub(super) fn bar(&mut self, point: Point, turns: f64, width: f32, colour: Colour) {
        let [cos, sin] = direction(turns).map(|value| value as f32);
        for (pixel, [x, y]) in self.pixels.iter_mut().zip(centres()) {
            let off = ((x - point[0]) * cos + (y - point[1]) * sin).abs();
            *pixel = blend(*pixel, colour, (0.5 * width + 0.5 - off).clamp(0.0, 1.0));
        }
    }

    /// Stretches every value about mid grey and shifts it.
    pub(super) fn light(&mut self, contrast: f32, shift: f32) {
        for value in self.pixels.iter_mut().flatten() {
            *value = 128.0 + (*value - 128.0) * contrast + shift;
        }
    }

    /// Adds noise of standard deviation `fine` per pixel and `coarse` per block of 2×2, and rounds to bytes, `(3, 32, 32)`.
    pub(super) fn finish(self, fine: f32, coarse: f32, rng: &mut Rng) -> Vec<u8> {
        const BLOCKS: usize = SIDE / 2;
        let blocks: Vec<f32> = (0..CHANNELS * BLOCKS * BLOCKS).map(|_| coarse * bell(rng)).collect();
        let mut bytes = Vec::with_capacity(PICTURE_BYTES);
        for channel in 0..CHANNELS {
            for (index, pixel) in self.pixels.iter().enumerate() {
                let (row, column) = (index / SIDE / 2, index % SIDE / 2);
                let block = blocks[(channel * BLOCKS + row) * BLOCKS + column];
                let value = pixel[channel] + block + fine * bell(rng);
                // `as` saturates and cuts; the half makes it round.
                bytes.push((value + 0.5) as u8);
            }
        }
        bytes
    }
}

/// Centres of the pixels, row by row.
fn centres() -> impl Iterator<Item = Point> {
    (0..SIDE * SIDE).map(|index| [(index % SIDE) as f32 + 0.5, (index / SIDE) as f32 + 0.5])
}

/// `(1 − w)·a + w·b`, with `w` cut to [0, 1].
pub(super) fn blend(a: Colour, b: Colour, w: f32) -> Colour {
    let w = w.clamp(0.0, 1.0);
    std::array::from_fn(|k| a[k] + (b[k] - a[k]) * w)
}

/// Bell-shaped noise with mean 0 and standard deviation 1: the sum of four uniform bytes, scaled.
fn bell(rng: &mut Rng) -> f32 {
    let sum: i32 = rng.next_u32().to_le_bytes().iter().map(|&byte| i32::from(byte)).sum();
    // Four times the variance (256² − 1)/12 of a uniform byte is 147.8².
    (sum - 510) as f32 / 147.8
}

/// How much of the second colour a texture shows at a pixel: the mean of four points in it.
fn weight_of_second(figure: &Figure, [x, y]: Point, core: u8) -> f32 {
    if figure.texture == 8 {
        return f32::from(core) / 255.0;
    }
    let offsets = [[-0.25, -0.25], [0.25, -0.25], [-0.25, 0.25], [0.25, 0.25]];
    let at = |[dx, dy]: Point| texture(figure.texture, figure.placement.to_shape([x + dx, y + dy]));
    offsets.into_iter().map(at).sum::<f32>() / 4.0
}

/// Share of the second colour at a point of the shape's own frame. Each looks the same in a mirror.
fn texture(kind: usize, [u, v]: Point) -> f32 {
    let odd = |value: f32| f32::from((value.floor() as i32) & 1 == 1);
    match kind {
        1 => odd(2.8 * u + 0.5),
        2 => odd((2.4 * u).floor() + (2.4 * v).floor()),
        3 => dots(u, v),
        4 => odd(3.2 * (u * u + v * v).sqrt()),
        5 => (1.1 - 1.2 * (u * u + v * v)).clamp(0.0, 1.0),
        6 => (0.5 + 0.62 * u).clamp(0.0, 1.0),
        7 => f32::from(u > 0.0),
        9 => f32::from(u * v > 0.0),
        _ => 0.0,
    }
}

fn dots(u: f32, v: f32) -> f32 {
    let from_middle = |value: f32| value - value.floor() - 0.5;
    let (x, y) = (from_middle(1.6 * u + 0.5), from_middle(1.6 * v + 0.5));
    f32::from(x * x + y * y < 0.09)
}
