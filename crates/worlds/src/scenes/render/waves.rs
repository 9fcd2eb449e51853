//! Periodic functions, soft steps and value noise.

use sd_core::rng::philox4x32;

/// Points of the noise's lattice along a side; it repeats after them.
const LATTICE: usize = 16;

/// Distance of `value` from the whole number below it, in [0, 1).
pub(super) fn fraction(value: f32) -> f32 {
    value - value.floor()
}

/// Distance to the nearest whole number, in [−0.5, 0.5).
pub(super) fn from_nearest(value: f32) -> f32 {
    value - (value + 0.5).floor()
}

/// A sine's look-alike made of parabolas, with period 1: from −1 to 1.
pub(super) fn wave(turns: f32) -> f32 {
    let x = from_nearest(turns);
    8.0 * x * (1.0 - 2.0 * x.abs())
}

/// 0 below −half, 1 above half, and a straight rise between.
pub(super) fn rise(value: f32, half: f32) -> f32 {
    (0.5 + 0.5 * value / half).clamp(0.0, 1.0)
}

/// A step with smooth ends: of `t` in [0, 1].
pub(super) fn smooth(t: f32) -> f32 {
    t * t * (3.0 - 2.0 * t)
}

/// Smooth noise: random values at whole numbers, blended in between.
pub(super) struct Noise {
    values: Vec<f32>,
}

impl Noise {
    /// The noise of a seed.
    pub(super) fn new(seed: u64) -> Self {
        let key = [seed as u32, (seed >> 32) as u32];
        let four = |k: usize| philox4x32([k as u32, 0, 0, 0x7363_656e], key);
        let values = (0..LATTICE * LATTICE / 4).flat_map(four);
        Self { values: values.map(|bits| (bits >> 8) as f32 / 16_777_216.0).collect() }
    }

    /// Value at a point, in [0, 1]; the cells are one by one.
    pub(super) fn at(&self, x: f32, y: f32) -> f32 {
        let (column, row) = (x.floor(), y.floor());
        let (u, v) = (smooth(x - column), smooth(y - row));
        let line = |row: f32| {
            let (left, right) = (self.corner(column, row), self.corner(column + 1.0, row));
            left + (right - left) * u
        };
        let above = line(row);
        above + (line(row + 1.0) - above) * v
    }

    /// Value at whole numbers.
    pub(super) fn corner(&self, column: f32, row: f32) -> f32 {
        let wrap = |whole: f32| whole as i64 as usize % LATTICE;
        self.values[wrap(row) * LATTICE + wrap(column)]
    }
}
