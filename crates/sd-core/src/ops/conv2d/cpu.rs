//! Convolution on the CPU: a plain reference, and a tiled im2col whose products go to `gemm`.
//!
//! Images are cut into *groups* (several small images, or one large one) and groups into *bands* of whole rows, so that one
//! band has about [`TILE`] output pixels and its im2col matrix (C·U·V × pixels) stays in cache. Groups run in parallel; the
//! matrices of a large image are also made and multiplied by several threads, for there may be one image only.

use rayon::prelude::*;

use super::Geometry;
#[cfg(target_arch = "x86_64")]
use super::winograd;
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::matmul::{View, product};
use crate::ops::pieces::{each, rows_for};

/// Output pixels of one im2col matrix, about.
pub(crate) const TILE: usize = 512;

/// The weight gradient is summed in at most this many pieces, whatever the number of threads.
const PIECES: usize = 8;

/// Elements of the im2col matrix that one thread writes at a time, about.
const PIECE: usize = 1 << 15;

/// Parts that the rows of a product are cut into where threads share it.
const PARTS: usize = 4;

/// Rows of a part that pay for packing the other operand again.
const LEAST_ROWS: usize = 64;

/// Whole rows of the output of a group of images.
#[derive(Clone, Copy)]
struct Band {
    images: usize,
    row: usize,
    rows: usize,
}

impl Geometry {
    /// Images handled together.
    fn group(&self) -> usize {
        (TILE / self.pixels()).clamp(1, self.batch)
    }

    fn x_len(&self) -> usize {
        self.c_in * self.h * self.w
    }

    fn y_len(&self) -> usize {
        self.c_out * self.pixels()
    }

    /// The bands of a group of `images`.
    fn bands(&self, images: usize) -> impl Iterator<Item = Band> {
        let out_h = self.out_h();
        let step = if images > 1 { out_h } else { (TILE / self.out_w()).clamp(1, out_h) };
        (0..out_h).step_by(step).map(move |row| Band { images, row, rows: step.min(out_h - row) })
    }

    /// A 1×1 convolution without stride or padding: its im2col matrix is the image itself.
    fn pointwise(&self) -> bool {
        (self.kh, self.kw, self.stride, self.padding) == (1, 1, 1, 0)
    }

    fn band_pixels(&self, band: Band) -> usize {
        band.images * band.rows * self.out_w()
    }
}

/// Buffers that one thread reuses from band to band.
struct Scratch<T> {
    window: Vec<T>,
    columns: Vec<T>,
    outputs: Vec<T>,
}

impl<T: Real> Scratch<T> {
    fn new() -> Self {
        Self { window: Vec::new(), columns: Vec::new(), outputs: Vec::new() }
    }

    fn resize(&mut self, columns: usize, outputs: usize) {
        // Grows only; what is used is always overwritten first.
        self.columns.resize(columns.max(self.columns.len()), T::zero());
        self.outputs.resize(outputs.max(self.outputs.len()), T::zero());
    }
}

/// y of [`super::conv2d`] by the fastest way of this machine.
pub(super) fn forward_f32(g: &Geometry, x: &[f32], w: &[f32], bias: Option<&[f32]>) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if let Some(spec) = winograd::Spec::new(g) {
        let kernels = winograd::Kernels::forward(g, w);
        // SAFETY: every output of every tile is stored.
        return unsafe { written(g.batch * g.y_len(), |y| winograd::convolve(&spec, x, kernels, bias, y)) };
    }
    forward(g, x, w, bias)
}

/// dx of [`super::conv2d`] by the fastest way of this machine.
pub(super) fn input_grad_f32(g: &Geometry, dy: &[f32], w: &[f32]) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if let Some(spec) = winograd::Spec::new(g).and_then(|spec| spec.of_input_grad()) {
        let kernels = winograd::Kernels::backward(g, w);
        // SAFETY: every output of every tile is stored.
        return unsafe {
            written(g.batch * g.x_len(), |dx| winograd::convolve(&spec, dy, kernels, None, dx))
        };
    }
    input_grad(g, dy, w)
}

