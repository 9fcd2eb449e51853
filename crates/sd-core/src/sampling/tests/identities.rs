//! What must hold between samplers, and of each whatever its numbers.

use super::*;
use crate::ops::testing::{check_gradient, distance};

const PREDICTIONS: [Prediction; 3] = [Prediction::Epsilon, Prediction::V, Prediction::Sample];
const SHAPE: [usize; 4] = [3, 2, 3, 5];

fn ddim(prediction: Prediction, spacing: Spacing, last_alpha_is_one: bool) -> Settings {
    let method = Method::Ddim { clip: None, last_alpha_is_one };
    Settings { prediction, spacing, steps_offset: 0, ..Settings::stable_diffusion(method) }
}

fn with_method(settings: Settings, method: Method) -> Settings {
    Settings { method, ..settings }
}

#[test]
fn undoing_every_step_of_ddim_leads_back_to_the_noise() {
    for prediction in PREDICTIONS {
        for (spacing, eta) in [(Spacing::Leading, 0.0), (Spacing::Trailing, 0.6), (Spacing::Leading, 1.0)] {
            let settings = ddim(prediction, spacing, false);
            let sampler = Sampler::with_eta(&settings, 20, Precision::Double, eta).unwrap();
            let samples = run(&sampler, &normal(1, &SHAPE));
            let mut x = samples[20].clone();
            for i in (0..20).rev() {
                let output = model(&samples[i], sampler.timesteps()[i]).unwrap();
                x = sampler.undo(&output, i, &x, fresh(&sampler, i, &x).as_ref()).unwrap();
                let error = distance(&x, &samples[i]);
                assert!(error <= 1e-10, "{prediction:?} {spacing:?} {eta} {i}: {error:e}");
            }
        }
    }
}

#[test]
fn inversion_and_sampling_on_one_answer_cancel() {
    // Where the answer does not depend on the sample, inversion makes no error.
    for spacing in [Spacing::Leading, Spacing::Trailing] {
        let forward = ddim(Prediction::Epsilon, spacing, false);
        let backward = with_method(forward, Method::DdimInverse { clip: None, first_alpha_is_one: false });
        let (clean, answer) = (normal(1, &SHAPE), normal(2, &SHAPE));
        let noisy = run_with(&double(&backward, 25), &clean, |_, _| Ok(answer.clone())).unwrap();
        let back = run_with(&double(&forward, 25), &noisy[25], |_, _| Ok(answer.clone())).unwrap();
        for (i, x) in back.iter().enumerate() {
            let error = distance(x, &noisy[25 - i]);
            assert!(error <= 1e-11, "{spacing:?} {i}: {error:e}");
        }
    }
}

#[test]
fn pndm_repeats_its_second_timestep_and_nothing_else() {
    let settings =
        Settings::stable_diffusion(Method::Pndm { skip_prk_steps: true, last_alpha_is_one: false });
    for steps in [2, 3, 10, 50] {
        let sampler = double(&settings, steps);
        let timesteps = sampler.timesteps();
        assert_eq!(sampler.evaluations(), steps + 1);
        assert_eq!(timesteps[1], timesteps[2.min(steps)]);
        let repeated: Vec<usize> = (1..=steps).filter(|&i| timesteps[i] == timesteps[i - 1]).collect();
        assert_eq!(repeated, [2]);
    }
    assert_eq!(double(&settings, 1).evaluations(), 1);
    let whole = Settings::stable_diffusion(Method::Pndm { skip_prk_steps: false, last_alpha_is_one: false });
    assert_eq!(double(&whole, 10).evaluations(), 19);
}

#[test]
fn pndm_on_one_answer_is_ddim_and_takes_its_first_step_twice() {
    let plain = ddim(Prediction::Epsilon, Spacing::Leading, false);
    let pndm = with_method(plain, Method::Pndm { skip_prk_steps: true, last_alpha_is_one: false });
    let (x, answer) = (normal(1, &SHAPE), normal(2, &SHAPE));
    let one = run_with(&double(&plain, 10), &x, |_, _| Ok(answer.clone())).unwrap();
    let other = run_with(&double(&pndm, 10), &x, |_, _| Ok(answer.clone())).unwrap();
    assert!(distance(&other[1], &other[2]) <= 1e-14);
    for i in 1..=10 {
        let error = distance(&one[i], &other[i + 1]);
        assert!(error <= 1e-12, "{i}: {error:e}");
    }
}

