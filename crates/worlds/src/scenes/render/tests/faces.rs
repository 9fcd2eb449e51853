//! Landmarks are where the drawing has them.

use super::{face, scene};
use crate::scenes::{Face, Picture, Scene};

const SIDE: usize = 64;

fn drawn(face: &Face) -> Picture {
    Scene { face: Some(face.clone()), ..scene(Vec::new()) }.render(SIDE)
}

/// Colour at a place given in shares of the side.
fn colour_at(picture: &Picture, [x, y]: [f32; 2]) -> [u8; 3] {
    let k = (y * SIDE as f32) as usize * SIDE + (x * SIDE as f32) as usize;
    [0, 1, 2].map(|channel| picture.pixels[channel * SIDE * SIDE + k])
}

fn between(a: [f32; 2], b: [f32; 2], share: f32) -> [f32; 2] {
    [a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share]
}

/// Faces at the ends of every range.
fn faces() -> Vec<Face> {
    let ends = |bits: u32, k: u32, low: f32, high: f32| if bits >> k & 1 == 1 { high } else { low };
    let face = |bits: u32| Face {
        jaw_width: ends(bits, 0, 0.62, 0.9),
        jaw_height: ends(bits, 1, 0.75, 1.0),
        eye_size: ends(bits, 2, 0.13, 0.22),
        mouth_width: ends(bits, 3, 0.22, 0.45),
        mouth_opening: ends(bits, 4, 0.0, 0.3),
        smile: ends(bits, 5, -0.12, 0.12),
        ..face()
    };
    (0..64).map(face).collect()
}

#[test]
fn landmarks_have_dlibs_order() {
    for face in faces() {
        let points = face.landmarks();
        let (x, y) = (|k: usize| points[k][0], |k: usize| points[k][1]);
        assert!((0..16).all(|k| x(k) < x(k + 1)), "the jaw goes from left to right");
        assert!((0..68).all(|k| k == 8 || y(k) < y(8)), "the chin is lowest: {face:?}");
        assert!((17..26).all(|k| x(k) < x(k + 1)), "the brows go from left to right: {face:?}");
        assert!((27..30).all(|k| y(k) < y(k + 1)) && (31..35).all(|k| x(k) < x(k + 1)));
        for eye in [36, 42] {
            assert!((17..27).all(|brow| y(brow) < y(eye + 1)), "eyes are below brows");
            assert!(x(eye) < x(eye + 1) && x(eye + 1) < x(eye + 2) && x(eye + 2) < x(eye + 3));
            assert!(y(eye + 1) < y(eye) && y(eye) < y(eye + 5) && y(eye + 2) < y(eye + 4));
        }
        assert!(x(39) < x(27) && x(27) < x(42), "the nose is between the eyes");
        assert!(x(48) < x(60) && x(60) < x(64) && x(64) < x(54));
        assert!((31..36).all(|nose| y(nose) < y(57)));
        assert!(y(51) < y(62) && y(62) <= y(66) && y(66) < y(57), "lips from above: {face:?}");
        assert!((y(66) - y(62) - face.mouth_opening * face.size).abs() < 1e-5);
    }
}

#[test]
fn a_turned_and_moved_face_takes_its_landmarks_along() {
    let straight = Face { smile: 0.1, mouth_opening: 0.2, ..face() };
    let quarter = Face { rotation: 0.25, centre: [0.6, 0.4], ..straight.clone() };
    for (a, b) in straight.landmarks().into_iter().zip(quarter.landmarks()) {
        let expected = [0.6 - (a[1] - 0.5), 0.4 + (a[0] - 0.5)];
        assert!((0..2).all(|k| (expected[k] - b[k]).abs() < 1e-5), "{expected:?} {b:?}");
    }
}

#[test]
fn the_drawing_has_its_parts_at_the_landmarks() {
    for rotation in [-0.04, 0.0, 0.05] {
        let face = Face { rotation, mouth_opening: 0.2, ..face() };
        let (points, picture) = (face.landmarks(), drawn(&face));
        let at = |a: usize, b: usize, share: f32| colour_at(&picture, between(points[a], points[b], share));
        for (left, right) in [(36, 39), (42, 45)] {
            let iris = at(left, right, 0.5);
            assert!(iris.iter().all(|&byte| byte < 60), "{iris:?}");
        }
        for lip in [at(51, 62, 0.5), at(57, 66, 0.5)] {
            assert!(lip[0] > 120 && lip[1] < 70, "{lip:?}");
        }
        let dark = at(66, 62, 0.25);
        assert!(dark.iter().all(|&byte| byte < 90), "{dark:?}");
        // Just within the jaw there is skin, just beyond it there is none. Hair hangs down beside the first points.
        let skin = [140, 97, 66];
        for k in [5, 8, 11] {
            let middle = points[33];
            let is_skin = |share: f32| {
                let colour = colour_at(&picture, between(middle, points[k], share));
                (0..3).all(|c| colour[c].abs_diff(skin[c]) < 12)
            };
            assert!(is_skin(0.9) && !is_skin(1.12), "jaw point {k}");
        }
    }
}

#[test]
fn teeth_show_only_in_an_opened_mouth() {
    let whites = |mouth_opening: f32| {
        let face = Face { mouth_opening, ..face() };
        let (points, picture) = (face.landmarks(), drawn(&face));
        let inside = |k: usize| {
            let (x, y) = ((k % SIDE) as f32 / 64.0, (k / SIDE) as f32 / 64.0);
            x > points[48][0] && x < points[54][0] && y > points[51][1] && y < points[57][1]
        };
        let white = |k: usize| (0..3).all(|channel| picture.pixels[channel * SIDE * SIDE + k] > 150);
        (0..SIDE * SIDE).filter(|&k| inside(k) && white(k)).count()
    };
    assert_eq!([0.0, 0.03, 0.06].map(whites), [0; 3]);
    let (some, more) = (whites(0.1), whites(0.25));
    assert!(some >= 4 && more > some, "{some} {more}");
}

#[test]
fn an_edit_of_the_mouth_changes_the_lower_half_alone() {
    let closed = face();
    let opened = Face { mouth_opening: 0.25, smile: 0.1, ..face() };
    let (a, b) = (drawn(&closed), drawn(&opened));
    let nose = (closed.landmarks()[30][1] * SIDE as f32) as usize;
    let changed: Vec<usize> =
        (0..SIDE * SIDE).filter(|&k| a.pixels[k] != b.pixels[k]).map(|k| k / SIDE).collect();
    assert!(changed.len() > 50 && changed.iter().all(|&row| row > nose), "{changed:?}");
}
