//! What pictures must keep: their bytes, what is seen in them, and that nothing makes them panic.
#![allow(clippy::unwrap_used)]

mod faces;
mod legible;
mod masks;

use sha2::{Digest, Sha256};

use crate::scenes::{
    Action, Animal, Background, Colour, Face, Kind, Light, Object, Picture, Place, Scene, Shape, Style,
    Trademark, Viewpoint, contact_sheet, palette,
};

/// A plain red object in the middle, without a shadow.
fn object(kind: Kind) -> Object {
    Object {
        kind,
        colour: Colour::Red,
        jitter: [0.0; 3],
        style: Style::Plain,
        action: None,
        viewpoint: None,
        centre: [0.5, 0.5],
        radius: 0.28,
        rotation: 0.0,
        stretch: [1.0, 1.0],
        shadow: false,
    }
}

/// Objects before muted bricks, in even light.
fn scene(objects: Vec<Object>) -> Scene {
    Scene {
        background: Background {
            place: Place::City,
            colours: [[0.78, 0.80, 0.74], [0.60, 0.66, 0.72]],
            frequency: 2.5,
            phase: 0.2,
            angle: 0.07,
            seed: 3,
        },
        light: Light { tint: [1.0; 3], ramp: 0.0, angle: 0.0 },
        objects,
        face: None,
    }
}

fn face() -> Face {
    Face {
        centre: [0.5, 0.5],
        size: 0.42,
        rotation: 0.0,
        skin: [0.55, 0.38, 0.26],
        hair: [0.2, 0.12, 0.08],
        jaw_width: 0.75,
        jaw_height: 0.9,
        eye_size: 0.18,
        mouth_width: 0.34,
        mouth_opening: 0.0,
        smile: 0.0,
    }
}

/// A dozen scenes and more in which every member of every set is drawn.
fn gallery() -> Vec<Scene> {
    let places = Place::ALL.iter().enumerate().map(|(index, &place)| {
        let (a, kinds) = (index as f32, Kind::all().chain(Kind::all()).skip(2 * index));
        let objects =
            kinds.step_by(7).zip([[0.3, 0.3], [0.66, 0.4], [0.45, 0.7]]).map(|(kind, centre)| Object {
                style: Style::ALL[(index + kind.index()) % 8],
                colour: Colour::ALL[(3 * index + kind.index()) % 8],
                radius: 0.2 + 0.01 * a,
                rotation: 0.03 * a,
                stretch: [1.0, 1.1 - 0.02 * a],
                shadow: index % 2 == 0,
                centre,
                ..object(kind)
            });
        let light = Light { tint: [0.9, 1.0, 1.1], ramp: 0.2, angle: 0.1 * a };
        let background = Background { place, angle: 0.13 * a, ..scene(Vec::new()).background };
        Scene { background, light, face: None, objects: objects.collect() }
    });
    let views = Viewpoint::ALL.iter().enumerate().map(|(index, &view)| {
        let shape = object(Kind::Shape(Shape::ALL[2 * index]));
        scene(vec![Object { viewpoint: Some(view), rotation: 0.05, ..shape }])
    });
    let actions = Action::ALL.iter().enumerate().map(|(index, &action)| {
        scene(vec![Object { action: Some(action), ..object(Kind::Animal(Animal::ALL[index + 1])) }])
    });
    let faces = [0.0, 0.2].map(|mouth_opening| Scene {
        face: Some(Face { mouth_opening, rotation: 0.03, smile: 0.1, ..face() }),
        ..scene(Vec::new())
    });
    places.chain(views).chain(actions).chain(faces).collect()
}

/// Mean absolute difference of the bytes.
fn difference(a: &Picture, b: &Picture) -> f64 {
    let sum: u64 = a.pixels.iter().zip(&b.pixels).map(|(&a, &b)| u64::from(a.abs_diff(b))).sum();
    sum as f64 / a.pixels.len() as f64
}

/// A change of this digest changes every picture that a model was trained on: train anew, and say so.
#[test]
fn the_pictures_are_these() {
    let mut digest = Sha256::new();
    for scene in gallery() {
        for side in [64, 48] {
            digest.update(scene.render(side).pixels);
        }
    }
    assert_eq!(
        crate::hex(&digest.finalize()),
        "a7032caeca0be67bd2389f69459b4e35f0e789e0a3b035d46a8e07123296bd59"
    );
}

#[test]
fn a_scene_is_drawn_the_same_each_time() {
    for scene in gallery() {
        assert_eq!(scene.render(64), scene.render(64));
        assert_eq!(scene.masks(64), scene.masks(64));
    }
}

