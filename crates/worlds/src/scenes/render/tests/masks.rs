//! Masks say where an object is, and edits change nothing elsewhere.

use super::{object, scene};
use crate::scenes::{Action, Colour, Kind, Object, Scene, Shape, Style, Viewpoint};

const SIDE: usize = 64;

/// Every kind in every style, and what acts or is extruded in all its ways, a little off the middle.
fn everything() -> Vec<Object> {
    let off = |kind| Object { centre: [0.46, 0.53], radius: 0.25, rotation: 0.04, ..object(kind) };
    let styled = |kind| Style::ALL.iter().map(move |&style| Object { style, ..off(kind) });
    let acting = |kind| Action::ALL.iter().map(move |&action| Object { action: Some(action), ..off(kind) });
    let seen = |kind| Viewpoint::ALL.iter().map(move |&view| Object { viewpoint: Some(view), ..off(kind) });
    let ways = |kind| match kind {
        Kind::Shape(_) => seen(kind).collect::<Vec<_>>(),
        Kind::Animal(_) => acting(kind).collect(),
        Kind::Trademark(_) => Vec::new(),
    };
    Kind::all().flat_map(styled).chain(Kind::all().flat_map(ways)).collect()
}

/// Pixels whose neighbourhood of 3×3 touches either mask.
fn near(masks: [&[u8]; 2]) -> Vec<bool> {
    let covered = |x: usize, y: usize| masks.iter().any(|mask| mask[y * SIDE + x] > 0);
    let around = |k: usize| k.saturating_sub(1)..(k + 2).min(SIDE);
    (0..SIDE * SIDE).map(|k| around(k / SIDE).any(|y| around(k % SIDE).any(|x| covered(x, y)))).collect()
}

#[test]
fn a_moved_object_takes_its_mask_along() {
    for object in everything() {
        let before = scene(vec![object]);
        let after = before.moved(0, [5.0 / 64.0, -3.0 / 64.0]);
        let (old, new) = (&before.full_masks(SIDE)[0], &after.full_masks(SIDE)[0]);
        for (k, &share) in new.iter().enumerate() {
            let (x, y) = (k % SIDE, k / SIDE);
            let moved = if x >= 5 && y + 3 < SIDE { old[(y + 3) * SIDE + x - 5] } else { 0 };
            // The corners' places are rounded anew, and one of the eight lines of a pixel may fall on the other side.
            assert!(share.abs_diff(moved) <= 48, "{x} {y}: {moved} {share}: {before:?}");
        }
    }
}

#[test]
fn an_edit_changes_nothing_beyond_the_object() {
    for object in everything() {
        let before = scene(vec![object]);
        let edits = [
            before.moved(0, [0.08, -0.05]),
            before.resized(0, 0.7),
            before.with_style(0, Style::Sticker),
            before.with_colour(0, Colour::Green),
            before.without(0),
        ];
        let (old, picture) = (before.full_masks(SIDE), before.render(SIDE));
        for after in edits {
            let new = after.full_masks(SIDE);
            let near = near([&old[0], new.first().unwrap_or(&old[0])]);
            let after = after.render(SIDE);
            for k in (0..3 * SIDE * SIDE).filter(|k| !near[k % (SIDE * SIDE)]) {
                assert_eq!(picture.pixels[k], after.pixels[k], "{before:?}");
            }
        }
    }
}

#[test]
fn full_cover_hides_the_background_and_no_cover_shows_it() {
    for object in everything() {
        let before = scene(vec![object]);
        let mut other = before.clone();
        other.background.colours = [[0.1, 0.5, 0.2], [0.9, 0.3, 0.1]];
        let (mask, a, b) = (before.full_masks(SIDE).remove(0), before.render(SIDE), other.render(SIDE));
        let empty = before.background_only(SIDE);
        for k in 0..3 * SIDE * SIDE {
            match mask[k % (SIDE * SIDE)] {
                // Layers that cover a pixel together may leave a trace of a level.
                255 => assert!(a.pixels[k].abs_diff(b.pixels[k]) <= 1, "{before:?}"),
                0 => assert_eq!(a.pixels[k], empty.pixels[k], "{before:?}"),
                _ => {}
            }
        }
    }
}

