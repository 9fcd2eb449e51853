//! An arm's optimiser as it stands in the YAML: one flat struct, its defaults, and its checks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which update rule. Symbols: `θ` parameter, `g` gradient (`+ weight_decay·θ`), `t = 1, 2, …` the parameter's own step
/// count, `m ← β1·m + (1−β1)·g`, `v ← β2·v + (1−β2)·g²`, `s = lr·√(1−β2ᵗ)/(1−β1ᵗ)`, `σ` the logistic function,
/// `p` last step's gradient (0 at first).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum RuleName {
    /// SGD with momentum: `b ← momentum·b + g; θ ← θ − lr·b`. No dampening, no Nesterov (torch.optim.SGD).
    #[serde(rename = "sgd")]
    Sgd,
    /// AdaGrad: `S ← S + g²; θ ← θ − lr·g/(√S + eps)` (torch.optim.Adagrad).
    #[serde(rename = "adagrad")]
    AdaGrad,
    /// AdaDelta: `E ← ρE + (1−ρ)g²; d = g·√(U+eps)/√(E+eps); U ← ρU + (1−ρ)d²; θ ← θ − lr·d` (torch.optim.Adadelta).
    #[serde(rename = "adadelta")]
    AdaDelta,
    /// RMSProp: `E ← αE + (1−α)g²; θ ← θ − lr·g/(√E + eps)`; not centred, no bias correction (torch.optim.RMSprop).
    #[serde(rename = "rmsprop")]
    RmsProp,
    /// Adam: `θ ← θ − s·m/(√v + eps)`, or with `epsilon: modern` `θ ← θ − lr/(1−β1ᵗ)·m/(√v/√(1−β2ᵗ) + eps)`.
    #[serde(rename = "adam")]
    Adam,
    /// AMSGrad: as Adam with `w ← max(w, v)` in the place of `v`; the maximum is over the raw `v`, as torch.optim.Adam does.
    #[serde(rename = "amsgrad")]
    AmsGrad,
    /// diffGrad as written (equations 17 to 20, the fixed public code): `ξ = σ(|p − g|); p ← g; θ ← θ − s·ξ·m/(√v + eps)`.
    #[serde(rename = "diffgrad")]
    DiffGrad,
    /// diffGrad as run for the published image tables: `p` was the gradient buffer itself and not a copy, so
    /// `ξ = σ(|g|)` at `t = 1` and `ξ = 1/2` ever after.
    #[serde(rename = "diffgrad_as_run")]
    DiffGradAsRun,
    /// The control: `ξ = 1/2` always, which is Adam with half the step.
    #[serde(rename = "half_step")]
    HalfStep,
    /// Variant 1, sign kept: `ξ = σ(p − g)`.
    #[serde(rename = "diffgrad1")]
    DiffGrad1,
    /// Variant 2: `ξ = 9·σ(|p − g|/2) − 4`, in `[1/2, 5)`. The printed formula has a parenthesis misplaced; this reading has
    /// the printed range.
    #[serde(rename = "diffgrad2")]
    DiffGrad2,
    /// Variant 3: `ξ = σ(ν·|p − g| − μ)`, `μ` and `ν` the mean and standard deviation of `|g|`. Unresolved in the paper: over
    /// what set. Here per tensor, population standard deviation, over `|g|` of this step.
    #[serde(rename = "diffgrad3")]
    DiffGrad3,
    /// Variant 4: as variant 3 with `ν²`; the same reservation.
    #[serde(rename = "diffgrad4")]
    DiffGrad4,
    /// Variant 5: as variant 3 with `√ν`; the same reservation.
    #[serde(rename = "diffgrad5")]
    DiffGrad5,
}

impl RuleName {
    /// Every rule, in the order in which the paper names them.
    pub const ALL: [Self; 14] = [
        Self::Sgd,
        Self::AdaGrad,
        Self::AdaDelta,
        Self::RmsProp,
        Self::Adam,
        Self::AmsGrad,
        Self::DiffGrad,
        Self::DiffGradAsRun,
        Self::HalfStep,
        Self::DiffGrad1,
        Self::DiffGrad2,
        Self::DiffGrad3,
        Self::DiffGrad4,
        Self::DiffGrad5,
    ];

