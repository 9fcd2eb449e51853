//! Pictures with exact ground truth, readers of real data sets, and where published models are.
//!
//! [`classification`] gives labelled 32×32 pictures: worlds that are drawn here, and CIFAR as published.
//! Nothing in this crate swaps one data set for another: what is absent is an error that says how to get it.

mod angle;
pub mod classification;
pub mod datasets;
mod error;
pub mod models;
mod png;
pub mod scenes;

pub use error::DataError;

/// Lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
