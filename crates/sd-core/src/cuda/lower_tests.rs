//! Arguments as the device gets them, products as cuBLAS computes them, and what is refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::cuda::Source;

static SOURCE: Source = Source { name: "s", path: "s.cu", text: "", kernels: &["k_f32"], stack_limit: 0 };

/// Buffer `i` starts at `4096 · (i + 1)`.
fn places(program: &Program) -> Vec<Place> {
    let place = |(i, spec): (usize, &BufferSpec)| Place { address: 4096 * (i as u64 + 1), spec: *spec };
    program.buffers.iter().enumerate().map(place).collect()
}

fn launching(program: &mut Program, args: Vec<Arg>) {
    program.launch(&SOURCE, "k_f32", [2, 3, 4], [32, 2, 1], 48, args);
}

fn why(program: &Program) -> String {
    lower(program, &places(program), 1 << 20).unwrap_err().to_string()
}

#[test]
fn each_argument_fills_the_low_bytes_of_its_cell() {
    let mut program = Program::new("test");
    let x = program.input(Element::F32, 8);
    let y = program.output(Element::F16, 8);
    let args =
        [Arg::Buffer(y), Arg::I32(-2), Arg::I64(-3), Arg::U64(u64::MAX), Arg::F32(1.5), Arg::Buffer(x)];
    launching(&mut program, args.to_vec());
    let lowered = lower(&program, &places(&program), 0).unwrap();
    let Command::Launch { cells, launch } = &lowered.commands[0] else { unreachable!() };
    assert_eq!(cells[..], [8192, 0xffff_fffe, 0xffff_ffff_ffff_fffd, u64::MAX, 0x3fc0_0000, 4096]);
    assert_eq!((launch.grid, launch.shared), ([2, 3, 4], 48));
    // What the driver reads: as many bytes as the parameter has, from the cell's first on.
    assert_eq!(i32::from_ne_bytes(cells[1].to_ne_bytes()[..4].try_into().unwrap()), -2);
    assert_eq!(f32::from_ne_bytes(cells[4].to_ne_bytes()[..4].try_into().unwrap()), 1.5);
}

#[test]
fn pointer_tables_lie_one_after_another() {
    let mut program = Program::new("test");
    let [a, b, c] = [1, 2, 3].map(|len| program.in_out(Element::F32, len));
    launching(&mut program, vec![Arg::Pointers(vec![c, a]), Arg::I32(2), Arg::Pointers(vec![b])]);
    launching(&mut program, vec![Arg::Pointers(vec![a])]);
    assert_eq!(table_len(&program), 4);
    let lowered = lower(&program, &places(&program), 1000 * 16).unwrap();
    assert_eq!(lowered.table, [3 * 4096, 4096, 2 * 4096, 4096]);
    let Command::Launch { cells, .. } = &lowered.commands[0] else { unreachable!() };
    assert_eq!(cells[..], [16000, 2, 16016]);
    let Command::Launch { cells, .. } = &lowered.commands[1] else { unreachable!() };
    assert_eq!(cells[..], [16024]);
}

#[test]
fn zero_covers_the_whole_buffer() {
    let mut program = Program::new("test");
    let x = program.scratch(Element::I64, 5);
    program.zero(x);
    let lowered = lower(&program, &places(&program), 0).unwrap();
    assert!(matches!(lowered.commands[..], [Command::Zero { address: 4096, bytes: 40 }]), "{lowered:?}");
}

#[test]
fn what_no_device_takes_is_refused_with_the_kernel() {
    let refused = |grid, block, part: &str| {
        let mut program = Program::new("norm forward");
        program.launch(&SOURCE, "k_f32", grid, block, 0, vec![]);
        let why = why(&program);
        assert!(why.contains("norm forward: step 0, kernel k_f32") && why.contains(part), "{why}");
    };
    refused([0, 1, 1], [32, 1, 1], "no size");
    refused([1, 1, 1], [32, 0, 1], "no size");
    refused([1, 65536, 1], [32, 1, 1], "65535");
    refused([1, 1, 65536], [32, 1, 1], "65535");
    refused([0x8000_0000, 1, 1], [32, 1, 1], "2147483647");
    refused([1, 1, 1], [1025, 1, 1], "1025 threads");
    refused([1, 1, 1], [1, 1, 65], "64 along z");
}

