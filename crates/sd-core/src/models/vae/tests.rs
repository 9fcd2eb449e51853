//! Against diffusers, whose activations `tools/parity/vae.py` wrote down.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor, Var};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{AutoencoderKL, Config, DiagonalGaussian};
use crate::models::testing::{Against, Golden, State, golden, torch_randn, torch_state};
use crate::nn::{Scope, Specification};
use crate::taps::{Choice, Kind, NoTap, Record, Replace, Site, StopAt, Tap, until_stop};

/// Name, seed, shapes of picture and latent: as in the script.
const CASES: [(&str, u64, [usize; 4], [usize; 4]); 3] = [
    ("tiny", 1000, [2, 3, 80, 48], [2, 4, 40, 24]),
    ("deep", 2000, [2, 3, 77, 61], [2, 4, 11, 7]),
    ("flat", 3000, [2, 1, 9, 14], [2, 3, 13, 6]),
];

fn document(name: &str) -> Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn config(name: &str) -> Config {
    Config::from_json(&document("vae_configs.json")["configs"][name].to_string()).unwrap()
}

fn specification(config: &Config) -> Specification {
    Specification::of(|scope| AutoencoderKL::new(scope, config)).unwrap()
}

fn model(config: &Config, seed: u64, dtype: DType) -> AutoencoderKL {
    let state = torch_state(&specification(config).parameters, seed);
    AutoencoderKL::new(&mut Scope::of(&mut State::new(state, dtype)), config).unwrap()
}

/// The sites of one way, `encode` or `decode`.
fn sites(config: &Config, way: &str) -> Vec<Site> {
    let mut sites = specification(config).sites;
    let decode = sites
        .iter()
        .position(|site| site.path().starts_with("post_quant_conv") || site.path().starts_with("decoder"));
    let decoding = sites.split_off(decode.unwrap());
    if way == "encode" { sites } else { decoding }
}

/// One model in one precision, and how near it is to be.
struct Case {
    model: AutoencoderKL,
    seed: u64,
    dtype: DType,
    /// Of activations and of gradients.
    tolerances: [f64; 2],
}

impl Case {
    fn input(&self, offset: u64, shape: &[usize]) -> Tensor {
        torch_randn(self.seed + 100_000 + offset, shape).to_dtype(self.dtype).unwrap()
    }

    /// Checks outputs and the gradient of their product with random numbers, those from `offset` on.
    fn finish(&self, golden: &Golden, leaf: (&str, &Var), outputs: &[(&str, &Tensor)], offset: u64) {
        let mut loss = Tensor::zeros((), self.dtype, &Device::Cpu).unwrap();
        for (i, (name, y)) in outputs.iter().enumerate() {
            if let Some(fingerprint) = golden.get(*name) {
                fingerprint.check(name, y, self.tolerances[0]);
            }
            let product = (*y * self.input(offset + i as u64, y.dims())).unwrap();
            loss = (loss + product.sum_all().unwrap()).unwrap();
        }
        let gradients = loss.backward().unwrap();
        golden[leaf.0].check(leaf.0, gradients.get(leaf.1).unwrap(), self.tolerances[1]);
    }

    fn encode(&self, golden: &Golden, shape: &[usize]) -> Vec<String> {
        let picture = Var::from_tensor(&self.input(0, shape)).unwrap();
        let mut tap = Against::new(golden, self.tolerances[0]);
        let posterior = self.model.encode(&picture, &mut tap).unwrap();
        let sample = posterior.sample(&self.input(1, posterior.mean.dims())).unwrap();
        let outputs = [("mean", posterior.mode()), ("logvar", &posterior.logvar), ("sample", &sample)];
        self.finish(golden, ("gradient of picture", &picture), &outputs, 2);
        tap.finish(&["mean", "logvar", "sample", "gradient of picture"]);
        tap.seen
    }

    fn decode(&self, golden: &Golden, shape: &[usize]) -> Vec<String> {
        let latent = Var::from_tensor(&self.input(5, shape)).unwrap();
        let mut tap = Against::new(golden, self.tolerances[0]);
        let decoded = self.model.decode(&latent, &mut tap).unwrap();
        self.finish(golden, ("gradient of latent", &latent), &[("decoded", &decoded)], 6);
        tap.finish(&["gradient of latent"]);
        tap.seen
    }
}

/// In double precision to the digits that the goldens keep, which shows the arithmetic; in single precision within its rounding.
#[test]
fn every_activation_and_the_gradients_are_those_of_diffusers() {
    let goldens = golden("vae.json");
    for (dtype, tolerances) in [(DType::F32, [1e-5, 1e-4]), (DType::F64, [2e-8, 2e-8])] {
        for (name, seed, picture, latent) in CASES {
            let config = config(name);
            let case = Case { model: model(&config, seed, dtype), seed, dtype, tolerances };
            let names = |way| sites(&config, way).iter().map(Site::to_string).collect::<Vec<_>>();
            assert_eq!(case.encode(&goldens[&format!("{name} encode")], &picture), names("encode"));
            assert_eq!(case.decode(&goldens[&format!("{name} decode")], &latent), names("decode"));
        }
    }
}

