//! The world of the small Stable Diffusion: scenes whose every attribute, mask and edit is known.
//!
//! A [`Scene`] is a struct; to edit the picture is to edit the struct and draw again, so that the edited picture, the masks, the landmarks
//! and the background beneath an object are exact. [`World`] gives random scenes with captions, each a function of (seed, split, index).

mod captions;
mod named;
mod render;
mod sample;
mod scene;
mod sheet;
pub mod sheets;

pub use captions::{Wording, caption, plural, vocabulary};
pub use named::{
    Expression, MOST, Named, Second, Subject, THINGS, animals, colour_is_held_out, colours_of, neighbours,
    shapes, style_is_held_out, styles_of, trademarks,
};
pub use render::{Picture, palette};
pub use sample::{Example, Split, World, digest, is_for_testing, random_named, scene};
pub use scene::{
    Action, Animal, Background, Colour, Face, Fact, Kind, Light, Object, Place, Rgb, Scene, Shape, Style,
    Trademark, Viewpoint,
};
pub use sheet::contact_sheet;