#[test]
fn a_buffer_that_does_not_exist_or_is_not_aligned_is_refused() {
    let mut program = Program::new("test");
    let x = program.input(Element::F32, 8);
    launching(&mut program, vec![Arg::Buffer(Buffer(7))]);
    assert!(why(&program).contains("no buffer 7"));
    let mut program = Program::new("test");
    program.buffers = vec![BufferSpec { element: Element::F32, len: 8, role: super::super::Role::Input }];
    launching(&mut program, vec![Arg::Pointers(vec![x])]);
    let odd = [Place { address: 4096 + 4, spec: program.buffers[0] }];
    assert!(lower(&program, &odd, 0).unwrap_err().why.contains("multiple of 16"));
}

/// A stack of matrices with gaps between rows and matrices.
struct Stack {
    matrix: Matrix,
    values: Vec<f32>,
}

impl Stack {
    fn new(
        program: &mut Program,
        [rows, columns]: [usize; 2],
        batch: usize,
        transposed: bool,
        seed: u64,
    ) -> Self {
        let [rows, columns] = if transposed { [columns, rows] } else { [rows, columns] };
        let (offset, row_stride) = (3, columns + 2);
        let batch_stride = rows * row_stride + 5;
        let len = offset + batch * batch_stride;
        let buffer = program.in_out(Element::F32, len);
        let mut rng = crate::rng::Rng::new(seed, "gemm", 0);
        let values = (0..len).map(|_| rng.uniform_f32() - 0.5).collect();
        Self { matrix: Matrix { buffer, offset, row_stride, batch_stride, transposed }, values }
    }

    fn at(&self, batch: usize, row: usize, column: usize) -> f32 {
        let [row, column] = if self.matrix.transposed { [column, row] } else { [row, column] };
        let Matrix { offset, row_stride, batch_stride, .. } = self.matrix;
        self.values[offset + batch * batch_stride + row * row_stride + column]
    }
}

/// What cuBLAS documents: column-major `C = op(first) · op(second) (+ C)`.
fn cublas(gemm: &Gemm, stacks: &[&Stack; 3]) -> Vec<f32> {
    let start = |operand: &Operand, buffer: usize| (operand.address as usize - 4096 * (buffer + 1)) / 4;
    let read = |operand: &Operand, stack: &Stack, batch: usize, row: usize, column: usize| {
        let [row, column] = if operand.transposed { [column, row] } else { [row, column] };
        let at = batch * operand.stride as usize + column * operand.leading as usize + row;
        stack.values[start(operand, stack.matrix.buffer.0) + at]
    };
    let [a, b, c] = stacks;
    let mut result = c.values.clone();
    for batch in 0..gemm.batch as usize {
        for (row, column) in
            (0..gemm.m as usize).flat_map(|row| (0..gemm.n as usize).map(move |column| (row, column)))
        {
            let products = (0..gemm.k as usize)
                .map(|k| read(&gemm.first, b, batch, row, k) * read(&gemm.second, a, batch, k, column));
            let at = start(&gemm.result, c.matrix.buffer.0)
                + batch * gemm.result.stride as usize
                + column * gemm.result.leading as usize
                + row;
            let before = if gemm.accumulate { result[at] } else { 0.0 };
            result[at] = before + products.sum::<f32>();
        }
    }
    result
}

