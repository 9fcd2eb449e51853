//! The weight gradient: `dw = Gᵀ[Σ_tiles (A dy Aᵀ) ⊙ (Bᵀ x B)]G`.

use std::ops::Range;

use rayon::prelude::*;

use super::super::super::scratch::Scratch;
use super::super::super::simd::on_sixteen;
use super::super::super::tile::{self, Depth, LANES, MAX_ROWS, Rows, Shared, even_pieces};
use super::transform::{self, POINTS};
use super::window::{Reach, Window};
use super::{PANEL, PRODUCTS, Spec, transform_window};

/// Panels of outputs that one piece of work goes through for each panel of inputs.
const GROUP: usize = 4;

/// `dw` (O, C, 3, 3) of the convolution.
pub(in super::super) fn weight_grad(spec: &Spec, x: &[f32], dy: &[f32], dw: &mut [f32]) {
    assert_eq!(x.len(), spec.batch * spec.c_in * spec.h * spec.w, "x does not fit the convolution");
    assert_eq!(dy.len(), spec.batch * spec.c_out * spec.pixels(), "dy does not fit the convolution");
    assert_eq!(dw.len(), 9 * spec.c_in * spec.c_out, "dw does not fit the convolution");
    dw.fill(0.0);
    let blocks = spec.blocks(spec.c_in.next_multiple_of(LANES).max(spec.c_out));
    let most = blocks.clone().map(|block| block.len().next_multiple_of(PANEL)).max().unwrap_or(0);
    let data = Scratch::new(POINTS * most * spec.c_in.next_multiple_of(LANES));
    let gradient = Scratch::new(POINTS * most * spec.c_out);
    for block in blocks {
        let panels = block.len().div_ceil(PANEL);
        transform_data(spec, x, block.clone(), &data);
        transform_gradient(spec, dy, block, &gradient);
        let operands = Operands { spec, panels, data: &data, gradient: &gradient };
        let sums = Shared(dw.as_mut_ptr());
        let outputs: Vec<_> = even_pieces(spec.c_out, MAX_ROWS).collect();
        let inputs: Vec<_> = (0..spec.c_in).step_by(PANEL).collect();
        let work: Vec<_> =
            outputs.chunks(GROUP).flat_map(|o| inputs.iter().map(move |input| (o, *input))).collect();
        work.par_iter().for_each_init(
            || Scratch::new(GROUP * PRODUCTS),
            |products, (outputs, input)| {
                // SAFETY: `Spec::new` saw AVX2 at least; every piece of work adds to its own outputs and inputs of `dw`.
                unsafe {
                    operands.products(outputs, *input, products.start());
                    for (o, output) in outputs.iter().enumerate() {
                        add(spec, output.clone(), *input, products.start().add(o * PRODUCTS), sums);
                    }
                }
            },
        );
    }
}

/// Where the 32 (or, at the end, 16) inputs of a panel begin in the transformed data of one point, and how many registers they are.
fn input_panel(spec: &Spec, panels: usize, input: usize) -> (usize, usize) {
    let registers = if spec.c_in - input > LANES { 2 } else { 1 };
    (input * panels * PANEL, registers)
}

/// Transformed tiles with inputs along the lanes: (36, panels of 32 or 16 inputs, tiles, inputs of the panel).
fn transform_data(spec: &Spec, x: &[f32], block: Range<usize>, data: &Scratch) {
    let window = Window::new(spec, block, Reach::Data);
    let tiles = window.offsets.len();
    let step = tiles * spec.c_in.next_multiple_of(LANES);
    assert!(data.len() >= POINTS * step, "no room for the data");
    let out = Shared(data.start());
    let plane = spec.h * spec.w;
    (0..spec.c_in.div_ceil(LANES)).into_par_iter().for_each(|sixteen| {
        let inputs = sixteen * LANES..((sixteen + 1) * LANES).min(spec.c_in);
        let (start, registers) = input_panel(spec, tiles / PANEL, inputs.start / PANEL * PANEL);
        let start = start + inputs.start % PANEL;
        let buffers: Vec<Scratch> = inputs.clone().map(|_| window.buffer()).collect();
        for (buffer, c) in buffers.iter().zip(inputs) {
            window.fill(buffer, x, &window.planes(|image| (image * spec.c_in + c) * plane));
        }
        let points = Scratch::new(POINTS * LANES * LANES);
        for (group, offsets) in window.offsets.as_chunks::<LANES>().0.iter().enumerate() {
            // SAFETY: `Spec::new` saw AVX2 at least; the windows hold every patch; these inputs of these tiles are written here alone.
            unsafe {
                transform_group(&buffers, offsets, window.stride, points.start());
                let row = registers * LANES;
                turn(points.start(), out.at(start + group * LANES * row), row, step);
            }
        }
    });
}

on_sixteen! {
    /// The same sixteen tiles of at most sixteen inputs: (36, inputs, tiles), always sixteen by sixteen.
    ///
    /// # Safety
    /// The machine has AVX2; the windows hold every patch; `points` has room.
    unsafe fn transform_group<V>(windows: &[Scratch], offsets: &[u32; LANES], stride: usize, points: *mut f32) {
        for (c, window) in windows.iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { transform::data::<V>(window.start(), offsets, stride, points.add(c * LANES), LANES * LANES) };
        }
    }
}

