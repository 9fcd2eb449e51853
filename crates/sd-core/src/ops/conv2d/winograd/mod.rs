//! 3×3 convolution of stride 1 by Winograd's minimal filtering F(4×4, 3×3): 36 products for 16 outputs instead of 144.
//!
//! The image is cut into tiles of 4×4 outputs. Each transformed tile is 36 numbers, and point (i, j) of all tiles and channels
//! together is an ordinary matrix product over channels (Lavin and Gray 2016, algorithm 1). All three passes of training are of this form:
//! the input gradient is the convolution of `dy` with the turned kernel, and the weight gradient sums the products of transformed tiles
//! over tiles.
//!
//! Tiles lie along the lanes of a register; 32 of them make a panel. A block of panels is transformed, multiplied and transformed
//! back before the next one begins, so that scratch memory has a bound whatever the batch.

mod transform;
mod weight;
mod window;

use std::arch::x86_64::{__m128, _mm_storeu_ps};
use std::ops::Range;

use rayon::prelude::*;

use super::super::scratch::Scratch;
use super::super::simd::{Sixteen, on_sixteen};
use super::super::tile::{self, Depth, LANES, MAX_ROWS, Rows, Shared, even_pieces};
use super::Geometry;
use transform::{OUT, POINTS};
pub(super) use weight::weight_grad;
use window::{Reach, Window};

/// Tiles of a panel: two registers.
const PANEL: usize = 2 * LANES;
/// Bytes that the transformed input of a block may take.
const DATA_BYTES: usize = 12 << 20;
/// Bytes that transformed weights may take at a time.
const WEIGHT_BYTES: usize = 16 << 20;
/// Products of one panel of outputs and one of tiles: (36, 14, 32).
const PRODUCTS: usize = POINTS * MAX_ROWS * PANEL;
/// Tiles of an image, and elements of the weights, up to and from which the direct way is faster.
const FEW_TILES: usize = 4;
const LARGE_WEIGHTS: usize = 512 * 512;
/// Panels of outputs and panels of tiles that one piece of work multiplies, so that both stay in the second-level cache.
const GROUP: (usize, usize) = (4, 3);

/// A 3×3 convolution of stride 1.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spec {
    batch: usize,
    c_in: usize,
    h: usize,
    w: usize,
    c_out: usize,
    padding: usize,
}

impl Spec {
    /// The convolution that `g` asks for, where this machine can do it this way and it pays.
    pub(super) fn new(g: &Geometry) -> Option<Self> {
        let fits = (g.kh, g.kw, g.stride) == (3, 3, 1) && g.padding <= 2 && tile::available();
        let spec = Self { batch: g.batch, c_in: g.c_in, h: g.h, w: g.w, c_out: g.c_out, padding: g.padding };
        (fits && spec.pays()).then_some(spec)
    }

    /// The convolution of `dy` that gives `dx`, where it pays.
    pub(super) fn of_input_grad(self) -> Option<Self> {
        let (h, w) = (self.out_h(), self.out_w());
        let turned = Self { c_in: self.c_out, c_out: self.c_in, h, w, padding: 2 - self.padding, ..self };
        turned.pays().then_some(turned)
    }

    /// Tiles that stick out of the image are computed in full: with many of them the direct way has less to do. And the weights are
    /// four times as large transformed: where they are large and an image has a few tiles only, moving them takes longer than
    /// the direct way computes. (By one image, not by the batch: a row's bits must not hang on its batch.)
    fn pays(&self) -> bool {
        let (down, across) = self.grid();
        let few = down * across <= FEW_TILES && self.c_in * self.c_out >= LARGE_WEIGHTS;
        POINTS * down * across <= 6 * self.pixels() && !few
    }

    fn out_h(&self) -> usize {
        self.h + 2 * self.padding - 2
    }

    fn out_w(&self) -> usize {
        self.w + 2 * self.padding - 2
    }

    fn pixels(&self) -> usize {
        self.out_h() * self.out_w()
    }

    /// Tiles of one image, down and across.
    fn grid(&self) -> (usize, usize) {
        (self.out_h().div_ceil(OUT), self.out_w().div_ceil(OUT))
    }

    fn tiles(&self) -> usize {
        self.batch * self.grid().0 * self.grid().1
    }

