//! The drawn worlds: the same on every machine, balanced, and different where they should be.
#![allow(clippy::unwrap_used)]

use super::*;

/// Digest of the first training picture of `shapes10` with its label.
const FIRST_PICTURE: &str = "65536de4c9e3bd80355958a601e9700094686e89fef172ec04d254749adeaaaf";

#[test]
fn named_worlds_have_their_known_digests() {
    for (name, known) in KNOWN_DIGESTS {
        let recipe = Recipe::named(name).unwrap();
        assert_eq!(recipe.known_digest(), Some(known));
        assert_eq!(recipe.digest(), known, "{name} draws other pictures than before");
    }
}

#[test]
fn one_picture_has_its_known_digest() {
    let set = Recipe::named("shapes10").unwrap().draw_first(Split::Train, 1);
    assert_eq!(set.digest(), FIRST_PICTURE);
}

#[test]
fn a_prefix_is_the_same_pictures_and_is_balanced() {
    let recipe = Recipe::named("shapes10").unwrap();
    let [few, more] = [20, 50].map(|count| recipe.draw_first(Split::Test, count));
    assert_eq!(few.pixels[..], more.pixels[..few.pixels.len()]);
    assert_eq!(few.class_counts(), vec![2; 10]);
    assert_eq!(
        Recipe::named("shapes100").unwrap().draw_first(Split::Train, 300).class_counts(),
        vec![3; 100]
    );
}

#[test]
fn seeds_splits_and_indices_give_different_pictures() {
    let recipe = Recipe::named("shapes10").unwrap();
    let other = Recipe { seed: 1, ..recipe.clone() };
    let train = recipe.draw_first(Split::Train, 11);
    assert_ne!(train.picture(0), recipe.draw_first(Split::Test, 1).picture(0));
    assert_ne!(train.picture(0), other.draw_first(Split::Train, 1).picture(0));
    assert_ne!(train.picture(0), train.picture(10));
}

#[test]
fn names_follow_family_and_texture() {
    assert_eq!(Recipe::named("shapes10").unwrap().names()[5], "star");
    assert_eq!(Recipe::named("shapes100").unwrap().names()[35], "star-dots");
    assert_eq!(Recipe::named("shapes1000"), None);
}

#[test]
fn a_recipe_survives_being_written_down() {
    let recipe = Recipe::named("shapes100").unwrap();
    let text = serde_json::to_string(&recipe).unwrap();
    assert_eq!(serde_json::from_str::<Recipe>(&text).unwrap(), recipe);
    assert!(serde_json::from_str::<Recipe>(&text.replace("bars", "barz")).is_err());
}
