//! The norm of a gradient, and clipping by it.

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, DType, Result, Storage, Tensor, bail};
use rayon::prelude::*;

use crate::nn::Parameters;
use crate::ops::copy::contiguous;

/// Elements that are summed by one thread. The sum is cut by it whatever the number of threads, so that its bits are the same.
const PIECE: usize = 1 << 15;
/// Sums that run side by side in a piece, since one alone waits for each of its additions.
const LANES: usize = 8;
/// What torch adds to the norm.
const EPSILON: f64 = 1e-6;

/// Rescales the gradients so that their joint L2 norm is at most `largest`, and returns the norm ‖g‖ before:
///
/// ```text
/// g ← g·c  where  c = largest/(‖g‖ + 10⁻⁶) < 1
/// ```
///
/// That is `torch.nn.utils.clip_grad_norm_`, but for the sum, which is in f64 here. Gradients that are small enough keep their bits.
/// So do all where the norm is not finite: the caller has to look at it.
///
/// # Errors
/// Where a gradient is neither f32 nor f64 or the device fails.
pub fn clip_gradient_norm(gradients: &mut GradStore, parameters: &Parameters, largest: f64) -> Result<f64> {
    let norm = gradient_norm(gradients, parameters)?;
    let scale = largest / (norm + EPSILON);
    if norm.is_finite() && scale < 1.0 {
        for (_, var) in parameters.named() {
            // Not in place: candle may lend one gradient to two parameters.
            if let Some(gradient) = gradients.remove(var) {
                gradients.insert(var, (gradient * scale)?);
            }
        }
    }
    Ok(norm)
}

/// The joint L2 norm of the gradients of all parameters that have one.
///
/// # Errors
/// As [`clip_gradient_norm`].
pub fn gradient_norm(gradients: &GradStore, parameters: &Parameters) -> Result<f64> {
    let present = parameters.named().filter_map(|(_, var)| gradients.get(var));
    let squares: f64 = present.map(squared_norm).sum::<Result<f64>>()?;
    Ok(squares.sqrt())
}

fn squared_norm(gradient: &Tensor) -> Result<f64> {
    if !gradient.device().is_cpu() {
        return gradient.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar();
    }
    let gradient = contiguous(gradient)?;
    let (storage, layout) = gradient.storage_and_layout();
    let Some((begin, end)) = layout.contiguous_offsets() else { bail!("a gradient is not contiguous") };
    match &*storage {
        Storage::Cpu(CpuStorage::F32(values)) => Ok(of_slice(&values[begin..end])),
        Storage::Cpu(CpuStorage::F64(values)) => Ok(of_slice(&values[begin..end])),
        _ => bail!("the norm of a gradient: expected f32 or f64, found {:?}", gradient.dtype()),
    }
}

fn of_slice<T: Copy + Sync + Into<f64>>(values: &[T]) -> f64 {
    if values.len() <= PIECE {
        return of_piece(values);
    }
    let pieces: Vec<f64> = values.par_chunks(PIECE).map(of_piece).collect();
    pieces.into_iter().sum()
}

fn of_piece<T: Copy + Into<f64>>(values: &[T]) -> f64 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0f64; LANES];
    for block in blocks {
        for (sum, value) in sums.iter_mut().zip(block) {
            let value: f64 = (*value).into();
            *sum += value * value;
        }
    }
    let squared = |value: &T| -> f64 {
        let value: f64 = (*value).into();
        value * value
    };
    sums.iter().sum::<f64>() + rest.iter().map(squared).sum::<f64>()
}
