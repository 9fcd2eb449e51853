//! `scheduler_config.json`: the published ones, what is refused, and the way back.

use serde_json::{Value, json};

use super::*;
use crate::models::config::ConfigError;

/// Stable Diffusion 1.4's.
fn sd14() -> Value {
    json!({
        "_class_name": "PNDMScheduler", "_diffusers_version": "0.7.0.dev0", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
        "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null,
        "clip_sample": false
    })
}

/// Stable Diffusion 2.1's.
fn sd21() -> Value {
    json!({
        "_class_name": "DDIMScheduler", "_diffusers_version": "0.8.0", "beta_end": 0.012,
        "beta_schedule": "scaled_linear", "beta_start": 0.00085, "clip_sample": false,
        "num_train_timesteps": 1000, "prediction_type": "v_prediction", "set_alpha_to_one": false,
        "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null
    })
}

fn with(mut config: Value, field: &str, value: Value) -> Value {
    config[field] = value;
    config
}

fn read(config: &Value) -> std::result::Result<SchedulerConfig, ConfigError> {
    SchedulerConfig::from_json(&config.to_string())
}

fn message(config: &Value) -> String {
    read(config).unwrap_err().to_string()
}

#[test]
fn published_configurations() {
    let one = read(&sd14()).unwrap();
    assert_eq!(one.kind(), SamplerKind::Pndm);
    let pndm = Method::Pndm { skip_prk_steps: true, last_alpha_is_one: false };
    assert_eq!(*one.settings(), Settings::stable_diffusion(pndm));
    let two = read(&sd21()).unwrap();
    let expected = Settings { prediction: Prediction::V, ..Settings::stable_diffusion_ddim() };
    assert_eq!(*two.settings(), expected);
    // `clip_sample` is not PNDM's, and holds for the sampler that takes its place.
    assert_eq!(*one.convert(SamplerKind::Ddim).unwrap().settings(), Settings::stable_diffusion_ddim());
}

#[test]
fn what_would_change_the_arithmetic_is_refused_by_name() {
    let ddim = sd21();
    let euler = with(sd21(), "_class_name", json!("EulerDiscreteScheduler"));
    let dpm = with(sd21(), "_class_name", json!("DPMSolverMultistepScheduler"));
    let ddpm = with(sd21(), "_class_name", json!("DDPMScheduler"));
    let cases = [
        (&ddim, "thresholding", json!(true), "expected false"),
        (&ddim, "trained_betas", json!([0.1, 0.2]), "expected null"),
        (&ddim, "beta_schedule", json!("sigmoid"), "linear or scaled_linear or squaredcos_cap_v2"),
        (&ddim, "prediction_type", json!("flow_prediction"), "epsilon or v_prediction or sample"),
        (&ddim, "timestep_spacing", json!("golden"), "leading or trailing or linspace"),
        (&ddim, "beta_start", json!("small"), "invalid type"),
        (&ddim, "steps_offset", json!(-1), "invalid value"),
        (&ddim, "shiny", json!(1), "unknown"),
        (&euler, "interpolation_type", json!("log_linear"), "expected \"linear\""),
        (&euler, "timestep_type", json!("continuous"), "expected \"discrete\""),
        (&euler, "use_beta_sigmas", json!(true), "expected false"),
        (&euler, "use_exponential_sigmas", json!(true), "expected false"),
        (&euler, "sigma_max", json!(3.0), "expected null"),
        (&dpm, "algorithm_type", json!("sde-dpmsolver++"), "expected \"dpmsolver++\""),
        (&dpm, "solver_order", json!(3), "expected 1 or 2"),
        (&dpm, "solver_type", json!("bh2"), "midpoint or heun"),
        (&dpm, "use_lu_lambdas", json!(true), "expected false"),
        (&dpm, "use_flow_sigmas", json!(true), "expected false"),
        (&dpm, "variance_type", json!("learned_range"), "fixed_small"),
        (&dpm, "final_sigmas_type", json!("one"), "zero or sigma_min"),
        (&ddpm, "variance_type", json!("learned"), "fixed_small or fixed_large"),
    ];
    for (config, field, value, expected) in cases {
        let message = message(&with(config.clone(), field, value));
        assert!(message.contains(field) && message.contains(expected), "{field}: {message}");
    }
    let both = with(with(ddim, "thresholding", json!(true)), "shiny", json!(1));
    assert_eq!(message(&both).lines().count(), 2, "all faults at once");
}