/// dw of [`super::conv2d`] by the fastest way of this machine.
pub(super) fn weight_grad_f32(g: &Geometry, x: &[f32], dy: &[f32]) -> Vec<f32> {
    #[cfg(target_arch = "x86_64")]
    if let Some(spec) = winograd::Spec::new(g) {
        let mut dw = vec![0.0; g.c_out * g.taps()];
        winograd::weight_grad(&spec, x, dy, &mut dw);
        return dw;
    }
    weight_grad(g, x, dy)
}

/// Sum of dy over images and pixels, one number a channel.
pub(super) fn bias_grad<T: Real>(g: &Geometry, dy: &[T]) -> Vec<T> {
    let plane = |image: usize, channel: usize| {
        let start = image * g.y_len() + channel * g.pixels();
        plane_sum(&dy[start..start + g.pixels()])
    };
    let sum = |channel| T::from_f64((0..g.batch).map(|image| plane(image, channel)).sum());
    (0..g.c_out).into_par_iter().map(sum).collect()
}

/// A sum in `f64` over sixteen lanes, so that additions need not wait for one another.
fn plane_sum<T: Real>(values: &[T]) -> f64 {
    const LANES: usize = 16;
    let (whole, rest) = values.as_chunks::<LANES>();
    let mut sums = [0.0f64; LANES];
    for lanes in whole {
        for (sum, value) in sums.iter_mut().zip(lanes) {
            *sum += value.to_f64();
        }
    }
    sums.iter().sum::<f64>() + rest.iter().map(|value| value.to_f64()).sum::<f64>()
}

/// y of [`super::conv2d`].
pub(super) fn forward<T: Real>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>) -> Vec<T> {
    let group = g.group();
    let write = |y: &mut [T]| {
        y.par_chunks_mut(group * g.y_len()).zip(x.par_chunks(group * g.x_len())).for_each_init(
            Scratch::new,
            |scratch, (y, x)| {
                for band in g.bands(y.len() / g.y_len()) {
                    forward_band(g, band, x, w, y, scratch);
                }
                add_bias(g, bias, y);
            },
        );
    };
    // SAFETY: the bands cover the outputs, and the products of a band, or their copies, are stored in all of its own.
    unsafe { written(g.batch * g.y_len(), write) }
}

/// Adds each channel's bias to its planes.
fn add_bias<T: Real>(g: &Geometry, bias: Option<&[T]>, y: &mut [T]) {
    if let Some(bias) = bias {
        let planes = y.chunks_exact_mut(g.pixels()).zip(bias.iter().cycle());
        planes.for_each(|(plane, bias)| plane.iter_mut().for_each(|y| *y += *bias));
    }
}

fn forward_band<T: Real>(g: &Geometry, band: Band, x: &[T], w: &[T], y: &mut [T], scratch: &mut Scratch<T>) {
    let (pixels, taps) = (g.band_pixels(band), g.taps());
    let weights = View::new(w, g.c_out, taps);
    if g.pointwise() && band.images == 1 {
        let start = band.row * g.out_w();
        let image =
            View { data: &x[start..], rows: taps, columns: pixels, row_stride: g.pixels(), column_stride: 1 };
        return shared_product(g, (y, g.pixels(), start), weights, image);
    }
    scratch.resize(taps * pixels, g.c_out * pixels);
    let columns = &mut scratch.columns[..taps * pixels];
    im2col(g, band, x, &mut scratch.window, columns);
    let columns = View::new(columns, taps, pixels);
    if band.images == 1 {
        return shared_product(g, (y, g.pixels(), band.row * g.out_w()), weights, columns);
    }
    let outputs = &mut scratch.outputs[..g.c_out * pixels];
    shared_product(g, (outputs, pixels, 0), weights, columns);
    scatter(g, band, outputs, y);
}

/// Puts a (channels × pixels) matrix of several images where the images' channels lie.
fn scatter<T: Real>(g: &Geometry, band: Band, outputs: &[T], y: &mut [T]) {
    for (image, channel, tile) in channel_rows(g, band, outputs) {
        let start = image * g.y_len() + channel * g.pixels();
        y[start..start + tile.len()].copy_from_slice(tile);
    }
}