#[test]
fn the_repeated_step_starts_where_the_first_one_did() {
    let settings =
        Settings::stable_diffusion(Method::Pndm { skip_prk_steps: true, last_alpha_is_one: false });
    let sampler = double(&settings, 10);
    let (x, first, second) = (normal(1, &SHAPE), normal(2, &SHAPE), normal(3, &SHAPE));
    let mut state = State::new();
    let between = sampler.step(&mut state, &first, 0, &x, None).unwrap();
    let after = sampler.step(&mut state, &second, 1, &between, None).unwrap();
    let mean = ((first + second).unwrap() * 0.5).unwrap();
    let expected = sampler.step(&mut State::new(), &mean, 0, &x, None).unwrap();
    assert!(distance(&after, &expected) <= 1e-14);
}

#[test]
fn ddim_with_eta_1_is_ancestral_sampling() {
    for prediction in PREDICTIONS {
        let settings = ddim(prediction, Spacing::Leading, true);
        let ancestral = with_method(settings, Method::Ddpm { clip: None, variance: Variance::FixedSmall });
        let one = Sampler::with_eta(&settings, 40, Precision::Double, 1.0).unwrap();
        let other = double(&ancestral, 40);
        assert_eq!(one.timesteps(), other.timesteps());
        let (x, output, noise) = (normal(1, &SHAPE), normal(2, &SHAPE), normal(3, &SHAPE));
        for i in 0..39 {
            let step =
                |sampler: &Sampler| sampler.step(&mut State::new(), &output, i, &x, Some(&noise)).unwrap();
            let error = distance(&step(&one), &step(&other));
            assert!(error <= 1e-11, "{prediction:?} {i}: {error:e}");
        }
        assert!(!other.takes_noise(39), "no noise at timestep 0");
    }
}

#[test]
fn eta_1_from_no_signal_at_all_is_not_nan() {
    // √(1 − ᾱ' − σ²) is 0 there, and its square a rounding below.
    let mut settings = ddim(Prediction::V, Spacing::Trailing, true);
    settings.schedule.zero_terminal_snr = true;
    for precision in [Precision::Single, Precision::Double] {
        for steps in [7, 10, 50] {
            let sampler = Sampler::with_eta(&settings, steps, precision, 1.0).unwrap();
            let last = run(&sampler, &single_noise(1, &SHAPE)).pop().unwrap();
            let sum = last.sum_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(sum.is_finite(), "{precision:?} {steps}");
        }
    }
}

#[test]
fn first_order_dpm_solver_is_ddim() {
    for prediction in PREDICTIONS {
        let settings = ddim(prediction, Spacing::Trailing, true);
        let solver = with_method(settings, Method::Dpm(Dpm { order: 1, ..Dpm::default() }));
        let [one, other] = [settings, solver].map(|settings| run(&double(&settings, 20), &normal(1, &SHAPE)));
        for (i, (a, b)) in one.iter().zip(&other).enumerate() {
            assert!(distance(a, b) <= 1e-11, "{prediction:?} {i}: {:e}", distance(a, b));
        }
    }
}

#[test]
fn euler_is_ddim_in_other_coordinates() {
    for prediction in PREDICTIONS {
        let settings = ddim(prediction, Spacing::Trailing, true);
        let euler = with_method(settings, Method::Euler { karras: false, last: LastSigma::Zero });
        let (one, other) = (double(&settings, 20), double(&euler, 20));
        let first = normal(1, &SHAPE);
        let signal = one.schedule().alphas_cumprod()[999].sqrt();
        let scaled = (&first / signal).unwrap();
        let (a, b) = (run(&one, &first), run(&other, &scaled));
        for i in 1..=20 {
            let seen = if i < 20 { other.scale_model_input(&b[i], i).unwrap() } else { b[20].clone() };
            let error = distance(&a[i], &seen);
            assert!(error <= 1e-11, "{prediction:?} {i}: {error:e}");
        }
    }
}

#[test]
fn a_row_does_not_depend_on_its_neighbours() {
    for spacing in [Spacing::Leading, Spacing::Linspace] {
        for settings in one_of_each(Prediction::Epsilon, spacing) {
            let sampler = Sampler::new(&settings, 12, Precision::Single).unwrap();
            let batch = single_noise(1, &SHAPE);
            let together = run(&sampler, &batch);
            for row in 0..3 {
                let mut state = State::new();
                let mut x = batch.narrow(0, row, 1).unwrap();
                for (i, &t) in sampler.timesteps().iter().enumerate() {
                    let output = model(&sampler.scale_model_input(&x, i).unwrap(), t).unwrap();
                    let noise = fresh(&sampler, i, &batch).map(|noise| noise.narrow(0, row, 1).unwrap());
                    x = sampler.step(&mut state, &output, i, &x, noise.as_ref()).unwrap();
                    let same = together[i + 1].narrow(0, row, 1).unwrap();
                    assert_eq!(distance(&x, &same), 0.0, "{:?} row {row} step {i}", settings.method);
                }
            }
        }
    }
}