    /// Tiles in blocks of whole panels whose transformed numbers, `channels` a tile, stay below [`DATA_BYTES`].
    fn blocks(&self, channels: usize) -> impl Iterator<Item = Range<usize>> + Clone + use<> {
        let tiles = self.tiles();
        let most = (DATA_BYTES / (POINTS * channels * size_of::<f32>()) / PANEL).max(2);
        let panels = tiles.div_ceil(PANEL);
        even_pieces(panels, most).map(move |p| p.start * PANEL..(p.end * PANEL).min(tiles))
    }
}

/// Kernels (outputs, inputs, 3, 3) read in either direction.
#[derive(Clone, Copy)]
pub(super) struct Kernels<'a> {
    data: &'a [f32],
    out_stride: usize,
    in_stride: usize,
    turned: bool,
}

impl<'a> Kernels<'a> {
    /// As they are stored.
    pub(super) fn forward(g: &Geometry, data: &'a [f32]) -> Self {
        Self { data, out_stride: 9 * g.c_in, in_stride: 9, turned: false }
    }

    /// Outputs and inputs exchanged and every kernel turned by half a circle.
    pub(super) fn backward(g: &Geometry, data: &'a [f32]) -> Self {
        Self { data, out_stride: 9, in_stride: 9 * g.c_in, turned: true }
    }
}

/// `y` of the convolution of `x` with `kernels`, plus `bias` where given, one number an output channel.
pub(super) fn convolve(spec: &Spec, x: &[f32], kernels: Kernels<'_>, bias: Option<&[f32]>, y: &mut [f32]) {
    assert_eq!(x.len(), spec.batch * spec.c_in * spec.h * spec.w, "x does not fit the convolution");
    assert_eq!(y.len(), spec.batch * spec.c_out * spec.pixels(), "y does not fit the convolution");
    assert_eq!(kernels.data.len(), 9 * spec.c_in * spec.c_out, "the kernels do not fit the convolution");
    assert!(bias.is_none_or(|bias| bias.len() == spec.c_out), "the bias does not fit the convolution");
    let outputs = (WEIGHT_BYTES / (POINTS * spec.c_in * size_of::<f32>())).max(MAX_ROWS);
    let most = spec.blocks(spec.c_in).map(|block| block.len().next_multiple_of(PANEL)).max().unwrap_or(0);
    let data = Scratch::new(POINTS * spec.c_in * most);
    let weights = Scratch::new(POINTS * spec.c_in * outputs.min(spec.c_out));
    let once = spec.blocks(spec.c_in).count() == 1;
    for chunk in even_pieces(spec.c_out, outputs) {
        let panels: Vec<_> =
            even_pieces(chunk.len(), MAX_ROWS).map(|p| chunk.start + p.start..chunk.start + p.end).collect();
        transform_weights(spec, kernels, &panels, &weights);
        for block in spec.blocks(spec.c_in) {
            if !once || chunk.start == 0 {
                transform_data(spec, x, block.clone(), &data);
            }
            multiply(spec, &panels, &weights, block, &data, bias, Shared(y.as_mut_ptr()));
        }
    }
}

/// Transformed kernels: for every panel of outputs (36, inputs, outputs of the panel).
fn transform_weights(spec: &Spec, kernels: Kernels<'_>, panels: &[Range<usize>], weights: &Scratch) {
    let (Some(first), Some(last)) = (panels.first(), panels.last()) else { return };
    assert!(weights.len() >= (last.end - first.start) * POINTS * spec.c_in, "no room for the weights");
    let all = Shared(weights.start());
    panels.par_iter().for_each(|panel| {
        // SAFETY: `Spec::new` saw AVX2 at least. Panel o..o' writes elements 36·C·(o − first) .. 36·C·(o' − first), its own.
        unsafe {
            let out = all.at((panel.start - first.start) * POINTS * spec.c_in);
            transform_weight_panel(spec, kernels, panel.clone(), out);
        }
    });
}

on_sixteen! {
    /// # Safety
    /// The machine has AVX2; `out` has room for 36 · inputs · outputs of the panel.
    unsafe fn transform_weight_panel<V>(spec: &Spec, kernels: Kernels<'_>, panel: Range<usize>, out: *mut f32) {
        let rows = panel.len();
        let lanes = std::array::from_fn::<i32, LANES, _>(|lane| (lane.min(rows - 1) * kernels.out_stride) as i32);
        for c in 0..spec.c_in {
            let start = panel.start * kernels.out_stride + c * kernels.in_stride;
            let mut taps = [V::splat(0.0); 9];
            for (k, taps) in taps.iter_mut().enumerate() {
                let tap = if kernels.turned { 8 - k } else { k };
                // SAFETY: output < outputs, c < inputs, tap < 9: within the kernels, whose length `convolve` checked.
                *taps = unsafe { V::gather(kernels.data.as_ptr().add(start + tap), &lanes) };
            }
            for (point, value) in transform::weight(taps).into_iter().enumerate() {
                // SAFETY: `rows` numbers, at most fourteen, at (point, c) of the panel's room.
                unsafe { value.write_first(out.add((point * spec.c_in + c) * rows), rows) };
            }
        }
    }
}