/// `out[r, start..] = a[r]·b`, rows of `out` being `stride` apart, in parts of some rows where there are few groups to share the work.
///
/// A part has the bits that it has in the whole.
fn shared_product<T: Real>(
    g: &Geometry,
    (out, stride, start): (&mut [T], usize, usize),
    a: View<'_, T>,
    b: View<'_, T>,
) {
    let rows = a.rows.div_ceil(PARTS).max(LEAST_ROWS);
    let groups = g.batch.div_ceil(g.group());
    if a.rows <= rows || groups >= PIECES {
        return product(&mut out[start..], stride, a, b, false);
    }
    out.par_chunks_mut(rows * stride).enumerate().for_each(|(part, out)| {
        let a = a.some_rows(part * rows, out.len() / stride);
        product(&mut out[start..], stride, a, b, false);
    });
}

/// The rows of a (channels × pixels) matrix that belong to one image and one channel.
fn channel_rows<'a, T>(
    g: &Geometry,
    band: Band,
    matrix: &'a [T],
) -> impl Iterator<Item = (usize, usize, &'a [T])> + use<'a, T> {
    let (images, length) = (band.images, g.band_pixels(band) / band.images);
    matrix.chunks_exact(length).enumerate().map(move |(index, row)| (index % images, index / images, row))
}

/// dw of [`super::conv2d`]: `dw[o,k] = Σ_pixels dy[o,pixel] · column[k,pixel]`.
pub(super) fn weight_grad<T: Real>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let groups = g.batch.div_ceil(g.group());
    let images = groups.div_ceil(PIECES) * g.group();
    let pieces: Vec<Vec<T>> = x
        .par_chunks(images * g.x_len())
        .zip(dy.par_chunks(images * g.y_len()))
        .map(|(x, dy)| weight_grad_piece(g, x, dy))
        .collect();
    let mut pieces = pieces.into_iter();
    let mut sum = pieces.next().unwrap_or_default();
    for piece in pieces {
        sum.iter_mut().zip(piece).for_each(|(total, part)| *total += part);
    }
    sum
}

fn weight_grad_piece<T: Real>(g: &Geometry, x: &[T], dy: &[T]) -> Vec<T> {
    let mut dw = vec![T::zero(); g.c_out * g.taps()];
    let mut scratch = Scratch::new();
    let group = g.group();
    for (x, dy) in x.chunks(group * g.x_len()).zip(dy.chunks(group * g.y_len())) {
        for band in g.bands(dy.len() / g.y_len()) {
            weight_grad_band(g, band, x, dy, &mut dw, &mut scratch);
        }
    }
    dw
}

fn weight_grad_band<T: Real>(
    g: &Geometry,
    band: Band,
    x: &[T],
    dy: &[T],
    dw: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let (pixels, taps) = (g.band_pixels(band), g.taps());
    scratch.resize(taps * pixels, g.c_out * pixels);
    let columns = &mut scratch.columns[..taps * pixels];
    im2col(g, band, x, &mut scratch.window, columns);
    let columns = View::new(columns, taps, pixels).transposed();
    let outputs = gather(g, band, dy, &mut scratch.outputs);
    product(dw, taps, outputs, columns, true);
}

/// The band's output gradient as a (channels × pixels) matrix: in place for one image, gathered for several.
fn gather<'a, T: Real>(g: &Geometry, band: Band, dy: &'a [T], buffer: &'a mut [T]) -> View<'a, T> {
    let pixels = g.band_pixels(band);
    if band.images == 1 {
        let data = &dy[band.row * g.out_w()..];
        return View { data, rows: g.c_out, columns: pixels, row_stride: g.pixels(), column_stride: 1 };
    }
    let length = pixels / band.images;
    for (index, row) in buffer[..g.c_out * pixels].chunks_exact_mut(length).enumerate() {
        let start = index % band.images * g.y_len() + index / band.images * length;
        row.copy_from_slice(&dy[start..start + length]);
    }
    View::new(&buffer[..g.c_out * pixels], g.c_out, pixels)
}

