//! What the ops' tests share: random tensors in every layout, finite differences, a comparator that NaN cannot pass.

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::rng::Rng;

/// A standard-normal `f64` tensor.
pub(crate) fn normal(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = Rng::new(seed, "test tensor", 0);
    let values: Vec<f64> = (0..shape.iter().product()).map(|_| rng.normal()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The same values in other layouts: contiguous; transposed in memory; a slice of something larger.
pub(crate) fn layouts(x: &Tensor) -> Vec<Tensor> {
    let rank = x.dims().len();
    let transposed = x.transpose(0, rank - 1).unwrap().contiguous().unwrap().transpose(0, rank - 1).unwrap();
    let padded = Tensor::cat(&[&x.ones_like().unwrap(), x, x], 0).unwrap();
    vec![x.clone(), transposed, padded.narrow(0, x.dims()[0], x.dims()[0]).unwrap()]
}

/// Differentiable ways to bring a tensor into another layout: as it is; transposed in memory; a slice of something larger; and
/// its first row expanded along the first axis (stride 0), which changes the values.
const RELAYOUTS: [fn(&Tensor) -> Result<Tensor>; 4] = [
    |x| Ok(x.clone()),
    |x| {
        let last = x.rank() - 1;
        x.transpose(0, last)?.contiguous()?.transpose(0, last)
    },
    |x| Tensor::cat(&[x, x], 0)?.narrow(0, 0, x.dims()[0]),
    |x| x.narrow(0, 0, 1)?.broadcast_as(x.shape()),
];

/// Holds value and gradients of `f` on inputs in every layout against those on contiguous copies: the same bits.
pub(crate) fn check_layouts(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    for index in 0..inputs.len() {
        for (which, relayout) in RELAYOUTS.into_iter().enumerate() {
            let moved = |inputs: &[Tensor], copy: bool| {
                let mut inputs = inputs.to_vec();
                inputs[index] = relayout(&inputs[index])?;
                if copy {
                    inputs[index] = inputs[index].force_contiguous()?;
                }
                f(&inputs)
            };
            let strided = value_and_gradients(inputs, |inputs| moved(inputs, false));
            let plain = value_and_gradients(inputs, |inputs| moved(inputs, true));
            for (tensor, (a, b)) in strided.iter().zip(&plain).enumerate() {
                assert_eq!(distance(a, b), 0.0, "input {index} in layout {which}: result {tensor} differs");
            }
        }
    }
}

/// Holds value and gradients of `f` to the same bits for 1, 2, 3 and 5 threads.
pub(crate) fn check_threads(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor> + Sync) {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| value_and_gradients(inputs, &f))
    };
    let alone = run(1);
    for threads in [2, 3, 5] {
        for (tensor, (a, b)) in run(threads).iter().zip(&alone).enumerate() {
            assert_eq!(distance(a, b), 0.0, "{threads} threads: result {tensor} differs");
        }
    }
}

/// Holds what `f` gives with AVX2's registers to the bits of AVX-512's; a machine that has one kind alone has nothing to compare.
pub(crate) fn check_registers<T: PartialEq>(f: impl Fn() -> T) {
    #[cfg(target_arch = "x86_64")]
    {
        use crate::ops::simd::{Isa, alone, narrowed};
        let _alone = alone();
        if Isa::of_machine() == Isa::Avx512 {
            assert!(f() == narrowed(&f), "AVX2 and AVX-512 differ");
        }
    }
}

/// Holds value and gradients of `f` in `f32` near those in `f64`: within `tolerance` of each one's largest element.
pub(crate) fn check_single(inputs: &[Tensor], tolerance: f64, f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let single: Vec<Tensor> = inputs.iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
    let double: Vec<Tensor> = single.iter().map(|x| x.to_dtype(DType::F64).unwrap()).collect();
    let (ours, exact) = (value_and_gradients(&single, &f), value_and_gradients(&double, &f));
    for (tensor, (ours, exact)) in ours.iter().zip(&exact).enumerate() {
        let scale = exact.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        let error = distance(ours, exact) / scale;
        assert!(error <= tolerance, "result {tensor} in f32 is off by {error:e} of its largest element");
    }
}

/// Compares gradients with central differences where the first input is used once more, before and after `f`.
pub(crate) fn check_used_twice(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let square = |x: &Tensor| x.sqr()?.sum_all();
    let weighted = |y: Tensor| (normal(7, y.dims()) * y)?.sum_all();
    check_gradient(inputs, |i| weighted(f(i)?)? + square(&i[0])?);
    check_gradient(inputs, |i| square(&i[0])? + weighted(f(i)?)?);
}

