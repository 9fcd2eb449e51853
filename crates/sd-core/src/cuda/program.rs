//! What an operation does on a CUDA device, as data: buffers, kernel launches and matrix products in order.
//!
//! An op's `cuda.rs` describes its work as a [`Program`], a pure function of shapes and element type. Two executors run
//! programs: `cuda::device` on a GPU, and the crate `kernel-host` on the CPU, where the same `.cu` source is built by the
//! host's compiler under sanitizers. Grid sizes, argument order and scratch sizes are so tested without a GPU.

use candle_core::DType;

/// A `.cu` file and the entry points it defines.
#[derive(Debug)]
pub struct Source {
    /// The op's name: `softmax`.
    pub name: &'static str,
    /// The file's path inside the repository.
    pub path: &'static str,
    /// The file's text; its `#include "common.cuh"` means [`super::COMMON`].
    pub text: &'static str,
    /// Its `extern "C" __global__` functions.
    pub kernels: &'static [&'static str],
    /// Bytes of stack frame a thread may use in the worst of the kernels. Spills are never allowed.
    pub stack_limit: u32,
}

/// The element type of a buffer, as the kernels' suffixes name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Element {
    /// 32-bit floating point, suffix `f32`.
    F32,
    /// IEEE 16-bit floating point, suffix `f16`; arithmetic is done in `f32`.
    F16,
    /// bfloat16, suffix `bf16`; arithmetic is done in `f32`.
    Bf16,
    /// 32-bit unsigned integers.
    U32,
    /// 64-bit signed integers.
    I64,
}

impl Element {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::I64 => 8,
        }
    }

    /// How the kernels' names end.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::U32 => "u32",
            Self::I64 => "i64",
        }
    }

    /// The element type of a tensor that the kernels can hold; `None` for every other dtype.
    #[must_use]
    pub const fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::Bf16),
            DType::U32 => Some(Self::U32),
            DType::I64 => Some(Self::I64),
            _ => None,
        }
    }
}

/// A buffer of a program, by its position in [`Program::buffers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buffer(pub usize);

/// Where a buffer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Given by the caller, never written.
    Input,
    /// Given by the caller and updated in place.
    InOut,
    /// Made by the executor and handed back; its content is undefined until the program writes it.
    Output,
    /// Made by the executor and dropped at the end; its content is undefined until the program writes it.
    Scratch,
}

/// One buffer of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSpec {
    /// What it holds.
    pub element: Element,
    /// How many.
    pub len: usize,
    /// Where it comes from.
    pub role: Role,
}

/// One kernel argument, in the order and with the exact C type of the `.cu` signature.
#[derive(Clone, Debug, PartialEq)]
pub enum Arg {
    /// `T*` or `const T*`: the start of a buffer.
    Buffer(Buffer),
    /// `T* const*`: a table on the device of the starts of several buffers.
    Pointers(Vec<Buffer>),
    /// `int`.
    I32(i32),
    /// `long long`.
    I64(i64),
    /// `unsigned long long`.
    U64(u64),
    /// `float`.
    F32(f32),
}

/// One launch.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The file the kernel is in.
    pub source: &'static Source,
    /// The entry point.
    pub kernel: &'static str,
    /// Blocks along x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y, z.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory.
    pub shared: u32,
    /// Arguments in the order of the signature.
    pub args: Vec<Arg>,
}

/// One operand of a [`Product`]: a stack of row-major matrices inside a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    /// The buffer it lies in.
    pub buffer: Buffer,
    /// Its first element.
    pub offset: usize,
    /// Elements from one stored row to the next.
    pub row_stride: usize,
    /// Elements from one matrix of the batch to the next; 0 shares one matrix.
    pub batch_stride: usize,
    /// Whether the product uses the transpose of what is stored.
    pub transposed: bool,
}

/// `C = A · B` or `C += A · B` for each matrix of a batch, accumulated in `f32`: a cuBLAS product.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Columns of A, rows of B.
    pub k: usize,
    /// How many matrices.
    pub batch: usize,
    /// (m, k).
    pub a: Matrix,
    /// (k, n).
    pub b: Matrix,
    /// (m, n); never transposed.
    pub c: Matrix,
    /// Whether C's content is added to.
    pub accumulate: bool,
}

