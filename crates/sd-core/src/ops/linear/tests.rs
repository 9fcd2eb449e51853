//! The linear layer against its definition, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor, Var};

use super::linear;
use crate::ops::activation::Activation;
use crate::ops::testing::{
    check_gradient, check_layouts, check_single, check_threads, check_used_twice, distance, normal,
    value_and_gradients,
};

const ALL: [Activation; 5] =
    [Activation::None, Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu];

fn operands(x: &[usize], outputs: usize) -> [Tensor; 3] {
    let inputs = x[x.len() - 1];
    [normal(1, x), normal(2, &[outputs, inputs]), normal(3, &[outputs])]
}

fn layer(activation: Activation) -> impl Fn(&[Tensor]) -> Result<Tensor> + Sync {
    move |i| linear(&i[0], &i[1], i.get(2), activation)
}

/// The definition, with candle's own product.
fn composed(activation: Activation) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    move |i| {
        let (outputs, inputs) = i[1].dims2()?;
        let z = i[0].reshape(((), inputs))?.matmul(&i[1].t()?)?;
        let z = if let Some(bias) = i.get(2) { z.broadcast_add(bias)? } else { z };
        let mut shape = i[0].dims().to_vec();
        *shape.last_mut().unwrap() = outputs;
        activation.apply(&z.reshape(shape)?)
    }
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for (x, outputs) in
        [(vec![2, 3, 5], 4), (vec![300, 17], 70), (vec![7], 3), (vec![1, 1], 1), (vec![2, 90, 33], 65)]
    {
        for activation in ALL {
            let inputs = operands(&x, outputs);
            for inputs in [&inputs[..], &inputs[..2]] {
                let ours = value_and_gradients(inputs, layer(activation));
                let theirs = value_and_gradients(inputs, composed(activation));
                for (ours, theirs) in ours.iter().zip(&theirs) {
                    let error = distance(ours, theirs);
                    assert!(error <= 1e-11, "{x:?} → {outputs}, {activation:?}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for activation in ALL {
        check_gradient(&operands(&[2, 3, 4], 5), layer(activation));
        check_gradient(&operands(&[3, 4], 2)[..2], layer(activation));
    }
    check_used_twice(&operands(&[3, 4], 4), layer(Activation::Silu));
}

#[test]
fn only_the_gradients_of_leaves_are_made() {
    let [x, w, bias] = operands(&[3, 4], 2);
    for mask in 1..8 {
        let vars = [&x, &w, &bias].map(|tensor| Var::from_tensor(tensor).unwrap());
        let leaf = |index: usize| -> Tensor {
            if mask >> index & 1 == 1 { vars[index].as_tensor().clone() } else { vars[index].detach() }
        };
        let all = [0, 1, 2].map(|index| vars[index].as_tensor().clone());
        let backward =
            |i: &[Tensor]| layer(Activation::Gelu)(i).unwrap().sum_all().unwrap().backward().unwrap();
        let (some, all) = (backward(&[leaf(0), leaf(1), leaf(2)]), backward(&all));
        for (index, var) in vars.iter().enumerate() {
            match some.get(var) {
                None => assert_eq!(mask >> index & 1, 0),
                Some(gradient) => assert_eq!(distance(gradient, all.get(var).unwrap()), 0.0),
            }
        }
    }
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    check_layouts(&operands(&[3, 4, 6], 5), layer(Activation::QuickGelu));
    check_layouts(&operands(&[3, 4, 6], 5), layer(Activation::None));
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    let single = operands(&[5, 130, 67], 300).map(|x| x.to_dtype(DType::F32).unwrap());
    check_threads(&single, layer(Activation::Gelu));
    check_threads(&single, layer(Activation::None));
}

#[test]
fn single_precision_is_near_double() {
    check_single(&operands(&[200, 130], 90), 2e-6, layer(Activation::Silu));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let [x, w, bias] = operands(&[2, 6], 3);
    let message = |x: &Tensor, w: &Tensor, bias: &Tensor| {
        linear(x, w, Some(bias), Activation::None).unwrap_err().to_string()
    };
    assert!(
        message(&normal(0, &[2, 5]), &w, &bias).contains("x [2, 5] has 5 features but w [3, 6] expects 6")
    );
    assert!(message(&x, &w, &normal(0, &[2])).contains("needs bias (3), found [2]"));
    assert!(message(&x, &normal(0, &[3]), &bias).contains("w (O,I)"));
    assert!(message(&x.to_dtype(DType::F32).unwrap(), &w, &bias).contains("one dtype"));
    assert!(
        message(&Tensor::zeros((0, 6), DType::F64, &Device::Cpu).unwrap(), &w, &bias).contains("no element")
    );
}