#[test]
fn light_multiplies_and_saturates() {
    let plain = scene(vec![object(Kind::Shape(Shape::Disc))]);
    let lit = |tint, ramp| Scene { light: Light { tint, ramp, angle: 0.0 }, ..plain.clone() }.render(64);
    let (before, dark) = (plain.render(64), lit([0.5; 3], 0.0));
    assert!(
        before
            .pixels
            .iter()
            .zip(&dark.pixels)
            .all(|(&a, &b)| (f32::from(a) / 2.0 - f32::from(b)).abs() <= 1.0)
    );
    assert!(lit([1e9; 3], 0.0).pixels[..4096].iter().all(|&byte| byte == 255));
    // Brighter to the right: the two lower corners lie in the same brick's colour.
    let ramp = lit([1.0; 3], 0.4);
    let change = |k: usize| i32::from(ramp.pixels[k]) - i32::from(before.pixels[k]);
    assert!(change(0) < -20 && change(63) > 20, "{} {}", change(0), change(63));
}

#[test]
fn nothing_makes_a_picture_panic() {
    let odd = [0.0, 1e-9, -1.0, 7.0, 1e30, f32::INFINITY, f32::NAN];
    let kinds = [Kind::Shape(Shape::Ring), Kind::Animal(Animal::Cat), Kind::Trademark(Trademark::ZimoTonic)];
    for value in odd {
        for (index, &style) in Style::ALL.iter().enumerate() {
            let kind = kinds[index % 3];
            let base = Object { style, shadow: true, action: Some(Action::Running), ..object(kind) };
            let viewpoint = Some(Viewpoint::ALL[index % 4]);
            let mut odd_scene = scene(vec![
                Object { radius: value, ..base.clone() },
                Object { centre: [value, 0.5], viewpoint, ..base.clone() },
                Object { rotation: value, ..base.clone() },
                Object { stretch: [value, 1.0], jitter: [value; 3], ..base.clone() },
            ]);
            odd_scene.background.place = Place::ALL[index];
            (odd_scene.background.frequency, odd_scene.background.phase) = (value, value);
            (odd_scene.background.angle, odd_scene.light.ramp) = (value, value);
            for side in [0, 1, 2, 33] {
                assert_eq!(odd_scene.render(side).pixels.len(), 3 * side * side);
                assert!(odd_scene.masks(side).iter().all(|mask| mask.len() == side * side));
            }
        }
        let parts = Face { size: value, jaw_width: value, mouth_opening: value, ..face() };
        for face in [parts, Face { rotation: value, centre: [value; 2], ..face() }] {
            let _ = face.landmarks();
            let _ = Scene { face: Some(face), ..scene(Vec::new()) }.render(16);
        }
    }
}

#[test]
fn a_large_picture_shows_what_a_small_one_does() {
    for scene in gallery() {
        let (small, large) = (scene.render(64), scene.render(512));
        let mean = |k: usize| {
            let (channel, row, column) = (k / 4096, k / 64 % 64, k % 64);
            let corner = channel * 512 * 512 + row * 8 * 512 + column * 8;
            let block = (0..64).map(|j| u32::from(large.pixels[corner + j / 8 * 512 + j % 8]));
            block.sum::<u32>() / 64
        };
        let off: u32 = (0..small.pixels.len()).map(|k| u32::from(small.pixels[k]).abs_diff(mean(k))).sum();
        assert!(off < 6 * 3 * 4096, "{} levels a pixel: {scene:?}", f64::from(off) / (3.0 * 4096.0));
    }
}

#[test]
fn a_picture_goes_to_a_png_and_to_numbers() {
    let picture = gallery()[0].render(64);
    let decoded = image::load_from_memory(&picture.png().unwrap()).unwrap().to_rgb8();
    for (index, pixel) in decoded.pixels().enumerate() {
        assert_eq!(pixel.0, [0, 1, 2].map(|channel| picture.pixels[channel * 4096 + index]));
    }
    let ends = Picture { side: 1, pixels: vec![0, 255, 51] };
    assert_eq!(ends.to_unit(), [-1.0, 1.0, -0.6]);
}

#[test]
fn a_sheet_has_white_between_its_pictures() {
    let dark = Picture { side: 3, pixels: vec![9; 27] };
    let sheet = contact_sheet(&[vec![dark.clone(), dark.clone()], vec![dark]], 2).unwrap();
    let sheet = image::load_from_memory(&sheet).unwrap().to_rgb8();
    assert_eq!(sheet.dimensions(), (2 * 8 + 2, 2 * 8 + 2));
    let at = |x, y| sheet.get_pixel(x, y).0[0];
    assert_eq!([at(1, 1), at(2, 2), at(7, 7), at(8, 4), at(10, 4), at(10, 12)], [255, 9, 9, 255, 9, 255]);
}

#[test]
fn colours_stay_apart_in_tinted_light() {
    let far = |a: Colour, b: Colour, tint: [f32; 3]| {
        let (a, b) = (palette(a), palette(b));
        let lit = |k: usize| (a[k] * tint[k]).min(1.0) - b[k];
        (0..3).map(|k| lit(k) * lit(k)).sum::<f32>().sqrt()
    };
    for &a in Colour::ALL {
        for &b in Colour::ALL {
            for bits in 0..8_u8 {
                let tint = [0, 1, 2].map(|k| if bits >> k & 1 == 1 { 1.15 } else { 0.85 });
                assert!(a == b || far(a, b, tint) > 0.25, "{a:?} {b:?} {tint:?}");
            }
        }
    }
}