/// dx of [`super::conv2d`]: `dcolumn = wᵀ · dy`, added back to where im2col read.
pub(super) fn input_grad<T: Real>(g: &Geometry, dy: &[T], w: &[T]) -> Vec<T> {
    let mut dx = vec![T::zero(); g.batch * g.x_len()];
    let group = g.group();
    dx.par_chunks_mut(group * g.x_len()).zip(dy.par_chunks(group * g.y_len())).for_each_init(
        Scratch::new,
        |scratch, (dx, dy)| {
            for band in g.bands(dy.len() / g.y_len()) {
                input_grad_band(g, band, dy, w, dx, scratch);
            }
        },
    );
    dx
}

fn input_grad_band<T: Real>(
    g: &Geometry,
    band: Band,
    dy: &[T],
    w: &[T],
    dx: &mut [T],
    scratch: &mut Scratch<T>,
) {
    let (pixels, taps) = (g.band_pixels(band), g.taps());
    let weights = View::new(w, g.c_out, taps).transposed();
    scratch.resize(taps * pixels, g.c_out * pixels);
    let Scratch { window, columns, outputs } = scratch;
    let outputs = gather(g, band, dy, outputs);
    if g.pointwise() && band.images == 1 {
        return shared_product(g, (dx, g.pixels(), band.row * g.out_w()), weights, outputs);
    }
    let columns = &mut columns[..taps * pixels];
    shared_product(g, (columns, pixels, 0), weights, outputs);
    col2im(g, band, columns, window, dx);
}

/// The input rows that a band reads, zero-padded on all sides: (images, C, rows, W + 2p). Cut out once, so that the C·U·V rows of
/// the im2col matrix are then read without a branch.
struct Window {
    /// First row, counted in the padded image.
    top: usize,
    rows: usize,
    width: usize,
}

impl Window {
    fn new(g: &Geometry, band: Band) -> Self {
        let rows = (band.rows - 1) * g.stride + g.kh;
        Self { top: band.row * g.stride, rows, width: g.w + 2 * g.padding }
    }

    fn len(&self, g: &Geometry, band: Band) -> usize {
        band.images * g.c_in * self.rows * self.width
    }

    /// Visits the rows of the window that lie in the image: start in the window's buffer and in the group's images. Each
    /// holds W elements.
    fn for_each_row(&self, g: &Geometry, band: Band, mut visit: impl FnMut(usize, usize)) {
        let first = g.padding.max(self.top);
        let last = (g.h + g.padding).min(self.top + self.rows);
        for plane in 0..band.images * g.c_in {
            for row in first..last {
                let inner = (plane * self.rows + row - self.top) * self.width + g.padding;
                visit(inner, (plane * g.h + row - g.padding) * g.w);
            }
        }
    }

    /// Start in the window's buffer of what output row `line` of `image` reads through tap (c·U + u)·V + v.
    fn source(&self, g: &Geometry, tap: usize, image: usize, line: usize) -> usize {
        let (v, u, c) = (tap % g.kw, tap / g.kw % g.kh, tap / g.kw / g.kh);
        ((image * g.c_in + c) * self.rows + line * g.stride + u) * self.width + v
    }
}

/// Writes the band's im2col matrix: row (c,u,v), one column an output pixel, images outermost.
fn im2col<T: Real>(g: &Geometry, band: Band, x: &[T], window: &mut Vec<T>, columns: &mut [T]) {
    let frame = Window::new(g, band);
    window.clear();
    window.resize(frame.len(g, band), T::zero());
    frame.for_each_row(g, band, |inner, outer| {
        window[inner..inner + g.w].copy_from_slice(&x[outer..outer + g.w])
    });
    let (window, pixels) = (&*window, g.band_pixels(band));
    let rows = rows_for(pixels, PIECE);
    each(columns, rows * pixels, |piece, columns| {
        for_each_line(g, band, piece * rows, columns.len() / pixels, |tap, image, line, start| {
            let source = frame.source(g, tap, image, line);
            copy_line(&mut columns[start..start + g.out_w()], &window[source..], g.stride);
        });
    });
}