on_sixteen! {
    /// Turns the 16×16 block (inputs, tiles) of every point and writes it as (tiles, inputs): rows `row` apart, points `step` apart.
    ///
    /// # Safety
    /// The machine has AVX2; `points` holds 36 blocks; `out` may be written as said.
    unsafe fn turn<V>(points: *const f32, out: *mut f32, row: usize, step: usize) {
        for point in 0..POINTS {
            let mut block = [V::splat(0.0); LANES];
            // SAFETY: sixteen rows of sixteen of the block, and the caller's promise for `out`.
            unsafe {
                for (c, lanes) in block.iter_mut().enumerate() {
                    *lanes = V::read(points.add((point * LANES + c) * LANES));
                }
                let turned = transform::transpose(block);
                for (tile, lanes) in turned.into_iter().enumerate() {
                    lanes.write(out.add(point * step + tile * row));
                }
            }
        }
    }
}

/// Transformed output gradients: (36, panels of tiles, outputs, 32 tiles).
fn transform_gradient(spec: &Spec, dy: &[f32], block: Range<usize>, gradient: &Scratch) {
    let window = Window::new(spec, block, Reach::Gradient);
    let panels = window.offsets.len() / PANEL;
    let step = panels * spec.c_out * PANEL;
    assert!(gradient.len() >= POINTS * step, "no room for the gradient");
    let out = Shared(gradient.start());
    (0..spec.c_out).into_par_iter().for_each_init(
        || window.buffer(),
        |buffer, o| {
            window.fill(buffer, dy, &window.planes(|image| (image * spec.c_out + o) * spec.pixels()));
            // SAFETY: as for the data.
            unsafe { transform_window(&window, buffer, spec.c_out * PANEL, out.at(o * PANEL), step) };
        },
    );
}

struct Operands<'a> {
    spec: &'a Spec,
    /// Panels of tiles.
    panels: usize,
    data: &'a Scratch,
    gradient: &'a Scratch,
}

impl Operands<'_> {
    /// Sums over the block's tiles: (panel of outputs, 36, 14, 32 inputs).
    ///
    /// # Safety
    /// The machine has AVX2; `data` and `gradient` hold the block's transforms; `products` has room for the outputs.
    unsafe fn products(&self, outputs: &[Range<usize>], input: usize, products: *mut f32) {
        let (spec, tiles) = (self.spec, self.panels * PANEL);
        let (start, registers) = input_panel(spec, self.panels, input);
        let width = registers * LANES;
        let depth =
            Depth { depth: PANEL, blocks: self.panels, a_block: spec.c_out * PANEL, b_block: PANEL * width };
        for point in 0..POINTS {
            for (o, output) in outputs.iter().enumerate() {
                // SAFETY: row r of A in block i is the 32 tiles of output.start + r in panel i; B is `tiles` steps of `width`; C
                // has 14 rows of 32.
                unsafe {
                    let a = self.gradient.start().add(point * tiles * spec.c_out + output.start * PANEL);
                    let b = self.data.start().add(point * tiles * spec.c_in.next_multiple_of(LANES) + start);
                    let c = (products.add((o * POINTS + point) * MAX_ROWS * PANEL), PANEL);
                    match registers {
                        2 => tile::product::<2>(output.len(), Rows::Of32, depth, a, b, c, false),
                        _ => tile::product::<1>(output.len(), Rows::Of32, depth, a, b, c, false),
                    }
                }
            }
        }
    }
}

on_sixteen! {
    /// Transforms the sums (36, 14, 32) of one panel of outputs and one of inputs back and adds them to `dw`.
    ///
    /// # Safety
    /// The machine has AVX2; `products` may be read; nobody else writes these outputs and inputs of `dw`.
    unsafe fn add<V>(spec: &Spec, outputs: Range<usize>, input: usize, products: *const f32, dw: Shared) {
        let inputs = PANEL.min(spec.c_in - input);
        let mut lanes = [[0.0f32; LANES]; 9];
        for (row, output) in outputs.enumerate() {
            for half in 0..inputs.div_ceil(LANES) {
                // SAFETY: within the products.
                let taps = unsafe {
                    transform::weight_gradient::<V>(products.add(row * PANEL + half * LANES), MAX_ROWS * PANEL)
                };
                for (lanes, tap) in lanes.iter_mut().zip(taps) {
                    // SAFETY: sixteen numbers into an array of sixteen.
                    unsafe { tap.write(lanes.as_mut_ptr()) };
                }
                for lane in 0..LANES.min(inputs - half * LANES) {
                    let kernel = (output * spec.c_in + input + half * LANES + lane) * 9;
                    for (k, lanes) in lanes.iter().enumerate() {
                        // SAFETY: kernel (output, input) of `dw`, whose length `weight_grad` checked; nobody else writes it.
                        unsafe { *dw.at(kernel + k) += lanes[lane] };
                    }
                }
            }
        }
    }
}
