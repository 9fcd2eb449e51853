//! Digests of weights.

use candle_core::{DType, Result};

use crate::workshop::State;

/// A digest of names, shapes and numbers in half precision.
///
/// # Errors
/// Where a tensor cannot be read.
pub fn of_states<'s>(states: impl IntoIterator<Item = &'s State>) -> Result<String> {
    let mut bytes = Vec::new();
    for (name, tensor) in states.into_iter().flatten() {
        bytes.extend_from_slice(format!("{name} {:?}\n", tensor.dims()).as_bytes());
        let numbers = tensor.flatten_all()?.to_dtype(DType::F16)?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        bytes.extend(numbers.into_iter().flat_map(f32::to_le_bytes));
    }
    Ok(lab::digest::of_bytes(&bytes))
}