/// The transpose of [`im2col`]: adds every element of the matrix to the pixel it was read from.
fn col2im<T: Real>(g: &Geometry, band: Band, columns: &[T], window: &mut Vec<T>, dx: &mut [T]) {
    let frame = Window::new(g, band);
    window.clear();
    window.resize(frame.len(g, band), T::zero());
    for_each_line(g, band, 0, g.taps(), |tap, image, line, start| {
        let source = frame.source(g, tap, image, line);
        add_line(&mut window[source..], &columns[start..start + g.out_w()], g.stride);
    });
    frame.for_each_row(g, band, |inner, outer| add_line(&mut dx[outer..], &window[inner..inner + g.w], 1));
}

/// Visits the output rows of `taps` taps from `first` on: (tap, image, row, start in these rows of the im2col matrix).
fn for_each_line(
    g: &Geometry,
    band: Band,
    first: usize,
    taps: usize,
    mut visit: impl FnMut(usize, usize, usize, usize),
) {
    let mut start = 0;
    for tap in first..first + taps {
        for image in 0..band.images {
            for line in 0..band.rows {
                visit(tap, image, line, start);
                start += g.out_w();
            }
        }
    }
}

/// Every `stride`-th element of `source`. Short rows are the common case, and a call to `memcpy` costs more than they do: the
/// usual widths are copied inline.
#[inline(always)]
fn copy_line<T: Real>(target: &mut [T], source: &[T], stride: usize) {
    fn inline<T: Real, const N: usize>(target: &mut [T], source: &[T]) {
        if let (Some(target), Some(source)) = (target.first_chunk_mut::<N>(), source.first_chunk::<N>()) {
            *target = *source;
        }
    }
    match (stride, target.len()) {
        (1, 4) => inline::<T, 4>(target, source),
        (1, 8) => inline::<T, 8>(target, source),
        (1, 16) => inline::<T, 16>(target, source),
        (1, 32) => inline::<T, 32>(target, source),
        (1, length) => target.copy_from_slice(&source[..length]),
        _ => target.iter_mut().zip(source.iter().step_by(stride)).for_each(|(t, s)| *t = *s),
    }
}

/// Adds `values` to every `stride`-th element of `target`.
#[inline(always)]
fn add_line<T: Real>(target: &mut [T], values: &[T], stride: usize) {
    if stride == 1 {
        target[..values.len()].iter_mut().zip(values).for_each(|(t, v)| *t += *v);
    } else {
        target.iter_mut().step_by(stride).zip(values).for_each(|(t, v)| *t += *v);
    }
}

/// The definition, in the reader's order: what every other path is tested against. Returns (y, dx, dw) for a given dy.
#[cfg(test)]
pub(super) fn reference(g: &Geometry, x: &[f64], w: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
    let (mut y, mut dx, mut dw) = (vec![0.0; dy.len()], vec![0.0; x.len()], vec![0.0; w.len()]);
    for n in 0..g.batch {
        for o in 0..g.c_out {
            for i in 0..g.out_h() {
                for j in 0..g.out_w() {
                    let at_y = ((n * g.c_out + o) * g.out_h() + i) * g.out_w() + j;
                    for tap in 0..g.taps() {
                        let (v, u, c) = (tap % g.kw, tap / g.kw % g.kh, tap / g.kw / g.kh);
                        let (row, column) = (i * g.stride + u, j * g.stride + v);
                        let inside = (g.padding..g.h + g.padding).contains(&row)
                            && (g.padding..g.w + g.padding).contains(&column);
                        if inside {
                            let at_x = ((n * g.c_in + c) * g.h + row - g.padding) * g.w + column - g.padding;
                            let at_w = o * g.taps() + tap;
                            y[at_y] += w[at_w] * x[at_x];
                            dx[at_x] += w[at_w] * dy[at_y];
                            dw[at_w] += x[at_x] * dy[at_y];
                        }
                    }
                }
            }
        }
    }
    (y, dx, dw)
}
