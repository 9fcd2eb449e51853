//! Animals from the side, looking to the right, made of limbs.

use super::outline::{Outline, Point, turned};
use super::pose::{Build, GROUND, Pose, plus};
use super::{Layer, Paint, WHITE};
use crate::scenes::{Action, Animal, Rgb};

const BLACK: Rgb = [0.04, 0.04, 0.05];
const HORN: Rgb = [0.24, 0.13, 0.06];
const BEAK: Rgb = [1.0, 0.55, 0.05];
const FOOD: Rgb = [0.35, 0.84, 0.16];
const GREY: Rgb = [0.45, 0.45, 0.48];
const SHADE: Rgb = [0.14, 0.14, 0.16];

/// Tone of what is on the far side.
const FAR: f32 = 0.5;

/// Layers of an animal from the back, in the unit circle.
pub(super) fn layers(animal: Animal, action: Option<Action>) -> Vec<Layer> {
    let build = build(animal);
    let pose = build.pose(action);
    let mut layers: Vec<Layer> = behind(action).into_iter().collect();
    layers.push(Layer::main(legs(&build, &pose.far), FAR));
    let head = Head { centre: pose.head, nod: pose.nod, radius: build.head_radius };
    layers.extend(head.behind(animal));
    layers.push(Layer::main(trunk(&build, &pose, action).and(head.front(animal)), 1.0));
    layers.extend(head.details(animal));
    layers.extend((action == Some(Action::Eating)).then(|| food(&head)));
    layers.retain(|layer| !layer.outline.is_empty());
    layers
}

fn flat(outline: Outline, colour: Rgb) -> Layer {
    Layer { outline, paint: Paint::Flat(colour) }
}

fn legs(build: &Build, legs: &[Vec<Point>]) -> Outline {
    legs.iter().fold(Outline::default(), |all, leg| all.and(Outline::limb(leg, build.leg)))
}

/// Trunk, neck, tail and near legs.
fn trunk(build: &Build, pose: &Pose, action: Option<Action>) -> Outline {
    let tail: Vec<Point> = build.tail.iter().map(|&part| plus(pose.hip, turned(part, pose.pitch))).collect();
    let all = Outline::capsule(pose.hip, pose.shoulder, build.girth)
        .and(Outline::capsule(pose.shoulder, pose.head, build.neck))
        .and(Outline::limb(&tail, build.tail_radii))
        .and(legs(build, &pose.near));
    if action == Some(Action::Sitting) {
        let haunch = plus(pose.hip, [0.12, 0.0]);
        return all.and(Outline::disc(haunch, build.girth[0]));
    }
    all
}

/// What an action leaves behind or beneath the animal.
fn behind(action: Option<Action>) -> Option<Layer> {
    match action? {
        Action::Running => {
            let line = |y: f32, from: f32, to: f32| Outline::capsule([from, y], [to, y], [0.07, 0.07]);
            Some(flat(line(0.12, -1.15, -0.82).and(line(0.4, -1.05, -0.78)), GREY))
        }
        Action::Jumping => Some(flat(Outline::ellipse([0.0, GROUND], [0.62, 0.11], 0.0), SHADE)),
        Action::Eating | Action::Sitting => None,
    }
}

/// A heap before the mouth.
fn food(head: &Head) -> Layer {
    let x = (head.centre[0] + 1.7 * head.radius + 0.2).min(0.8);
    let heap = Outline::ellipse([x, GROUND - 0.07], [0.26, 0.12], 0.0);
    flat(heap.and(Outline::disc([x + 0.02, GROUND - 0.17], 0.13)), FOOD)
}

/// Joints and thicknesses of each species.
fn build(animal: Animal) -> Build {
    let medium = Build {
        hip: [-0.42, 0.22],
        shoulder: [0.26, 0.22],
        girth: [0.24, 0.27],
        leg: [0.15, 0.12],
        head: [0.5, -0.25],
        head_radius: 0.25,
        neck: [0.2, 0.16],
        tail: &[[-0.12, -0.1], [-0.4, -0.5]],
        tail_radii: [0.11, 0.08],
        two_legged: false,
    };
    match animal {
        Animal::Dog => medium,
        Animal::Cat => Build {
            hip: [-0.36, 0.3],
            shoulder: [0.2, 0.3],
            girth: [0.22, 0.21],
            leg: [0.13, 0.11],
            head: [0.48, -0.16],
            head_radius: 0.31,
            neck: [0.17, 0.17],
            tail: &[[-0.1, 0.0], [-0.42, -0.2], [-0.5, -0.6], [-0.28, -0.92]],
            tail_radii: [0.1, 0.1],
            ..medium
        },
        Animal::Deer => Build {
            hip: [-0.44, 0.1],
            shoulder: [0.2, 0.1],
            girth: [0.22, 0.22],
            leg: [0.1, 0.08],
            head: [0.52, -0.42],
            head_radius: 0.16,
            neck: [0.17, 0.12],
            tail: &[[-0.15, -0.05], [-0.32, -0.22]],
            tail_radii: [0.1, 0.08],
            ..medium
        },
        Animal::Bear => Build {
            hip: [-0.42, 0.14],
            shoulder: [0.14, 0.16],
            girth: [0.46, 0.42],
            leg: [0.22, 0.19],
            head: [0.6, -0.14],
            head_radius: 0.29,
            neck: [0.3, 0.25],
            tail: &[],
            ..medium
        },
        Animal::Giraffe => Build {
            hip: [-0.42, 0.16],
            shoulder: [0.08, 0.08],
            girth: [0.19, 0.21],
            leg: [0.1, 0.085],
            head: [0.46, -0.84],
            head_radius: 0.14,
            neck: [0.16, 0.11],
            tail: &[[-0.14, -0.02], [-0.26, 0.3]],
            tail_radii: [0.07, 0.07],
            ..medium
        },
        Animal::Ostrich => Build {
            hip: [-0.32, 0.02],
            shoulder: [0.06, -0.04],
            girth: [0.28, 0.26],
            leg: [0.1, 0.08],
            head: [0.4, -0.78],
            head_radius: 0.15,
            neck: [0.12, 0.085],
            tail: &[[-0.1, -0.1], [-0.5, -0.3]],
            tail_radii: [0.24, 0.12],
            two_legged: true,
        },
    }
}