/// One step of a program. Steps run in order.
#[derive(Clone, Debug)]
pub enum Step {
    /// A kernel of ours.
    Launch(Launch),
    /// A matrix product of the vendor's library.
    Product(Product),
    /// All bytes of a buffer become zero.
    Zero(Buffer),
}

/// Everything an op does on a device.
#[derive(Clone, Debug, Default)]
pub struct Program {
    /// The op's name, for errors: `group_norm backward`.
    pub name: String,
    /// Inputs first in the op's order, then outputs and scratch in any order.
    pub buffers: Vec<BufferSpec>,
    /// What is done.
    pub steps: Vec<Step>,
}

impl Program {
    /// An empty program.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A buffer that the caller gives and nobody writes.
    pub fn input(&mut self, element: Element, len: usize) -> Buffer {
        self.buffer(element, len, Role::Input)
    }

    /// A buffer that the caller gives and the program updates.
    pub fn in_out(&mut self, element: Element, len: usize) -> Buffer {
        self.buffer(element, len, Role::InOut)
    }

    /// A buffer that the program fills for the caller.
    pub fn output(&mut self, element: Element, len: usize) -> Buffer {
        self.buffer(element, len, Role::Output)
    }

    /// A buffer for the program's own use.
    pub fn scratch(&mut self, element: Element, len: usize) -> Buffer {
        self.buffer(element, len, Role::Scratch)
    }

    /// Appends a launch of `kernel` of `source`.
    ///
    /// # Panics
    /// Where `source` has no such kernel: a fault of the op's `cuda.rs`, which the tests of `kernel-host` reach.
    pub fn launch(
        &mut self,
        source: &'static Source,
        kernel: &str,
        grid: [u32; 3],
        block: [u32; 3],
        shared: u32,
        args: Vec<Arg>,
    ) {
        let Some(kernel) = source.kernels.iter().copied().find(|name| *name == kernel) else {
            panic!("{} has no kernel {kernel}; it has {:?}", source.path, source.kernels)
        };
        self.steps.push(Step::Launch(Launch { source, kernel, grid, block, shared, args }));
    }

    /// Appends a matrix product.
    pub fn product(&mut self, product: Product) {
        self.steps.push(Step::Product(product));
    }

    /// Appends the filling of a buffer with zeros.
    pub fn zero(&mut self, buffer: Buffer) {
        self.steps.push(Step::Zero(buffer));
    }

    fn buffer(&mut self, element: Element, len: usize, role: Role) -> Buffer {
        self.buffers.push(BufferSpec { element, len, role });
        Buffer(self.buffers.len() - 1)
    }
}

/// `ceil(items / per_block)` blocks along x, as a grid; kernels loop where the device's limit is reached.
#[must_use]
pub fn blocks(items: usize, per_block: usize) -> [u32; 3] {
    // 2³¹ − 1 blocks is the device's limit along x.
    [u32::try_from(items.div_ceil(per_block).max(1)).unwrap_or(0x7fff_ffff).min(0x7fff_ffff), 1, 1]
}

/// What a kernel's `Divider` takes to divide 0 … 2³¹ − 1 by `divisor` (1 … 2³¹ − 1) with a multiplication.
#[must_use]
pub fn divider(divisor: usize) -> u64 {
    let divisor = divisor.max(1) as u64;
    let shift = divisor.next_power_of_two().trailing_zeros();
    let multiplier = (((1u64 << shift) - divisor) << 32) / divisor + 1;
    u64::from(shift) << 32 | multiplier & 0xffff_ffff
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `Divider::quotient` of `common.cuh`.
    fn quotient(x: u32, packed: u64) -> u32 {
        let high = (u64::from(x) * (packed & 0xffff_ffff)) >> 32;
        u32::try_from((high + u64::from(x)) >> (packed >> 32)).unwrap_or(u32::MAX)
    }

    #[test]
    fn a_divider_divides() {
        let last = i32::MAX as u32;
        for divisor in (1..70).chain([641, 4096, 65535, 65537, 1 << 30, (1 << 30) + 1, last - 1, last]) {
            let packed = divider(divisor as usize);
            let around = |x: u32| [x.saturating_sub(1), x, x.saturating_add(1).min(last)];
            let multiples = (0..50).map(|k| divisor.saturating_mul(k * k).min(last));
            for x in multiples.chain([last / 2, last]).flat_map(around) {
                assert_eq!(quotient(x, packed), x / divisor, "{x} / {divisor}");
            }
        }
    }
}
