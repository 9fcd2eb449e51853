//! What a convolution does on a CUDA device.
//!
//! 1×1 convolutions of stride 1 are matrix products; all others run `conv2d.cu`'s implicit ones on packed weights. Weights, bias and
//! their gradients are of the element type; every sum is kept in `f32` and rounded once, but for the bias of a 1×1 convolution,
//! which is added to the rounded product.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::{Result, bail};

use super::Geometry;
use crate::cuda::{Arg, Buffer, Element, Matrix, Product, Program, Source, blocks, divider};

/// `conv2d.cu`.
pub static SOURCE: Source = Source {
    name: "conv2d",
    path: "crates/sd-core/src/ops/conv2d/conv2d.cu",
    text: include_str!("conv2d.cu"),
    kernels: &[
        "conv2d_gemm_f32",
        "conv2d_gemm_f16",
        "conv2d_gemm_bf16",
        "conv2d_gemm_narrow_f32",
        "conv2d_gemm_narrow_f16",
        "conv2d_gemm_narrow_bf16",
        "conv2d_weight_grad_f32",
        "conv2d_weight_grad_f16",
        "conv2d_weight_grad_bf16",
        "conv2d_weight_grad_narrow_f32",
        "conv2d_weight_grad_narrow_f16",
        "conv2d_weight_grad_narrow_bf16",
        "conv2d_pack_forward_f32",
        "conv2d_pack_forward_f16",
        "conv2d_pack_forward_bf16",
        "conv2d_pack_input_grad_f32",
        "conv2d_pack_input_grad_f16",
        "conv2d_pack_input_grad_bf16",
        "conv2d_join_f32",
        "conv2d_join_f16",
        "conv2d_join_bf16",
        "conv2d_join_weights_f32",
        "conv2d_join_weights_f16",
        "conv2d_join_weights_bf16",
        "conv2d_add_bias_f32",
        "conv2d_add_bias_f16",
        "conv2d_add_bias_bf16",
        "conv2d_bias_grad_parts_f32",
        "conv2d_bias_grad_parts_f16",
        "conv2d_bias_grad_parts_bf16",
        "conv2d_bias_grad_join_f32",
        "conv2d_bias_grad_join_f16",
        "conv2d_bias_grad_join_bf16",
    ],
    stack_limit: 0,
};

/// Blocks that fill the largest device we know (132 multiprocessors, two blocks each). A constant, so that sums have one order
/// on every device.
const FULL: usize = 264;

/// Bytes that the parts of a sum may take.
const PARTS: usize = 64 << 20;

/// Pixels of a tile.
const TILE_N: usize = 128;

/// (x, w) or (x, w, bias) → y.
///
/// # Errors
/// Where a count that kernels hold in 32 bits does not fit.
pub fn forward(g: &Geometry, bias: bool, element: Element) -> Result<Program> {
    check(g)?;
    let mut program = Program::new("conv2d");
    let x = program.input(element, g.batch * g.c_in * g.h * g.w);
    let w = program.input(element, g.c_out * g.taps());
    let bias = bias.then(|| program.input(element, g.c_out));
    let y = program.output(element, g.batch * g.c_out * g.pixels());
    if pointwise(g) {
        program.product(pointwise_product(g, w, x, y, false));
        if let Some(bias) = bias {
            let count = g.batch * g.c_out * g.pixels();
            let args = vec![Arg::Buffer(y), Arg::Buffer(bias), long(count), long(g.pixels()), int(g.c_out)];
            launch(&mut program, "add_bias", element, blocks(count, 256), [256, 1, 1], args);
        }
    } else {
        let packed = pack_forward(&mut program, g, w, element);
        gemm(&mut program, &Taps::forward(g), element, Operands { target: y, source: x, packed, bias });
    }
    Ok(program)
}

