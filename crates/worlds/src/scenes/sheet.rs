//! Contact sheets: pictures side by side as one PNG.

use super::Picture;
use crate::png::png;

/// Pixels of white between two pictures.
const GAP: usize = 2;

/// A PNG with the given rows of pictures, each pixel drawn as `zoom × zoom`, and white between them. The first picture gives the size of
/// all cells; what is larger is cut.
///
/// # Errors
/// Where the sheet is too large to encode.
pub fn contact_sheet(rows: &[Vec<Picture>], zoom: usize) -> Result<Vec<u8>, image::ImageError> {
    let side = rows.iter().flatten().next().map_or(0, |picture| picture.side * zoom);
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let (width, height) = (columns * (side + GAP) + GAP, rows.len() * (side + GAP) + GAP);
    let mut canvas = vec![255; width * height * 3];
    for (row, pictures) in rows.iter().enumerate() {
        for (column, picture) in pictures.iter().enumerate() {
            let corner = (GAP + row * (side + GAP)) * width + GAP + column * (side + GAP);
            stamp(&mut canvas, width, corner, picture, side, zoom);
        }
    }
    png(&canvas, width, height)
}

/// Copies a picture, enlarged and cut to `cell` pixels, to the canvas at pixel `corner`.
fn stamp(canvas: &mut [u8], width: usize, corner: usize, picture: &Picture, cell: usize, zoom: usize) {
    let shown = cell.min(picture.side * zoom);
    for y in 0..shown {
        for x in 0..shown {
            let source = (y / zoom) * picture.side + x / zoom;
            for channel in 0..3 {
                let byte = picture.pixels[channel * picture.side * picture.side + source];
                canvas[(corner + y * width + x) * 3 + channel] = byte;
            }
        }
    }
}
