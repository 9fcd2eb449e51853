//! The numbers that the paper printed: tables I to III of the IEEE early-access version (December 2019), read from the
//! rasterised tables.
//!
//! All of them come from the code before the fix of 2020 (the authors' README says so of tables I and III; the code of table
//! II's variants was never published). The corrected tables of arXiv versions 3 and 4 were not found.

use crate::images::resnet::Activation;
use crate::optim::RuleName;

/// Where the numbers were read, for captions.
pub const SOURCE: &str = "IEEE early access, December 2019 (pre-fix code), ResNet50, 100 epochs";

/// Columns of tables I and II: data set and batch size.
pub const CELLS: [(&str, usize); 6] = [
    ("cifar10", 32),
    ("cifar10", 64),
    ("cifar10", 128),
    ("cifar100", 32),
    ("cifar100", 64),
    ("cifar100", 128),
];

/// Tables I and II: top-1 accuracy in percent on the test set, by rule, in the order of [`CELLS`].
pub const ACCURACY: [(RuleName, [f64; 6]); 12] = [
    (RuleName::Sgd, [92.95, 92.07, 90.15, 73.30, 70.37, 67.25]),
    (RuleName::AdaGrad, [92.04, 92.01, 91.30, 71.01, 70.80, 68.38]),
    (RuleName::AdaDelta, [93.66, 93.48, 93.54, 73.46, 74.09, 74.12]),
    (RuleName::RmsProp, [92.82, 92.32, 92.26, 65.31, 66.80, 62.65]),
    (RuleName::AmsGrad, [93.73, 93.40, 93.51, 73.06, 72.45, 72.86]),
    (RuleName::Adam, [93.78, 93.81, 93.72, 71.82, 73.31, 73.72]),
    (RuleName::DiffGrad, [93.90, 94.05, 94.08, 75.40, 75.27, 75.05]),
    (RuleName::DiffGrad1, [94.37, 94.08, 94.15, 75.31, 75.24, 75.05]),
    (RuleName::DiffGrad2, [94.17, 94.18, 94.00, 75.55, 75.51, 75.06]),
    (RuleName::DiffGrad3, [94.27, 94.08, 94.19, 74.32, 75.13, 75.45]),
    (RuleName::DiffGrad4, [94.04, 94.33, 93.90, 74.83, 74.82, 75.25]),
    (RuleName::DiffGrad5, [93.99, 93.97, 93.88, 74.95, 75.55, 74.86]),
];

/// Table III: diffGrad on CIFAR-10, by activation, at batch sizes 32, 64 and 128.
pub const ACTIVATIONS: [(Activation, [f64; 3]); 4] = [
    (Activation::Relu, [93.90, 94.05, 94.08]),
    (Activation::LeakyRelu, [94.31, 94.28, 94.16]),
    (Activation::Elu, [94.16, 94.16, 94.10]),
    (Activation::Selu, [93.48, 93.34, 93.38]),
];

/// The printed accuracy of `rule` with `activation` on `data` at `batch`, in percent. As printed, diffGrad's numbers stand
/// under [`RuleName::DiffGrad`], though the code that made them is [`RuleName::DiffGradAsRun`]: both get them.
#[must_use]
pub fn accuracy(rule: RuleName, activation: Activation, data: &str, batch: usize) -> Option<f64> {
    let rule = if rule == RuleName::DiffGradAsRun { RuleName::DiffGrad } else { rule };
    let cell = CELLS.iter().position(|cell| *cell == (data, batch))?;
    if activation == Activation::Relu {
        return ACCURACY.iter().find(|(printed, _)| *printed == rule).map(|(_, cells)| cells[cell]);
    }
    let row = ACTIVATIONS.iter().find(|(printed, _)| *printed == activation)?;
    if rule == RuleName::DiffGrad { row.1.get(cell).copied() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Facts that the specification states of the tables (sections 1 and 6).
    #[test]
    fn margins_are_those_of_the_claims() {
        let of = |rule, data, batch| accuracy(rule, Activation::Relu, data, batch).unwrap_or(f64::NAN);
        for (data, batch, rival, margin) in [
            ("cifar10", 32, RuleName::Adam, 0.12),
            ("cifar10", 64, RuleName::Adam, 0.24),
            ("cifar10", 128, RuleName::Adam, 0.36),
            ("cifar100", 32, RuleName::AdaDelta, 1.94),
            ("cifar100", 64, RuleName::AdaDelta, 1.18),
            ("cifar100", 128, RuleName::AdaDelta, 0.93),
        ] {
            let found = of(RuleName::DiffGrad, data, batch) - of(rival, data, batch);
            assert!((found - margin).abs() < 1e-9, "{data} {batch}: {found}");
        }
        let variants = &ACCURACY[6..];
        let mean = variants.iter().map(|(_, cells)| cells[0]).sum::<f64>() / 6.0;
        assert!((mean - 94.12).abs() < 0.005, "{mean}");
        assert_eq!(
            accuracy(RuleName::Adam, Activation::Elu, "cifar10", 32),
            None,
            "table III has diffGrad only"
        );
        assert_eq!(accuracy(RuleName::DiffGrad, Activation::Selu, "cifar10", 64), Some(93.34));
        assert_eq!(accuracy(RuleName::DiffGrad, Activation::Selu, "cifar100", 32), None);
    }
}