#[test]
fn the_published_model_has_the_parameters_that_diffusers_gives_it() {
    let text = r#"{"_class_name": "AutoencoderKL", "_diffusers_version": "0.6.0", "act_fn": "silu",
        "block_out_channels": [128, 256, 512, 512], "in_channels": 3, "out_channels": 3, "latent_channels": 4,
        "down_block_types": ["DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D"],
        "layers_per_block": 2, "norm_num_groups": 32, "sample_size": 512}"#;
    let config = Config::from_json(text).unwrap();
    assert_eq!((config.scale(), config.scaling_factor), (8, 0.18215));
    let specification = specification(&config);
    let mut names: Vec<String> =
        specification.parameters.iter().map(|(name, shape)| format!("{name} {shape:?}")).collect();
    names.sort();
    let digest: String = Sha256::digest(names.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
    let found = json!({"parameters": specification.count(), "tensors": names.len(), "sha256": digest});
    assert_eq!(found, document("keys_vae.json")["published"]);
    assert_eq!(specification.count(), 83_653_863);
}

/// diffusers' own dictionary of a model's configuration is what we write.
#[test]
fn configurations_are_written_as_diffusers_writes_them() {
    for (name, ..) in CASES {
        let config = config(name);
        let mut written = config.to_json();
        assert_eq!(Config::from_json(&written.to_string()).unwrap(), config);
        assert_eq!(written.as_object_mut().unwrap().remove("_class_name"), Some(json!("AutoencoderKL")));
        let mut expected = document("vae_configs.json")["configs"][name].clone();
        // Two names of one function.
        if expected["act_fn"] == "swish" {
            expected["act_fn"] = json!("silu");
        }
        assert_eq!(written, expected, "{name}");
    }
}

