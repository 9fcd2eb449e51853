//! Few images for many threads: the threads share each band, every one making some of the channels.
//!
//! A product's bits do not hang on how its rows are shared out, so this gives the same numbers as a thread an image.

use rayon::prelude::*;

use super::{Band, Geometry, Scratch, add_bias, col2im, gather, im2col, scatter};
use crate::ops::Real;
use crate::ops::matmul::{View, product};

/// Parts that the channels of a band are cut into.
const PARTS: usize = 8;
/// The fewest rows of a product that pay for packing its other operand once more.
const ROWS: usize = 32;

/// Whether there are fewer groups of images than threads.
pub(super) fn pays(g: &Geometry) -> bool {
    g.batch.div_ceil(g.group()) < rayon::current_num_threads()
}

fn part(rows: usize) -> usize {
    rows.div_ceil(PARTS).max(ROWS)
}

/// y, which holds zeros.
pub(super) fn forward<T: Real>(g: &Geometry, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    let mut scratch = Scratch::new();
    let group = g.group();
    for (y, x) in y.chunks_mut(group * g.y_len()).zip(x.chunks(group * g.x_len())) {
        for band in g.bands(y.len() / g.y_len()) {
            forward_band(g, band, x, w, y, &mut scratch);
        }
        add_bias(g, bias, y);
    }
}

fn forward_band<T: Real>(g: &Geometry, band: Band, x: &[T], w: &[T], y: &mut [T], scratch: &mut Scratch<T>) {
    let (pixels, taps, start) = (g.band_pixels(band), g.taps(), band.row * g.out_w());
    let count = part(g.c_out);
    scratch.resize(taps * pixels, g.c_out * pixels);
    let Scratch { window, columns, outputs } = scratch;
    let columns = if g.pointwise() && band.images == 1 {
        View { data: &x[start..], rows: taps, columns: pixels, row_stride: g.pixels(), column_stride: 1 }
    } else {
        let columns = &mut columns[..taps * pixels];
        shared_im2col(g, band, x, window, columns);
        View::new(columns, taps, pixels)
    };
    let weights = |w| View::new(w, <[T]>::len(w) / taps, taps);
    if band.images == 1 {
        let parts = y.par_chunks_mut(count * g.pixels()).zip(w.par_chunks(count * taps));
        return parts.for_each(|(y, w)| product(&mut y[start..], g.pixels(), weights(w), columns, false));
    }
    let outputs = &mut outputs[..g.c_out * pixels];
    let parts = outputs.par_chunks_mut(count * pixels).zip(w.par_chunks(count * taps));
    parts.for_each(|(outputs, w)| product(outputs, pixels, weights(w), columns, false));
    scatter(g, band, outputs, y);
}

/// [`im2col`], the channels of one image shared out; those of several images lie apart.
fn shared_im2col<T: Real>(g: &Geometry, band: Band, x: &[T], window: &mut Vec<T>, columns: &mut [T]) {
    if band.images > 1 {
        return im2col(g, band, x, window, columns);
    }
    let channels = g.c_in.div_ceil(PARTS);
    let rows = channels * g.kh * g.kw * g.band_pixels(band);
    let parts = columns.par_chunks_mut(rows).zip(x.par_chunks(channels * g.h * g.w));
    parts.for_each(|(columns, x)| {
        let some = Geometry { c_in: x.len() / (g.h * g.w), ..*g };
        im2col(&some, band, x, &mut Vec::new(), columns);
    });
}

/// dx, which holds zeros.
pub(super) fn input_grad<T: Real>(g: &Geometry, dy: &[T], w: &[T], dx: &mut [T]) {
    let mut scratch = Scratch::new();
    let group = g.group();
    for (dx, dy) in dx.chunks_mut(group * g.x_len()).zip(dy.chunks(group * g.y_len())) {
        for band in g.bands(dy.len() / g.y_len()) {
            input_grad_band(g, band, dy, w, dx, &mut scratch);
        }
    }
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
    scratch.resize(taps * pixels, g.c_out * pixels);
    let Scratch { window, columns, outputs } = scratch;
    let outputs = gather(g, band, dy, outputs);
    let count = part(taps);
    // Rows of wᵀ from the part's first tap on.
    let weights = |index: usize, rows: usize| {
        let first = index * count;
        View { data: &w[first..], rows, columns: g.c_out, row_stride: 1, column_stride: taps }
    };
    if g.pointwise() && band.images == 1 {
        let start = band.row * g.out_w();
        return dx.par_chunks_mut(count * g.pixels()).enumerate().for_each(|(index, dx)| {
            let rows = dx.len() / g.pixels();
            product(&mut dx[start..], g.pixels(), weights(index, rows), outputs, false);
        });
    }
    let columns = &mut columns[..taps * pixels];
    columns.par_chunks_mut(count * pixels).enumerate().for_each(|(index, columns)| {
        product(columns, pixels, weights(index, columns.len() / pixels), outputs, false);
    });
    col2im(g, band, columns, window, dx);
}
