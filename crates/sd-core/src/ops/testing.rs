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
