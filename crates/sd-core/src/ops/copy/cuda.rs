//! What making a strided view contiguous does on a CUDA device: one launch of `copy.cu`.

use candle_core::{Result, bail};

use crate::cuda::packs::{THREADS, kernels, long, threads};
use crate::cuda::{Arg, Element, Program, Source, blocks};

/// `copy.cu`.
pub static SOURCE: Source = Source {
    name: "copy",
    path: "crates/sd-core/src/ops/copy/copy.cu",
    text: include_str!("copy.cu"),
    kernels: kernels!["gather", "transpose"; "gather_u32", "gather_i64", "transpose_u32", "transpose_i64"],
    stack_limit: 0,
};

/// Axes that a kernel knows, and elements of a side of its tiles.
const AXES: usize = 6;
const TILE: usize = 32;

/// Sizes and strides, outermost first, in elements.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    axes: Vec<(usize, usize)>,
}

impl View {
    /// The same elements in the same order, with as few axes as that takes: without those of size 1, and with those joined of
    /// which one lies in the other.
    fn joined(sizes: &[usize], strides: &[usize]) -> Self {
        let mut axes: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in sizes.iter().zip(strides).filter(|(size, _)| **size != 1) {
            match axes.last_mut() {
                Some(outer) if outer.1 == stride * size => *outer = (outer.0 * size, stride),
                _ => axes.push((size, stride)),
            }
        }
        Self { axes }
    }

    /// Axis `index` from the end.
    fn last_but(&self, index: usize) -> (usize, usize) {
        self.axes.len().checked_sub(index + 1).map_or((1, 0), |at| self.axes[at])
    }

    fn count(&self) -> usize {
        self.axes.iter().map(|(size, _)| size).product()
    }

    /// One past the last element reached.
    fn reach(&self) -> usize {
        1 + self.axes.iter().map(|(size, stride)| (size - 1) * stride).sum::<usize>()
    }

    /// Whether the last axis jumps and the one before it does not, both long enough to fill tiles.
    fn crossed(&self) -> bool {
        let [last, before] = [0, 1].map(|index| self.last_but(index));
        last.1 != 1 && before.1 == 1 && last.0.min(before.0) >= TILE / 4
    }

    /// Whether every row begins on 16 bytes and is a multiple of them.
    fn in_packs(&self, width: usize) -> bool {
        let ((size, stride), outer) =
            (self.last_but(0), self.axes.split_last().map_or(&[][..], |(_, outer)| outer));
        stride == 1
            && size.is_multiple_of(width)
            && outer.iter().all(|(_, stride)| stride.is_multiple_of(width))
    }

    fn args(&self) -> Vec<Arg> {
        let padded: Vec<_> = (0..AXES).rev().map(|index| self.last_but(index)).collect();
        let sizes = padded.iter().map(|(size, _)| long(*size));
        sizes.chain(padded.iter().map(|(_, stride)| long(*stride))).collect()
    }

    fn tiles(&self) -> usize {
        let [across, down] = [0, 1].map(|index| self.last_but(index).0.div_ceil(TILE));
        let outer: usize = (2..AXES).map(|index| self.last_but(index).0).product();
        across * down * outer
    }
}

/// x → y: the elements of the view of `sizes` and `strides` (in elements, 0 for a broadcast axis) in row-major order. x begins at the
/// view's first element and ends with its last.
///
/// # Errors
/// Where the view is empty, or has more than six axes that cannot be joined.
pub fn strided(sizes: &[usize], strides: &[usize], element: Element) -> Result<Program> {
    let view = View::joined(sizes, strides);
    if sizes.len() != strides.len() || view.count() == 0 || view.axes.len() > AXES {
        bail!(
            "copy on CUDA: sizes {sizes:?} with strides {strides:?}; expected 1 to {AXES} axes, none empty"
        );
    }
    let mut program = Program::new("copy");
    let x = program.input(element, view.reach());
    let y = program.output(element, view.count());
    let mut args = view.args();
    args.extend([x, y].map(Arg::Buffer));
    if view.crossed() {
        let kernel = format!("transpose_{}", element.suffix());
        program.launch(&SOURCE, &kernel, blocks(view.tiles(), 1), [32, 8, 1], 0, args);
        return Ok(program);
    }
    let width = 16 / element.bytes();
    let items = if view.in_packs(width) { view.count() / width } else { view.count() };
    let kernel = format!("gather_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(items, THREADS), threads(THREADS), 0, args);
    Ok(program)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn axes(sizes: &[usize], strides: &[usize]) -> Vec<(usize, usize)> {
        View::joined(sizes, strides).axes
    }

    #[test]
    fn axes_that_lie_in_one_another_are_joined() {
        assert_eq!(axes(&[2, 3, 4], &[12, 4, 1]), [(24, 1)]);
        assert_eq!(axes(&[2, 1, 4], &[4, 77, 1]), [(8, 1)]);
        // Channels last: height and width are one axis of stride 1.
        assert_eq!(axes(&[2, 5, 7, 3], &[105, 7, 1, 35]), [(2, 105), (35, 1), (3, 35)]);
        assert_eq!(axes(&[6, 4], &[0, 0]), [(24, 0)]);
        assert_eq!(axes(&[1, 1], &[1, 1]), []);
    }

    #[test]
    fn the_kernel_fits_the_view() {
        let kernel = |sizes: &[usize], strides: &[usize]| {
            let program = strided(sizes, strides, Element::F32).unwrap();
            match &program.steps[..] {
                [crate::cuda::Step::Launch(launch)] => launch.kernel,
                steps => panic!("{steps:?}"),
            }
        };
        assert_eq!(kernel(&[40, 50], &[1, 40]), "transpose_f32");
        assert_eq!(kernel(&[40, 3], &[1, 40]), "gather_f32");
        assert_eq!(kernel(&[40, 50], &[64, 1]), "gather_f32");
        assert!(strided(&[0, 3], &[3, 1], Element::F32).is_err());
        assert!(strided(&[2; 7], &[1, 5, 50, 500, 5000, 50_000, 500_000], Element::F32).is_err());
    }
}