    /// The name in the YAML and in saved states.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sgd => "sgd",
            Self::AdaGrad => "adagrad",
            Self::AdaDelta => "adadelta",
            Self::RmsProp => "rmsprop",
            Self::Adam => "adam",
            Self::AmsGrad => "amsgrad",
            Self::DiffGrad => "diffgrad",
            Self::DiffGradAsRun => "diffgrad_as_run",
            Self::HalfStep => "half_step",
            Self::DiffGrad1 => "diffgrad1",
            Self::DiffGrad2 => "diffgrad2",
            Self::DiffGrad3 => "diffgrad3",
            Self::DiffGrad4 => "diffgrad4",
            Self::DiffGrad5 => "diffgrad5",
        }
    }

    /// Names of the state buffers, each of the parameter's shape and type, zero at first.
    #[must_use]
    pub fn buffers(self) -> &'static [&'static str] {
        match self {
            Self::Sgd => &["momentum"],
            Self::AdaGrad => &["sum"],
            Self::AdaDelta => &["square_avg", "acc_delta"],
            Self::RmsProp => &["square_avg"],
            Self::Adam | Self::DiffGradAsRun | Self::HalfStep => &["m", "v"],
            Self::AmsGrad => &["m", "v", "max_v"],
            _ => &["m", "v", "previous"],
        }
    }

    /// Whether the rule has a friction coefficient `ξ`.
    #[must_use]
    pub fn has_friction(self) -> bool {
        self >= Self::DiffGrad
    }

    /// The rule's own hyper-parameters and their defaults (PyTorch's; momentum 0.9 as in the paper's section VI-B).
    fn defaults(self) -> &'static [(Key, f64)] {
        use Key::{Alpha, Beta1, Beta2, Eps, Momentum, Rho};
        match self {
            Self::Sgd => &[(Momentum, 0.9)],
            Self::AdaGrad => &[(Eps, 1e-10)],
            Self::AdaDelta => &[(Rho, 0.9), (Eps, 1e-6)],
            Self::RmsProp => &[(Alpha, 0.99), (Eps, 1e-8)],
            _ => &[(Beta1, 0.9), (Beta2, 0.999), (Eps, 1e-8)],
        }
    }

    fn takes(self, epsilon: Epsilon) -> bool {
        match epsilon {
            Epsilon::Inside => self == Self::Adam,
            Epsilon::Classic | Epsilon::Modern => self >= Self::Adam,
        }
    }
}

/// Where Adam's family adds `eps`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Epsilon {
    /// `√v + eps`, the bias corrections in the step: PyTorch up to 1.2 and diffGrad's code, so the comparison is clean.
    #[default]
    Classic,
    /// `√v/√(1−β2ᵗ) + eps`: PyTorch since August 2019, and the formulas as the paper prints them.
    Modern,
    /// `√(v/(1−β2ᵗ) + eps)`, `adam` only: the Adam of the authors' notebooks on the synthetic functions.
    Inside,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Momentum,
    Rho,
    Alpha,
    Beta1,
    Beta2,
    Eps,
}

impl Key {
    const ALL: [Self; 6] = [Self::Momentum, Self::Rho, Self::Alpha, Self::Beta1, Self::Beta2, Self::Eps];

    fn name(self) -> &'static str {
        match self {
            Self::Momentum => "momentum",
            Self::Rho => "rho",
            Self::Alpha => "alpha",
            Self::Beta1 => "beta1",
            Self::Beta2 => "beta2",
            Self::Eps => "eps",
        }
    }
}

