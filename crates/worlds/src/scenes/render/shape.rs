//! Plain shapes, flat and extruded, in the unit circle.

use super::outline::{Outline, Point, unit};
use super::{Layer, Paint, WHITE};
use crate::scenes::{Rgb, Shape, Viewpoint};

const BLACK: Rgb = [0.04, 0.04, 0.05];
const GREY: Rgb = [0.66, 0.66, 0.68];

/// Outline of a shape that fills its circle.
pub(super) fn outline(shape: Shape) -> Outline {
    match shape {
        Shape::Disc => Outline::disc([0.0, 0.0], 0.95),
        Shape::Square => Outline::rectangle([0.0, 0.0], [0.8, 0.8]),
        Shape::Triangle => radial(&[1.05; 3]).shifted([0.0, 0.15]),
        Shape::Star => radial(&[1.08, 0.5].repeat(5)),
        Shape::Ring => Outline::disc([0.0, 0.0], 1.0).without(Outline::disc([0.0, 0.0], 0.5)),
        Shape::Cross => cross(0.34, 0.95),
        Shape::Bar => Outline::rectangle([0.0, 0.0], [1.0, 0.36]),
        Shape::Hook => {
            let corners = [[-0.75, -0.9], [-0.1, -0.9], [-0.1, 0.25], [0.8, 0.25], [0.8, 0.9], [-0.75, 0.9]];
            Outline::polygon(corners.to_vec())
        }
    }
}

/// Corners at equal angles and the given radii, the first at the top.
pub(super) fn radial(radii: &[f32]) -> Outline {
    let corner = |(k, &radius): (usize, &f32)| {
        let [cos, sin] = unit(k as f32 / radii.len() as f32 - 0.25);
        [radius * cos, radius * sin]
    };
    Outline::polygon(radii.iter().enumerate().map(corner).collect())
}

/// A plus of two bars.
fn cross(half: f32, reach: f32) -> Outline {
    Outline::rectangle([0.0, 0.0], [half, reach]).and(Outline::rectangle([0.0, 0.0], [reach, half]))
}

/// Where a label on the shape's face is centred.
fn label_place(shape: Shape) -> Point {
    match shape {
        Shape::Triangle => [0.0, 0.2],
        Shape::Hook => [-0.42, 0.57],
        _ => [0.0, 0.0],
    }
}

/// Layers of a shape; `pose` stretches and turns its own frame.
pub(super) fn layers(
    shape: Shape,
    viewpoint: Option<Viewpoint>,
    pose: impl Fn(Point) -> Point,
) -> Vec<Layer> {
    let Some(viewpoint) = viewpoint else {
        return vec![Layer::main(outline(shape).map(pose), 1.0)];
    };
    let solid = Solid::of(viewpoint);
    let face = |outline: Outline| outline.map(&pose).map(|point| solid.seen(point));
    let mut layers = vec![
        Layer::main(face(outline(shape)).swept(solid.wall), solid.wall_tone),
        Layer::main(face(outline(shape)), solid.face_tone),
    ];
    let [x, y] = label_place(shape);
    match viewpoint {
        Viewpoint::Front => {
            layers.push(flat(face(Outline::rectangle([x, y], [0.35, 0.35])), BLACK));
            layers.push(flat(face(Outline::rectangle([x, y], [0.25, 0.25])), WHITE));
        }
        Viewpoint::Back => {
            let bar = |dy: f32| Outline::rectangle([x, y + dy], [0.42, 0.11]);
            layers.push(flat(face(Outline::rectangle([x, y], [0.42, 0.34])), GREY));
            layers.push(flat(face(bar(-0.23).and(bar(0.23))), BLACK));
        }
        Viewpoint::Top | Viewpoint::Bottom => {}
    }
    layers
}

fn flat(outline: Outline, colour: Rgb) -> Layer {
    Layer { outline, paint: Paint::Flat(colour) }
}

/// How an extruded shape is projected.
struct Solid {
    /// From the face to the far end of the wall.
    wall: Point,
    /// Height of the face as seen.
    squash: f32,
    scale: f32,
    face_tone: f32,
    wall_tone: f32,
}

impl Solid {
    fn of(viewpoint: Viewpoint) -> Self {
        let (wall, squash, scale, face_tone, wall_tone) = match viewpoint {
            Viewpoint::Front => ([0.34, 0.34], 1.0, 0.82, 1.0, 0.45),
            Viewpoint::Back => ([0.34, 0.34], 1.0, 0.82, 0.65, 0.32),
            Viewpoint::Top => ([0.0, 0.8], 0.55, 0.95, 1.0, 0.45),
            Viewpoint::Bottom => ([0.0, -0.8], 0.55, 0.95, 0.75, 0.38),
        };
        Self { wall, squash, scale, face_tone, wall_tone }
    }

    /// Where a point of the turned face is seen; face and wall together are centred.
    fn seen(&self, [x, y]: Point) -> Point {
        [self.scale * x - 0.5 * self.wall[0], self.scale * self.squash * y - 0.5 * self.wall[1]]
    }
}