#[test]
fn nothing_is_left_of_a_run() {
    for settings in one_of_each(Prediction::V, Spacing::Leading) {
        let sampler = Sampler::new(&settings, 9, Precision::Single).unwrap();
        let (a, b) = (single_noise(1, &SHAPE), single_noise(2, &SHAPE));
        let (alone, other) = (run(&sampler, &a), run(&sampler, &b));
        // Two runs in turn on one sampler, each with its own state.
        let (mut states, mut xs) = ([State::new(), State::new()], [a, b]);
        for (i, &t) in sampler.timesteps().iter().enumerate() {
            for (state, x) in states.iter_mut().zip(&mut xs) {
                let output = model(&sampler.scale_model_input(x, i).unwrap(), t).unwrap();
                *x = sampler.step(state, &output, i, x, fresh(&sampler, i, x).as_ref()).unwrap();
            }
        }
        let last = sampler.evaluations();
        assert_eq!(distance(&xs[0], &alone[last]), 0.0, "{:?}", settings.method);
        assert_eq!(distance(&xs[1], &other[last]), 0.0, "{:?}", settings.method);
    }
}

#[test]
fn the_fused_guided_step_is_guidance_and_then_a_step() {
    let (x, uncond, cond) = (normal(1, &SHAPE), normal(2, &SHAPE), normal(3, &SHAPE));
    let guided = (&uncond + ((&cond - &uncond).unwrap() * 7.5).unwrap()).unwrap();
    for settings in one_of_each(Prediction::Epsilon, Spacing::Leading) {
        for eta in [0.0, 0.7, 1.0] {
            let Ok(sampler) = Sampler::with_eta(&settings, 20, Precision::Double, eta) else { continue };
            let (mut one, mut other) = (State::new(), State::new());
            for i in 0..sampler.evaluations() {
                let noise = fresh(&sampler, i, &x);
                let fused =
                    sampler.guided_step(&mut one, [&uncond, &cond], 7.5, i, &x, noise.as_ref()).unwrap();
                let twice = sampler.step(&mut other, &guided, i, &x, noise.as_ref()).unwrap();
                let error = distance(&fused, &twice);
                assert!(error <= 1e-11, "{:?} eta {eta} step {i}: {error:e}", settings.method);
            }
        }
    }
}

#[test]
fn gradients_of_every_sampler_are_those_of_finite_differences() {
    for prediction in PREDICTIONS {
        for settings in one_of_each(prediction, Spacing::Leading) {
            let sampler = double(&settings, 8);
            // Four steps, so that what a multistep sampler remembers is differentiated too.
            let steps = |inputs: &[Tensor]| {
                let (mut state, mut x) = (State::new(), inputs[0].clone());
                for i in 0..4 {
                    let noise = fresh(&sampler, i, &x);
                    x = sampler.step(&mut state, &inputs[1 + i % 2], i, &x, noise.as_ref())?;
                }
                Ok(x)
            };
            let inputs: Vec<Tensor> = (1..4).map(|seed| (normal(seed, &[1, 2, 2]) * 0.3).unwrap()).collect();
            check_gradient(&inputs, steps);
        }
    }
}

#[test]
fn sixteen_bit_latents_keep_their_dtype_and_are_rounded_once_a_step() {
    for settings in one_of_each(Prediction::Epsilon, Spacing::Leading) {
        let sampler = Sampler::new(&settings, 10, Precision::Single).unwrap();
        for (dtype, unit) in [(DType::F16, 5e-4), (DType::BF16, 4e-3)] {
            let x = single_noise(1, &SHAPE).to_dtype(dtype).unwrap();
            let output = single_noise(2, &SHAPE).to_dtype(dtype).unwrap();
            let noise = fresh(&sampler, 0, &x);
            let step = |dtype: DType| {
                let [x, output] = [&x, &output].map(|tensor| tensor.to_dtype(dtype).unwrap());
                let noise = noise.as_ref().map(|noise| noise.to_dtype(dtype).unwrap());
                sampler.step(&mut State::new(), &output, 0, &x, noise.as_ref()).unwrap()
            };
            let (narrow, wide) = (step(dtype), step(DType::F32));
            assert_eq!(narrow.dtype(), dtype);
            let size = wide.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            let error = distance(&narrow.to_dtype(DType::F32).unwrap(), &wide) / f64::from(size);
            assert!(error <= unit, "{:?} {dtype:?}: {error:e}", settings.method);
            let mut state = State::new();
            let guided = sampler.guided_step(&mut state, [&output, &x], 1.5, 0, &x, noise.as_ref()).unwrap();
            assert_eq!(guided.dtype(), dtype);
            assert_eq!(sampler.scale_model_input(&x, 0).unwrap().dtype(), dtype);
            assert_eq!(sampler.add_noise(&x, &output, 3).unwrap().dtype(), dtype);
        }
    }
}

