//! Replays of the synthetic study: one scalar parameter descended by a rule, and what is read off the path.

use lab::paper::TrialContext;
use lab::trial::Measure;

use super::{Function, SyntheticStudy};
use crate::optim::reference::{self, State};
use crate::optim::{Epsilon, OptimiserConfig, RuleName};

/// Settings of one descent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Descent {
    /// Function.
    pub function: Function,
    /// Rule.
    pub rule: RuleName,
    /// Learning rate.
    pub lr: f64,
    /// β₁.
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub eps: f64,
    /// x₀.
    pub start: f64,
    /// Updates.
    pub iterations: usize,
}

impl Descent {
    /// x₀, x₁, …: one more value than updates.
    #[must_use]
    pub fn path(&self) -> Vec<f64> {
        let mut config = OptimiserConfig::new(self.rule, self.lr);
        (config.beta1, config.beta2, config.eps) = (Some(self.beta1), Some(self.beta2), Some(self.eps));
        config.epsilon = Some(self.placement());
        let (mut theta, mut state) = ([self.start], State::default());
        let mut path = vec![self.start];
        for _ in 0..self.iterations {
            let gradient = [self.function.derivative(theta[0])];
            reference::step(&config, &mut theta, &gradient, &mut state);
            path.push(theta[0]);
        }
        path
    }

    /// Where ε stands in the authors' notebooks: inside the root for Adam, behind it for diffGrad; both correct for bias first.
    fn placement(&self) -> Epsilon {
        if self.rule == RuleName::Adam { Epsilon::Inside } else { Epsilon::Modern }
    }

    /// Distance of the last x from the global minimum.
    #[must_use]
    pub fn final_distance(&self) -> f64 {
        let last = self.path().last().copied().unwrap_or(self.start);
        (last - self.function.global_minimum()).abs()
    }
}

impl SyntheticStudy {
    fn descent(&self, function: Function, rule: RuleName) -> Descent {
        let Self { lr, beta1, beta2, eps, start, iterations, .. } = *self;
        Descent { function, rule, lr, beta1, beta2, eps, start, iterations }
    }
}

/// One trial: `function` descended by every arm.
///
/// # Errors
/// Where a row cannot be written.
pub fn run(
    study: &SyntheticStudy,
    function: Function,
    arms: &[(String, RuleName)],
    context: &mut TrialContext,
) -> anyhow::Result<()> {
    let mut swings = Vec::new();
    for (arm, rule) in arms {
        let descent = study.descent(function, *rule);
        let path = descent.path();
        report_path(arm, function, &path, study, context)?;
        report_grids(arm, &descent, study, context)?;
        swings.push((rule, Swing::of(&path)));
    }
    let find = |wanted| swings.iter().find(|(rule, _)| **rule == wanted).map(|(_, swing)| *swing);
    if let Some((adam, diffgrad)) = find(RuleName::Adam).zip(find(RuleName::DiffGrad)) {
        for (metric, value) in adam.minus(&diffgrad) {
            context.row_full(Measure::new(metric, value).arm("adam_minus_diffgrad"))?;
        }
    }
    Ok(())
}

fn report_path(
    arm: &str,
    function: Function,
    path: &[f64],
    study: &SyntheticStudy,
    context: &mut TrialContext,
) -> anyhow::Result<()> {
    for (t, &x) in path.iter().enumerate() {
        context.row_full(Measure::new("x", x).arm(arm).at(t as f64))?;
        context.row_full(Measure::new("loss", function.value(x)).arm(arm).at(t as f64))?;
    }
    let last = path.last().copied().unwrap_or(study.start);
    let distance = (last - function.global_minimum()).abs();
    let crossed = path.iter().any(|x| *x > -0.4);
    let mut rows = vec![
        ("final_x", last),
        ("final_loss", function.value(last)),
        ("final_distance", distance),
        ("reaches_global", f64::from(distance < study.reached)),
        ("crosses_minus_half", f64::from(crossed)),
    ];
    rows.extend(Swing::of(path).rows());
    for (metric, value) in rows {
        context.row_full(Measure::new(metric, value).arm(arm))?;
    }
    Ok(())
}

/// The fragility checks of specification section 4.4: other learning rates, other starts, the usual β₁.
fn report_grids(
    arm: &str,
    descent: &Descent,
    study: &SyntheticStudy,
    context: &mut TrialContext,
) -> anyhow::Result<()> {
    let usual = Descent { beta1: study.other_beta1, ..*descent };
    let reached = f64::from(usual.final_distance() < study.reached);
    context.row_full(Measure::new("reaches_global_other_beta1", reached).arm(arm))?;
    let sweeps: [(&str, Vec<(f64, Descent)>); 2] = [
        ("lr_grid", study.lr_grid.values().map(|lr| (lr, Descent { lr, ..*descent })).collect()),
        (
            "start_grid",
            study.start_grid.values().map(|start| (start, Descent { start, ..*descent })).collect(),
        ),
    ];
    for (name, runs) in sweeps {
        let mut successes = 0.0;
        for (at, run) in runs {
            let distance = run.final_distance();
            successes += f64::from(distance < study.reached);
            context.row_full(Measure::new(format!("{name}_distance"), distance).arm(arm).at(at))?;
        }
        context.row_full(Measure::new(format!("{name}_successes"), successes).arm(arm))?;
    }
    Ok(())
}

