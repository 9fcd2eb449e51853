//! Every rule in plain `f64`, in the reader's order: the formulas of the specification one after another, one parameter, one
//! thread. The fused pass is tested against this.

use super::config::{Epsilon, OptimiserConfig, RuleName};

/// State of one parameter: up to three buffers, in the order of [`RuleName::buffers`], and the number of steps done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Number of steps done.
    pub t: u64,
    /// The buffers; empty before the first step.
    pub buffers: Vec<Vec<f64>>,
}

/// One step: changes `theta` and `state` from the gradient. Returns each element's ξ (1 for rules without).
///
/// The configuration must be valid; lengths must agree.
pub fn step(config: &OptimiserConfig, theta: &mut [f64], gradient: &[f64], state: &mut State) -> Vec<f64> {
    let decay = config.weight_decay;
    let g: Vec<f64> = gradient.iter().zip(&*theta).map(|(g, theta)| g + decay * theta).collect();
    state.t += 1;
    if state.buffers.is_empty() {
        state.buffers = vec![vec![0.0; theta.len()]; config.rule.buffers().len()];
    }
    match config.rule {
        RuleName::Sgd => sgd(config, theta, &g, state),
        RuleName::AdaGrad => adagrad(config, theta, &g, state),
        RuleName::AdaDelta => adadelta(config, theta, &g, state),
        RuleName::RmsProp => rmsprop(config, theta, &g, state),
        _ => return adam_family(config, theta, &g, state),
    }
    vec![1.0; theta.len()]
}

fn sgd(config: &OptimiserConfig, theta: &mut [f64], g: &[f64], state: &mut State) {
    let momentum = config.momentum.unwrap_or(0.9);
    for i in 0..theta.len() {
        let b = &mut state.buffers[0][i];
        *b = momentum * *b + g[i];
        theta[i] -= config.lr * *b;
    }
}

fn adagrad(config: &OptimiserConfig, theta: &mut [f64], g: &[f64], state: &mut State) {
    let eps = config.eps.unwrap_or(1e-10);
    for i in 0..theta.len() {
        let sum = &mut state.buffers[0][i];
        *sum += g[i] * g[i];
        theta[i] -= config.lr * g[i] / (sum.sqrt() + eps);
    }
}

fn adadelta(config: &OptimiserConfig, theta: &mut [f64], g: &[f64], state: &mut State) {
    let (rho, eps) = (config.rho.unwrap_or(0.9), config.eps.unwrap_or(1e-6));
    for i in 0..theta.len() {
        let squares = rho * state.buffers[0][i] + (1.0 - rho) * g[i] * g[i];
        let deltas = state.buffers[1][i];
        let delta = g[i] * (deltas + eps).sqrt() / (squares + eps).sqrt();
        state.buffers[0][i] = squares;
        state.buffers[1][i] = rho * deltas + (1.0 - rho) * delta * delta;
        theta[i] -= config.lr * delta;
    }
}

fn rmsprop(config: &OptimiserConfig, theta: &mut [f64], g: &[f64], state: &mut State) {
    let (alpha, eps) = (config.alpha.unwrap_or(0.99), config.eps.unwrap_or(1e-8));
    for i in 0..theta.len() {
        let average = &mut state.buffers[0][i];
        *average = alpha * *average + (1.0 - alpha) * g[i] * g[i];
        theta[i] -= config.lr * g[i] / (average.sqrt() + eps);
    }
}

fn adam_family(config: &OptimiserConfig, theta: &mut [f64], g: &[f64], state: &mut State) -> Vec<f64> {
    let (beta1, beta2) = (config.beta1.unwrap_or(0.9), config.beta2.unwrap_or(0.999));
    let xi = friction(config.rule, g, state);
    for i in 0..theta.len() {
        let m = beta1 * state.buffers[0][i] + (1.0 - beta1) * g[i];
        let v = beta2 * state.buffers[1][i] + (1.0 - beta2) * g[i] * g[i];
        state.buffers[0][i] = m;
        state.buffers[1][i] = v;
        let third = third_buffer(config.rule, g[i], v, state, i);
        theta[i] -= adam_move(config, xi[i] * m, third, state.t);
    }
    xi
}

/// Keeps the maximum or the previous gradient where the rule has one, and returns what stands under the root.
fn third_buffer(rule: RuleName, g: f64, v: f64, state: &mut State, i: usize) -> f64 {
    let Some(third) = state.buffers.get_mut(2).map(|buffer| &mut buffer[i]) else { return v };
    if rule == RuleName::AmsGrad {
        *third = third.max(v);
        return *third;
    }
    *third = g;
    v
}

fn adam_move(config: &OptimiserConfig, m: f64, v: f64, t: u64) -> f64 {
    let (beta1, beta2, eps) =
        (config.beta1.unwrap_or(0.9), config.beta2.unwrap_or(0.999), config.eps.unwrap_or(1e-8));
    let bias1 = 1.0 - beta1.powf(t as f64);
    let bias2 = 1.0 - beta2.powf(t as f64);
    match config.epsilon.unwrap_or_default() {
        Epsilon::Classic => config.lr * bias2.sqrt() / bias1 * m / (v.sqrt() + eps),
        Epsilon::Modern => config.lr / bias1 * m / (v.sqrt() / bias2.sqrt() + eps),
        Epsilon::Inside => config.lr / bias1 * m / (v / bias2 + eps).sqrt(),
    }
}

fn friction(rule: RuleName, g: &[f64], state: &State) -> Vec<f64> {
    let previous = |i: usize| state.buffers.get(2).map_or(0.0, |buffer| buffer[i]);
    let difference = |i: usize| previous(i) - g[i];
    let mu = mean(g.iter().map(|g| g.abs()));
    let nu = mean(g.iter().map(|g| (g.abs() - mu).powi(2))).sqrt();
    (0..g.len())
        .map(|i| match rule {
            RuleName::Adam | RuleName::AmsGrad => 1.0,
            RuleName::HalfStep => 0.5,
            RuleName::DiffGradAsRun => sigmoid(if state.t == 1 { g[i].abs() } else { 0.0 }),
            RuleName::DiffGrad1 => sigmoid(difference(i)),
            RuleName::DiffGrad2 => 9.0 * sigmoid(0.5 * difference(i).abs()) - 4.0,
            RuleName::DiffGrad3 => sigmoid(nu * difference(i).abs() - mu),
            RuleName::DiffGrad4 => sigmoid(nu * nu * difference(i).abs() - mu),
            RuleName::DiffGrad5 => sigmoid(nu.sqrt() * difference(i).abs() - mu),
            _ => sigmoid(difference(i).abs()),
        })
        .collect()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}

/// `1/(1 + e^{-x})`.
#[must_use]
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
