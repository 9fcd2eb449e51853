//! Layers together: names, initial values, and a gradient that reaches every leaf.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor};

use super::{BatchNorm2d, Conv2d, GroupNorm, LayerNorm, Linear, Parameters, Scope};
use crate::ops::activation::{self, Activation};
use crate::ops::testing::{check_every_leaf_learns, normal};
use crate::ops::upsample::nearest2x;

/// A little of everything: convolutions, norms, up-sampling, a feed-forward with a gate, a residual.
struct Mixed {
    conv_in: Conv2d,
    norm1: GroupNorm,
    conv1: Conv2d,
    norm2: BatchNorm2d,
    norm3: LayerNorm,
    wide: Linear,
    narrow: Linear,
    out: Linear,
}

impl Mixed {
    fn new(scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv_in: Conv2d::with_bias(&mut scope.child("conv_in"), [3, 8], 3, 1, 1)?,
            norm1: GroupNorm::new(&mut scope.child("norm1"), 4, 8, 1e-5)?,
            conv1: Conv2d::new(&mut scope.child("conv1"), [8, 8], 3, 2, 1)?,
            norm2: BatchNorm2d::new(&mut scope.child("norm2"), 8)?,
            norm3: LayerNorm::new(&mut scope.child("norm3"), 8, 1e-5)?,
            wide: Linear::new(&mut scope.child("wide"), 8, 24)?,
            narrow: Linear::new(&mut scope.child("narrow"), 12, 8)?,
            out: Linear::without_bias(&mut scope.child("out"), 8, 5)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.conv_in.forward(x)?;
        let half = self.conv1.forward(&self.norm1.forward_silu(&x)?)?;
        let x = (x + nearest2x(&self.norm2.forward(&half, true)?)?)?;
        let rows = x.flatten_from(2)?.transpose(1, 2)?;
        let hidden = activation::geglu(&self.wide.forward(&self.norm3.forward(&rows)?)?)?;
        let rows = (rows + self.narrow.forward(&hidden)?)?;
        self.out.forward_with(&rows, Activation::Gelu)
    }
}

fn model(dtype: DType) -> (Parameters, Mixed) {
    let mut parameters = Parameters::default();
    let model = Mixed::new(&mut Scope::root(&mut parameters, 3, dtype, &Device::Cpu)).unwrap();
    (parameters, model)
}

#[test]
fn every_leaf_of_a_model_learns() {
    for dtype in [DType::F32, DType::F64] {
        let (parameters, model) = model(dtype);
        let x = normal(1, &[2, 3, 8, 8]).to_dtype(dtype).unwrap();
        let y = model.forward(&x).unwrap();
        assert_eq!(y.dims(), [2, 64, 5]);
        check_every_leaf_learns(&parameters, &y.sqr().unwrap().mean_all().unwrap());
    }
}

#[test]
#[should_panic(expected = "wide.weight has no gradient")]
fn a_leaf_that_the_loss_does_not_reach_is_found() {
    let (parameters, model) = model(DType::F64);
    let x = normal(1, &[1, 3, 4, 4]);
    let y = model.norm1.forward(&model.conv_in.forward(&x).unwrap()).unwrap();
    let rest = ["conv_in", "norm1"];
    let mut reached = Parameters::default();
    let loss = y.sqr().unwrap().mean_all().unwrap();
    let gradients = loss.backward().unwrap();
    for (name, var) in parameters.named() {
        assert_eq!(gradients.get(var).is_some(), rest.contains(&name.split('.').next().unwrap()), "{name}");
    }
    let _ = Linear::new(&mut Scope::root(&mut reached, 0, DType::F64, &Device::Cpu).child("wide"), 8, 24)
        .unwrap();
    check_every_leaf_learns(&reached, &loss);
}

/// `[name for name, _ in module.named_parameters()]` of the same layers in PyTorch, in the order of construction.
#[test]
fn names_and_initial_values_are_pytorchs() {
    let (parameters, _) = model(DType::F32);
    let names: Vec<&str> = parameters.named().map(|(name, _)| name).collect();
    let expected = "conv_in.weight conv_in.bias norm1.weight norm1.bias conv1.weight norm2.weight norm2.bias norm3.weight \
                    norm3.bias wide.weight wide.bias narrow.weight narrow.bias out.weight";
    assert_eq!(names, expected.split_whitespace().collect::<Vec<_>>());
    for (name, var) in parameters.named() {
        let values = var.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let largest = values.iter().fold(0.0, |largest: f32, x| largest.max(x.abs()));
        let (layer, kind) = name.split_once('.').unwrap();
        if layer.starts_with("norm") {
            let constant = if kind == "weight" { 1.0 } else { 0.0 };
            assert!(values.iter().all(|x| *x == constant), "{name}");
            continue;
        }
        let fan_in = match layer {
            "conv_in" => 27.0,
            "conv1" => 72.0,
            "narrow" => 12.0,
            _ => 8.0,
        };
        let bound = 1.0 / f32::sqrt(fan_in);
        assert!(largest <= bound && largest > 0.6 * bound, "{name}: {largest} {bound}");
    }
}
