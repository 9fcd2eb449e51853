//! Element types as they stand in a safetensors file, and tensors made of them.
//!
//! Bytes are copied once, from the file's mapping into the tensor, and converted on the way. Pages that were read are given
//! back after each [`SLAB`] bytes.

use candle_core::{DType, Device, Result, Tensor, bail};
use half::slice::HalfFloatSliceExt as _;
use half::vec::HalfBitsVecExt as _;
use half::{bf16, f16};
use rayon::prelude::*;

/// Bytes of a file that are read before their pages are given back.
pub(super) const SLAB: usize = 16 << 20;
/// Elements that one thread converts at a time.
const PIECE: usize = 1 << 16;
/// Elements that are converted through a buffer on the stack.
const BLOCK: usize = 1 << 10;

/// An element type of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) name: &'static str,
    bits: u64,
}

/// Every element type that the format knows; those of less than a byte and of 8-bit floats are checked but never read.
const KNOWN: [Stored; 20] = {
    const fn of(name: &'static str, bits: u64) -> Stored {
        Stored { name, bits }
    }
    [
        of("F16", 16),
        of("BF16", 16),
        of("F32", 32),
        of("F64", 64),
        of("BOOL", 8),
        of("U8", 8),
        of("I8", 8),
        of("U16", 16),
        of("I16", 16),
        of("U32", 32),
        of("I32", 32),
        of("U64", 64),
        of("I64", 64),
        of("F8_E4M3", 8),
        of("F8_E5M2", 8),
        of("F8_E8M0", 8),
        of("F6_E2M3", 6),
        of("F6_E3M2", 6),
        of("F4", 4),
        of("C64", 64),
    ]
};

impl Stored {
    pub(super) fn named(name: &str) -> Option<Self> {
        KNOWN.into_iter().find(|known| known.name == name)
    }

    pub(super) fn names() -> String {
        KNOWN.map(|known| known.name).join(", ")
    }