#[test]
fn added_noise_is_what_the_model_was_trained_on() {
    let schedule = Schedule::new(&ScheduleSettings::stable_diffusion(), Precision::Double).unwrap();
    let (clean, noise) = (normal(1, &SHAPE), normal(2, &SHAPE));
    let settings = Settings::stable_diffusion_ddim();
    for i in [0, 7, 19] {
        let sampler = double(&settings, 20);
        let t = sampler.timesteps()[i] as usize;
        let noisy = schedule.add_noise(&clean, &noise, &[t; 3]).unwrap();
        assert!(distance(&sampler.add_noise(&clean, &noise, i).unwrap(), &noisy) <= 1e-14);
        // The right answer of each kind leads back to the clean sample.
        let velocity = schedule.velocity(&clean, &noise, &[t; 3]).unwrap();
        let answers =
            [(Prediction::Epsilon, &noise), (Prediction::V, &velocity), (Prediction::Sample, &clean)];
        for (prediction, answer) in answers {
            let sampler = double(&Settings { prediction, ..settings }, 20);
            let error = distance(&sampler.denoised(answer, i, &noisy).unwrap(), &clean);
            assert!(error <= 1e-12, "{prediction:?} {i}: {error:e}");
        }
    }
    // Each row has its own timestep.
    let rows = schedule.add_noise(&clean, &noise, &[5, 500, 999]).unwrap();
    for (row, t) in [5, 500, 999].into_iter().enumerate() {
        let alone = schedule.add_noise(&clean, &noise, &[t; 3]).unwrap();
        let [a, b] = [&rows, &alone].map(|x| x.narrow(0, row, 1).unwrap());
        assert_eq!(distance(&a, &b), 0.0);
    }
}

#[test]
fn every_sampler_finds_a_clean_sample_that_the_model_knows() {
    // A model that always answers as for one clean sample is followed to it, whatever the noise.
    let clean = (normal(7, &SHAPE) * 0.5).unwrap();
    for spacing in [Spacing::Trailing, Spacing::Leading] {
        for settings in one_of_each(Prediction::Sample, spacing) {
            if matches!(settings.method, Method::DdimInverse { .. }) {
                continue;
            }
            let settings = with_method(settings, ending_at_no_noise(settings.method));
            let sampler = double(&settings, 30);
            let first = (normal(1, &SHAPE) * sampler.init_noise_sigma()).unwrap();
            let last = run_with(&sampler, &first, |_, _| Ok(clean.clone())).unwrap().pop().unwrap();
            let kept = match settings.method {
                Method::Ddim { clip: Some(bound), .. } => clean.clamp(-bound, bound).unwrap(),
                _ => clean.clone(),
            };
            // Where the last timestep is not 0, ancestral sampling still adds the least noise there is.
            assert!(distance(&last, &kept) <= 1e-9, "{:?}: {:e}", settings.method, distance(&last, &kept));
        }
    }
}

fn ending_at_no_noise(method: Method) -> Method {
    match method {
        Method::Ddim { clip, .. } => Method::Ddim { clip, last_alpha_is_one: true },
        Method::Euler { karras, .. } => Method::Euler { karras, last: LastSigma::Zero },
        Method::Dpm(dpm) => Method::Dpm(Dpm { last: LastSigma::Zero, ..dpm }),
        other => other,
    }
}

#[test]
fn image_to_image_begins_where_the_strength_says() {
    let sampler = double(&Settings::stable_diffusion_ddim(), 50);
    for (strength, first) in [(0.0, 50), (0.3, 35), (0.8, 10), (0.999, 1), (1.0, 0), (7.0, 0)] {
        assert_eq!(sampler.first_index(strength), first, "{strength}");
    }
}
