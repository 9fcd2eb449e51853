//! Drawing: from a scene to its picture and its masks.
//!
//! Every figure is a list of [`Layer`]s in the unit circle, painted one over the other. Edges are anti-aliased; colours are mixed as they
//! are, and the light is the last to be applied. Only arithmetic that IEEE 754 defines to the last bit is used.

mod animal;
mod canvas;
mod depth;
mod edit;
mod face;
mod fill;
mod ground;
mod landmarks;
mod outline;
mod palette;
mod pose;
mod raster;
mod rim;
mod shadow;
mod shape;
#[cfg(test)]
mod tests;
mod trademark;
mod waves;

use canvas::{Canvas, shade};
use fill::Fill;
use ground::Ground;
use outline::{Outline, Point, turned};

use super::{Kind, Object, Rgb, Scene, Style};
pub use canvas::Picture;
pub use palette::palette;

const WHITE: Rgb = [1.0, 1.0, 1.0];

/// A part of a figure with one paint.
struct Layer {
    outline: Outline,
    paint: Paint,
}

/// What a part of a figure is painted with.
#[derive(Clone, Copy)]
enum Paint {
    /// The object's colour in its style, times a tone.
    Main(f32),
    /// A colour of its own.
    Flat(Rgb),
}

impl Layer {
    /// A part in the object's colour and style, times a tone.
    fn main(outline: Outline, tone: f32) -> Self {
        Self { outline, paint: Paint::Main(tone) }
    }
}

/// Where a figure's unit circle lies, in pixels.
#[derive(Clone, Copy)]
struct Circle {
    centre: Point,
    radius: f32,
}

/// An object's layers with the share of each pixel, 0..=255, that each covers.
struct Parts {
    circle: Circle,
    side: usize,
    layers: Vec<(Paint, Vec<u8>)>,
}

impl Scene {
    /// The picture of the scene, `(3, side, side)` bytes. The same scene gives the same bytes on every machine.
    #[must_use]
    pub fn render(&self, side: usize) -> Picture {
        let mut canvas = self.canvas(side);
        for object in &self.objects {
            let parts = Parts::of(object, side);
            if object.shadow {
                shadow::cast(&mut canvas, &parts.silhouette(|_| true), parts.circle.radius);
            }
            parts.paint(&mut canvas, object);
        }
        if let Some(face) = &self.face {
            face.paint(&mut canvas);
        }
        canvas.finish(&self.light)
    }

    /// The background alone, in the scene's light.
    #[must_use]
    pub fn background_only(&self, side: usize) -> Picture {
        self.canvas(side).finish(&self.light)
    }

    /// Share of each pixel that each object shows, 0..=255, `(side, side)` row by row: what those in front hide is not counted. Shadows are
    /// not part of an object.
    #[must_use]
    pub fn masks(&self, side: usize) -> Vec<Vec<u8>> {
        let mut masks = self.full_masks(side);
        let mut free = vec![1.0_f32; side * side];
        for mask in masks.iter_mut().rev() {
            for (share, free) in mask.iter_mut().zip(&mut free) {
                let own = f32::from(*share) / 255.0;
                // Cut, not rounded, so that the shares of a pixel never sum to more than 255.
                *share = (own * *free * 255.0) as u8;
                *free *= 1.0 - own;
            }
        }
        masks
    }

    /// Share of each pixel that each object would cover were it alone, 0..=255, `(side, side)` row by row.
    #[must_use]
    pub fn full_masks(&self, side: usize) -> Vec<Vec<u8>> {
        self.objects.iter().map(|object| Parts::of(object, side).silhouette(|_| true)).collect()
    }

    fn canvas(&self, side: usize) -> Canvas {
        let ground = Ground::new(&self.background);
        Canvas::new(side, |x, y| ground.at(x, y))
    }
}

impl Parts {
    fn of(object: &Object, side: usize) -> Self {
        let circle = Circle {
            centre: object.centre.map(|share| share * side as f32),
            radius: object.radius * side as f32,
        };
        let sticker = object.style == Style::Sticker;
        let radius = if sticker { rim::INSIDE * circle.radius } else { circle.radius };
        let cover = |outline: &Outline| outline.coverage(circle.centre, radius, side);
        let outlines = layers(object);
        let covered = outlines.iter().map(|layer| (layer.paint, cover(&layer.outline))).collect();
        let mut parts = Self { circle, side, layers: covered };
        if sticker {
            // A hole is too small for a rim of its own: it becomes white.
            let holes = outlines.iter().filter_map(|layer| layer.outline.filled());
            let all = holes.fold(parts.silhouette(|_| true), |all, outline| united(all, &cover(&outline)));
            parts.layers.splice(0..0, rim::around(&all, object.radius, side));
        }
        parts
    }

    /// Share of each pixel that the layers with such a paint cover together.
    fn silhouette(&self, wanted: impl Fn(&Paint) -> bool) -> Vec<u8> {
        let layers = self.layers.iter().filter(|(paint, _)| wanted(paint));
        layers.fold(vec![0; self.side * self.side], |all, (_, coverage)| united(all, coverage))
    }

    fn paint(&self, canvas: &mut Canvas, object: &Object) {
        let main = self.silhouette(|paint| matches!(paint, Paint::Main(_)));
        let fill = Fill::new(object, self.circle, &main, canvas.side);
        for (paint, coverage) in &self.layers {
            match *paint {
                Paint::Main(tone) => canvas.paint(coverage, |index| shade(fill.at(index), tone)),
                Paint::Flat(colour) => canvas.paint(coverage, |_| colour),
            }
        }
    }
}

/// Share of each pixel that two layers, one painted over the other, hide.
fn united(mut below: Vec<u8>, above: &[u8]) -> Vec<u8> {
    for (share, &own) in below.iter_mut().zip(above) {
        let free = (255 - u32::from(*share)) * (255 - u32::from(own));
        *share = 255 - ((free + 127) / 255) as u8;
    }
    below
}

/// An object's layers from the back, about its centre, in its radius.
fn layers(object: &Object) -> Vec<Layer> {
    let [across, along] = object.stretch;
    if !object.rotation.is_finite() {
        return Vec::new();
    }
    let [cos, sin] = turned([1.0, 0.0], object.rotation);
    let pose = |[x, y]: Point| {
        let (x, y) = (x * across, y * along);
        [x * cos - y * sin, x * sin + y * cos]
    };
    let layers = match object.kind {
        Kind::Shape(shape) => return shape::layers(shape, object.viewpoint, pose),
        Kind::Animal(animal) => animal::layers(animal, object.action),
        Kind::Trademark(mark) => trademark::layers(mark),
    };
    layers.into_iter().map(|layer| Layer { outline: layer.outline.map(pose), ..layer }).collect()
}
