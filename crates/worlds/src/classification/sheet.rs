//! Contact sheets: the first pictures of each class, side by side, as a PNG.

use super::{CHANNELS, ImageSet};
use crate::png::png;

/// Pixels of white between two pictures.
const GAP: usize = 2;

/// A PNG with one row per class in `classes` and the first `columns` pictures of that class, each pixel drawn as
/// `zoom × zoom`. Classes without enough pictures leave white.
///
/// # Errors
/// Where the sheet is empty or too large to encode.
pub fn contact_sheet(
    set: &ImageSet,
    classes: &[usize],
    columns: usize,
    zoom: usize,
) -> Result<Vec<u8>, image::ImageError> {
    let cell = set.side * zoom + GAP;
    let (width, height) = (columns * cell + GAP, classes.len() * cell + GAP);
    let mut canvas = vec![255; width * height * CHANNELS];
    for (row, &class) in classes.iter().enumerate() {
        let wanted = set.labels.iter().enumerate().filter(|&(_, &label)| usize::from(label) == class);
        for (column, (index, _)) in wanted.take(columns).enumerate() {
            let corner = (GAP + row * cell) * width + GAP + column * cell;
            stamp(&mut canvas, width, corner, set, index, zoom);
        }
    }
    png(&canvas, width, height)
}

/// Copies picture `index`, enlarged, to the canvas at pixel `corner`.
fn stamp(canvas: &mut [u8], width: usize, corner: usize, set: &ImageSet, index: usize, zoom: usize) {
    let (side, picture) = (set.side, set.picture(index));
    for y in 0..side * zoom {
        for x in 0..side * zoom {
            let source = (y / zoom) * side + x / zoom;
            for channel in 0..CHANNELS {
                let target = (corner + y * width + x) * CHANNELS + channel;
                canvas[target] = picture[channel * side * side + source];
            }
        }
    }
}