#[test]
fn no_field_of_a_class_is_passed_over() {
    // A field that stands in the configuration of its class either changes the settings, or is refused, or is one of these, which
    // matter only with a setting that is itself refused.
    let idle = ["dynamic_thresholding_ratio", "sample_max_value", "flow_shift", "time_shift_type"];
    for kind in SamplerKind::ALL {
        let plain = read(&json!({"_class_name": kind.class(), "clip_sample": true})).unwrap();
        for (field, value) in plain.to_json().as_object().unwrap() {
            let known = matches!(kind, SamplerKind::Ddim | SamplerKind::DdimInverse | SamplerKind::Ddpm);
            if field.starts_with('_') || idle.contains(&field.as_str()) || (field == "clip_sample" && !known)
            {
                continue;
            }
            let other = match (field.as_str(), value) {
                ("beta_schedule", _) => json!("scaled_linear"),
                ("prediction_type", _) => json!("v_prediction"),
                ("timestep_spacing", _) => json!("trailing"),
                ("solver_type", _) => json!("heun"),
                ("final_sigmas_type", _) => json!("sigma_min"),
                (_, Value::Bool(flag)) => json!(!flag),
                (_, Value::Number(number)) if number.is_u64() => json!(number.as_u64().unwrap() + 1),
                (_, Value::Number(number)) => json!(number.as_f64().unwrap() / 2.0),
                _ => json!("else"),
            };
            let config = with(json!({"_class_name": kind.class(), "clip_sample": true}), field, other);
            let changed = read(&config).map(|changed| changed.settings() != plain.settings());
            assert!(changed.unwrap_or(true), "{kind}: {field} has no effect");
        }
    }
}

#[test]
fn minus_infinity_as_python_writes_it() {
    let text = r#"{"_class_name": "DPMSolverMultistepScheduler", "lambda_min_clipped": -Infinity, "_note": "\"-Infinity"}"#;
    let config = SchedulerConfig::from_json(text).unwrap();
    assert_eq!(config.settings().method, Method::Dpm(Dpm::default()));
    assert!(config.to_json().get("lambda_min_clipped").is_none());
    let clipped = SchedulerConfig::from_json(&text.replace("-Infinity,", "-5.1,")).unwrap();
    assert_eq!(clipped.settings().method, Method::Dpm(Dpm { lambda_min: -5.1, ..Dpm::default() }));
    assert_eq!(clipped.to_json()["lambda_min_clipped"], json!(-5.1));
    let broken = SchedulerConfig::from_json(&text.replace("-Infinity,", "NaN,")).unwrap_err();
    assert!(broken.to_string().contains("line 1 column"), "{broken}");
}

#[test]
fn other_classes_are_refused_and_can_be_replaced() {
    let uni = with(sd14(), "_class_name", json!("UniPCMultistepScheduler"));
    let uni = with(uni, "predict_x0", json!(true));
    let message = message(&uni);
    for part in ["UniPCMultistepScheduler", "DDIMScheduler", "PNDMScheduler", "asked for by name"] {
        assert!(message.contains(part), "no {part} in {message}");
    }
    let ddim = SchedulerConfig::from_json_as(&uni.to_string(), SamplerKind::Ddim).unwrap();
    assert_eq!(*ddim.settings(), Settings::stable_diffusion_ddim());
    assert!(SchedulerConfig::from_json("[]").unwrap_err().to_string().contains("expected a JSON object"));
    assert!(SchedulerConfig::from_json("{}").unwrap_err().to_string().contains("_class_name"));
}

#[test]
fn a_configuration_written_and_read_is_the_same() {
    for prediction in [Prediction::Epsilon, Prediction::V, Prediction::Sample] {
        for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
            for mut settings in one_of_each(prediction, spacing) {
                for beta in [Beta::Linear, Beta::ScaledLinear, Beta::Cosine] {
                    settings.schedule.beta = beta;
                    let written = SchedulerConfig::new(&settings);
                    let read = read(&written.to_json()).unwrap();
                    assert_eq!(*read.settings(), settings);
                    assert_eq!(read.kind(), written.kind());
                    assert_eq!(read.to_json(), written.to_json());
                }
            }
        }
    }
}

#[test]
fn pipelines_correct_old_configurations() {
    let old = json!({"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085,
        "beta_end": 0.012, "set_alpha_to_one": false});
    let corrected = read(&old).unwrap().for_latents().unwrap();
    assert_eq!(*corrected.settings(), Settings::stable_diffusion_ddim());
    let pndm = read(&with(sd14(), "steps_offset", json!(0))).unwrap().for_latents().unwrap();
    assert_eq!(pndm.settings().steps_offset, 1);
    assert_eq!(pndm, read(&sd14()).unwrap());
}

#[test]
fn names_and_near_misses() {
    for kind in SamplerKind::ALL {
        assert_eq!(SamplerKind::from_name(kind.name()).unwrap(), kind);
        assert_eq!(SamplerKind::from_name(&kind.name().to_uppercase()).unwrap(), kind);
    }
    assert_eq!(SamplerKind::from_name("plms").unwrap(), SamplerKind::Pndm);
    assert_eq!(SamplerKind::from_name("Euler_Ancestral").unwrap(), SamplerKind::EulerAncestral);
    for (typed, nearest) in [("dimm", "ddim"), ("eulr", "euler"), ("dpm+", "dpm++"), ("", "ddim")] {
        let message = SamplerKind::from_name(typed).unwrap_err().to_string();
        assert!(message.contains("ddim, ddim-inverse, ddpm, pndm, euler, euler-a, dpm++"), "{message}");
        assert!(message.contains(&format!("did you mean `{nearest}`?")), "{message}");
    }
}
