//! One encoded picture (PNG or JPEG) of a parquet row.

use std::io::Cursor;

use image::{ColorType, DynamicImage, ImageFormat, ImageReader, Limits};

use super::{PICTURE_BYTES, SIDE};

/// More than a decoder of a 32×32 picture needs, and nothing next to a machine's memory.
const MEMORY: u64 = 1 << 20;

/// Decodes a 32×32 RGB picture to planes, `(3, 32, 32)`.
///
/// # Errors
/// As (what was expected, what was found).
pub(super) fn decode(bytes: &[u8]) -> Result<[u8; PICTURE_BYTES], (String, String)> {
    let picture = open(bytes)?;
    if picture.color() != ColorType::Rgb8 {
        return Err(("8-bit RGB".to_owned(), format!("{:?}", picture.color())));
    }
    if (picture.width() as usize, picture.height() as usize) != (SIDE, SIDE) {
        return Err((format!("{SIDE}x{SIDE} pixels"), format!("{}x{}", picture.width(), picture.height())));
    }
    Ok(planes(picture.as_bytes()))
}

fn open(bytes: &[u8]) -> Result<DynamicImage, (String, String)> {
    let known = || "a whole PNG or JPEG".to_owned();
    let format = match image::guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => return Err((known(), format!("{} bytes that start {:02x?}", bytes.len(), head(bytes)))),
    };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = Limits::default();
    limits.max_image_width = Some(4 * SIDE as u32);
    limits.max_image_height = Some(4 * SIDE as u32);
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    reader.decode().map_err(|error| (known(), format!("{} bytes that do not decode: {error}", bytes.len())))
}

fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(4)]
}

/// `(32, 32, 3)` to `(3, 32, 32)`.
fn planes(interleaved: &[u8]) -> [u8; PICTURE_BYTES] {
    std::array::from_fn(|index| {
        let (channel, pixel) = (index / (SIDE * SIDE), index % (SIDE * SIDE));
        interleaved[3 * pixel + channel]
    })
}
