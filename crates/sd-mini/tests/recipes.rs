//! The recipes that come with the repository.
#![allow(clippy::unwrap_used)]

use std::path::Path;

use lab::config::Document;
use sd_core::models::unet::Config;
use sd_mini::tokenizer::Vocabulary;
use sd_mini::{Recipe, networks};

fn recipe(scale: &str) -> Recipe {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../experiments/sd-mini/{scale}.yaml"));
    Recipe::decode(&Document::read(path).unwrap()).unwrap()
}

#[test]
fn the_recipe_that_ships_has_the_sizes_it_promises() {
    let recipe = recipe("standard");
    let vocabulary = Vocabulary::of(&worlds::scenes::vocabulary());
    let [text, vae, unet] = networks::counts(&recipe, &vocabulary).unwrap();
    let halves = 2 * (text + vae + unet);
    assert!(halves < 24_000_000, "{halves} bytes in half precision leave no room for the judges");
    assert!(recipe.text.layers >= 6, "fewer layers make \"only the first\" no statement");
    let unet = networks::denoiser(&recipe);
    let latents = recipe.side >> (recipe.vae.channels.len() - 1);
    assert_eq!((unet.sample_size, latents), (Some(16), 16));
    // Four halvings leave 2×2 in the middle, where attention still mixes something.
    assert!(latents >> 3 >= 2);
}

#[test]
fn configurations_are_read_back_as_they_were_written() {
    for scale in ["quick", "standard"] {
        let recipe = recipe(scale);
        let unet = networks::denoiser(&recipe);
        assert_eq!(Config::from_json(&unet.to_json().to_string()).unwrap(), unet);
        let vae = networks::autoencoder(&recipe, 0.7);
        assert_eq!(sd_core::models::vae::Config::from_json(&vae.to_json().to_string()).unwrap(), vae);
    }
}

#[test]
fn the_longest_caption_fits_into_the_positions() {
    use worlds::scenes::{Split, World};
    for scale in ["quick", "standard"] {
        let positions = recipe(scale).text.positions;
        let world = World::new(0, Split::Train);
        let words = |index| world.example(index).caption.split(' ').count();
        let longest = (0..20_000).map(words).max().unwrap();
        // Each word is one token; begin and end of text are two more.
        assert!(longest + 2 <= positions, "{longest} words do not fit into {positions} positions");
    }
}