#[test]
fn what_would_be_another_model_is_refused_by_name() {
    let text = json!({
        "act_fn": "relu", "block_out_channels": [32, 48], "down_block_types": ["DownEncoderBlock2D"],
        "up_block_types": ["UpDecoderBlock2D", "AttnUpDecoderBlock2D"], "latents_mean": [0.5], "shift_factor": 0.1,
        "scaling_factor": 0.0, "layers_per_block": 0, "spatial": true,
    });
    let message = Config::from_json(&text.to_string()).unwrap_err().to_string();
    for part in [
        "`act_fn`: expected \"silu\" or \"swish\", found \"relu\"",
        "`norm_num_groups`: 48 channels cannot be split into 32 groups",
        "`down_block_types`: expected one for each of the 2 `block_out_channels`, found 1",
        "`up_block_types`: expected UpDecoderBlock2D, found AttnUpDecoderBlock2D",
        "`latents_mean`: expected null",
        "`shift_factor`: expected null",
        "`scaling_factor`: expected a number other than 0",
        "`layers_per_block`: expected at least 1",
        "`spatial`: unknown",
    ] {
        assert!(message.contains(part), "no {part:?} in {message}");
    }
    let error = |text: &str| Config::from_json(text).unwrap_err().to_string();
    assert!(error(r#"{"block_out_channels": []}"#).contains("one number a level"));
    assert!(error(r#"{"_class_name": "AutoencoderTiny"}"#).contains("expected AutoencoderKL"));
}

fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// One way through a model.
type Pass = Box<dyn Fn(&Tensor, &mut dyn Tap) -> Result<Tensor> + Sync>;

/// A model of one way as a function, with an input for it.
fn ways(
    model: &AutoencoderKL,
    case: (&str, u64, [usize; 4], [usize; 4]),
) -> [(&'static str, Tensor, Pass); 2] {
    let (_, seed, picture, latent) = case;
    ["encode", "decode"].map(|way| {
        let (encode, model) = (way == "encode", model.clone());
        let pass: Pass = Box::new(move |x: &Tensor, tap: &mut dyn Tap| match encode {
            true => model.encode(x, tap).and_then(|d| Tensor::cat(&[&d.mean, &d.logvar], 1)),
            false => model.decode(x, tap),
        });
        (way, torch_randn(seed, if encode { &picture } else { &latent }), pass)
    })
}

/// Also holds the whole batch at once, as a tap sees it, against the rows one by one, as they are without one. The map in sight goes
/// another way through attention than the map out of sight, so it is held against a pass that sees it.
#[test]
fn replacing_an_activation_by_itself_changes_no_bit() {
    for case in CASES {
        let config = config(case.0);
        for (way, x, pass) in ways(&model(&config, case.1, DType::F32), case) {
            let (maps, others): (Vec<Site>, Vec<Site>) =
                sites(&config, way).into_iter().partition(|site| site.kind() == Kind::Map);
            assert_eq!(maps.len(), usize::from(config.mid_block_add_attention));
            let unseen = bits(&pass(&x, &mut NoTap).unwrap());
            for (sites, expected) in [(others, Some(unseen)), (maps, None)] {
                let mut record = Record::new(Choice::These(sites.clone()));
                let output = bits(&pass(&x, &mut record).unwrap());
                let expected = expected.unwrap_or_else(|| output.clone());
                assert!(output == expected, "{} {way}", case.0);
                assert!(record.seen.iter().map(|(site, _)| site).eq(&sites));
                for (site, value) in record.seen {
                    let patched = pass(&x, &mut Replace::default().whole(site.clone(), value)).unwrap();
                    assert!(bits(&patched) == expected, "{} {way} {site}", case.0);
                }
            }
        }
    }
}

#[test]
fn a_batch_is_its_rows() {
    for case in CASES {
        for (way, x, pass) in ways(&model(&config(case.0), case.1, DType::F32), case) {
            let whole = pass(&x, &mut NoTap).unwrap();
            for row in 0..2 {
                let alone = pass(&x.narrow(0, row, 1).unwrap(), &mut NoTap).unwrap();
                assert!(
                    bits(&alone) == bits(&whole.narrow(0, row, 1).unwrap()),
                    "{} {way} row {row}",
                    case.0
                );
            }
        }
    }
}

#[test]
fn a_pass_stops_at_any_site_with_the_whole_batch_and_leaves_nothing_behind() {
    let case = CASES[1];
    let config = config(case.0);
    for (way, x, pass) in ways(&model(&config, case.1, DType::F32), case) {
        let whole = pass(&x, &mut NoTap).unwrap();
        for site in sites(&config, way) {
            let mut stop = StopAt::new(site.clone());
            assert!(until_stop(&mut stop, |tap| pass(&x, tap)).unwrap().is_none(), "{site}");
            assert_eq!(stop.value.unwrap().dims()[0], 2, "{site}");
        }
        assert!(bits(&pass(&x, &mut NoTap).unwrap()) == bits(&whole), "{way}");
    }
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    let case = CASES[1];
    let model = model(&config(case.0), case.1, DType::F32);
    for (way, x, pass) in ways(&model, case) {
        let run = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            bits(&pool.install(|| pass(&x, &mut NoTap)).unwrap())
        };
        assert!(run(1) == run(3), "{way}");
    }
}

#[test]
fn logarithms_of_variances_are_held_between_bounds() {
    let moments = Tensor::new(&[[[[1.0f32]], [[2.0]], [[-90.0]], [[21.0]]]], &Device::Cpu).unwrap();
    let posterior = DiagonalGaussian::new(&moments).unwrap();
    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(values(posterior.mode()), [1.0, 2.0]);
    assert_eq!(values(&posterior.logvar), [-30.0, 20.0]);
    let noise = Tensor::new(&[[[[1e6f32]], [[-1.0]]]], &Device::Cpu).unwrap();
    let sample = values(&posterior.sample(&noise).unwrap());
    assert!((sample[0] - 1.305_902_3).abs() < 1e-5 && (sample[1] + 22_024.465).abs() < 0.01, "{sample:?}");
    let message = posterior.sample(&moments).unwrap_err().to_string();
    assert!(message.contains("expected noise [1, 2, 1, 1], found [1, 4, 1, 1]"), "{message}");
}

#[test]
fn what_does_not_fit_is_refused_with_what_was_expected() {
    let vae = model(&config("deep"), 2000, DType::F32);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let encode = |shape: &[usize]| vae.encode(&zeros(shape), &mut NoTap).unwrap_err().to_string();
    let decode = |shape: &[usize]| vae.decode(&zeros(shape), &mut NoTap).unwrap_err().to_string();
    assert!(
        encode(&[1, 4, 64, 64])
            .contains("a picture (B,3,H,W) with sides of at least 8, found [1, 4, 64, 64]")
    );
    assert!(encode(&[1, 3, 7, 64]).contains("at least 8"));
    assert!(encode(&[3, 64, 64]).contains("found [3, 64, 64]"));
    assert!(decode(&[1, 3, 8, 8]).contains("a latent (B,4,H,W)"));
    assert!(decode(&[1, 4, 0, 8]).contains("at least 1"));
    assert!(decode(&[0, 4, 8, 8]).contains("found [0, 4, 8, 8]"));
    assert_eq!(vae.encode(&zeros(&[1, 3, 8, 8]), &mut NoTap).unwrap().mean.dims(), [1, 4, 1, 1]);
    assert_eq!(vae.decode(&zeros(&[1, 4, 1, 1]), &mut NoTap).unwrap().dims(), [1, 3, 8, 8]);
}
