//! Pixels, held against transformers' processor on Pillow, bit for bit.

use std::collections::BTreeMap;

use candle_core::Device;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::super::Preprocessor;
use super::values;
use crate::models::testing::sign;

#[derive(Deserialize)]
struct Pixels {
    shape: Vec<usize>,
    sha256: String,
}

/// The picture that the script draws.
fn picture(height: usize, width: usize) -> Vec<u8> {
    let noise = |place: usize| if sign(place, 0) > 0.0 { 90 } else { 0 };
    (0..height * width * 3).map(|place| ((place / 7 + noise(place)) % 256) as u8).collect()
}

#[test]
fn pixels_are_transformers_bit_for_bit() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/clip_pixels.json");
    let cases: BTreeMap<String, Pixels> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let small =
        Preprocessor { shortest_edge: 50, crop: [40, 30], mean: [0.5, 0.4, 0.3], deviation: [0.2, 0.3, 0.1] };
    for (case, expected) in &cases {
        let (name, size) = case.split_once(' ').unwrap();
        let (height, width) = size.split_once('x').unwrap();
        let (height, width) = (height.parse().unwrap(), width.parse().unwrap());
        let processor = if name == "small" { small.clone() } else { Preprocessor::default() };
        let pixels = processor.apply(&picture(height, width), height, width, &Device::Cpu).unwrap();
        assert_eq!(pixels.dims(), expected.shape, "{case}");
        let bytes: Vec<u8> = values(&pixels).iter().flat_map(|value| value.to_le_bytes()).collect();
        let digest: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, expected.sha256, "{case}");
    }
    assert!(cases.len() >= 14);
}

#[test]
fn a_picture_of_another_size_than_said_is_refused() {
    let apply = |bytes: usize, height, width| {
        Preprocessor::default().apply(&vec![0; bytes], height, width, &Device::Cpu).unwrap_err().to_string()
    };
    assert!(apply(11, 2, 2).contains("2×2"));
    assert!(apply(0, 0, 5).contains("more than none"));
    assert!(apply(12, usize::MAX, 2).contains("found 12 bytes"));
    assert!(apply(3 * 9000, 1, 9000).contains("224×2016000"));
}
