//! The part of one channel that a block of tiles reads, copied out with its zero border.

use std::ops::Range;

use super::super::super::scratch::Scratch;
use super::super::super::simd::on_sixteen;
use super::super::super::tile::LANES;
use super::transform::{IN, OUT};
use super::{PANEL, Spec};

/// What a tile reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// 6×6 inputs; neighbours share two rows and two columns.
    Data,
    /// 4×4 output gradients; neighbours share nothing.
    Gradient,
}

/// Rows of an image and where they go.
struct Row {
    image: usize,
    /// First element inside the plane.
    from: usize,
    to: usize,
}

/// See the module.
pub(super) struct Window {
    /// What its tiles read.
    pub(super) reach: Reach,
    /// Elements from one row of the window to the next.
    pub(super) stride: usize,
    /// Where each tile's patch begins; tiles are filled up to whole panels with patches of zeros.
    pub(super) offsets: Vec<u32>,
    rows: Vec<Row>,
    width: usize,
    length: usize,
}

impl Window {
    pub(super) fn new(spec: &Spec, block: Range<usize>, reach: Reach) -> Self {
        let (down, across) = spec.grid();
        let (height, width, border, side) = match reach {
            Reach::Data => (spec.h, spec.w, spec.padding, IN),
            Reach::Gradient => (spec.out_h(), spec.out_w(), 0, OUT),
        };
        // Six columns are read as eight.
        let stride = OUT * across + 2 * (side - OUT);
        let (mut rows, mut offsets, mut next) = (Vec::new(), Vec::new(), 0);
        for line in block.start / across..block.end.div_ceil(across) {
            let (image, i) = (line / down, line % down);
            let continues = i > 0 && line > block.start / across;
            // The tile row above in the same image has copied the rows that the two share.
            let (band, shared) = if continues { (next - (side - OUT), side - OUT) } else { (next, 0) };
            rows.extend((shared..side).filter_map(|k| {
                let row = (OUT * i + k).checked_sub(border).filter(|row| *row < height)?;
                Some(Row { image, from: row * width, to: (band + k) * stride + border })
            }));
            next = band + side;
            let tiles = line * across..(line + 1) * across;
            let inside = tiles.start.max(block.start)..tiles.end.min(block.end);
            offsets.extend(inside.map(|tile| (band * stride + OUT * (tile - tiles.start)) as u32));
        }
        let zeros = next * stride;
        offsets.resize(offsets.len().next_multiple_of(PANEL), zeros as u32);
        Self { reach, stride, offsets, rows, width, length: zeros + side * stride + 8 }
    }

    /// A window of zeros.
    pub(super) fn buffer(&self) -> Scratch {
        let buffer = Scratch::new(self.length);
        // SAFETY: `length` numbers of the buffer's own memory.
        unsafe { std::ptr::write_bytes(buffer.start(), 0, self.length) };
        buffer
    }

    /// Where the planes of one channel begin in every image that the window reads, `plane` telling it of an image.
    pub(super) fn planes(&self, plane: impl Fn(usize) -> usize) -> Vec<usize> {
        self.rows.iter().map(|row| plane(row.image)).collect()
    }

    /// Copies one channel into what [`Self::buffer`] gave; `planes` are those of [`Self::planes`]. The border is zero and stays so.
    pub(super) fn fill(&self, buffer: &Scratch, x: &[f32], planes: &[usize]) {
        // SAFETY: `Spec::new` saw AVX2 at least, and the rows of a window lie inside its length, which is the buffer's.
        unsafe { fill(self, buffer.start(), x, planes) };
    }
}

on_sixteen! {
    /// [`Window::fill`]. Short rows are the common case, and a call to `memcpy` costs more than they do: whole registers, then a part of one.
    ///
    /// # Safety
    /// The machine has AVX2; the buffer is one of the window's.
    unsafe fn fill<V>(window: &Window, buffer: *mut f32, x: &[f32], planes: &[usize]) {
        for (row, plane) in window.rows.iter().zip(planes) {
            let from = &x[plane + row.from..][..window.width];
            let (whole, rest) = from.as_chunks::<LANES>();
            // SAFETY: a row of the window, read from `width` numbers of `x`.
            unsafe {
                let to = buffer.add(row.to);
                for (i, lanes) in whole.iter().enumerate() {
                    V::read(lanes.as_ptr()).write(to.add(i * LANES));
                }
                V::read_first(rest.as_ptr(), rest.len()).write_first(to.add(whole.len() * LANES), rest.len());
            }
        }
    }
}
