//! Trademarks: composites with colours of their own.

use super::outline::Outline;
use super::palette::palette;
use super::{Layer, Paint, WHITE, shape};
use crate::scenes::{Colour, Rgb, Shape, Trademark};

/// The colour on which a trademark's style works.
pub(super) fn main_colour(mark: Trademark) -> Rgb {
    palette(match mark {
        Trademark::ZimoTonic => Colour::Blue,
        Trademark::KaroKola => Colour::Red,
        Trademark::TivaFoods => Colour::Green,
        Trademark::OrboWorks => Colour::Yellow,
    })
}

/// Layers of a trademark, from the back, in the unit circle.
pub(super) fn layers(mark: Trademark) -> Vec<Layer> {
    let flat = |outline: Outline, colour: Rgb| Layer { outline, paint: Paint::Flat(colour) };
    let middle = [0.0, 0.0];
    match mark {
        Trademark::ZimoTonic => vec![
            flat(Outline::disc(middle, 1.0), palette(Colour::Red)),
            Layer::main(Outline::disc(middle, 0.72), 1.0),
            flat(Outline::rectangle(middle, [0.58, 0.19]), WHITE),
        ],
        Trademark::KaroKola => vec![
            Layer::main(shape::outline(Shape::Square), 1.0),
            flat(Outline::disc(middle, 0.56), WHITE),
            flat(shape::radial(&[0.44; 3]).shifted([0.0, 0.06]), palette(Colour::Red)),
        ],
        Trademark::TivaFoods => vec![
            Layer::main(shape::radial(&[1.15; 3]).shifted([0.0, 0.2]), 1.0),
            flat(shape::radial(&[0.66; 3]).shifted([0.0, 0.2]), palette(Colour::Yellow)),
            flat(Outline::disc([0.0, 0.2], 0.22), WHITE),
        ],
        Trademark::OrboWorks => vec![
            flat(Outline::disc(middle, 0.84), palette(Colour::Purple)),
            Layer::main(shape::radial(&[1.08, 0.5].repeat(5)), 1.0),
        ],
    }
}