/// Transformed tiles of a block: (36, panels, inputs, 32).
fn transform_data(spec: &Spec, x: &[f32], block: Range<usize>, data: &Scratch) {
    let window = Window::new(spec, block, Reach::Data);
    let panels = window.offsets.len() / PANEL;
    assert!(data.len() >= POINTS * panels * spec.c_in * PANEL, "no room for the data");
    let out = Shared(data.start());
    let plane = spec.h * spec.w;
    (0..spec.c_in).into_par_iter().for_each_init(
        || window.buffer(),
        |buffer, c| {
            let planes = window.planes(|image| (image * spec.c_in + c) * plane);
            // SAFETY: `Spec::new` saw AVX2 at least; the panels of channel c are written here alone.
            unsafe {
                let out = out.at(c * PANEL);
                window.fill(buffer, x, &planes);
                transform_window(&window, buffer, spec.c_in * PANEL, out, panels * spec.c_in * PANEL);
            }
        },
    );
}

on_sixteen! {
    /// Transformed tiles of one channel, whichever the window is of: panel p at `out[p · panel ..]`, the points of a panel `step` apart.
    ///
    /// # Safety
    /// The machine has AVX2; the window was filled; `out` may be written as said.
    unsafe fn transform_window<V>(window: &Window, buffer: &Scratch, panel: usize, out: *mut f32, step: usize) {
        for (group, offsets) in window.offsets.as_chunks::<LANES>().0.iter().enumerate() {
            // SAFETY: the window holds every patch that `offsets` names; the caller's promise for `out`.
            unsafe {
                let out = out.add(group / 2 * panel + group % 2 * LANES);
                match window.reach {
                    Reach::Data => transform::data::<V>(buffer.start(), offsets, window.stride, out, step),
                    Reach::Gradient => {
                        transform::gradient::<V>(buffer.start(), offsets, window.stride, out, step);
                    }
                }
            }
        }
    }
}

/// Where a tile's outputs lie in one channel of `y`, and how many of its rows and columns are inside the image.
#[derive(Clone, Copy)]
struct Place {
    start: usize,
    rows: usize,
    columns: usize,
}

fn place(spec: &Spec, tile: usize) -> Place {
    let (down, across) = spec.grid();
    let (image, i, j) = (tile / (down * across), tile / across % down * OUT, tile % across * OUT);
    Place {
        start: image * spec.c_out * spec.pixels() + i * spec.out_w() + j,
        rows: OUT.min(spec.out_h() - i),
        columns: OUT.min(spec.out_w() - j),
    }
}

/// Multiplies the panels of outputs with the panels of tiles of a block and writes what comes out to `y`.
fn multiply(
    spec: &Spec,
    outputs: &[Range<usize>],
    weights: &Scratch,
    block: Range<usize>,
    data: &Scratch,
    bias: Option<&[f32]>,
    y: Shared,
) {
    let panels = block.len().div_ceil(PANEL);
    let places: Vec<Place> = block.map(|tile| place(spec, tile)).collect();
    let tile_groups: Vec<_> = even_pieces(panels, GROUP.1).collect();
    let groups: Vec<_> = outputs
        .chunks(GROUP.0)
        .flat_map(|outputs| tile_groups.iter().map(move |tiles| (outputs, tiles.clone())))
        .collect();
    let first = outputs.first().map_or(0, |panel| panel.start);
    groups.par_iter().for_each_init(
        || Scratch::new(GROUP.0 * GROUP.1 * PRODUCTS),
        |products, (outputs, tiles)| {
            let operands = Operands { spec, weights, first, data, panels };
            // SAFETY: `Spec::new` saw AVX2 at least; `products` has room for a group; every group writes its own outputs of its own tiles.
            unsafe {
                operands.products(outputs, tiles.clone(), products.start());
                for (o, output) in outputs.iter().enumerate() {
                    for (t, panel) in tiles.clone().enumerate() {
                        let products = products.start().add((o * GROUP.1 + t) * PRODUCTS);
                        let places = &places[panel * PANEL..places.len().min((panel + 1) * PANEL)];
                        store(spec, output.clone(), products, places, bias, y);
                    }
                }
            }
        },
    );
}