/// (dy, w) → dx.
///
/// # Errors
/// As [`forward`].
pub fn input_grad(g: &Geometry, element: Element) -> Result<Program> {
    check(g)?;
    let mut program = Program::new("conv2d input gradient");
    let dy = program.input(element, g.batch * g.c_out * g.pixels());
    let w = program.input(element, g.c_out * g.taps());
    let dx = program.output(element, g.batch * g.c_in * g.h * g.w);
    if pointwise(g) {
        program.product(pointwise_product(g, w, dy, dx, true));
    } else {
        let packed = pack_input_grad(&mut program, g, w, element);
        gemm(
            &mut program,
            &Taps::input_grad(g),
            element,
            Operands { target: dx, source: dy, packed, bias: None },
        );
    }
    Ok(program)
}

/// (x, dy) → dw, of the element type.
///
/// # Errors
/// As [`forward`].
pub fn weight_grad(g: &Geometry, element: Element) -> Result<Program> {
    check(g)?;
    let mut program = Program::new("conv2d weight gradient");
    let x = program.input(element, g.batch * g.c_in * g.h * g.w);
    let dy = program.input(element, g.batch * g.c_out * g.pixels());
    let dw = program.output(element, g.c_out * g.taps());
    let (taps, area) = (g.kh * g.kw, g.c_out * g.c_in);
    let tile_m = tile_m(g.c_out);
    let tiles = g.c_out.div_ceil(tile_m) * g.c_in.div_ceil(TILE_N);
    let steps = (g.batch * g.pixels()).div_ceil(depth(element));
    let splits = splits(tiles * taps, steps, area * taps);
    let parts = program.scratch(Element::F32, splits * taps * area);
    let mut args = vec![Arg::Buffer(parts), Arg::Buffer(x), Arg::Buffer(dy)];
    args.extend(Taps::forward(g).args());
    args.extend([Arg::U64(divider(g.pixels())), Arg::U64(divider(g.out_w()))]);
    let kernel = named("weight_grad", tile_m);
    launch(&mut program, kernel, element, grid(tiles, taps, splits), [256, 1, 1], args);
    let args = vec![Arg::Buffer(dw), Arg::Buffer(parts), long(area), int(taps), int(splits)];
    launch(&mut program, "join_weights", element, blocks(area, 256), [256, 1, 1], args);
    Ok(program)
}

/// dy → dbias, of the element type.
///
/// # Errors
/// As [`forward`].
pub fn bias_grad(g: &Geometry, element: Element) -> Result<Program> {
    check(g)?;
    let mut program = Program::new("conv2d bias gradient");
    let total = g.batch * g.pixels();
    let dy = program.input(element, g.c_out * total);
    let db = program.output(element, g.c_out);
    let pieces = (2 * FULL).div_ceil(g.c_out).min(total.div_ceil(4096)).max(1);
    let parts = program.scratch(Element::F32, g.c_out * pieces);
    let args = vec![Arg::Buffer(parts), Arg::Buffer(dy), int(g.batch), long(g.pixels()), int(g.c_out)];
    let filters = g.c_out.min(65535);
    launch(&mut program, "bias_grad_parts", element, grid(pieces, filters, 1), [256, 1, 1], args);
    let args = vec![Arg::Buffer(db), Arg::Buffer(parts), int(g.c_out), int(pieces)];
    launch(&mut program, "bias_grad_join", element, blocks(g.c_out, 128), [128, 1, 1], args);
    Ok(program)
}

/// The kernels count pixels, and the elements of an image, in 32 bits, and grids have limits.
fn check(g: &Geometry) -> Result<()> {
    let counts = [
        g.batch * g.pixels(),
        g.batch * g.h * g.w,
        // Elements of one image.
        g.c_in * g.h * g.w,
        g.c_out * g.pixels(),
        (g.h + g.w + g.out_h() + g.out_w()) * g.stride + 2 * g.padding,
        // Steps of the product over taps and channels.
        g.taps().max(g.c_out * g.kh * g.kw),
    ];
    let limit = 0x7fff_ffff - 2 * TILE_N;
    if counts.into_iter().any(|count| count > limit) || g.kh * g.kw > 65535 || g.c_in.max(g.c_out) > 1 << 20 {
        bail!(
            "conv2d on CUDA: {g:?} is too large; expected fewer than 2³¹ pixels in all and elements an image, 2¹⁶ taps and 2²⁰ channels"
        );
    }
    Ok(())
}