/// How a path swings (claim C12).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swing {
    /// Turning points among x₂₀₁ … x₃₀₀.
    turning_points: f64,
    /// Half of (max − min) over x₂₀₁ … x₃₀₀.
    late_amplitude: f64,
    /// Standard deviation of x₂₀₁ … x₃₀₀ (population).
    late_sd: f64,
    /// Largest |x| over x₁₅ … x₇₅.
    early_amplitude: f64,
}

impl Swing {
    /// Reads the swing off a path; windows that the path does not reach are empty and give 0.
    #[must_use]
    pub fn of(path: &[f64]) -> Self {
        let window = |from: usize, to: usize| path.get(from..(to + 1).min(path.len())).unwrap_or_default();
        let late = window(201, 300);
        let turns = late.windows(3).filter(|x| (x[1] - x[0]) * (x[2] - x[1]) < 0.0).count();
        let high = late.iter().copied().reduce(f64::max).unwrap_or(0.0);
        let low = late.iter().copied().reduce(f64::min).unwrap_or(0.0);
        let count = late.len().max(1) as f64;
        let centre = late.iter().sum::<f64>() / count;
        let squares: f64 = late.iter().map(|x| (x - centre).powi(2)).sum();
        Self {
            turning_points: turns as f64,
            late_amplitude: (high - low) / 2.0,
            late_sd: (squares / count).sqrt(),
            early_amplitude: window(15, 75).iter().map(|x| x.abs()).fold(0.0, f64::max),
        }
    }

    fn rows(&self) -> [(&'static str, f64); 4] {
        [
            ("turning_points", self.turning_points),
            ("late_amplitude", self.late_amplitude),
            ("late_sd", self.late_sd),
            ("early_amplitude", self.early_amplitude),
        ]
    }

    fn minus(&self, other: &Self) -> Vec<(&'static str, f64)> {
        self.rows().into_iter().zip(other.rows()).map(|((name, a), (_, b))| (name, a - b)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descent(function: Function, rule: RuleName) -> Descent {
        Descent {
            function,
            rule,
            lr: 0.1,
            beta1: 0.95,
            beta2: 0.999,
            eps: 1e-8,
            start: -1.0,
            iterations: 300,
        }
    }

    /// Specification section 4.3.
    #[test]
    fn paths_are_those_of_the_acceptance_table() {
        use RuleName::{Adam, DiffGrad};
        for (function, rule, expected) in [
            (
                Function::F1,
                Adam,
                [-0.900000000255, -0.800487402815, -0.121852084, 0.118661991, 0.221195457, 0.200077178],
            ),
            (
                Function::F1,
                DiffGrad,
                [-0.919781611717, -0.865961128785, -0.464023551, -0.377654374, -0.295383084, -0.300026217],
            ),
            (
                Function::F2,
                Adam,
                [-0.900000000000, -0.800000000001, -0.377342907, 0.043500737, -0.011533730, 0.000059700],
            ),
            (
                Function::F2,
                DiffGrad,
                [-0.900000000025, -0.850000000038, -0.483274836, -0.739092164, -0.670285566, -0.642997549],
            ),
            (
                Function::F3,
                Adam,
                [-0.900000000125, -0.800270365010, -0.114690591, 0.100575792, -0.003421032, 0.002331450],
            ),
            (
                Function::F3,
                DiffGrad,
                [-0.911920292643, -0.857648223888, -0.426935742, -0.086673282, 0.055829179, 0.007913122],
            ),
        ] {
            let path = descent(function, rule).path();
            for (t, expected) in [1, 2, 10, 50, 100, 300].into_iter().zip(expected) {
                let tolerance = if t <= 2 { 1e-9 } else { 1e-6 };
                let error = (path[t] - expected).abs();
                assert!(error <= tolerance, "{function:?} {rule:?} x_{t} = {}: off by {error:e}", path[t]);
            }
        }
    }

    /// Specification section 4.4.
    #[test]
    fn the_grids_have_the_published_numbers_of_successes() {
        use RuleName::{Adam, DiffGrad, HalfStep};
        let count = |runs: Vec<Descent>| runs.iter().filter(|run| run.final_distance() < 0.06).count();
        let lr_grid = super::super::Grid { from: 0.010, to: 0.300, points: 59 };
        let start_grid = super::super::Grid { from: -2.0, to: 0.0, points: 101 };
        for (function, rule, by_lr, by_start) in [
            (Function::F1, Adam, 25, 47),
            (Function::F1, DiffGrad, 36, 101),
            (Function::F1, HalfStep, 31, 101),
            (Function::F2, Adam, 28, 37),
            (Function::F2, DiffGrad, 37, 42),
            (Function::F2, HalfStep, 57, 50),
        ] {
            let base = descent(function, rule);
            let lr = count(lr_grid.values().map(|lr| Descent { lr, ..base }).collect());
            let start = count(start_grid.values().map(|start| Descent { start, ..base }).collect());
            assert_eq!((lr, start), (by_lr, by_start), "{function:?} {rule:?}");
        }
    }

    /// Specification section 4.3, last paragraph.
    #[test]
    fn the_swing_on_f3_is_that_of_the_specification() {
        let adam = Swing::of(&descent(Function::F3, RuleName::Adam).path());
        let diffgrad = Swing::of(&descent(Function::F3, RuleName::DiffGrad).path());
        assert_eq!((adam.turning_points, diffgrad.turning_points), (28.0, 12.0));
        let near =
            |value: f64, expected: f64| assert!((value - expected).abs() < 6e-5, "{value} for {expected}");
        near(adam.late_amplitude, 0.0201);
        near(diffgrad.late_amplitude, 0.0225);
        near(adam.late_sd, 0.0095);
        near(diffgrad.late_sd, 0.0167);
    }
}
