//! A set of labelled pictures in memory.

use sha2::{Digest, Sha256};

/// Width and height of every picture, in pixels.
pub const SIDE: usize = 32;
/// Channels of every picture: red, green, blue.
pub const CHANNELS: usize = 3;
/// Bytes of one picture.
pub const PICTURE_BYTES: usize = CHANNELS * SIDE * SIDE;

/// Which part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// What a network is trained on.
    Train,
    /// What it is judged on.
    Test,
}

impl Split {
    /// `train` or `test`, as in file names.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
        }
    }
}

/// Labelled pictures, all of one size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSet {
    /// Pixels, `(N, 3, side, side)`: picture, channel, row, column.
    pub pixels: Vec<u8>,
    /// One label per picture, in `0..classes`.
    pub labels: Vec<u16>,
    /// Width and height of a picture in pixels.
    pub side: usize,
    /// Number of classes.
    pub classes: usize,
    /// Name of each class.
    pub names: Vec<String>,
}

impl ImageSet {
    /// Number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no picture.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Bytes of picture `index`, `(3, side, side)`; empty where there is no such picture.
    #[must_use]
    pub fn picture(&self, index: usize) -> &[u8] {
        let bytes = CHANNELS * self.side * self.side;
        self.pixels.get(index * bytes..(index + 1) * bytes).unwrap_or_default()
    }

    /// Number of pictures of each class.
    #[must_use]
    pub fn class_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes];
        for &label in &self.labels {
            if let Some(count) = counts.get_mut(usize::from(label)) {
                *count += 1;
            }
        }
        counts
    }

    /// SHA-256 over labels (two bytes each, little-endian) and then pixels, in lower-case hexadecimal.
    #[must_use]
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for label in &self.labels {
            hash.update(label.to_le_bytes());
        }
        hash.update(&self.pixels);
        crate::hex(&hash.finalize())
    }
}
