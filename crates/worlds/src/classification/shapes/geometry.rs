//! Outlines of the ten shape families, and the arithmetic that places them.
//!
//! Only additions, multiplications and divisions are used, which IEEE 754 defines to the last bit, so that two machines draw
//! the same pictures.

use tiny_skia::{FillRule, Mask, Path, PathBuilder, Transform};

pub(super) use crate::angle::direction;
use crate::classification::SIDE;

/// A point, in the shape's own frame (unit circle) or in pixels.
pub(super) type Point = [f32; 2];

/// Names of the shape families; a class of `shapes10` is one of them. None is the mirror image of another.
pub const FAMILIES: [&str; 10] =
    ["disc", "ring", "crescent", "triangle", "square", "star", "plus", "tee", "hourglass", "arch"];

/// Closed polygons of a family, in the unit circle, to be filled by the even-odd rule.
fn polygons(family: usize) -> Vec<Vec<Point>> {
    match family {
        0 => vec![circle(0.0, 0.9)],
        1 => vec![circle(0.0, 0.95), circle(0.0, 0.52)],
        2 => vec![crescent()],
        3 => vec![radial(&[1.05; 3])],
        4 => vec![radial(&[1.1; 4])],
        5 => vec![radial(&[1.1, 0.44].repeat(5))],
        6 => vec![plus()],
        7 => vec![tee()],
        8 => vec![vec![[-0.8, -0.9], [0.8, -0.9], [0.12, 0.0], [0.8, 0.9], [-0.8, 0.9], [-0.12, 0.0]]],
        _ => vec![arch()],
    }
}

/// Corners at equal angles, at the given radii.
fn radial(radii: &[f32]) -> Vec<Point> {
    let corner = |(k, &radius): (usize, &f32)| {
        let [cos, sin] = direction(k as f64 / radii.len() as f64);
        [radius * cos as f32, radius * sin as f32]
    };
    radii.iter().enumerate().map(corner).collect()
}

fn circle(x: f32, radius: f32) -> Vec<Point> {
    radial(&[radius; 32]).into_iter().map(|[px, py]| [px + x, py]).collect()
}

/// A moon: the left arc of a circle, back along the arc of one that lies further right.
fn crescent() -> Vec<Point> {
    let arc = |turns: f64, radius: f32, x: f32| {
        let [cos, sin] = direction(turns);
        [x + radius * cos as f32, radius * sin as f32]
    };
    let outer = (0..=20).map(|k| arc(0.14 + 0.72 * f64::from(k) / 20.0, 1.0, 0.2));
    let inner = (0..=20).map(|k| arc(0.80 - 0.60 * f64::from(k) / 20.0, 0.81, 0.58));
    outer.chain(inner).collect()
}

fn plus() -> Vec<Point> {
    let (a, b) = (0.3, 0.98);
    vec![
        [-a, -b],
        [a, -b],
        [a, -a],
        [b, -a],
        [b, a],
        [a, a],
        [a, b],
        [-a, b],
        [-a, a],
        [-b, a],
        [-b, -a],
        [-a, -a],
    ]
}

fn tee() -> Vec<Point> {
    vec![
        [-0.9, -0.85],
        [0.9, -0.85],
        [0.9, -0.3],
        [0.28, -0.3],
        [0.28, 0.95],
        [-0.28, 0.95],
        [-0.28, -0.3],
        [-0.9, -0.3],
    ]
}

fn arch() -> Vec<Point> {
    vec![
        [-0.85, -0.85],
        [0.85, -0.85],
        [0.85, 0.85],
        [0.35, 0.85],
        [0.35, -0.3],
        [-0.35, -0.3],
        [-0.35, 0.85],
        [-0.85, 0.85],
    ]
}

/// An affine placement: `pixel = centre + axes · point`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) centre: Point,
    /// Columns: where the shape's x and y unit vectors go, in pixels.
    pub(super) axes: [Point; 2],
}

impl Placement {
    /// A turn by `turns`, scaled to `radius` pixels and squeezed across by `squeeze`.
    pub(super) fn new(centre: Point, radius: f32, squeeze: f32, turns: f64, skew: f32) -> Self {
        let [cos, sin] = direction(turns).map(|value| value as f32);
        let (long, short) = (radius, radius * squeeze);
        let x = [long * cos, long * sin];
        let y = [-short * sin + skew * x[0], short * cos + skew * x[1]];
        Self { centre, axes: [x, y] }
    }

    /// The same placement, `factor` times as large about its centre.
    pub(super) fn scaled(self, factor: f32) -> Self {
        Self { axes: self.axes.map(|axis| axis.map(|value| value * factor)), ..self }
    }

    fn to_pixels(self, [u, v]: Point) -> Point {
        let [x, y] = self.axes;
        [self.centre[0] + x[0] * u + y[0] * v, self.centre[1] + x[1] * u + y[1] * v]
    }

    /// The shape's own coordinates of a pixel position.
    pub(super) fn to_shape(self, [px, py]: Point) -> Point {
        let [x, y] = self.axes;
        let (dx, dy) = (px - self.centre[0], py - self.centre[1]);
        let determinant = x[0] * y[1] - y[0] * x[1];
        [(dx * y[1] - dy * y[0]) / determinant, (dy * x[0] - dx * x[1]) / determinant]
    }
}

/// Share of each pixel that the placed shape covers, 0..=255, row by row; all 0 where it lies outside.
pub(super) fn coverage(family: usize, placement: Placement, mask: &mut Mask) {
    mask.clear();
    if let Some(path) = outline(&polygons(family), placement) {
        mask.fill_path(&path, FillRule::EvenOdd, true, Transform::identity());
    }
}

/// An empty mask of a picture's size.
pub(super) fn empty_mask() -> Option<Mask> {
    Mask::new(SIDE as u32, SIDE as u32)
}

fn outline(polygons: &[Vec<Point>], placement: Placement) -> Option<Path> {
    let mut builder = PathBuilder::new();
    for polygon in polygons {
        for (k, &corner) in polygon.iter().enumerate() {
            let [x, y] = placement.to_pixels(corner);
            if k == 0 { builder.move_to(x, y) } else { builder.line_to(x, y) }
        }
        builder.close();
    }
    builder.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placements_invert() {
        let placement = Placement::new([14.0, 18.0], 9.0, 0.7, 0.2, 0.1);
        let [u, v] = placement.to_shape(placement.to_pixels([0.3, -0.6]));
        assert!((u - 0.3).abs() < 1e-5 && (v + 0.6).abs() < 1e-5, "{u} {v}");
    }

    #[test]
    fn every_family_covers_a_fair_part_of_its_circle() {
        let mut mask = empty_mask().expect("a mask of 32 by 32");
        for (family, name) in FAMILIES.iter().enumerate() {
            coverage(family, Placement::new([16.0, 16.0], 12.0, 1.0, 0.0, 0.0), &mut mask);
            let covered: f64 = mask.data().iter().map(|&share| f64::from(share) / 255.0).sum();
            let share = covered / (std::f64::consts::PI * 144.0);
            assert!((0.25..1.0).contains(&share), "{name} covers {share}");
        }
    }
}