/// One optimiser, as written under an arm. What is left out takes the rule's default; a hyper-parameter that the rule does
/// not have is refused by [`OptimiserConfig::validate`], never ignored.
///
/// ```yaml
/// {rule: diffgrad, lr: 1.0e-3, beta1: 0.9, beta2: 0.999, eps: 1.0e-8, weight_decay: 0.0}
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OptimiserConfig {
    /// The update rule.
    pub rule: RuleName,
    /// Learning rate, at least 0. A schedule multiplies it.
    pub lr: f64,
    /// `sgd`: momentum, default 0.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub momentum: Option<f64>,
    /// `adadelta`: decay of both averages, default 0.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rho: Option<f64>,
    /// `rmsprop`: decay of the average of squares, default 0.99.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Adam's family: decay of the first moment, default 0.9.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta1: Option<f64>,
    /// Adam's family: decay of the second moment, default 0.999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta2: Option<f64>,
    /// Added to the denominator: default 1e-8; 1e-10 for `adagrad`, 1e-6 for `adadelta`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eps: Option<f64>,
    /// Adam's family: where `eps` is added, default `classic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<Epsilon>,
    /// Coupled L2: `g ← g + weight_decay·θ` before everything else. Default 0.
    #[serde(default)]
    pub weight_decay: f64,
}

/// A value of an [`OptimiserConfig`] that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("optimiser: `{key}` must be {expected}, found {found}")]
pub struct ConfigFault {
    /// The key, as in the YAML.
    pub key: &'static str,
    /// What may stand there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl OptimiserConfig {
    /// `rule` at learning rate `lr`, everything else at its default.
    #[must_use]
    pub fn new(rule: RuleName, lr: f64) -> Self {
        Self {
            rule,
            lr,
            momentum: None,
            rho: None,
            alpha: None,
            beta1: None,
            beta2: None,
            eps: None,
            epsilon: None,
            weight_decay: 0.0,
        }
    }

    /// Checks that every value is finite and in range, and that the rule has every hyper-parameter given.
    ///
    /// # Errors
    /// The first fault, by key.
    pub fn validate(&self) -> Result<(), ConfigFault> {
        not_negative("lr", self.lr)?;
        not_negative("weight_decay", self.weight_decay)?;
        for key in Key::ALL {
            if let Some(value) = self.get(key) {
                self.check_known(key.name(), self.rule.defaults().iter().any(|(k, _)| *k == key), value)?;
                check_range(key, value)?;
            }
        }
        match self.epsilon {
            Some(epsilon) => self.check_epsilon(epsilon),
            None => Ok(()),
        }
    }

    /// The same optimiser with every default written out.
    #[must_use]
    pub fn resolved(&self) -> Self {
        let mut full = self.clone();
        for (key, default) in self.rule.defaults() {
            full.slot(*key).get_or_insert(*default);
        }
        if self.rule.takes(Epsilon::Classic) {
            full.epsilon.get_or_insert_default();
        }
        full
    }

    fn check_known(&self, key: &'static str, known: bool, found: impl ToString) -> Result<(), ConfigFault> {
        let expected = || format!("left out, since rule `{}` has no `{key}`", self.rule.name());
        if known { Ok(()) } else { Err(ConfigFault { key, expected: expected(), found: found.to_string() }) }
    }

    fn check_epsilon(&self, epsilon: Epsilon) -> Result<(), ConfigFault> {
        let found = format!("{epsilon:?}").to_lowercase();
        if self.rule.takes(Epsilon::Classic) && !self.rule.takes(epsilon) {
            let expected = format!("classic or modern, since rule `{}` has no other", self.rule.name());
            return Err(ConfigFault { key: "epsilon", expected, found });
        }
        self.check_known("epsilon", self.rule.takes(epsilon), found)
    }

    fn get(&self, key: Key) -> Option<f64> {
        match key {
            Key::Momentum => self.momentum,
            Key::Rho => self.rho,
            Key::Alpha => self.alpha,
            Key::Beta1 => self.beta1,
            Key::Beta2 => self.beta2,
            Key::Eps => self.eps,
        }
    }

    fn slot(&mut self, key: Key) -> &mut Option<f64> {
        match key {
            Key::Momentum => &mut self.momentum,
            Key::Rho => &mut self.rho,
            Key::Alpha => &mut self.alpha,
            Key::Beta1 => &mut self.beta1,
            Key::Beta2 => &mut self.beta2,
            Key::Eps => &mut self.eps,
        }
    }

    /// The value in use: the one given or the rule's default, 0 where the rule has none.
    fn value(&self, key: Key) -> f64 {
        let default =
            || self.rule.defaults().iter().find(|(k, _)| *k == key).map_or(0.0, |(_, value)| *value);
        self.get(key).unwrap_or_else(default)
    }

