//! The engine's operations: forward alone, and forward with the gradient of every operand.

use anyhow::{Context as _, Result, ensure};
use candle_core::{DType, Device, Error, Tensor, Var};
use cli::Implementation;
use sd_core::ops::{activation, attention, batch_norm, conv2d, group_norm, layer_norm, upsample};
use sd_core::rng::Rng;

use super::{Amount, Case, Work, candle};

type Function = fn(&[Tensor], Sizes) -> candle_core::Result<Tensor>;

/// The numbers of a case that are no shape: stride, padding, groups.
#[derive(Clone, Copy, Default)]
struct Sizes {
    stride: usize,
    padding: usize,
    groups: usize,
}

/// One function at one size.
#[derive(Clone)]
struct Op {
    name: String,
    /// Shapes of the operands, all of which are leaves.
    shapes: Vec<Vec<usize>>,
    /// Shapes of the check that precedes the timing.
    small: Vec<Vec<usize>>,
    sizes: Sizes,
    ours: Function,
    candle: Option<Function>,
    /// What a forward and what a forward with all gradients has to do.
    work: [Amount; 2],
}

/// Every op, in the order of the PyTorch program.
pub(super) fn all(implementation: Implementation) -> Vec<Case> {
    let ops =
        [convolutions(), group_norms(), layer_norms(), attentions(), geglus(), upsamplings(), batch_norms()];
    ops.into_iter().flatten().flat_map(|op| cases(op, implementation)).collect()
}

fn cases(op: Op, implementation: Implementation) -> Vec<Case> {
    let function = match implementation {
        Implementation::Ours => Some(op.ours),
        Implementation::Candle => op.candle,
    };
    let Some(function) = function else { return Vec::new() };
    let case = |pass: &str, work, train| {
        let op = op.clone();
        Case {
            name: format!("{}/{pass}", op.name),
            work,
            prepare: Box::new(move || prepare(&op, function, train)),
        }
    };
    vec![case("fwd", op.work[0], false), case("train", op.work[1], true)]
}

fn convolutions() -> Vec<Op> {
    // (batch, in, out, side, kernel, stride): a small UNet, ResNets on CIFAR, Stable Diffusion 1.x.
    const CASES: [[usize; 6]; 11] = [
        [64, 32, 32, 16, 3, 1],
        [64, 64, 64, 8, 3, 1],
        [64, 128, 128, 4, 3, 1],
        [128, 16, 16, 32, 3, 1],
        [128, 64, 64, 32, 3, 1],
        [128, 128, 128, 16, 3, 1],
        [128, 64, 128, 32, 3, 2],
        [2, 320, 320, 64, 3, 1],
        [2, 640, 640, 32, 3, 1],
        [2, 1280, 1280, 16, 3, 1],
        [2, 320, 320, 64, 1, 1],
    ];
    let op = |[b, i, o, s, k, stride]: [usize; 6]| {
        let flops = 2 * (b * i * o * k * k * (s / stride).pow(2)) as u64;
        Op {
            name: format!("conv2d/f32/b{b}i{i}o{o}s{s}k{k}t{stride}"),
            shapes: vec![vec![b, i, s, s], vec![o, i, k, k], vec![o]],
            small: vec![vec![2, 19, 9, 9], vec![17, 19, k, k], vec![17]],
            sizes: Sizes { stride, padding: k / 2, groups: 0 },
            ours: |x, s| conv2d::conv2d(&x[0], &x[1], Some(&x[2]), s.stride, s.padding),
            candle: Some(|x, s| candle::conv2d(x, s.stride, s.padding)),
            work: [Amount::Flops(flops), Amount::Flops(3 * flops)],
        }
    };
    CASES.into_iter().map(op).collect()
}

fn group_norms() -> Vec<Op> {
    let op = |[b, c, s, groups]: [usize; 4]| Op {
        name: format!("group_norm_silu/f32/b{b}c{c}s{s}g{groups}"),
        shapes: vec![vec![b, c, s, s], vec![c], vec![c]],
        small: vec![vec![2, 2 * groups, 5, 3], vec![2 * groups], vec![2 * groups]],
        sizes: Sizes { groups, ..Sizes::default() },
        ours: |x, s| group_norm::group_norm(&x[0], &x[1], &x[2], s.groups, 1e-5, true),
        candle: Some(|x, s| candle::group_norm_silu(x, s.groups)),
        work: passes(b * c * s * s, 2, 5),
    };
    [[64, 32, 16, 8], [64, 128, 4, 8], [2, 320, 64, 32], [2, 1280, 16, 32]].map(op).to_vec()
}