fn product_of(shape: [usize; 4], transposed: [bool; 2], accumulate: bool) {
    let [m, n, k, batch] = shape;
    let mut program = Program::new("test");
    let a = Stack::new(&mut program, [m, k], batch, transposed[0], 1);
    let b = Stack::new(&mut program, [k, n], batch, transposed[1], 2);
    let c = Stack::new(&mut program, [m, n], batch, false, 3);
    program.product(Product { m, n, k, batch, a: a.matrix, b: b.matrix, c: c.matrix, accumulate });
    let lowered = lower(&program, &places(&program), 0).unwrap();
    let [Command::Product(gemm)] = lowered.commands[..] else { unreachable!() };
    let mut expected = c.values.clone();
    for (i, row, column) in
        (0..batch).flat_map(|i| (0..m).flat_map(move |row| (0..n).map(move |column| (i, row, column))))
    {
        let sum: f32 = (0..k).map(|k| b.at(i, k, column) * a.at(i, row, k)).sum();
        let at = c.matrix.offset + i * c.matrix.batch_stride + row * c.matrix.row_stride + column;
        expected[at] = sum + if accumulate { expected[at] } else { 0.0 };
    }
    assert_eq!(cublas(&gemm, &[&a, &b, &c]), expected, "{shape:?} {transposed:?}");
}

#[test]
fn a_product_is_what_the_rows_and_columns_say_in_every_transposition() {
    for transposed in [[false, false], [false, true], [true, false], [true, true]] {
        product_of([3, 5, 4, 2], transposed, false);
        product_of([1, 7, 2, 3], transposed, true);
        product_of([4, 1, 1, 1], transposed, false);
    }
}

#[test]
fn a_matrix_that_leaves_its_buffer_is_refused() {
    let matrix =
        |buffer, row_stride| Matrix { buffer, offset: 0, row_stride, batch_stride: 0, transposed: false };
    let refused = |change: &dyn Fn(&mut Product), part: &str| {
        let mut program = Program::new("test");
        let [a, b, c] = [6, 8, 12].map(|len| program.in_out(Element::F32, len));
        let mut product = Product {
            m: 3,
            n: 4,
            k: 2,
            batch: 1,
            a: matrix(a, 2),
            b: matrix(b, 4),
            c: matrix(c, 4),
            accumulate: false,
        };
        program.product(product);
        lower(&program, &places(&program), 0).unwrap();
        program.steps.clear();
        change(&mut product);
        program.product(product);
        let why = why(&program);
        assert!(why.contains(part) && why.contains("step 0, product of"), "{why}");
    };
    refused(&|product| product.a.offset = 1, "A ends at element 7 of a buffer of 6");
    refused(&|product| product.m = 4, "A ends at element 8 of a buffer of 6");
    refused(&|product| product.b.row_stride = 5, "B ends at element 9");
    refused(&|product| product.b.row_stride = 3, "rows of 4 lie 3 apart");
    refused(&|product| product.c.transposed = true, "C is transposed");
    refused(&|product| product.batch = 2, "overlap");
    refused(&|product| product.k = 0, "no size");
    refused(&|product| product.a.buffer = Buffer(9), "A: there is no buffer 9");
}

#[test]
fn elements_that_cublas_does_not_mix_are_refused() {
    let with = |elements: [Element; 3]| {
        let mut program = Program::new("test");
        let [a, b, c] = elements.map(|element| {
            let buffer = program.in_out(element, 4);
            Matrix { buffer, offset: 0, row_stride: 2, batch_stride: 0, transposed: false }
        });
        program.product(Product { m: 2, n: 2, k: 2, batch: 1, a, b, c, accumulate: false });
        lower(&program, &places(&program), 0).map(|_| ())
    };
    use Element::{Bf16, F16, F32, U32};
    for good in [[F32; 3], [F16; 3], [Bf16; 3], [F16, F16, F32], [Bf16, Bf16, F32]] {
        assert!(with(good).is_ok(), "{good:?}");
    }
    for bad in [[F32, F16, F32], [F16, Bf16, F32], [F32, F32, F16], [U32; 3]] {
        assert!(with(bad).is_err(), "{bad:?}");
    }
}