/// A head, whose parts are given about its centre, in its radius, nose to the right.
struct Head {
    centre: Point,
    nod: f32,
    radius: f32,
}

impl Head {
    fn placed(&self, outline: Outline) -> Outline {
        outline.map(|[x, y]| plus(self.centre, turned([self.radius * x, self.radius * y], self.nod)))
    }

    /// Skull, snout and ears in the animal's colour.
    fn front(&self, animal: Animal) -> Outline {
        let skull = Outline::disc([0.0, 0.0], 1.0);
        let snout = |to: Point, radii: [f32; 2]| Outline::capsule([0.2, 0.1], to, radii);
        let ear = |x: f32| Outline::polygon(vec![[x - 0.42, -0.6], [x + 0.08, -1.75], [x + 0.42, -0.6]]);
        self.placed(match animal {
            Animal::Dog => skull.and(snout([1.35, 0.32], [0.6, 0.48])),
            Animal::Cat => skull.and(ear(-0.5)).and(ear(0.45)).and(snout([0.85, 0.35], [0.5, 0.35])),
            Animal::Deer => skull.and(snout([1.7, 0.6], [0.8, 0.55])),
            Animal::Bear => skull
                .and(Outline::disc([-0.7, -0.8], 0.46))
                .and(Outline::disc([0.35, -0.98], 0.46))
                .and(snout([1.1, 0.3], [0.5, 0.48])),
            Animal::Giraffe => skull.and(snout([2.0, 0.75], [0.85, 0.65])),
            Animal::Ostrich => skull,
        })
    }

    /// Horns and beaks, which the head covers in part.
    fn behind(&self, animal: Animal) -> Option<Layer> {
        let branch = |points: &[Point]| Outline::limb(points, [0.36, 0.3]);
        let (outline, colour) = match animal {
            Animal::Deer => {
                let left = branch(&[[-0.3, -0.5], [-1.0, -1.8], [-1.0, -3.0]])
                    .and(branch(&[[-0.9, -1.7], [-2.0, -2.3]]));
                let right =
                    branch(&[[0.3, -0.5], [0.7, -1.8], [0.4, -3.0]]).and(branch(&[[0.7, -1.7], [1.7, -2.6]]));
                (left.and(right), HORN)
            }
            Animal::Giraffe => {
                let horn = |x: f32| Outline::capsule([x, -0.5], [x - 0.3, -1.6], [0.34, 0.42]);
                (horn(-0.4).and(horn(0.6)), HORN)
            }
            Animal::Ostrich => (Outline::polygon(vec![[0.3, -0.65], [2.5, 0.35], [0.3, 0.8]]), BEAK),
            Animal::Dog | Animal::Cat | Animal::Bear => return None,
        };
        Some(flat(self.placed(outline), colour))
    }

    /// Eye, nose and a hanging ear.
    fn details(&self, animal: Animal) -> Vec<Layer> {
        let nose = |at: Point, radius: f32| flat(self.placed(Outline::disc(at, radius)), BLACK);
        let mut layers = match animal {
            Animal::Dog => {
                let ear = Outline::capsule([-0.5, -0.6], [-0.85, 0.7], [0.38, 0.42]);
                vec![Layer::main(self.placed(ear), FAR), nose([1.7, 0.2], 0.3)]
            }
            Animal::Bear => vec![nose([1.45, 0.15], 0.28)],
            _ => Vec::new(),
        };
        // Not smaller than what can be seen, however small the head.
        let size = (0.085 / self.radius).max(0.34);
        let eye = [0.3, -0.25];
        layers.push(flat(self.placed(Outline::disc(eye, size)), WHITE));
        layers.push(flat(self.placed(Outline::disc([eye[0] + 0.3 * size, eye[1]], 0.6 * size)), BLACK));
        layers
    }
}