fn layer_norms() -> Vec<Op> {
    let op = |[b, t, d]: [usize; 3]| Op {
        name: format!("layer_norm/f32/b{b}t{t}d{d}"),
        shapes: vec![vec![b, t, d], vec![d], vec![d]],
        small: vec![vec![2, 7, 33], vec![33], vec![33]],
        sizes: Sizes::default(),
        ours: |x, _| layer_norm::layer_norm(&x[0], &x[1], &x[2], 1e-5),
        candle: Some(|x, _| candle::layer_norm(x)),
        work: passes(b * t * d, 2, 5),
    };
    [[64, 256, 32], [2, 4096, 320], [2, 77, 768]].map(op).to_vec()
}

fn attentions() -> Vec<Op> {
    const CASES: [[usize; 5]; 6] = [
        [64, 4, 256, 256, 8],
        [64, 4, 256, 20, 8],
        [2, 8, 4096, 4096, 40],
        [2, 8, 1024, 1024, 80],
        [2, 8, 4096, 77, 40],
        [2, 12, 77, 77, 64],
    ];
    let op = |[b, h, q, k, d]: [usize; 5]| {
        let flops = 4 * (b * h * q * k * d) as u64;
        Op {
            name: format!("attention/f32/b{b}h{h}q{q}k{k}d{d}"),
            shapes: vec![vec![b, h, q, d], vec![b, h, k, d], vec![b, h, k, d]],
            small: vec![vec![1, 2, 19, d], vec![1, 2, 37, d], vec![1, 2, 37, d]],
            sizes: Sizes::default(),
            ours: |x, _| attention::attention(&x[0], &x[1], &x[2], scale(x), false),
            candle: Some(|x, _| candle::attention(x, scale(x))),
            // Two products forward; the backward makes the first again and takes four more.
            work: [Amount::Flops(flops), Amount::Flops(flops + 5 * flops / 2)],
        }
    };
    CASES.into_iter().map(op).collect()
}

/// 1/√D.
fn scale(leaves: &[Tensor]) -> f64 {
    leaves.first().and_then(|q| q.dims().last()).map_or(1.0, |d| (*d as f64).powf(-0.5))
}

fn geglus() -> Vec<Op> {
    let op = |[b, t, d]: [usize; 3]| Op {
        name: format!("geglu/f32/b{b}t{t}d{d}"),
        shapes: vec![vec![b, t, 2 * d]],
        small: vec![vec![2, 5, 34]],
        sizes: Sizes::default(),
        ours: |x, _| activation::geglu(&x[0]),
        candle: Some(|x, _| candle::geglu(x)),
        work: passes(b * t * d, 3, 8),
    };
    [[64, 256, 128], [2, 4096, 1280]].map(op).to_vec()
}

fn upsamplings() -> Vec<Op> {
    let op = |[b, c, s]: [usize; 3]| Op {
        name: format!("upsample_nearest2x/f32/b{b}c{c}s{s}"),
        shapes: vec![vec![b, c, s, s]],
        small: vec![vec![2, 3, 5, 7]],
        sizes: Sizes::default(),
        ours: |x, _| upsample::nearest2x(&x[0]),
        // candle's backward of it overwrites what is there.
        candle: None,
        work: passes(b * c * s * s, 5, 10),
    };
    [[64, 64, 8], [2, 640, 32]].map(op).to_vec()
}

fn batch_norms() -> Vec<Op> {
    let op = |[b, c, s]: [usize; 3]| Op {
        name: format!("batch_norm/f32/b{b}c{c}s{s}"),
        shapes: vec![vec![b, c, s, s], vec![c], vec![c]],
        small: vec![vec![3, 5, 4, 3], vec![5], vec![5]],
        sizes: Sizes::default(),
        ours: |x, _| Ok(batch_norm::train(&x[0], &x[1], &x[2], 1e-5)?.0),
        candle: Some(|x, _| candle::batch_norm(x)),
        work: passes(b * c * s * s, 3, 7),
    };
    [[128, 64, 32], [128, 16, 32]].map(op).to_vec()
}

