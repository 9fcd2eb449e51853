//! Where an animal's limbs are while it stands, eats, runs, sits or jumps.

use super::outline::{Point, turned};
use crate::scenes::Action;

/// Height of the ground, down from the centre.
pub(super) const GROUND: f32 = 0.92;

/// A standing animal's joints, in the unit circle, looking to the right.
#[derive(Clone, Copy)]
pub(super) struct Build {
    pub(super) hip: Point,
    pub(super) shoulder: Point,
    /// Radii of the trunk at hip and shoulder.
    pub(super) girth: [f32; 2],
    /// Radii of a leg at its top and at its foot.
    pub(super) leg: [f32; 2],
    pub(super) head: Point,
    pub(super) head_radius: f32,
    /// Radii of the neck at the shoulder and at the head.
    pub(super) neck: [f32; 2],
    /// From the hip.
    pub(super) tail: &'static [Point],
    pub(super) tail_radii: [f32; 2],
    /// Whether it walks on its hind legs alone.
    pub(super) two_legged: bool,
}

/// An animal's joints in the middle of an action.
pub(super) struct Pose {
    pub(super) hip: Point,
    pub(super) shoulder: Point,
    pub(super) head: Point,
    /// Turn of the head, nose down.
    pub(super) nod: f32,
    /// Turn of the trunk, nose down.
    pub(super) pitch: f32,
    /// Legs from top to foot: near and far.
    pub(super) near: Vec<Vec<Point>>,
    pub(super) far: Vec<Vec<Point>>,
}

impl Build {
    /// The joints during `action`.
    pub(super) fn pose(&self, action: Option<Action>) -> Pose {
        match action {
            None => self.standing(),
            Some(Action::Eating) => self.eating(),
            Some(Action::Running) => self.running(),
            Some(Action::Sitting) => self.sitting(),
            Some(Action::Jumping) => self.jumping(),
        }
    }

    fn foot_height(&self) -> f32 {
        GROUND - self.leg[1]
    }

    /// Where legs start: at the hip, and at the shoulder of those with four.
    fn roots(&self, hip: Point, shoulder: Point) -> (Point, Point) {
        let middle = [0.6 * hip[0] + 0.4 * shoulder[0], 0.5 * (hip[1] + shoulder[1])];
        if self.two_legged { (middle, middle) } else { (hip, shoulder) }
    }

    fn standing(&self) -> Pose {
        let (hind, fore) = self.roots(self.hip, self.shoulder);
        let straight = |[x, y]: Point, step: f32| vec![[x, y], [x + step, self.foot_height()]];
        let (near, far) = if self.two_legged {
            (vec![straight(hind, 0.1)], vec![straight(hind, -0.16)])
        } else {
            (
                vec![straight(hind, -0.06), straight(fore, -0.02)],
                vec![straight(hind, 0.22), straight(fore, 0.22)],
            )
        };
        Pose { hip: self.hip, shoulder: self.shoulder, head: self.head, nod: 0.0, pitch: 0.0, near, far }
    }

    /// The head on the ground before the feet.
    fn eating(&self) -> Pose {
        let back = [-0.3, 0.0];
        let (hip, shoulder) = (plus(self.hip, back), plus(self.shoulder, [back[0], 0.1]));
        let standing = Self { hip, shoulder, ..*self }.standing();
        let head = [shoulder[0] + 0.34 + 0.4 * self.head_radius, GROUND - 1.25 * self.head_radius];
        Pose { head, nod: 0.09, pitch: 0.03, ..standing }
    }

    /// The body low, the legs thrown to the front and to the back.
    fn running(&self) -> Pose {
        let (hip, shoulder) = (plus(self.hip, [0.0, 0.08]), plus(self.shoulder, [0.06, 0.08]));
        let (hind, fore) = self.roots(hip, shoulder);
        let stride = |root: Point, turns: f32| {
            let length = (self.foot_height() - root[1]).max(0.3) * 1.12;
            vec![root, plus(root, turned([0.0, length], turns))]
        };
        let (near, far) = if self.two_legged {
            (vec![stride(hind, -0.12)], vec![stride(fore, 0.13)])
        } else {
            (vec![stride(hind, 0.14), stride(fore, -0.14)], vec![stride(hind, 0.05), stride(fore, -0.06)])
        };
        Pose { hip, shoulder, head: plus(self.head, [0.08, 0.12]), nod: 0.0, pitch: 0.0, near, far }
    }

    /// The rear on the ground, the trunk upright, the forelegs straight, the hind legs folded.
    fn sitting(&self) -> Pose {
        let spine = minus(self.shoulder, self.hip);
        let length = (spine[0] * spine[0] + spine[1] * spine[1]).sqrt();
        let hip = [self.hip[0], GROUND - self.girth[0]];
        let rise = if self.two_legged { [0.9, -0.1] } else { [0.62, -0.78] };
        let shoulder = plus(hip, rise.map(|part| part * length));
        let head = plus(shoulder, minus(self.head, self.shoulder));
        let sole = GROUND - self.leg[1];
        let folded = vec![plus(hip, [0.1, 0.0]), [hip[0] + 0.42, sole], [hip[0] + 0.56, sole]];
        let straight = |step: f32| vec![plus(shoulder, [0.02, 0.0]), [shoulder[0] + step, sole]];
        let (near, far) = if self.two_legged {
            (vec![vec![[hip[0] + 0.2, sole], [hip[0] + 0.85, sole]]], Vec::new())
        } else {
            (vec![folded, straight(0.12)], vec![straight(0.3)])
        };
        let pitch = if self.two_legged { 0.0 } else { -0.1 };
        Pose { hip, shoulder, head, nod: 0.0, pitch, near, far }
    }

    /// In the air, nose up, the legs tucked.
    fn jumping(&self) -> Pose {
        let pitch = -0.06;
        let lift = |[x, y]: Point| {
            let [x, y] = turned([0.88 * x, 0.88 * (y - 0.1)], pitch);
            [x, y - 0.12]
        };
        let (hip, shoulder, head) = (lift(self.hip), lift(self.shoulder), lift(self.head));
        let (hind, fore) = self.roots(hip, shoulder);
        let tucked = |root: Point, knee: Point, foot: Point| vec![root, plus(root, knee), plus(root, foot)];
        let hindleg = |dx: f32| tucked(hind, [dx + 0.02, 0.3], [dx - 0.26, 0.46]);
        let foreleg = |dx: f32| tucked(fore, [dx + 0.22, 0.26], [dx + 0.06, 0.46]);
        let (near, far) = if self.two_legged {
            (vec![hindleg(0.1)], vec![foreleg(0.0)])
        } else {
            (vec![hindleg(0.0), foreleg(0.0)], vec![hindleg(0.2), foreleg(0.2)])
        };
        Pose { hip, shoulder, head, nod: pitch, pitch, near, far }
    }
}

/// The sum of two vectors.
pub(super) fn plus(a: Point, b: Point) -> Point {
    [a[0] + b[0], a[1] + b[1]]
}

/// The difference of two vectors.
fn minus(a: Point, b: Point) -> Point {
    [a[0] - b[0], a[1] - b[1]]
}