    /// Bytes of a tensor of this shape; none where they cannot be counted or end within a byte.
    pub(super) fn bytes(self, shape: &[usize]) -> Option<u64> {
        let count = |total: u64, axis: &usize| total.checked_mul(u64::try_from(*axis).ok()?);
        // Without the zeros: a shape whose other axes overflow is no shape.
        let full = shape.iter().filter(|axis| **axis != 0).try_fold(1, count)?.checked_mul(self.bits)?;
        let bits = if shape.contains(&0) { 0 } else { full };
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// Whether it is one of the floating types that are read.
    pub(super) fn is_float(self) -> bool {
        matches!(self.name, "F16" | "BF16" | "F32" | "F64")
    }

    /// The dtype of a tensor that keeps its values as they stand.
    pub(super) fn dtype(self) -> Option<DType> {
        Some(match self.name {
            "F16" => DType::F16,
            "BF16" => DType::BF16,
            "F32" => DType::F32,
            "F64" => DType::F64,
            "U8" | "BOOL" => DType::U8,
            "U32" => DType::U32,
            "I16" => DType::I16,
            "I32" => DType::I32,
            "I64" | "I8" | "U16" => DType::I64,
            _ => return None,
        })
    }

    /// Reads `bytes` into a tensor; `release` is told each stretch of them that is done with.
    ///
    /// Floating types become any floating type (to 16 bits by rounding to nearest even, from `F64` through `F32`), whole
    /// numbers any type.
    ///
    /// # Errors
    /// For a type that is not read, and for a floating type read into whole numbers.
    pub(super) fn tensor(
        self,
        bytes: &[u8],
        shape: &[usize],
        dtype: DType,
        device: &Device,
        release: &dyn Fn(usize, usize),
    ) -> Result<Tensor> {
        if !self.is_float() {
            return self.whole_numbers(bytes, shape, dtype, device);
        }
        let read = Reading { stored: self, bytes, release };
        match dtype {
            DType::F32 => Tensor::from_vec(read.fill(vec![0f32; read.count()], Self::to_f32), shape, device),
            DType::F64 => Tensor::from_vec(read.fill(vec![0f64; read.count()], Self::to_f64), shape, device),
            DType::F16 => Tensor::from_vec(
                read.fill(vec![0u16; read.count()].reinterpret_into(), Self::to_f16),
                shape,
                device,
            ),
            DType::BF16 => Tensor::from_vec(
                read.fill(vec![0u16; read.count()].reinterpret_into(), Self::to_bf16),
                shape,
                device,
            ),
            other => bail!("{} cannot be read as {other:?}", self.name),
        }
    }

    /// Through 64 bits: such tensors are a few numbers (positions, counts).
    fn whole_numbers(self, bytes: &[u8], shape: &[usize], dtype: DType, device: &Device) -> Result<Tensor> {
        let values: Vec<i64> = match self.name {
            "BOOL" | "U8" => bytes.iter().map(|byte| i64::from(*byte)).collect(),
            "I8" => bytes.iter().map(|byte| i64::from(*byte as i8)).collect(),
            "U16" => words(bytes).map(|word| i64::from(u16::from_le_bytes(word))).collect(),
            "I16" => words(bytes).map(|word| i64::from(i16::from_le_bytes(word))).collect(),
            "U32" => words(bytes).map(|word| i64::from(u32::from_le_bytes(word))).collect(),
            "I32" => words(bytes).map(|word| i64::from(i32::from_le_bytes(word))).collect(),
            "I64" => words(bytes).map(i64::from_le_bytes).collect(),
            name => {
                bail!("elements of type {name} are not read; expected F16, BF16, F32, F64 or whole numbers")
            }
        };
        Tensor::from_vec(values, shape, &Device::Cpu)?.to_dtype(dtype)?.to_device(device)
    }

    fn to_f32(self, bytes: &[u8], to: &mut [f32]) {
        match self.name {
            "F32" => copy(bytes, to, f32::from_le_bytes),
            "F64" => copy(bytes, to, |word| f64::from_le_bytes(word) as f32),
            "F16" => in_blocks(bytes, to, f16::from_le_bytes, |from, to| from.convert_to_f32_slice(to)),
            _ => in_blocks(bytes, to, bf16::from_le_bytes, |from, to| from.convert_to_f32_slice(to)),
        }
    }

    fn to_f64(self, bytes: &[u8], to: &mut [f64]) {
        match self.name {
            "F64" => copy(bytes, to, f64::from_le_bytes),
            "F32" => copy(bytes, to, |word| f64::from(f32::from_le_bytes(word))),
            "F16" => in_blocks(bytes, to, f16::from_le_bytes, |from, to| from.convert_to_f64_slice(to)),
            _ => in_blocks(bytes, to, bf16::from_le_bytes, |from, to| from.convert_to_f64_slice(to)),
        }
    }

    fn to_f16(self, bytes: &[u8], to: &mut [f16]) {
        match self.name {
            "F16" => copy(bytes, to, f16::from_le_bytes),
            _ => self.through_f32(bytes, to, |to, from| to.convert_from_f32_slice(from)),
        }
    }

    fn to_bf16(self, bytes: &[u8], to: &mut [bf16]) {
        match self.name {
            "BF16" => copy(bytes, to, bf16::from_le_bytes),
            _ => self.through_f32(bytes, to, |to, from| to.convert_from_f32_slice(from)),
        }
    }

    fn through_f32<T>(self, bytes: &[u8], to: &mut [T], convert: impl Fn(&mut [T], &[f32])) {
        let mut block = [0f32; BLOCK];
        for (bytes, to) in bytes.chunks(BLOCK * self.width()).zip(to.chunks_mut(BLOCK)) {
            let block = &mut block[..to.len()];
            self.to_f32(bytes, block);
            convert(to, block);
        }
    }

    fn width(self) -> usize {
        (self.bits / 8) as usize
    }
}

/// A tensor's bytes on their way out of a file.
struct Reading<'a> {
    stored: Stored,
    bytes: &'a [u8],
    release: &'a dyn Fn(usize, usize),
}

impl Reading<'_> {
    fn count(&self) -> usize {
        self.bytes.len() / self.stored.width()
    }

    /// Converts into `values`, slab by slab, each slab by all threads.
    fn fill<T: Send>(&self, mut values: Vec<T>, convert: fn(Stored, &[u8], &mut [T])) -> Vec<T> {
        let (stored, width) = (self.stored, self.stored.width());
        let slabs = self.bytes.chunks(SLAB).zip(values.chunks_mut(SLAB / width));
        for (index, (bytes, values)) in slabs.enumerate() {
            let pieces = bytes.par_chunks(PIECE * width).zip(values.par_chunks_mut(PIECE));
            pieces.for_each(|(bytes, values)| convert(stored, bytes, values));
            (self.release)(index * SLAB, bytes.len());
        }
        values
    }
}

fn words<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks::<N>().0.iter().copied()
}

fn copy<const N: usize, T>(bytes: &[u8], to: &mut [T], read: impl Fn([u8; N]) -> T) {
    for (to, word) in to.iter_mut().zip(words(bytes)) {
        *to = read(word);
    }
}

/// 16-bit floats through a buffer: the processor converts them eight at a time, from an aligned slice.
fn in_blocks<H: Copy + Default, T>(
    bytes: &[u8],
    to: &mut [T],
    read: impl Fn([u8; 2]) -> H + Copy,
    convert: impl Fn(&[H], &mut [T]),
) {
    let mut block = [H::default(); BLOCK];
    for (bytes, to) in bytes.chunks(2 * BLOCK).zip(to.chunks_mut(BLOCK)) {
        let block = &mut block[..to.len()];
        copy(bytes, block, read);
        convert(block, to);
    }
}
