//! The content of a buffer: bytes and what they are.

use half::{bf16, f16};
use sd_core::cuda::Element;

/// Elements of one type as they lie in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    element: Element,
    bytes: Vec<u8>,
}

impl Data {
    /// `values` rounded to `element` (to nearest, ties to even; integers truncated).
    #[must_use]
    pub fn from_f64(element: Element, values: &[f64]) -> Self {
        let bytes = values.iter().flat_map(|value| encode(element, *value)).collect();
        Self { element, bytes }
    }

    /// 32-bit unsigned integers.
    #[must_use]
    pub fn from_u32(values: &[u32]) -> Self {
        Self { element: Element::U32, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// 64-bit signed integers.
    #[must_use]
    pub fn from_i64(values: &[i64]) -> Self {
        Self { element: Element::I64, bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect() }
    }

    /// Bytes as a device holds them; `None` where they are no whole number of elements.
    #[must_use]
    pub fn from_bytes(element: Element, bytes: Vec<u8>) -> Option<Self> {
        bytes.len().is_multiple_of(element.bytes()).then_some(Self { element, bytes })
    }

    /// The elements as `f64`: exact for all types but integers beyond 2⁵³.
    #[must_use]
    pub fn to_f64(&self) -> Vec<f64> {
        self.bytes.chunks_exact(self.element.bytes()).map(|bytes| decode(self.element, bytes)).collect()
    }

    /// What the elements are.
    #[must_use]
    pub fn element(&self) -> Element {
        self.element
    }

    /// How many elements there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() / self.element.bytes()
    }

    /// Whether there is no element.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The elements in memory, little end first.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// `values` as they are after rounding to `element`: what a kernel really reads.
#[must_use]
pub(crate) fn rounded(element: Element, values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| decode(element, &encode(element, *value))).collect()
}

fn encode(element: Element, value: f64) -> Vec<u8> {
    match element {
        Element::F32 => (value as f32).to_le_bytes().to_vec(),
        Element::F16 => f16::from_f64(value).to_le_bytes().to_vec(),
        Element::Bf16 => bf16::from_f64(value).to_le_bytes().to_vec(),
        Element::U32 => (value as u32).to_le_bytes().to_vec(),
        Element::I64 => (value as i64).to_le_bytes().to_vec(),
    }
}

fn decode(element: Element, bytes: &[u8]) -> f64 {
    let word = bytes.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    match element {
        Element::F32 => f64::from(f32::from_bits(word as u32)),
        Element::F16 => f16::from_bits(word as u16).to_f64(),
        Element::Bf16 => bf16::from_bits(word as u16).to_f64(),
        Element::U32 => word as f64,
        Element::I64 => word.cast_signed() as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Element; 5] = [Element::F32, Element::F16, Element::Bf16, Element::U32, Element::I64];

    #[test]
    fn small_integers_survive_in_every_type() {
        for element in ALL {
            let values = [0.0, 1.0, 2.0, 200.0];
            assert_eq!(Data::from_f64(element, &values).to_f64(), values);
            assert_eq!(Data::from_f64(element, &values).len(), 4);
        }
        assert_eq!(Data::from_i64(&[-3]).to_f64(), [-3.0]);
        assert_eq!(Data::from_u32(&[u32::MAX]).to_f64(), [4_294_967_295.0]);
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // Units in the last place at 1: 2⁻²³, 2⁻¹⁰, 2⁻⁷.
        for (element, unit) in [(Element::F32, -23), (Element::F16, -10), (Element::Bf16, -7)] {
            let unit = 2f64.powi(unit);
            let given = [1.0 + 0.5 * unit, 1.0 + 1.5 * unit, 1.0 + 0.51 * unit];
            assert_eq!(rounded(element, &given), [1.0, 1.0 + 2.0 * unit, 1.0 + unit]);
        }
    }

    #[test]
    fn half_an_element_is_refused() {
        assert!(Data::from_bytes(Element::F32, vec![0; 6]).is_none());
        assert!(Data::from_bytes(Element::F16, vec![0; 6]).is_some());
    }
}
