//! What a caption tells apart looks different: the mean change of a byte in the square about the object is not small.

use super::{difference, object, scene};
use crate::scenes::{
    Action, Animal, Background, Kind, Object, Picture, Place, Rgb, Scene, Shape, Style, Viewpoint,
};

/// Every pair of the pictures differs by more than `least` levels a byte.
fn assert_apart<T: std::fmt::Debug>(what: &[T], pictures: &[Picture], least: f64) {
    for a in 0..pictures.len() {
        for b in 0..a {
            let far = difference(&pictures[a], &pictures[b]);
            assert!(far > least, "{:?} and {:?} differ by {far}", what[a], what[b]);
        }
    }
}

fn pictures(objects: impl Iterator<Item = Object>) -> Vec<Picture> {
    objects.map(|object| scene(vec![object]).render(64)).collect()
}

#[test]
fn kinds_differ() {
    let kinds: Vec<Kind> = Kind::all().collect();
    assert_apart(&kinds, &pictures(Kind::all().map(object)), 2.0);
}

#[test]
fn styles_differ_on_every_kind() {
    for kind in Kind::all() {
        let styled = Style::ALL.iter().map(|&style| Object { style, ..object(kind) });
        assert_apart(Style::ALL, &pictures(styled), 1.0);
    }
}

#[test]
fn actions_differ_for_every_animal() {
    let actions: Vec<Option<Action>> =
        std::iter::once(None).chain(Action::ALL.iter().copied().map(Some)).collect();
    for &animal in Animal::ALL {
        let acting = actions.iter().map(|&action| Object { action, ..object(Kind::Animal(animal)) });
        assert_apart(&actions, &pictures(acting), 2.0);
    }
}

#[test]
fn viewpoints_differ_for_every_shape() {
    for &shape in Shape::ALL {
        let seen =
            Viewpoint::ALL.iter().map(|&view| Object { viewpoint: Some(view), ..object(Kind::Shape(shape)) });
        assert_apart(Viewpoint::ALL, &pictures(seen), 2.0);
    }
}

#[test]
fn places_differ() {
    let place = |&place: &Place| {
        let base = scene(Vec::new());
        let background = Background { place, colours: [[0.8; 3], [0.5; 3]], ..base.background };
        Scene { background, ..base }.render(64)
    };
    let places: Vec<Picture> = Place::ALL.iter().map(place).collect();
    assert_apart(Place::ALL, &places, 5.0);
}

/// Nothing in a background is finer than the step that a small autoencoder keeps: neighbours hardly differ.
#[test]
fn backgrounds_are_coarse() {
    let colours: [Rgb; 2] = [[0.8; 3], [0.5; 3]];
    for &place in Place::ALL {
        let base = scene(Vec::new());
        let background = Background { place, colours, frequency: 5.0, ..base.background };
        let picture = Scene { background, ..base }.render(64);
        let step = |k: usize| u64::from(picture.pixels[k].abs_diff(picture.pixels[k + 1]));
        let steps: u64 = (0..4096).filter(|k| k % 64 != 63).map(step).sum();
        assert!(steps < 4032 * 14, "{place:?}: {} levels from pixel to pixel", steps as f64 / 4032.0);
    }
}
