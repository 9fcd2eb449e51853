//! Losses made of operations whose gradients candle has right.

use candle_core::{D, Result, Tensor};

/// `x − ln Σ e^x` along the last axis.
///
/// # Errors
/// Where the tensor cannot be made.
pub fn log_softmax(x: &Tensor) -> Result<Tensor> {
    let shifted = x.broadcast_sub(&x.detach().max_keepdim(D::Minus1)?)?;
    let sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    shifted.broadcast_sub(&sum)
}

/// `−Σ target · ln softmax(logits) / Σ target`: the mean over all rows that have a target, 0 where none has.
///
/// # Errors
/// Where shapes differ.
pub fn cross_entropy(logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let weight = f64::from(targets.sum_all()?.to_scalar::<f32>()?).max(1.0);
    (log_softmax(logits)? * targets)?.sum_all()?.neg()? / weight
}

/// Contrastive loss of Radford et al. (2021), symmetric, where rows with equal captions are all right answers to each other: `logits`
/// (B, B) of pictures and captions, `same` (B, B) with 1 where two captions are the same.
///
/// # Errors
/// Where shapes differ.
pub fn contrastive(logits: &Tensor, same: &Tensor) -> Result<Tensor> {
    let targets = same.broadcast_div(&same.sum_keepdim(1)?)?;
    let pictures = cross_entropy(logits, &targets)?;
    // `same` is symmetric, and so the rows of its transpose are normalised alike.
    let captions = cross_entropy(&logits.t()?.contiguous()?, &targets)?;
    (pictures + captions)? * 0.5
}

/// `mean |x − y|`.
///
/// # Errors
/// Where shapes differ.
pub fn l1(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (x - y)?.abs()?.mean_all()
}

/// `mean (x − y)²`.
///
/// # Errors
/// Where shapes differ.
pub fn mse(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    (x - y)?.sqr()?.mean_all()
}

/// `mean_i w_i · mean (x_i − y_i)²` over the rows `i` of a batch.
///
/// # Errors
/// Where shapes differ.
pub fn weighted_mse(x: &Tensor, y: &Tensor, weights: &[f64]) -> Result<Tensor> {
    let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    let weights = Tensor::new(weights, x.device())?;
    ((x - y)?.sqr()?.flatten_from(1)?.mean(1)? * weights)?.mean_all()
}

/// Weight of each timestep's squared error of the noise: `min(1 + 1/SNR(t), cap)` divided by its mean over all `t`, where
/// `SNR(t) = ᾱ_t / (1 − ᾱ_t)`. Uncapped, that is the loss of the velocity `√ᾱ ε − √(1−ᾱ) x₀` (Salimans and Ho, 2022): the error of
/// `x₀` counts `1 + SNR(t)` times, where the plain loss of the noise counts it `SNR(t)` times and so hardly at all where the picture
/// is being laid out.
#[must_use]
pub fn timestep_weights(alphas_cumprod: &[f64], cap: f64) -> Vec<f64> {
    // 1 + 1/SNR = 1/ᾱ.
    let capped: Vec<f64> = alphas_cumprod.iter().map(|alpha| (1.0 / alpha).min(cap)).collect();
    let mean = capped.iter().sum::<f64>() / capped.len() as f64;
    capped.into_iter().map(|weight| weight / mean).collect()
}

/// Mean over all numbers of a latent of `KL(N(μ, σ²) ‖ N(0, 1)) = (μ² + σ² − 1 − ln σ²)/2`.
///
/// # Errors
/// Where shapes differ.
pub fn kl(mean: &Tensor, logvar: &Tensor) -> Result<Tensor> {
    ((((mean.sqr()? + logvar.exp()?)? - 1.0)? - logvar)? * 0.5)?.mean_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Var};

    use super::*;

    fn tensor(values: &[[f32; 3]; 3]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn cross_entropy_is_its_definition_and_skips_rows_without_a_target() {
        let logits = tensor(&[[1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [5.0, 5.0, 5.0]]);
        let targets = tensor(&[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]);
        let found = cross_entropy(&logits, &targets).unwrap().to_scalar::<f32>().unwrap();
        let first = (1f32.exp() + 2f32.exp() + 3f32.exp()).ln() - 3.0;
        assert!((found - 0.5 * (first + 3f32.ln())).abs() < 1e-6);
    }

    #[test]
    fn cross_entropy_has_the_gradient_softmax_less_target() {
        let logits = Var::from_tensor(&tensor(&[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [5.0, 5.0, 4.0]])).unwrap();
        let targets = tensor(&[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]);
        let grads = cross_entropy(&logits, &targets).unwrap().backward().unwrap();
        let soft = log_softmax(logits.as_tensor()).unwrap().exp().unwrap();
        let off = ((soft - targets).unwrap() / 3.0).unwrap().sub(grads.get(&logits).unwrap()).unwrap();
        assert!(off.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() < 1e-6);
    }

    #[test]
    fn equal_captions_are_answers_to_each_other() {
        let same = tensor(&[[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]);
        let right = (same.clone() * 50.0).unwrap();
        let found = contrastive(&right, &same).unwrap().to_scalar::<f32>().unwrap();
        // Two answers of three rows share the mass: ln 2 each.
        assert!((found - 2.0 * 2f32.ln() / 3.0).abs() < 1e-5, "{found}");
    }

    #[test]
    fn weights_of_one_leave_the_mean_square_and_others_count_rows() {
        let x = tensor(&[[1.0, 2.0, 3.0], [0.0, 1.0, 0.0], [5.0, 5.0, 4.0]]);
        let y = tensor(&[[0.0, 2.0, 3.0], [0.0, 1.0, 6.0], [5.0, 5.0, 4.0]]);
        let loss = |weights: &[f64]| weighted_mse(&x, &y, weights).unwrap().to_scalar::<f32>().unwrap();
        let plain = mse(&x, &y).unwrap().to_scalar::<f32>().unwrap();
        assert!((loss(&[1.0; 3]) - plain).abs() < 1e-6);
        assert!((loss(&[3.0, 0.5, 9.0]) - (3.0 / 3.0 + 0.5 * 36.0 / 3.0) / 3.0).abs() < 1e-6);
    }

    #[test]
    fn timesteps_weigh_one_on_average_all_alike_at_a_cap_of_one_and_like_the_velocity_without_a_cap() {
        let alphas = [0.9, 0.5, 0.1];
        assert_eq!(timestep_weights(&alphas, 1.0), [1.0; 3]);
        let weights = timestep_weights(&alphas, 1e9);
        assert!((weights.iter().sum::<f64>() - 3.0).abs() < 1e-12);
        // 1 + 1/SNR = 1 + (1 − ᾱ)/ᾱ.
        assert!((weights[2] / weights[1] - 10.0 / 2.0).abs() < 1e-12);
        let capped = timestep_weights(&alphas, 4.0);
        assert!((capped[2] / capped[1] - 4.0 / 2.0).abs() < 1e-12);
    }

    #[test]
    fn the_divergence_of_the_standard_normal_is_nothing() {
        let zero = Tensor::zeros((2, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        assert_eq!(kl(&zero, &zero).unwrap().to_scalar::<f32>().unwrap(), 0.0);
        let one = zero.ones_like().unwrap();
        assert_eq!(kl(&one, &zero).unwrap().to_scalar::<f32>().unwrap(), 0.5);
    }
}
