//! Backgrounds: eight families, each told by its texture.

use super::canvas::mix;
use super::outline::unit;
use super::waves::{Noise, fraction, from_nearest, rise, smooth, wave};
use crate::scenes::{Background, Place, Rgb};

/// Softness of a texture's edges, in shares of the picture's side: about one pixel of 64 to each side.
const SOFT: f32 = 1.2 / 64.0;

/// A background ready to be asked for the colour of a point.
pub(super) struct Ground {
    place: Place,
    colours: [Rgb; 2],
    /// Periods across the picture.
    frequency: f32,
    phase: f32,
    along: [f32; 2],
    noise: Noise,
}

impl Ground {
    pub(super) fn new(background: &Background) -> Self {
        // A texture finer than this is not to be seen at 64 pixels.
        let frequency =
            if background.frequency.is_finite() { background.frequency.clamp(0.5, 6.4) } else { 1.0 };
        let phase = if background.phase.is_finite() { fraction(background.phase) } else { 0.0 };
        let along = if background.angle.is_finite() { unit(background.angle) } else { [1.0, 0.0] };
        let Background { place, colours, seed, .. } = *background;
        Self { place, colours, frequency, phase, along, noise: Noise::new(seed) }
    }

    /// Colour of a point, given in shares of the side.
    pub(super) fn at(&self, x: f32, y: f32) -> Rgb {
        mix(self.colours[0], self.colours[1], self.second(x, y))
    }

    /// Share of the second colour at a point.
    fn second(&self, x: f32, y: f32) -> f32 {
        let (dx, dy) = (x - 0.5, y - 0.5);
        // Across the picture, along the direction and at right angles to it, from its middle.
        let (u, v) = (dx * self.along[0] + dy * self.along[1], dy * self.along[0] - dx * self.along[1]);
        match self.place {
            Place::Desert => smooth(rise(u + 0.3 * (self.phase - 0.5), 0.6)),
            Place::Field => self.stripe(u),
            Place::Kitchen => self.checks(u, v),
            Place::Park => self.dots(u, v),
            Place::Beach => {
                self.stripe(u + 0.28 / self.frequency * wave(v * (0.5 * self.frequency + 0.7) + 0.1))
            }
            Place::City => self.bricks(x, y),
            Place::Forest => self.blobs(u, v),
            Place::Mountain => self.ridges(x, y),
        }
    }

    /// Half of each period, with soft edges.
    fn stripe(&self, u: f32) -> f32 {
        let off = from_nearest(u * self.frequency + self.phase).abs();
        rise((off - 0.25) / self.frequency, SOFT)
    }

    fn checks(&self, u: f32, v: f32) -> f32 {
        let (a, b) = (self.stripe(u), self.stripe(v));
        a + b - 2.0 * a * b
    }

    fn dots(&self, u: f32, v: f32) -> f32 {
        let off = |value: f32| from_nearest(value * self.frequency + self.phase) / self.frequency;
        let (x, y) = (off(u), off(v));
        rise(0.31 / self.frequency - (x * x + y * y).sqrt(), 1.5 * SOFT)
    }

    /// Rows of bricks, each pushed by half a brick; the mortar has the second colour.
    fn bricks(&self, x: f32, y: f32) -> f32 {
        let height = 1.0 / self.frequency.max(1.5);
        let row = y / height + self.phase;
        let push = if fraction(row.floor() * 0.5) > 0.25 { 0.5 } else { 0.0 };
        let column = x / (2.0 * height) + self.phase + push;
        let across = from_nearest(column).abs() * 2.0 * height;
        let down = from_nearest(row).abs() * height;
        let half = (0.11 * height).max(1.2 / 64.0);
        rise(half - across.min(down), 0.6 * SOFT)
    }

    fn blobs(&self, u: f32, v: f32) -> f32 {
        let cells = 1.0 + 1.1 * self.frequency;
        let value = self.noise.at(u * cells + 7.3 + self.phase, v * cells + 7.7);
        smooth(rise(value - 0.5, 0.13))
    }

    /// Two jagged ridges before a sky: the far one between the two colours, the near one in the second.
    fn ridges(&self, x: f32, y: f32) -> f32 {
        let near = rise(y - self.skyline(x, 3.0, 0.82, 0.34), 0.6 * SOFT);
        let far = rise(y - self.skyline(x, 9.0, 0.52, 0.42), 0.6 * SOFT);
        near.max(0.5 * far)
    }

    /// Height, from the top, of a polyline that goes up and down from corner to corner by up to `range`.
    fn skyline(&self, x: f32, row: f32, base: f32, range: f32) -> f32 {
        let position = x * (self.frequency + 2.0) + 2.0 * self.phase + row;
        let corner = |k: f32| {
            let peak = if fraction(k * 0.5) > 0.25 { 0.45 } else { 0.0 };
            base - range * (peak + 0.55 * self.noise.corner(k, row))
        };
        let left = position.floor();
        corner(left) + (corner(left + 1.0) - corner(left)) * (position - left)
    }
}
