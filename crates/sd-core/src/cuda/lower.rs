//! From a [`Program`] and the addresses of its buffers to commands as the driver and cuBLAS take them.
//!
//! Everything that can be wrong with a command is refused here, where it costs no GPU to test: a buffer that does not exist, a
//! matrix that leaves its buffer, a grid beyond the device's limits, a size beyond what cuBLAS counts with.

use super::program::{Arg, Buffer, BufferSpec, Element, Launch, Matrix, Product, Program, Step};

/// Where a buffer starts in the device's memory, and what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// First byte; a multiple of [`ALIGNMENT`].
    pub address: u64,
    /// What it holds.
    pub spec: BufferSpec,
}

/// Kernels read up to this many bytes at a time from the start of a buffer.
pub const ALIGNMENT: u64 = 16;

/// Why a program cannot be carried out: a fault of the op's `cuda.rs`, or a size that no device takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{program}: step {step}, {what}: {why}")]
pub struct Fault {
    /// The program's name.
    pub program: String,
    /// Which step, from 0.
    pub step: usize,
    /// The kernel, or `product`.
    pub what: String,
    /// What is wrong.
    pub why: String,
}

/// One thing for the device to do.
#[derive(Clone, Debug)]
pub enum Command<'p> {
    /// Launch a kernel; `cells` holds one argument each, in its low bytes.
    Launch {
        /// What the program says.
        launch: &'p Launch,
        /// Arguments.
        cells: Vec<u64>,
    },
    /// A matrix product.
    Product(Gemm),
    /// Fill bytes with zero.
    Zero {
        /// First byte.
        address: u64,
        /// How many.
        bytes: usize,
    },
}

/// All commands of a program, and the content of its pointer table.
#[derive(Clone, Debug)]
pub struct Lowered<'p> {
    /// In order.
    pub commands: Vec<Command<'p>>,
    /// What must lie at the table's address before the first command runs.
    pub table: Vec<u64>,
}

/// Pointers that the table of a program holds.
#[must_use]
pub fn table_len(program: &Program) -> usize {
    let pointers = |arg: &Arg| if let Arg::Pointers(buffers) = arg { buffers.len() } else { 0 };
    let of_step = |step: &Step| match step {
        Step::Launch(launch) => launch.args.iter().map(pointers).sum(),
        _ => 0,
    };
    program.steps.iter().map(of_step).sum()
}

/// Commands of `program` with buffer `i` at `places[i]` and its pointer table at `table`.
///
/// # Errors
/// Names program, step and kernel, and what is wrong.
pub fn lower<'p>(program: &'p Program, places: &[Place], table: u64) -> Result<Lowered<'p>, Fault> {
    let mut lowering = Lowering { places, table, pointers: Vec::new() };
    let steps = program.steps.iter().enumerate();
    let commands = steps.map(|(index, step)| {
        lowering.step(step).map_err(|why| Fault {
            program: program.name.clone(),
            step: index,
            what: what(step),
            why,
        })
    });
    let commands = commands.collect::<Result<_, _>>()?;
    Ok(Lowered { commands, table: lowering.pointers })
}

/// What a step is called in messages: the kernel's name with its grid, or the kind of step.
#[must_use]
pub fn what(step: &Step) -> String {
    match step {
        Step::Launch(launch) => described(launch),
        Step::Product(product) => {
            format!("product of {}×{}×{}, {} times", product.m, product.n, product.k, product.batch)
        }
        Step::Zero(_) => "zero".to_owned(),
    }
}

/// A launch in messages.
#[must_use]
pub fn described(launch: &Launch) -> String {
    let Launch { kernel, grid, block, shared, .. } = launch;
    format!("kernel {kernel}, grid {grid:?}, block {block:?}, {shared} bytes of shared memory")
}

struct Lowering<'a> {
    places: &'a [Place],
    table: u64,
    pointers: Vec<u64>,
}

impl Lowering<'_> {
    fn step<'p>(&mut self, step: &'p Step) -> Result<Command<'p>, String> {
        match step {
            Step::Launch(launch) => {
                check_limits(launch)?;
                let cells = launch.args.iter().map(|arg| self.cell(arg)).collect::<Result<_, _>>()?;
                Ok(Command::Launch { launch, cells })
            }
            Step::Product(product) => Gemm::new(product, self.places).map(Command::Product),
            Step::Zero(buffer) => {
                let Place { address, spec } = place(self.places, *buffer)?;
                Ok(Command::Zero { address, bytes: spec.len * spec.element.bytes() })
            }
        }
    }

    /// The machine is little-endian, so that a cell of 8 bytes begins with the value of every narrower type.
    fn cell(&mut self, arg: &Arg) -> Result<u64, String> {
        Ok(match arg {
            Arg::Buffer(buffer) => place(self.places, *buffer)?.address,
            Arg::Pointers(buffers) => {
                let start = self.table + 8 * self.pointers.len() as u64;
                for buffer in buffers {
                    self.pointers.push(place(self.places, *buffer)?.address);
                }
                start
            }
            Arg::I32(value) => u64::from(value.cast_unsigned()),
            Arg::I64(value) => value.cast_unsigned(),
            Arg::U64(value) => *value,
            Arg::F32(value) => u64::from(value.to_bits()),
        })
    }
}

