//! Errors say what was expected, what was found and what to do.

use super::*;

fn refused(settings: &Settings, steps: usize) -> String {
    Sampler::new(settings, steps, Precision::Single).unwrap_err().to_string()
}

fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

#[test]
fn numbers_of_steps() {
    for settings in one_of_each(Prediction::Epsilon, Spacing::Leading) {
        says(&refused(&settings, 0), &["0 sampling steps", "expected at least 1"]);
        says(&refused(&settings, 1001), &["1001 sampling steps", "at most 1000", "fewer steps"]);
    }
    let prk = Settings::stable_diffusion(Method::Pndm { skip_prk_steps: false, last_alpha_is_one: false });
    says(&refused(&prk, 3), &["3 sampling steps", "at least 4", "`skip_prk_steps`"]);
    says(
        &refused(&Settings::stable_diffusion_ddim(), 1000),
        &["timestep 1000", "`steps_offset` 1", "below 1000", "fewer steps"],
    );
    let linspace =
        Settings { spacing: Spacing::Linspace, ..Settings::stable_diffusion(Method::Dpm(Dpm::default())) };
    says(&refused(&linspace, 1000), &["at most 999", "fewer steps"]);
}

#[test]
fn combinations_that_the_formulas_do_not_have() {
    let ancestral =
        Settings { prediction: Prediction::Sample, ..Settings::stable_diffusion(Method::EulerAncestral) };
    says(&refused(&ancestral, 10), &["euler-a", "\"sample\"", "use ddim, ddpm"]);
    let inverse = Method::DdimInverse { clip: None, first_alpha_is_one: true };
    let inverse = Settings { spacing: Spacing::Linspace, ..Settings::stable_diffusion(inverse) };
    says(&refused(&inverse, 10), &["inversion", "\"linspace\"", "leading or trailing"]);
    let third = Settings::stable_diffusion(Method::Dpm(Dpm { order: 3, ..Dpm::default() }));
    says(&refused(&third, 10), &["`solver_order` 3", "1 and 2"]);
    let mut dark = Settings { spacing: Spacing::Trailing, ..Settings::stable_diffusion_ddim() };
    dark.schedule.zero_terminal_snr = true;
    says(&refused(&dark, 10), &["`epsilon`", "`rescale_betas_zero_snr`", "`v_prediction`"]);
}

#[test]
fn schedules_without_sense() {
    let mut settings = Settings::stable_diffusion_ddim();
    settings.schedule.train_steps = 1;
    says(&refused(&settings, 1), &["`num_train_timesteps` 1", "at least 2"]);
    for beta in [0.0, 1.0, -0.1, f64::NAN] {
        let mut settings = Settings::stable_diffusion_ddim();
        settings.schedule.beta_end = beta;
        says(&refused(&settings, 10), &["`beta_end`", "between 0 and 1"]);
    }
}

#[test]
fn eta_for_samplers_without_one() {
    let refused = |settings: &Settings, eta: f64| {
        Sampler::with_eta(settings, 10, Precision::Single, eta).unwrap_err().to_string()
    };
    let euler = Settings::stable_diffusion(Method::EulerAncestral);
    says(&refused(&euler, 0.5), &["eta 0.5", "only ddim"]);
    says(&refused(&Settings::stable_diffusion_ddim(), 1.5), &["eta 1.5", "at most 1"]);
    for eta in [-0.1, f64::NAN, f64::INFINITY] {
        says(&refused(&Settings::stable_diffusion_ddim(), eta), &["eta", "at least 0"]);
    }
}

#[test]
fn operands_that_do_not_fit() {
    let sampler = Sampler::new(&Settings::stable_diffusion_ddim(), 10, Precision::Single).unwrap();
    let (x, other) = (normal(1, &[1, 4, 2, 2]), normal(2, &[1, 4, 2, 3]));
    let step = |output: &Tensor, i: usize, noise: Option<&Tensor>| {
        sampler.step(&mut State::new(), output, i, &x, noise).unwrap_err().to_string()
    };
    says(&step(&other, 0, None), &["output [1, 4, 2, 3]", "[1, 4, 2, 2]"]);
    says(&step(&x.to_dtype(DType::F32).unwrap(), 0, None), &["F32", "F64"]);
    says(&step(&x, 10, None), &["step 10", "0 to 9"]);
    says(&step(&x, 0, Some(&x)), &["takes no noise", "takes_noise"]);
    let noisy = Sampler::with_eta(sampler.settings(), 10, Precision::Single, 1.0).unwrap();
    let message = noisy.step(&mut State::new(), &x, 0, &x, None).unwrap_err().to_string();
    says(&message, &["fresh noise", "none was given"]);
    says(&sampler.add_noise(&x, &other, 0).unwrap_err().to_string(), &["noise [1, 4, 2, 3]"]);
    says(&sampler.scale_model_input(&x, 99).unwrap_err().to_string(), &["step 99"]);
    assert!(!sampler.takes_noise(99));
    let cond = sampler.guided_step(&mut State::new(), [&x, &other], 7.5, 0, &x, None);
    says(&cond.unwrap_err().to_string(), &["cond [1, 4, 2, 3]"]);
    let schedule = sampler.schedule();
    says(&schedule.add_noise(&x, &x, &[1, 2]).unwrap_err().to_string(), &["2 timesteps for 1 rows"]);
    says(&schedule.add_noise(&x, &x, &[1000]).unwrap_err().to_string(), &["timestep 1000"]);
}

#[test]
fn a_state_belongs_to_one_run() {
    let x = normal(1, &[2, 4, 2, 2]);
    for settings in one_of_each(Prediction::Epsilon, Spacing::Leading) {
        let sampler = Sampler::new(&settings, 10, Precision::Double).unwrap();
        let mut state = State::new();
        let noise = fresh(&sampler, 3, &x);
        let mut step = |i: usize, x: &Tensor| {
            let noise = noise.as_ref().map(|noise| noise.narrow(0, 0, x.dims()[0]).unwrap());
            sampler.step(&mut state, x, i, x, noise.as_ref())
        };
        // A run may begin anywhere.
        step(3, &x).unwrap();
        let multistep = matches!(settings.method, Method::Pndm { .. } | Method::Dpm(_));
        if multistep {
            says(&step(3, &x).unwrap_err().to_string(), &["step 3 after step 3", "new State"]);
            let message = step(4, &x.narrow(0, 0, 1).unwrap()).unwrap_err().to_string();
            says(&message, &["[1, 4, 2, 2]", "[2, 4, 2, 2]", "new State"]);
            step(4, &x).unwrap();
        } else {
            step(3, &x).unwrap();
            step(0, &x.narrow(0, 0, 1).unwrap()).unwrap();
        }
    }
}

#[test]
fn steps_that_cannot_be_undone() {
    let x = normal(1, &[1, 2]);
    for settings in one_of_each(Prediction::Epsilon, Spacing::Leading) {
        if settings.method == (Method::Ddim { clip: None, last_alpha_is_one: false }) {
            continue;
        }
        let sampler = double(&settings, 10);
        let message = sampler.undo(&x, 0, &x, fresh(&sampler, 0, &x).as_ref()).unwrap_err().to_string();
        says(&message, &["only", "use ddim"]);
    }
    let ending = Method::Ddim { clip: None, last_alpha_is_one: true };
    let ending = Settings { prediction: Prediction::Sample, ..Settings::stable_diffusion(ending) };
    let message = double(&ending, 10).undo(&x, 9, &x, None).unwrap_err().to_string();
    says(&message, &["step 9", "nothing of the sample"]);
}