fn pointwise(g: &Geometry) -> bool {
    g.kh == 1 && g.kw == 1 && g.stride == 1 && g.padding == 0
}

/// y[n] = w · x[n], or dx[n] = wᵀ · dy[n], with images as (channels, pixels) matrices.
fn pointwise_product(g: &Geometry, w: Buffer, source: Buffer, target: Buffer, transposed: bool) -> Product {
    let (m, k) = if transposed { (g.c_in, g.c_out) } else { (g.c_out, g.c_in) };
    let images = |buffer, channels: usize| Matrix {
        buffer,
        offset: 0,
        row_stride: g.pixels(),
        batch_stride: channels * g.pixels(),
        transposed: false,
    };
    Product {
        m,
        n: g.pixels(),
        k,
        batch: g.batch,
        a: Matrix { buffer: w, offset: 0, row_stride: g.c_in, batch_stride: 0, transposed },
        b: images(source, k),
        c: images(target, m),
        accumulate: false,
    }
}

/// Sizes of one product over taps, as the kernels take them: forward from x to y, the input gradient from dy to dx.
struct Taps {
    batch: usize,
    channels: usize,
    source: (usize, usize),
    filters: usize,
    target: (usize, usize),
    kernel: (usize, usize),
    stride: usize,
    padding: usize,
    transposed: bool,
}

impl Taps {
    fn forward(g: &Geometry) -> Self {
        Self {
            batch: g.batch,
            channels: g.c_in,
            source: (g.h, g.w),
            filters: g.c_out,
            target: (g.out_h(), g.out_w()),
            kernel: (g.kh, g.kw),
            stride: g.stride,
            padding: g.padding,
            transposed: false,
        }
    }

    fn input_grad(g: &Geometry) -> Self {
        Self {
            channels: g.c_out,
            source: (g.out_h(), g.out_w()),
            filters: g.c_in,
            target: (g.h, g.w),
            transposed: true,
            ..Self::forward(g)
        }
    }

    fn args(&self) -> [Arg; 10] {
        [
            int(self.batch),
            int(self.channels),
            int(self.source.0),
            int(self.source.1),
            int(self.filters),
            int(self.target.0),
            int(self.target.1),
            int(self.kernel.1),
            int(self.stride),
            int(self.padding),
        ]
    }
}

/// Buffers of a product over taps.
struct Operands {
    target: Buffer,
    source: Buffer,
    packed: Buffer,
    bias: Option<Buffer>,
}

/// The implicit product, in parts where its tiles do not fill the device.
fn gemm(program: &mut Program, taps: &Taps, element: Element, operands: Operands) {
    let Operands { target, source, packed, bias } = operands;
    let tap_count = taps.kernel.0 * taps.kernel.1;
    let tile_m = tile_m(taps.filters);
    let plane = taps.target.0 * taps.target.1;
    let count = taps.batch * taps.filters * plane;
    let (across, down) = ((taps.batch * plane).div_ceil(TILE_N), taps.filters.div_ceil(tile_m));
    let splits = splits(across * down, tap_count * taps.channels.div_ceil(depth(element)), count);
    let parts = program.scratch(Element::F32, if splits > 1 { splits * count } else { 1 });
    // Where there is no bias the pointer is not read.
    let bias_or_any = Arg::Buffer(bias.unwrap_or(source));
    let has_bias = int(usize::from(bias.is_some()));
    let mut args = vec![Arg::Buffer(target), Arg::Buffer(parts), Arg::Buffer(source), Arg::Buffer(packed)];
    args.push(bias_or_any.clone());
    args.extend(taps.args());
    args.extend([int(tap_count), int(packed_stride(taps.filters)), int(usize::from(taps.transposed))]);
    args.push(has_bias.clone());
    launch(program, named("gemm", tile_m), element, grid(across, down, splits), [256, 1, 1], args);
    if splits > 1 {
        let mut args = vec![Arg::Buffer(target), Arg::Buffer(parts), bias_or_any];
        args.extend([long(count), long(plane), int(taps.filters), int(splits), has_bias]);
        launch(program, "join", element, blocks(count, 256), [256, 1, 1], args);
    }
}

