//! A cartoon face, drawn through its 68 landmarks.

use super::canvas::{Canvas, mix, shade};
use super::outline::{Outline, Point, turned, unit};
use super::{WHITE, landmarks};
use crate::scenes::{Face, Rgb};

const LIPS: Rgb = [0.68, 0.06, 0.12];
const MOUTH: Rgb = [0.16, 0.02, 0.04];
const IRIS: Rgb = [0.06, 0.06, 0.10];

/// Teeth show where the lips are further apart than this.
const TEETH_FROM: f32 = 0.06;

impl Face {
    /// Paints the face over what is there.
    pub(super) fn paint(&self, canvas: &mut Canvas) {
        if !self.rotation.is_finite() {
            return;
        }
        let side = canvas.side;
        let centre = self.centre.map(|share| share * side as f32);
        let mut put = |outline: Outline, colour: Rgb| {
            let coverage = outline.map(|point| turned(point, self.rotation)).coverage(
                centre,
                self.size * side as f32,
                side,
            );
            canvas.paint(&coverage, |_| colour);
        };
        let points = self.own_landmarks();
        self.paint_head(&points, &mut put);
        self.paint_eyes(&points, &mut put);
        self.paint_mouth(&points, &mut put);
    }

    /// Hair, skin, nose and brows.
    fn paint_head(&self, points: &[Point; 68], put: &mut impl FnMut(Outline, Rgb)) {
        let brow = landmarks::EYE_LINE;
        let dome = |half: f32, height: f32| {
            (0..=16).map(move |k| {
                let [cos, sin] = unit(k as f32 / 32.0);
                [half * cos, brow - height * sin]
            })
        };
        let hair = Outline::polygon(dome(self.jaw_width + 0.1, 0.96).collect());
        let locks = |x: f32| Outline::capsule([x, brow], [x, brow + 0.25], [0.12, 0.1]);
        put(hair.and(locks(-self.jaw_width)).and(locks(self.jaw_width)), self.hair);
        let skin = points[..17].iter().copied().chain(dome(self.jaw_width, 0.62));
        put(Outline::polygon(skin.collect()), self.skin);
        let dark = shade(self.skin, 0.62);
        put(Outline::limb(&points[27..31], [0.035, 0.06]), mix(self.skin, dark, 0.6));
        put(Outline::limb(&points[31..36], [0.055, 0.055]), dark);
        for brow in [&points[17..22], &points[22..27]] {
            put(Outline::limb(brow, [0.06, 0.06]), shade(self.hair, 0.7));
        }
    }

    fn paint_eyes(&self, points: &[Point; 68], put: &mut impl FnMut(Outline, Rgb)) {
        for eye in [&points[36..42], &points[42..48]] {
            let middle = [0.5 * (eye[0][0] + eye[3][0]), 0.5 * (eye[0][1] + eye[3][1])];
            let height = 0.5 * (eye[4][1] - eye[2][1]);
            put(Outline::polygon(closed_curve(eye)), WHITE);
            put(Outline::disc(middle, 0.85 * height), IRIS);
        }
    }

    fn paint_mouth(&self, points: &[Point; 68], put: &mut impl FnMut(Outline, Rgb)) {
        let inner = &points[60..68];
        put(Outline::polygon(closed_curve(&points[48..60])), LIPS);
        if self.mouth_opening <= TEETH_FROM {
            put(Outline::limb(&inner[..5], [0.025, 0.025]), MOUTH);
            return;
        }
        put(Outline::polygon(closed_curve(inner)), MOUTH);
        put(Outline::polygon(teeth(inner)), WHITE);
    }
}

/// The upper part of the opened mouth: from the upper inner lip a share of the way to the lower.
fn teeth(inner: &[Point]) -> Vec<Point> {
    let upper = &inner[1..4];
    let lower = [inner[7], inner[6], inner[5]];
    let part = |(a, b): (&Point, &Point)| [a[0], a[1] + 0.5 * (b[1] - a[1])];
    let edge: Vec<Point> = upper.iter().zip(&lower).map(part).rev().collect();
    upper.iter().copied().chain(edge).collect()
}

/// A smooth closed curve through all points (Catmull and Rom's).
fn closed_curve(points: &[Point]) -> Vec<Point> {
    const STEPS: usize = 4;
    let at = |k: usize| points[k % points.len()];
    let piece = |k: usize| {
        let [a, b, c, d] = [at(k + points.len() - 1), at(k), at(k + 1), at(k + 2)];
        (0..STEPS).map(move |step| {
            let t = step as f32 / STEPS as f32;
            std::array::from_fn(|i| {
                let (linear, square) = (c[i] - a[i], 2.0 * a[i] - 5.0 * b[i] + 4.0 * c[i] - d[i]);
                let cube = 3.0 * (b[i] - c[i]) + d[i] - a[i];
                b[i] + 0.5 * t * (linear + t * (square + t * cube))
            })
        })
    };
    (0..points.len()).flat_map(piece).collect()
}
