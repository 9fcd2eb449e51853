//! Colours of objects.

use crate::scenes::{Colour, Rgb};

/// What an object's colour looks like in white light.
#[must_use]
pub fn palette(colour: Colour) -> Rgb {
    match colour {
        Colour::Red => [0.86, 0.08, 0.10],
        Colour::Orange => [1.00, 0.50, 0.02],
        Colour::Yellow => [0.98, 0.88, 0.12],
        Colour::Green => [0.10, 0.62, 0.20],
        Colour::Blue => [0.12, 0.32, 0.92],
        Colour::Purple => [0.46, 0.12, 0.66],
        Colour::Pink => [1.00, 0.50, 0.74],
        Colour::Brown => [0.44, 0.24, 0.10],
    }
}
