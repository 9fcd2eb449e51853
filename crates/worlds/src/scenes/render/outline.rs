//! Closed outlines made of polygons whose union they are, and the share of each pixel that they cover.

use super::raster;
use crate::angle::direction;

/// A point, right and down, in a figure's unit circle or in pixels.
pub(super) type Point = [f32; 2];

/// Corners of a full circle.
const CORNERS: usize = 32;

/// Corners of each round end of a capsule.
const CAP: usize = 8;

/// The union of polygons, holes taken out. All polygons turn one way and holes the other, so that the rule of the winding
/// number gives the union.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline {
    polygons: Vec<Vec<Point>>,
    holes: Vec<Vec<Point>>,
}

impl Outline {
    /// The polygon with these corners, in either direction.
    pub(super) fn polygon(mut points: Vec<Point>) -> Self {
        if doubled_area(&points) < 0.0 {
            points.reverse();
        }
        Self::of(points)
    }

    /// A polygon whose corners go clockwise as seen.
    fn of(points: Vec<Point>) -> Self {
        Self { polygons: vec![points], holes: Vec::new() }
    }

    /// A disc.
    pub(super) fn disc(centre: Point, radius: f32) -> Self {
        Self::ellipse(centre, [radius, radius], 0.0)
    }

    /// An ellipse with its half-axes, turned by `turns`.
    pub(super) fn ellipse(centre: Point, [a, b]: [f32; 2], turns: f32) -> Self {
        let corner = |k: usize| {
            let [cos, sin] = unit(k as f32 / CORNERS as f32);
            let [x, y] = turned([a * cos, b * sin], turns);
            [centre[0] + x, centre[1] + y]
        };
        Self::of((0..CORNERS).map(corner).collect())
    }

    /// A rectangle with its half-sides, along the axes.
    pub(super) fn rectangle([x, y]: Point, [a, b]: [f32; 2]) -> Self {
        Self::polygon(vec![[x - a, y - b], [x + a, y - b], [x + a, y + b], [x - a, y + b]])
    }

    /// A limb: from a round end at `from` to one at `to`, with their radii.
    pub(super) fn capsule(from: Point, to: Point, [start, end]: [f32; 2]) -> Self {
        let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
        let length = (dx * dx + dy * dy).sqrt();
        let [x, y] = if length > 0.0 { [dx / length, dy / length] } else { [1.0, 0.0] };
        let corner = |k: usize| {
            let far = k > CAP;
            let ([px, py], radius) = if far { (to, end) } else { (from, start) };
            let [cos, sin] = unit(0.25 + 0.5 * (k - usize::from(far)) as f32 / CAP as f32);
            [px + radius * (x * cos - y * sin), py + radius * (y * cos + x * sin)]
        };
        Self::of((0..2 * CAP + 2).map(corner).collect())
    }

    /// Capsules one after the other through all `points`, narrowing from the first radius to the second.
    pub(super) fn limb(points: &[Point], [start, end]: [f32; 2]) -> Self {
        let last = points.len().saturating_sub(1).max(1) as f32;
        let radius = |k: usize| start + (end - start) * k as f32 / last;
        let parts = points.windows(2).enumerate();
        parts.fold(Self::default(), |all, (k, pair)| {
            all.and(Self::capsule(pair[0], pair[1], [radius(k), radius(k + 1)]))
        })
    }

    /// Whether it has no polygon.
    pub(super) fn is_empty(&self) -> bool {
        self.polygons.is_empty()
    }

    /// The union with another outline.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.polygons.extend(other.polygons);
        self.holes.extend(other.holes);
        self
    }

    /// Without the inside of `other`, which lies inside one polygon only.
    pub(super) fn without(mut self, other: Self) -> Self {
        self.holes.extend(other.polygons.into_iter().map(|mut points| {
            points.reverse();
            points
        }));
        self
    }

    /// With its holes closed, if it has any.
    pub(super) fn filled(&self) -> Option<Self> {
        (!self.holes.is_empty()).then(|| Self { polygons: self.polygons.clone(), holes: Vec::new() })
    }

    /// With each corner moved by `place`, which must not mirror some parts and others not.
    pub(super) fn map(mut self, place: impl Fn(Point) -> Point) -> Self {
        for point in self.polygons.iter_mut().chain(&mut self.holes).flatten() {
            *point = place(*point);
        }
        self
    }

    /// What it passes over while it moves by a vector: where it begins, where it ends, and a parallelogram along each edge.
    pub(super) fn swept(&self, [dx, dy]: Point) -> Self {
        let edge = |(&[ax, ay], &[bx, by]): (&Point, &Point)| {
            Self::polygon(vec![[ax, ay], [bx, by], [bx + dx, by + dy], [ax + dx, ay + dy]])
        };
        let both = self.clone().and(self.clone().shifted([dx, dy]));
        let polygons = self.polygons.iter().chain(&self.holes);
        let edges = polygons.flat_map(|polygon| polygon.iter().zip(polygon.iter().cycle().skip(1)).map(edge));
        edges.fold(both, Self::and)
    }

    /// Moved by a vector.
    pub(super) fn shifted(self, [dx, dy]: Point) -> Self {
        self.map(|[x, y]| [x + dx, y + dy])
    }

    /// Share of each pixel that it covers, 0..=255, when a point `p` goes to `centre + scale · p`. All 0 where the outline is
    /// nowhere or is not finite.
    pub(super) fn coverage(&self, centre: Point, scale: f32, side: usize) -> Vec<u8> {
        let placed = |&[x, y]: &Point| [centre[0] + scale * x, centre[1] + scale * y];
        let all = self.polygons.iter().chain(&self.holes);
        let all: Vec<Vec<Point>> = all.map(|polygon| polygon.iter().map(placed).collect()).collect();
        raster::cover(&all, side)
    }
}

/// Cosine and sine of `turns` full turns.
pub(super) fn unit(turns: f32) -> Point {
    direction(f64::from(turns)).map(|value| value as f32)
}

/// A vector turned clockwise by `turns`.
pub(super) fn turned([x, y]: Point, turns: f32) -> Point {
    let [cos, sin] = unit(turns);
    [x * cos - y * sin, x * sin + y * cos]
}

/// Twice the area, positive where the corners go clockwise as seen.
fn doubled_area(points: &[Point]) -> f32 {
    let next = points.iter().cycle().skip(1);
    points.iter().zip(next).map(|(a, b)| a[0] * b[1] - a[1] * b[0]).sum()
}
