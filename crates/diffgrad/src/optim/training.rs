//! [`Optimiser`] as what [`sd_core::train::run`] steps with.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor};

use super::Optimiser;

impl sd_core::train::Optimiser for Optimiser {
    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        Ok(self.step(gradients)?)
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.set_learning_rate(lr);
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        Ok(self.state()?)
    }

    fn restore(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        Ok(self.restore(&state.into_iter().collect())?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;
    use std::time::Duration;

    use candle_core::{DType, Device};
    use sd_core::nn::{Linear, Parameters, Scope};
    use sd_core::train::{Decay, Outcome, Run, Schedule, Watch, run};

    use super::*;
    use crate::optim::{OptimiserConfig, RuleName};

    /// Stops after so many steps.
    struct StopAfter(u64);

    impl Watch for StopAfter {
        fn stop(&mut self) -> bool {
            self.0 == 0
        }

        fn after_step(&mut self, _: u64, _: Option<&sd_core::train::Ema>) -> Result<()> {
            self.0 -= 1;
            Ok(())
        }
    }

    /// One sitting of a fit of a line, all objects made anew: the bits of its weight, and why it ended.
    fn sitting(rule: RuleName, checkpoint: &Path, stop: u64) -> (Vec<u32>, Outcome) {
        let mut parameters = Parameters::default();
        let mut root = Scope::root(&mut parameters, 3, DType::F32, &Device::Cpu);
        let line = Linear::new(&mut root, 4, 2).unwrap();
        let named = parameters.named().map(|(name, var)| (name.to_owned(), var.clone())).collect();
        let mut optimiser = Optimiser::named(named, &OptimiserConfig::new(rule, 1.0)).unwrap();
        let settings = Run {
            parameters: &parameters,
            optimiser: &mut optimiser,
            schedule: Schedule { peak: 0.02, warmup: 3, decay: Decay::Linear, steps: 12, floor: 0.0 },
            ema: None,
            clip: None,
            checkpoint: checkpoint.to_owned(),
            checkpoint_every: Duration::from_secs(3600),
            log_every: 5,
            configuration: rule.name().to_owned(),
        };
        let mut loss = |step: u64| {
            let x = Tensor::arange(step as f32, step as f32 + 12.0, &Device::Cpu)?.reshape((3, 4))?;
            line.forward(&x.sin()?)?.sqr()?.mean_all()
        };
        let trained = run(settings, &mut loss, &mut StopAfter(stop)).unwrap();
        let weight = parameters.vars()[0].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        (weight.into_iter().map(f32::to_bits).collect(), trained.outcome)
    }

    #[test]
    fn every_rule_resumes_bit_for_bit() {
        let folder = std::env::temp_dir().join(format!("difflab-every-rule-resumes-{}", std::process::id()));
        for rule in RuleName::ALL {
            let (whole, ended) = sitting(rule, &folder.join(format!("{} whole", rule.name())), 12);
            assert_eq!(ended, Outcome::Finished);
            let checkpoint = folder.join(rule.name());
            assert_eq!(sitting(rule, &checkpoint, 4).1, Outcome::Stopped { step: 4 });
            assert_eq!(sitting(rule, &checkpoint, 8), (whole, Outcome::Finished), "{}", rule.name());
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