const _: () = assert!(cfg!(target_endian = "little"), "arguments are packed for a little-endian machine");

fn place(places: &[Place], buffer: Buffer) -> Result<Place, String> {
    let found = places.get(buffer.0).copied().ok_or_else(|| format!("there is no buffer {}", buffer.0))?;
    match found.address % ALIGNMENT {
        0 => Ok(found),
        _ => Err(format!(
            "buffer {} starts at {:#x}, not at a multiple of {ALIGNMENT}",
            buffer.0, found.address
        )),
    }
}

/// The limits of every device from compute capability 3.0 on.
fn check_limits(launch: &Launch) -> Result<(), String> {
    let Launch { grid, block, .. } = launch;
    let threads: u64 = block.iter().map(|size| u64::from(*size)).product();
    if grid.contains(&0) || block.contains(&0) {
        return Err("a grid or block of no size".to_owned());
    }
    if grid[0] > 0x7fff_ffff || grid[1] > 0xffff || grid[2] > 0xffff {
        return Err("a device takes at most 2147483647, 65535 and 65535 blocks".to_owned());
    }
    if threads > 1024 || block[2] > 64 {
        return Err(format!("a block of {threads} threads; a device takes at most 1024, and 64 along z"));
    }
    Ok(())
}

/// A matrix product as `cublasGemmStridedBatchedEx` takes it.
///
/// cuBLAS counts columns first: what is a row-major (r, c) matrix here is a column-major (c, r) one there. So it is asked for
/// `Cᵀ = Bᵀ · Aᵀ`: its first operand is our B, its rows are our columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of Cᵀ: our n.
    pub m: i32,
    /// Columns of Cᵀ: our m.
    pub n: i32,
    /// The summed index.
    pub k: i32,
    /// Products.
    pub batch: i32,
    /// Our B.
    pub first: Operand,
    /// Our A.
    pub second: Operand,
    /// Our C.
    pub result: Operand,
    /// Whether C's content is added to.
    pub accumulate: bool,
}

/// One operand of a [`Gemm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// First byte.
    pub address: u64,
    /// Type of the elements.
    pub element: Element,
    /// Whether cuBLAS shall transpose what it sees.
    pub transposed: bool,
    /// Elements from column to column.
    pub leading: i32,
    /// Elements from matrix to matrix.
    pub stride: i64,
}

impl Gemm {
    fn new(product: &Product, places: &[Place]) -> Result<Self, String> {
        let Product { m, n, k, batch, a, b, c, accumulate } = *product;
        if [m, n, k, batch].contains(&0) {
            return Err("a product of no size".to_owned());
        }
        if c.transposed {
            return Err("C is transposed".to_owned());
        }
        if batch > 1 && c.batch_stride < (m - 1) * c.row_stride + n {
            return Err("the matrices C of the batch overlap".to_owned());
        }
        let first = Operand::new("B", b, [k, n], batch, places)?;
        let second = Operand::new("A", a, [m, k], batch, places)?;
        let result = Operand::new("C", c, [m, n], batch, places)?;
        if first.element != second.element
            || !(result.element == first.element || result.element == Element::F32)
        {
            return Err(format!("A is {:?}, B {:?}, C {:?}", second.element, first.element, result.element));
        }
        let [m, n, k, batch] = [count("m", n)?, count("n", m)?, count("k", k)?, count("batch", batch)?];
        Ok(Self { m, n, k, batch, first, second, result, accumulate })
    }
}

impl Operand {
    fn new(
        name: &str,
        matrix: Matrix,
        [rows, columns]: [usize; 2],
        batch: usize,
        places: &[Place],
    ) -> Result<Self, String> {
        let Place { address, spec } = place(places, matrix.buffer).map_err(|why| format!("{name}: {why}"))?;
        let [rows, columns] = if matrix.transposed { [columns, rows] } else { [rows, columns] };
        if rows > 1 && matrix.row_stride < columns {
            return Err(format!("{name}: rows of {columns} lie {} apart", matrix.row_stride));
        }
        let end =
            matrix.offset + (batch - 1) * matrix.batch_stride + (rows - 1) * matrix.row_stride + columns;
        if end > spec.len {
            return Err(format!("{name} ends at element {end} of a buffer of {}", spec.len));
        }
        if !matches!(spec.element, Element::F32 | Element::F16 | Element::Bf16) {
            return Err(format!("{name} is {:?}", spec.element));
        }
        Ok(Self {
            address: address + (matrix.offset * spec.element.bytes()) as u64,
            element: spec.element,
            transposed: matrix.transposed,
            // With a single row the distance to the next is never used, but cuBLAS wants it to be a possible one.
            leading: count("row stride", matrix.row_stride.max(columns))?,
            stride: i64::try_from(matrix.batch_stride).map_err(|_| format!("{name}: batch stride"))?,
        })
    }
}

fn count(name: &str, value: usize) -> Result<i32, String> {
    i32::try_from(value).map_err(|_| format!("{name} is {value}; cuBLAS counts to 2147483647"))
}

#[cfg(test)]
#[path = "lower_tests.rs"]
mod tests;