/// w as [tap][c][o].
fn pack_forward(program: &mut Program, g: &Geometry, w: Buffer, element: Element) -> Buffer {
    let stride = packed_stride(g.c_out);
    let packed = program.scratch(element, g.taps() * stride);
    let args = pack_args(g, packed, w, stride);
    launch(
        program,
        "pack_forward",
        element,
        grid(g.taps().div_ceil(32), stride.div_ceil(32), 1),
        [32, 8, 1],
        args,
    );
    packed
}

/// w as [tap][o][c].
fn pack_input_grad(program: &mut Program, g: &Geometry, w: Buffer, element: Element) -> Buffer {
    let stride = packed_stride(g.c_in);
    let packed = program.scratch(element, g.kh * g.kw * g.c_out * stride);
    let args = pack_args(g, packed, w, stride);
    launch(program, "pack_input_grad", element, blocks(g.c_out * stride, 256), [256, 1, 1], args);
    packed
}

fn pack_args(g: &Geometry, packed: Buffer, w: Buffer, stride: usize) -> Vec<Arg> {
    vec![Arg::Buffer(packed), Arg::Buffer(w), int(g.c_out), int(g.c_in), int(g.kh * g.kw), int(stride)]
}

/// Rows of packed weights begin at multiples of 16 bytes.
fn packed_stride(filters: usize) -> usize {
    filters.next_multiple_of(8)
}

/// Filters of a tile: 64 where 128 would leave more than a sixth of the tiles empty.
fn tile_m(filters: usize) -> usize {
    if 5 * filters.next_multiple_of(128) > 6 * filters.next_multiple_of(64) { 64 } else { 128 }
}

fn named(kernel: &str, tile_m: usize) -> &'static str {
    match (kernel, tile_m) {
        ("gemm", 64) => "gemm_narrow",
        ("gemm", _) => "gemm",
        (_, 64) => "weight_grad_narrow",
        _ => "weight_grad",
    }
}

/// Channels or pixels that one step of a tile sums.
fn depth(element: Element) -> usize {
    if element == Element::F32 { 16 } else { 32 }
}

/// In how many parts a sum of `steps` is taken so that `tiles` fill the device: at least 4 steps each, and all of them, of `count`
/// sums in `f32`, within [`PARTS`].
fn splits(tiles: usize, steps: usize, count: usize) -> usize {
    (FULL / tiles.max(1)).min(steps / 4).min(PARTS / (4 * count.max(1))).clamp(1, 64)
}

fn launch(
    program: &mut Program,
    kernel: &str,
    element: Element,
    grid: [u32; 3],
    block: [u32; 3],
    args: Vec<Arg>,
) {
    program.launch(&SOURCE, &format!("conv2d_{kernel}_{}", element.suffix()), grid, block, 0, args);
}

/// [`check`] has seen that these fit.
fn int(value: usize) -> Arg {
    Arg::I32(i32::try_from(value).unwrap_or(i32::MAX))
}

fn long(value: usize) -> Arg {
    Arg::I64(i64::try_from(value).unwrap_or(i64::MAX))
}

fn grid(x: usize, y: usize, z: usize) -> [u32; 3] {
    [x, y, z].map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernels_cannot_count_is_refused() {
        let small = Geometry { batch: 1, c_in: 3, h: 8, w: 8, c_out: 5, kh: 3, kw: 3, stride: 1, padding: 1 };
        let image = Geometry { c_in: 1 << 16, h: 1 << 8, w: 1 << 8, ..small };
        let pixels = Geometry { batch: 1 << 27, h: 4, w: 4, ..small };
        let channels = Geometry { c_out: (1 << 20) + 1, ..small };
        for element in [Element::F32, Element::F16] {
            assert!(forward(&small, true, element).is_ok());
            for large in [image, pixels, channels] {
                let Err(error) = forward(&large, true, element) else { panic!("{large:?} is accepted") };
                assert!(error.to_string().contains("too large; expected fewer than 2³¹ pixels"), "{error}");
            }
        }
    }
}