struct Operands<'a> {
    spec: &'a Spec,
    weights: &'a Scratch,
    /// The first output that `weights` holds.
    first: usize,
    data: &'a Scratch,
    /// Panels of tiles in `data`.
    panels: usize,
}

impl Operands<'_> {
    /// Products of a group: (panel of outputs, panel of tiles, 36, 14, 32).
    ///
    /// # Safety
    /// The machine has AVX2; `weights` and `data` hold the transforms of these panels; `products` has room for the group.
    unsafe fn products(&self, outputs: &[Range<usize>], tiles: Range<usize>, products: *mut f32) {
        let inputs = self.spec.c_in;
        for point in 0..POINTS {
            for (t, tile) in tiles.clone().enumerate() {
                for (o, output) in outputs.iter().enumerate() {
                    let rows = output.len();
                    let weights = ((output.start - self.first) * POINTS + point * rows) * inputs;
                    let data = (point * self.panels + tile) * inputs * PANEL;
                    let out = ((o * GROUP.1 + t) * POINTS + point) * MAX_ROWS * PANEL;
                    // SAFETY: A is `inputs` steps of `rows`, B of 32, C has 14 rows of 32, each inside its buffer.
                    unsafe {
                        let (a, b) = (self.weights.start().add(weights), self.data.start().add(data));
                        let c = (products.add(out), PANEL);
                        tile::product::<2>(rows, Rows::Adjacent, Depth::flat(inputs), a, b, c, false);
                    }
                }
            }
        }
    }
}

on_sixteen! {
    /// Transforms the products (36, 14, 32) of one panel of outputs and one of tiles back and writes them to `y`.
    ///
    /// # Safety
    /// The machine has AVX2; `products` may be read; nobody else writes these outputs of these tiles.
    unsafe fn store<V>(
        spec: &Spec,
        outputs: Range<usize>,
        products: *const f32,
        places: &[Place],
        bias: Option<&[f32]>,
        y: Shared,
    ) {
        for (row, output) in outputs.enumerate() {
            let bias = V::splat(bias.map_or(0.0, |bias| bias[output]));
            for (half, places) in places.chunks(LANES).enumerate() {
                // SAFETY: within the products; `y` is long enough for every place (`convolve`), and the caller promises that nobody else
                // writes there.
                unsafe {
                    let products = products.add(row * PANEL + half * LANES);
                    let rows = transform::output(products, MAX_ROWS * PANEL, bias);
                    store_tiles(rows, places, spec.out_w(), y.at(output * spec.pixels()));
                }
            }
        }
    }
}

/// Writes sixteen tiles: `rows[i][j]` holds row i of tiles j, 4 + j, 8 + j, 12 + j.
///
/// # Safety
/// The machine has the registers of `V`; `y` may be written at each place's rows and columns.
#[inline(always)]
unsafe fn store_tiles<V: Sixteen>(rows: [[V; OUT]; OUT], places: &[Place], width: usize, y: *mut f32) {
    let whole = places.len() == LANES && places.iter().all(|place| place.rows == OUT && place.columns == OUT);
    for (i, row) in rows.into_iter().enumerate() {
        for (j, quarters) in row.into_iter().enumerate() {
            for (q, quarter) in quarters.quarters().into_iter().enumerate() {
                let tile = OUT * q + j;
                // SAFETY: row i of a whole tile, or no more of it than is inside.
                unsafe {
                    if whole {
                        _mm_storeu_ps(y.add(places[tile].start + i * width), quarter);
                    } else if let Some(place) = places.get(tile).filter(|place| i < place.rows) {
                        store_part(quarter, place.columns, y.add(place.start + i * width));
                    }
                }
            }
        }
    }
}

/// # Safety
/// `columns` ≤ 4 elements may be written at `to`.
#[inline(always)]
unsafe fn store_part(row: __m128, columns: usize, to: *mut f32) {
    let mut numbers = [0.0f32; OUT];
    // SAFETY: four numbers into an array of four; `columns` of them to where the caller lets us.
    unsafe {
        _mm_storeu_ps(numbers.as_mut_ptr(), row);
        for (j, number) in numbers.into_iter().take(columns).enumerate() {
            *to.add(j) = number;
        }
    }
}
