//! The rim of a sticker: white around the figure, and a black line around that.

use super::depth::depth;
use super::fill::INK;
use super::waves::rise;
use super::{Paint, WHITE};

/// Radius of the figure inside its rim, as a share of the object's.
pub(super) const INSIDE: f32 = 0.78;

/// Line and rim, from the back, around a silhouette; `radius` is the object's, in shares of the side.
pub(super) fn around(silhouette: &[u8], radius: f32, side: usize) -> [(Paint, Vec<u8>); 2] {
    let outside: Vec<u8> = silhouette.iter().map(|&share| 255 - share).collect();
    let distance = depth(&outside, side);
    let (radius, pixel) = (radius * 64.0, side as f32 / 64.0);
    let white = (0.18 * radius).max(2.0) * pixel;
    let line = (0.08 * radius).max(1.5) * pixel;
    let within = |reach: f32| {
        let share = |&off: &f32| (rise(reach - off, 0.5) * 255.0 + 0.5) as u8;
        // The silhouette itself counts, also where its edge crosses a pixel.
        distance.iter().map(share).collect()
    };
    // A figure that is nowhere has no rim either.
    let shown = silhouette.iter().any(|&share| share > 0);
    let width = |reach: f32| if shown { within(reach) } else { vec![0; silhouette.len()] };
    [(Paint::Flat(INK), width(white + line)), (Paint::Flat(WHITE), width(white))]
}
