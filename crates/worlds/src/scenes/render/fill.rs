//! Styles: what colour an object's surface has at a pixel.

use std::sync::LazyLock;

use super::canvas::{mix, shade};
use super::depth::depth;
use super::outline::{Point, unit};
use super::palette::palette;
use super::waves::{Noise, from_nearest, rise};
use super::{Circle, WHITE};
use crate::scenes::{Kind, Object, Rgb, Style};

/// Near black, with a little of everything.
pub(super) const INK: Rgb = [0.06, 0.06, 0.08];

/// Blotches of every brush stroke; the seed was chosen by eye for light and dark ones near the middle.
static BLOTCHES: LazyLock<Noise> = LazyLock::new(|| Noise::new(11));

/// The surface of one object.
pub(super) struct Fill {
    style: Style,
    colour: Rgb,
    circle: Circle,
    axis: Point,
    side: usize,
    /// Pixels of this picture in a 64th of its side, in which the periods below are measured.
    pixel: f32,
    /// Radius in 64ths of the side.
    radius: f32,
    /// Of styles with white in them, which a light background would swallow: their contour in the object's colour.
    contour: Option<Contour>,
}

/// The edge of a silhouette: how deep each pixel lies in it, and the width of what is drawn, in pixels.
struct Contour {
    depth: Vec<f32>,
    width: f32,
}

impl Fill {
    /// The surface of `object` in `circle`; `main` is the silhouette of the parts that have the object's colour.
    pub(super) fn new(object: &Object, circle: Circle, main: &[u8], side: usize) -> Self {
        let pixel = side as f32 / 64.0;
        let radius = circle.radius / pixel;
        let contour = Contour::of(object.style, main, radius, pixel, side);
        let (style, colour) = (object.style, main_colour(object));
        Self { style, colour, circle, axis: unit(object.rotation), side, pixel, radius, contour }
    }

    /// Colour at a pixel.
    pub(super) fn at(&self, index: usize) -> Rgb {
        let second = |share: f32| mix(self.colour, WHITE, share * self.inside(index));
        match self.style {
            Style::Plain | Style::Sticker => self.colour,
            Style::Outline => second(1.0),
            Style::Hatch => second(self.bands(self.position(index))),
            Style::Dots => second(self.dots(self.position(index))),
            Style::Checker => second(self.checks(self.position(index))),
            Style::Gradient => self.ramp(self.position(index)),
            Style::Brush => self.blotches(self.position(index)),
        }
    }

    /// A pixel's place in the object's own frame, in 64ths of the side from its centre.
    fn position(&self, index: usize) -> Point {
        let x = ((index % self.side) as f32 + 0.5 - self.circle.centre[0]) / self.pixel;
        let y = ((index / self.side) as f32 + 0.5 - self.circle.centre[1]) / self.pixel;
        [x * self.axis[0] + y * self.axis[1], y * self.axis[0] - x * self.axis[1]]
    }

    fn bands(&self, [x, y]: Point) -> f32 {
        let period = (0.56 * self.radius).max(8.0);
        let off = from_nearest((x + y) * std::f32::consts::FRAC_1_SQRT_2 / period + 0.25).abs();
        rise((off - 0.25) * period, 0.7)
    }

    fn dots(&self, [x, y]: Point) -> f32 {
        let pitch = (0.64 * self.radius).max(9.0);
        let off = |value: f32| from_nearest(value / pitch + 0.5) * pitch;
        let (x, y) = (off(x), off(y));
        rise(0.32 * pitch - (x * x + y * y).sqrt(), 0.7)
    }

    fn checks(&self, [x, y]: Point) -> f32 {
        let cell = (0.44 * self.radius).max(6.0);
        let odd =
            |value: f32| rise((from_nearest(value / (2.0 * cell) - 0.25).abs() - 0.25) * 2.0 * cell, 0.7);
        let (a, b) = (odd(x), odd(y));
        a + b - 2.0 * a * b
    }

    fn ramp(&self, [x, y]: Point) -> Rgb {
        mix(self.colour, INK, rise((x + y) * std::f32::consts::FRAC_1_SQRT_2, 0.85 * self.radius))
    }

    fn blotches(&self, [x, y]: Point) -> Rgb {
        let cell = (0.42 * self.radius).max(6.0);
        let value = BLOTCHES.at(x / cell + 8.5, y / cell + 8.5);
        let light = mix(self.colour, WHITE, 0.62 * rise(value - 0.60, 0.05));
        mix(light, shade(self.colour, 0.35), rise(0.40 - value, 0.05))
    }

    /// 0 on the contour, 1 within it.
    fn inside(&self, index: usize) -> f32 {
        self.contour.as_ref().map_or(1.0, |contour| rise(contour.depth[index] - contour.width, 0.5))
    }
}

impl Contour {
    /// The contour of a style, if it has one, around the silhouette of an object of `radius` 64ths.
    fn of(style: Style, silhouette: &[u8], radius: f32, pixel: f32, side: usize) -> Option<Self> {
        let width = match style {
            Style::Outline => (0.2 * radius).max(3.0),
            Style::Hatch | Style::Dots | Style::Checker => (0.045 * radius).max(0.6),
            Style::Plain | Style::Gradient | Style::Brush | Style::Sticker => return None,
        };
        let depth = depth(silhouette, side);
        let deepest = depth.iter().fold(0.0, |a: f32, &b| a.max(b));
        // Some white shows even where the figure is thin.
        Some(Self { depth, width: (width * pixel).min(0.6 * deepest) })
    }
}

/// The colour on which an object's style works.
fn main_colour(object: &Object) -> Rgb {
    let colour = match object.kind {
        Kind::Trademark(mark) => super::trademark::main_colour(mark),
        Kind::Shape(_) | Kind::Animal(_) => palette(object.colour),
    };
    std::array::from_fn(|k| (colour[k] + object.jitter[k]).clamp(0.0, 1.0))
}