/// Bytes of so many passes over `elements` numbers: forward, and with the gradients.
fn passes(elements: usize, forward: u64, train: u64) -> [Amount; 2] {
    [forward, train].map(|passes| Amount::Bytes(4 * passes * elements as u64))
}

/// Uniform numbers in −1 ..= 1.
pub(super) fn uniform(shape: &[usize], index: u64) -> Vec<f32> {
    let mut rng = Rng::new(0, "bench operand", index);
    (0..shape.iter().product()).map(|_| 2.0 * rng.uniform_f32() - 1.0).collect()
}

fn vars(shapes: &[Vec<usize>], dtype: DType) -> Result<Vec<Var>> {
    let var = |(index, shape): (usize, &Vec<usize>)| {
        let values = Tensor::from_vec(uniform(shape, index as u64), shape.as_slice(), &Device::Cpu)?;
        Ok(Var::from_tensor(&values.to_dtype(dtype)?)?)
    };
    shapes.iter().enumerate().map(var).collect()
}

/// The error of a function that was given another number of operands than it takes.
pub(super) fn leaves(expected: usize, found: &[Tensor]) -> Error {
    Error::Msg(format!("expected {expected} operands, found {}", found.len()))
}

fn prepare(op: &Op, function: Function, train: bool) -> Result<Work> {
    check(op, function).with_context(|| format!("{}: not timed", op.name))?;
    let vars = vars(&op.shapes, DType::F32)?;
    let sizes = op.sizes;
    if train {
        let leaves: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        Ok(Box::new(move || {
            let gradients = function(&leaves, sizes).and_then(|y| y.backward());
            // The check has seen the same call pass.
            drop(std::hint::black_box(gradients.unwrap_or_else(|fault| unreachable!("{fault}"))));
        }))
    } else {
        let leaves: Vec<Tensor> = vars.iter().map(Var::as_detached_tensor).collect();
        Ok(Box::new(move || drop(std::hint::black_box(function(&leaves, sizes)))))
    }
}

/// Value and gradients at a small size against our own in double precision: what computes wrong values is not timed.
fn check(op: &Op, function: Function) -> Result<()> {
    let single = value_and_gradients(op, function, DType::F32)?;
    let double = value_and_gradients(op, op.ours, DType::F64)?;
    for (which, (single, double)) in single.iter().zip(&double).enumerate() {
        let gap = (single.to_dtype(DType::F64)? - double)?.abs()?.max_all()?.to_scalar::<f64>()?;
        let scale = double.abs()?.max_all()?.to_scalar::<f64>()?;
        ensure!(gap <= 1e-4 * scale, "tensor {which} is off by {gap:e}, the largest element being {scale:e}");
    }
    Ok(())
}

fn value_and_gradients(op: &Op, function: Function, dtype: DType) -> Result<Vec<Tensor>> {
    let vars = vars(&op.small, dtype)?;
    let leaves: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let y = function(&leaves, op.sizes)?;
    // A random sum: the plain sum of a normalised tensor, and that of its squares, has no gradient.
    let weights = Tensor::from_vec(uniform(y.dims(), 99), y.dims(), &Device::Cpu)?.to_dtype(dtype)?;
    let gradients = (&y * weights)?.sum_all()?.backward()?;
    let gradient = |var: &Var| gradients.get(var).cloned().context("an operand has no gradient");
    std::iter::once(Ok(y.detach())).chain(vars.iter().map(gradient)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn every_op() -> Vec<Op> {
        [convolutions(), group_norms(), layer_norms(), attentions(), geglus(), upsamplings(), batch_norms()]
            .concat()
    }

    #[test]
    fn what_is_timed_computes_what_double_precision_does() {
        for op in every_op() {
            check(&op, op.ours).unwrap();
            if let Some(candle) = op.candle {
                check(&op, candle).unwrap();
            }
        }
    }

    #[test]
    fn a_wrong_function_is_not_timed() {
        let op = &geglus()[0];
        let wrong: Function = |x, _| activation::geglu(&(&x[0] * 1.01)?);
        assert!(prepare(op, wrong, false).err().unwrap().to_string().contains("not timed"));
    }

    #[test]
    fn each_pass_runs() {
        let mut op = layer_norms()[0].clone();
        op.shapes.clone_from(&op.small);
        prepare(&op, op.ours, false).unwrap()();
        prepare(&op, op.ours, true).unwrap()();
    }
}
