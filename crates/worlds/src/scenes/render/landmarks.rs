//! The 68 landmarks of a face, in dlib's order.

use super::outline::{Point, turned, unit};
use crate::scenes::Face;

/// Height of the eyes, down from the face's centre.
pub(super) const EYE_LINE: f32 = -0.04;

/// Thickness of a lip.
const LIP: f32 = 0.11;

impl Face {
    /// The landmarks as shares of the picture's side, right and down, in dlib's order: 0–16 the jaw from the left ear to the right one
    /// as seen, 17–26 the brows, 27–35 the nose, 36–47 the eyes, 48–59 the outer and 60–67 the inner lips. The drawing passes
    /// through them.
    #[must_use]
    pub fn landmarks(&self) -> [[f32; 2]; 68] {
        let rotation = if self.rotation.is_finite() { self.rotation } else { 0.0 };
        self.own_landmarks().map(|point| {
            let [x, y] = turned(point, rotation);
            [self.centre[0] + self.size * x, self.centre[1] + self.size * y]
        })
    }

    /// The landmarks in the upright face's frame, whose unit is the face's size.
    pub(super) fn own_landmarks(&self) -> [Point; 68] {
        let parts = [self.jaw(), self.brows(), self.nose(), self.eyes(), self.lips()];
        let mut points = [[0.0; 2]; 68];
        for (point, value) in points.iter_mut().zip(parts.into_iter().flatten()) {
            *point = value;
        }
        points
    }

    /// From the left end of the eye line, down around the chin, to the right end.
    fn jaw(&self) -> Vec<Point> {
        let point = |k: u8| {
            let [cos, sin] = unit(0.5 - f32::from(k) / 32.0);
            [self.jaw_width * cos, EYE_LINE + self.jaw_height * sin]
        };
        (0..17).map(point).collect()
    }

    /// Half the distance of the eyes' centres.
    fn eye_place(&self) -> f32 {
        0.47 * self.jaw_width
    }

    /// Two arcs of five points each.
    fn brows(&self) -> Vec<Point> {
        let reach = self.eye_size + 0.06;
        let arc = |side: f32| {
            (-2..=2_i8).map(move |k| {
                let t = f32::from(k) / 2.0;
                [side * self.eye_place() + reach * t, EYE_LINE - 0.72 * self.eye_size - 0.19 + 0.06 * t * t]
            })
        };
        arc(-1.0).chain(arc(1.0)).collect()
    }

    /// Four points down the bridge, five along the base.
    fn nose(&self) -> Vec<Point> {
        let base = 0.34 * self.jaw_height;
        let bridge = (0..4_u8).map(|k| [0.0, EYE_LINE + (base - 0.06) * f32::from(k) / 3.0]);
        let nostrils = (-2..=2_i8).map(|k| {
            let t = f32::from(k) / 2.0;
            [0.13 * t, EYE_LINE + base - 0.03 * t * t]
        });
        bridge.chain(nostrils).collect()
    }

    /// Six points around each eye: its left corner, two above, its right corner, two below.
    fn eyes(&self) -> Vec<Point> {
        let (half, height) = (self.eye_size, 0.72 * self.eye_size);
        let around = [[-1.0, 0.0], [-0.5, -0.87], [0.5, -0.87], [1.0, 0.0], [0.5, 0.87], [-0.5, 0.87]];
        let eye =
            |side: f32| around.map(|[x, y]| [side * self.eye_place() + half * x, EYE_LINE + height * y]);
        [eye(-1.0), eye(1.0)].concat()
    }

    /// Twelve points around the lips and eight around the opening; both go from the left corner over the top.
    fn lips(&self) -> Vec<Point> {
        let middle = EYE_LINE + 0.56 * self.jaw_height;
        let opening = self.mouth_opening.max(0.0);
        // An opened mouth drops its lower lip further than it lifts its upper.
        let upper = |t: f32| -0.3 * opening * (1.0 - t * t);
        let lower = |t: f32| 0.7 * opening * (1.0 - t * t);
        let at = |t: f32, dy: f32| [self.mouth_width * t, middle - self.smile * t * t + dy];
        let thick = |t: f32| LIP * (1.0 - t * t);
        let third = |k: i8| f32::from(k) / 3.0;
        let half = |k: i8| 0.8 * f32::from(k) / 2.0;
        let outer_top = (-3..=3).map(|k| at(third(k), upper(third(k)) - thick(third(k))));
        let outer_bottom = (-2..=2).rev().map(|k| at(third(k), lower(third(k)) + thick(third(k))));
        let inner_top = (-2..=2).map(|k| at(half(k), upper(half(k))));
        let inner_bottom = (-1..=1).rev().map(|k| at(half(k), lower(half(k))));
        outer_top.chain(outer_bottom).chain(inner_top).chain(inner_bottom).collect()
    }
}