#[test]
fn visible_masks_share_each_pixel() {
    let at = |kind, x: f32| Object { centre: [x, 0.5], ..object(kind) };
    let kinds = [Kind::Shape(Shape::Disc), Kind::Shape(Shape::Star), Kind::Shape(Shape::Ring)];
    let crowd: Vec<Object> = kinds.iter().zip([0.4, 0.5, 0.6]).map(|(&kind, x)| at(kind, x)).collect();
    let scene = scene(crowd);
    let (visible, full) = (scene.masks(SIDE), scene.full_masks(SIDE));
    assert!(visible[2].iter().zip(&full[2]).all(|(&a, &b)| a.abs_diff(b) <= 1), "nothing hides the last");
    let sum = |mask: &[u8]| mask.iter().map(|&share| u32::from(share)).sum::<u32>();
    assert!(sum(&visible[0]) < sum(&full[0]) / 2, "most of the first is hidden");
    for k in 0..SIDE * SIDE {
        let shares: u32 = visible.iter().map(|mask| u32::from(mask[k])).sum();
        let free = full.iter().map(|mask| 1.0 - f64::from(mask[k]) / 255.0).product::<f64>();
        assert!(shares <= 255, "{shares} at {k}");
        assert!((f64::from(shares) + 255.0 * free - 255.0).abs() <= 3.0, "{shares} and {free} at {k}");
    }
}

#[test]
fn without_its_object_a_scene_is_its_background() {
    for object in everything() {
        let scene = scene(vec![Object { shadow: true, ..object }]);
        assert_eq!(scene.without(0).render(SIDE), scene.background_only(SIDE));
        assert_ne!(scene.render(SIDE), scene.background_only(SIDE));
    }
}

#[test]
fn an_edit_of_an_object_that_is_not_there_changes_nothing() {
    let scene = scene(vec![object(Kind::Shape(Shape::Disc))]);
    let edits: [Scene; 4] =
        [scene.without(1), scene.moved(1, [0.1; 2]), scene.resized(7, 2.0), scene.with_style(1, Style::Dots)];
    assert!(edits.iter().all(|after| *after == scene));
}

#[test]
fn a_shadow_darkens_the_ground_at_the_lower_right() {
    for (kind, edge) in [(Kind::Shape(Shape::Square), 46), (Kind::Shape(Shape::Disc), 49)] {
        let bare = scene(vec![object(kind)]);
        let cast = bare.edited(0, |it| it.shadow = true);
        assert_eq!(bare.masks(SIDE), cast.masks(SIDE));
        let (bare, cast) = (bare.render(SIDE), cast.render(SIDE));
        assert!(bare.pixels.iter().zip(&cast.pixels).all(|(a, b)| b <= a));
        let darker = |x: usize, y: usize| bare.pixels[y * SIDE + x] - cast.pixels[y * SIDE + x];
        let (right, low) = (darker(edge + 1, 33), darker(33, edge + 1));
        let (left, high) = (darker(62 - edge, 31), darker(31, 62 - edge));
        assert!(right.min(low) > 20 && left.max(high) < 8, "{right} {low} {left} {high}");
    }
}

#[test]
fn figures_fill_their_circle_and_hardly_leave_it() {
    for object in everything() {
        let mask = scene(vec![object.clone()]).full_masks(SIDE).remove(0);
        let off = |k: usize| {
            let x = (k % SIDE) as f32 + 0.5 - 64.0 * object.centre[0];
            let y = (k / SIDE) as f32 + 0.5 - 64.0 * object.centre[1];
            (x * x + y * y).sqrt() / (64.0 * object.radius)
        };
        let reach = (0..mask.len()).filter(|&k| mask[k] > 127).map(off).fold(0.0, f32::max);
        assert!((0.8..1.35).contains(&reach), "{reach}: {object:?}");
    }
}
