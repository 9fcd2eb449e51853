//! Cases of the optimisers, to the bit: what the pass on the CPU makes of the same numbers in `f32`. The variants 3 to 5 are left
//! out, since their mean and deviation are summed in another order.

use candle_core::{Error, Result};
use diffgrad::optim::fused::{self, Slices};
use diffgrad::optim::{Epsilon, OptimiserConfig, RuleName, cuda};
use sd_core::cuda::Element;

use super::{Case, Job, normals};
use crate::{Data, Expected, Tolerance};

const LENGTHS: [usize; 3] = [5, 1030, 32_771];
const STEPS: [u64; 3] = [1, 2, 900];

pub(super) fn cases() -> Vec<Case> {
    let spread = [RuleName::DiffGrad3, RuleName::DiffGrad4, RuleName::DiffGrad5];
    let rules = RuleName::ALL.into_iter().filter(move |rule| !spread.contains(rule));
    let elsewhere = [Epsilon::Modern, Epsilon::Inside].map(|epsilon| (RuleName::Adam, Some(epsilon)));
    let both = rules.map(|rule| (rule, None)).chain(elsewhere);
    both.map(|(rule, epsilon)| {
        let config = OptimiserConfig { weight_decay: 0.03, epsilon, ..OptimiserConfig::new(rule, 0.02) };
        let name = format!("bits of the CPU {} {epsilon:?}", rule.name());
        Case::new("optimiser", name, move || job(&config))
    })
    .collect()
}

/// For each buffer (θ, the states, the gradient) and parameter some numbers; averages of squares are not negative.
fn numbers(buffer: usize, squares: bool) -> Vec<Vec<f32>> {
    let of = |(parameter, length): (usize, &usize)| {
        let values = normals((10 * buffer + parameter) as u64, *length, Element::F32);
        values.iter().map(|x| (if squares { x * x } else { *x }) as f32).collect()
    };
    LENGTHS.iter().enumerate().map(of).collect()
}

fn job(config: &OptimiserConfig) -> Result<Job> {
    let squares = |name: &&str| ["v", "max_v", "sum", "square_avg", "acc_delta"].contains(name);
    let names = config.rule.buffers();
    let (gradients, mut thetas) = (numbers(0, false), numbers(1, false));
    let mut states: Vec<_> = names.iter().zip(2..).map(|(name, at)| numbers(at, squares(name))).collect();
    let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let single = |values: &Vec<f32>| Data::from_f64(Element::F32, &wide(values));
    let mut inputs = vec![
        Data::from_u32(&cuda::chunks(&LENGTHS)),
        Data::from_i64(&cuda::lengths(&LENGTHS)),
        single(&cuda::scalars(config, &STEPS)),
    ];
    inputs.extend(gradients.iter().chain(&thetas).chain(states.iter().flatten()).map(single));
    on_the_cpu(config, &gradients, &mut thetas, &mut states)?;
    let exact = |name, values: &Vec<f32>| Expected {
        tolerance: Tolerance { relative: 0.0, absolute: 0.0 },
        ..Expected::new(name, Element::F32, wide(values))
    };
    let theta = thetas.iter().map(|values| exact("theta", values));
    let state = states.iter().flatten().map(|values| exact("state", values));
    Ok(Job { program: cuda::step(config, &LENGTHS)?, inputs, expected: theta.chain(state).collect() })
}

fn on_the_cpu(
    config: &OptimiserConfig,
    gradients: &[Vec<f32>],
    thetas: &mut [Vec<f32>],
    states: &mut [Vec<Vec<f32>>],
) -> Result<()> {
    for (parameter, theta) in thetas.iter_mut().enumerate() {
        let mut own = states.iter_mut().map(|state| state[parameter].as_mut_slice());
        let state = [(); 3].map(|()| own.next().unwrap_or_default());
        let slices = Slices { theta, gradient: &gradients[parameter], state, t: STEPS[parameter] };
        fused::step(config, vec![slices], None).map_err(Error::wrap)?;
    }
    Ok(())
}