    /// The numbers a step needs, defaults filled in.
    pub(crate) fn hyper(&self) -> Hyper {
        Hyper {
            rule: self.rule,
            lr: self.lr,
            decay: match self.rule {
                RuleName::Sgd => self.value(Key::Momentum),
                RuleName::AdaDelta => self.value(Key::Rho),
                RuleName::RmsProp => self.value(Key::Alpha),
                _ => self.value(Key::Beta1),
            },
            beta2: self.value(Key::Beta2),
            eps: self.value(Key::Eps),
            epsilon: self.epsilon.unwrap_or_default(),
            weight_decay: self.weight_decay,
        }
    }
}

/// A validated configuration with its defaults, as the kernels read it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Hyper {
    pub(crate) rule: RuleName,
    pub(crate) lr: f64,
    /// The one decay of the rules that have one (momentum, ρ, α), else β1.
    pub(crate) decay: f64,
    pub(crate) beta2: f64,
    pub(crate) eps: f64,
    pub(crate) epsilon: Epsilon,
    pub(crate) weight_decay: f64,
}

fn not_negative(key: &'static str, value: f64) -> Result<(), ConfigFault> {
    check(key, value, value.is_finite() && value >= 0.0, "a finite number of at least 0")
}

fn check_range(key: Key, value: f64) -> Result<(), ConfigFault> {
    match key {
        Key::Eps | Key::Momentum => not_negative(key.name(), value),
        _ => check(key.name(), value, (0.0..1.0).contains(&value), "a number in [0, 1)"),
    }
}

fn check(key: &'static str, value: f64, good: bool, expected: &str) -> Result<(), ConfigFault> {
    if good {
        Ok(())
    } else {
        Err(ConfigFault { key, expected: expected.to_owned(), found: value.to_string() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn fault(change: impl Fn(&mut OptimiserConfig)) -> String {
        let mut config = OptimiserConfig::new(RuleName::Adam, 1e-3);
        change(&mut config);
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn names_agree_with_serde_and_defaults_are_valid() {
        for rule in RuleName::ALL {
            assert_eq!(serde_json::to_value(rule).unwrap(), rule.name());
            let config = OptimiserConfig::new(rule, 1e-3).resolved();
            config.validate().unwrap();
            assert_eq!(config, config.resolved());
            assert_eq!(config.hyper(), OptimiserConfig::new(rule, 1e-3).hyper());
        }
    }

    #[test]
    fn faults_name_key_expectation_and_finding() {
        assert_eq!(
            fault(|c| c.lr = f64::NAN),
            "optimiser: `lr` must be a finite number of at least 0, found NaN"
        );
        assert_eq!(
            fault(|c| c.weight_decay = -1.0),
            "optimiser: `weight_decay` must be a finite number of at least 0, found -1"
        );
        assert_eq!(fault(|c| c.beta2 = Some(1.0)), "optimiser: `beta2` must be a number in [0, 1), found 1");
        assert_eq!(
            fault(|c| c.momentum = Some(0.9)),
            "optimiser: `momentum` must be left out, since rule `adam` has no `momentum`, found 0.9"
        );
        let with =
            |rule, epsilon| OptimiserConfig { epsilon: Some(epsilon), ..OptimiserConfig::new(rule, 1e-3) };
        assert_eq!(with(RuleName::DiffGrad, Epsilon::Modern).validate(), Ok(()));
        assert_eq!(
            with(RuleName::DiffGrad, Epsilon::Inside).validate().unwrap_err().to_string(),
            "optimiser: `epsilon` must be classic or modern, since rule `diffgrad` has no other, found inside"
        );
        assert_eq!(
            with(RuleName::Sgd, Epsilon::Modern).validate().unwrap_err().to_string(),
            "optimiser: `epsilon` must be left out, since rule `sgd` has no `epsilon`, found modern"
        );
    }

    #[test]
    fn unknown_keys_are_refused() {
        let text = r#"{"rule": "diffgrad", "lr": 0.001, "bta1": 0.9}"#;
        let error = serde_json::from_str::<OptimiserConfig>(text).unwrap_err().to_string();
        assert!(error.contains("unknown field `bta1`"), "{error}");
    }
}