/// f(inputs) and the gradients of `Σ f · r`, `r` random, with respect to each input.
pub(crate) fn value_and_gradients(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) -> Vec<Tensor> {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let leaves: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let value = f(&leaves).unwrap();
    let weights = normal(99, value.dims()).to_dtype(value.dtype()).unwrap();
    let gradients = (&value * weights).unwrap().sum_all().unwrap().backward().unwrap();
    let of = |var: &Var| gradients.get(var).unwrap().clone();
    std::iter::once(value.detach()).chain(vars.iter().map(of)).collect()
}

/// Holds that every parameter has a gradient of the loss that is finite and not all zero.
pub(crate) fn check_every_leaf_learns(parameters: &crate::nn::Parameters, loss: &Tensor) {
    let gradients = loss.backward().unwrap();
    for (name, var) in parameters.named() {
        let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
        let largest = gradient.abs().unwrap().max_all().unwrap().to_dtype(DType::F64).unwrap();
        // NaN makes the maximum or the sum NaN.
        let sum = gradient.to_dtype(DType::F64).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        let largest = largest.to_scalar::<f64>().unwrap();
        assert!(
            sum.is_finite() && largest > 0.0,
            "{name}: gradient with sum {sum}, largest element {largest}"
        );
    }
}

/// `2·sin(pace·i)` at the i-th element: inputs that another program can make as well.
pub(crate) fn wave(shape: &[usize], pace: f64) -> Tensor {
    let values: Vec<f64> =
        (0..shape.iter().product::<usize>()).map(|i| 2.0 * (pace * i as f64).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Holds a tensor near numbers that another program gave.
pub(crate) fn check_golden(name: &str, ours: &Tensor, golden: &[f64], tolerance: f64) {
    let golden = Tensor::from_vec(golden.to_vec(), ours.dims(), &Device::Cpu).unwrap();
    let error = distance(ours, &golden);
    assert!(error <= tolerance, "{name} is off by {error:e}");
}

/// Largest absolute difference; infinite where either holds a NaN or the shapes differ.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    if a.dims() != b.dims() {
        return f64::INFINITY;
    }
    let flat = |x: &Tensor| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let far = |x: f64| if x.is_nan() { f64::INFINITY } else { x };
    flat(a).iter().zip(flat(b)).map(|(a, b)| far((a - b).abs())).fold(0.0, f64::max)
}

/// Compares the gradient of `Σ f(x) · r` (`r` random) with central differences, for every input of `f`.
pub(crate) fn check_gradient(inputs: &[Tensor], f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = inputs.iter().map(|x| Var::from_tensor(x).unwrap()).collect();
    let leaves: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let out = f(&leaves).unwrap();
    let weights = normal(99, out.dims());
    let loss = |inputs: &[Tensor]| (f(inputs)? * &weights)?.sum_all();
    let gradients = loss(&leaves).unwrap().backward().unwrap();
    for (index, var) in vars.iter().enumerate() {
        let ours = gradients.get(var).unwrap_or_else(|| panic!("input {index} has no gradient"));
        let numeric = central_differences(inputs, index, &loss);
        let scale = numeric.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap().max(1.0);
        let error = distance(ours, &numeric) / scale;
        assert!(error <= 1e-7, "gradient of input {index} is off by {error:e} of its largest element");
    }
}

fn central_differences(
    inputs: &[Tensor],
    index: usize,
    loss: &impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Tensor {
    let step = 1e-5;
    let values = inputs[index].flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let at = |element: usize, delta: f64| {
        let mut moved = values.clone();
        moved[element] += delta;
        let mut all = inputs.to_vec();
        all[index] = Tensor::from_vec(moved, inputs[index].dims(), &Device::Cpu).unwrap();
        loss(&all).unwrap().to_scalar::<f64>().unwrap()
    };
    let slopes: Vec<f64> = (0..values.len()).map(|i| (at(i, step) - at(i, -step)) / (2.0 * step)).collect();
    Tensor::from_vec(slopes, inputs[index].dims(), &Device::Cpu).unwrap()
}

#[test]
fn the_comparator_rejects_mutants() {
    let x = normal(0, &[3, 4]);
    assert_eq!(distance(&x, &x), 0.0);
    let one_off = {
        let mut values = x.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        values[7] += 1.0;
        Tensor::from_vec(values, (3, 4), &Device::Cpu).unwrap()
    };
    let transposed = x.reshape((4, 3)).unwrap().t().unwrap();
    let nan = (&x * f64::NAN).unwrap();
    for mutant in [one_off, transposed, nan, x.zeros_like().unwrap()] {
        let error = distance(&x, &mutant);
        assert!(!(error <= 0.1), "a mutant passed at {error}");
    }
}
