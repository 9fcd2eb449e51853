//! Against diffusers, activation by activation; the published sizes; what taps may and may not do.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor, Var};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::models::testing::{Against, State, golden, torch_randn, torch_state};
use crate::nn::{Parameters, Specification};
use crate::taps::{Action, Choice, CopyRows, NoTap, Record, Replace, StopAt, site, sites, until_stop};

/// One of the cases of `tools/parity/unet.py`.
struct Case {
    name: &'static str,
    seed: u64,
    size: [usize; 4],
    timesteps: &'static [f64],
    tokens: usize,
}

const CASES: [Case; 4] = [
    Case { name: "1.x", seed: 1000, size: [2, 4, 72, 56], timesteps: &[501.0], tokens: 11 },
    Case { name: "2.x", seed: 2000, size: [2, 4, 24, 16], timesteps: &[3.0, 981.0], tokens: 7 },
    Case { name: "inpainting", seed: 3000, size: [2, 9, 21, 27], timesteps: &[249.75], tokens: 5 },
    Case { name: "tiny", seed: 4000, size: [2, 4, 16, 12], timesteps: &[0.0, 10.0], tokens: 3 },
];

fn read<T: for<'a> Deserialize<'a>>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn config(name: &str) -> Config {
    let all: Value = read("unet_configs.json");
    Config::from_json(&all["configs"][name].to_string()).unwrap()
}

/// The network of a case with PyTorch's random weights, and its inputs.
struct Made {
    model: UNet2DConditionModel,
    sample: Tensor,
    context: Tensor,
    cotangent: Tensor,
}

impl Case {
    fn make(&self, dtype: DType) -> Made {
        let config = config(self.name);
        let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, &config)).unwrap();
        let mut state = State::new(torch_state(&specification.parameters, self.seed), dtype);
        let model = UNet2DConditionModel::new(&mut Scope::of(&mut state), &config).unwrap();
        let [b, _, h, w] = self.size;
        let draw =
            |i: u64, shape: &[usize]| torch_randn(self.seed + 100_000 + i, shape).to_dtype(dtype).unwrap();
        let context = draw(1, &[b, self.tokens, config.levels[0].context]);
        Made { model, sample: draw(0, &self.size), context, cotangent: draw(2, &[b, 4, h, w]) }
    }

    fn run(&self, made: &Made, tap: &mut dyn Tap) -> Result<Tensor> {
        made.model.forward(&made.sample, self.timesteps, &made.context, tap)
    }
}

/// The goldens are in double precision: 1e-5 is what single precision may lose. In double precision the last bits of the time
/// embedding, which PyTorch computes in single precision, are all that differs.
#[test]
fn every_activation_is_diffusers() {
    let golden = golden("unet.json");
    for case in &CASES {
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::F64, 1e-6)] {
            let made = case.make(dtype);
            let mut against = Against::new(&golden[case.name], tolerance);
            case.run(&made, &mut against).unwrap();
            against.finish(&["gradient of sample", "gradient of context"]);
            let names: Vec<String> =
                sites(made.model.config()).unwrap().iter().map(Site::to_string).collect();
            assert_eq!(against.seen, names, "{}: the order of the pass", case.name);
        }
    }
}

#[test]
fn gradients_of_the_inputs_are_pytorchs() {
    let golden = golden("unet.json");
    for (case, (dtype, tolerance)) in
        CASES.iter().flat_map(|case| [(DType::F32, 1e-4), (DType::F64, 1e-6)].map(|exact| (case, exact)))
    {
        let mut made = case.make(dtype);
        let (sample, context) =
            (Var::from_tensor(&made.sample).unwrap(), Var::from_tensor(&made.context).unwrap());
        (made.sample, made.context) = (sample.as_tensor().clone(), context.as_tensor().clone());
        let output = case.run(&made, &mut NoTap).unwrap();
        let gradients = (output * &made.cotangent).unwrap().sum_all().unwrap().backward().unwrap();
        for (name, var) in [("gradient of sample", &sample), ("gradient of context", &context)] {
            golden[case.name][name].check(name, gradients.get(var).unwrap(), tolerance);
        }
    }
}

/// Every operation on the way gives its gradient: central differences of the whole network in double precision.
#[test]
fn the_gradient_of_the_sample_is_that_of_the_function() {
    let case = &CASES[3];
    let made = case.make(DType::F64);
    let sample = Var::from_tensor(&made.sample).unwrap();
    let value = |sample: &Tensor| {
        let y = made.model.forward(sample, case.timesteps, &made.context, &mut NoTap).unwrap();
        (y * &made.cotangent).unwrap().sum_all().unwrap()
    };
    let gradients = value(sample.as_tensor()).backward().unwrap();
    let direction = torch_randn(5, &case.size).to_dtype(DType::F64).unwrap();
    let along =
        (gradients.get(&sample).unwrap() * &direction).unwrap().sum_all().unwrap().to_vec0::<f64>().unwrap();
    let at = |h: f64| value(&(&made.sample + (&direction * h).unwrap()).unwrap()).to_vec0::<f64>().unwrap();
    let difference = (at(1e-5) - at(-1e-5)) / 2e-5;
    assert!((along - difference).abs() <= 1e-6 * along.abs(), "{along} {difference}");
}

#[test]
fn a_frozen_network_forms_no_gradient_of_a_weight_and_a_trainable_one_of_each() {
    let case = &CASES[3];
    let config = config(case.name);
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, 1, DType::F32, &Device::Cpu);
    let model = UNet2DConditionModel::new(&mut scope, &config).unwrap();
    let made = case.make(DType::F32);
    let output = model.forward(&made.sample, case.timesteps, &made.context, &mut NoTap).unwrap();
    crate::ops::testing::check_every_leaf_learns(&parameters, &output.sqr().unwrap().mean_all().unwrap());

    let frozen = case.run(&made, &mut NoTap).unwrap();
    assert!(!frozen.track_op(), "a pass through frozen weights keeps no graph");
}

/// ‖a − b‖ / ‖a‖.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let norm = |x: &Tensor| {
        x.sqr().unwrap().sum_all().unwrap().to_dtype(DType::F64).unwrap().to_vec0::<f64>().unwrap().sqrt()
    };
    norm(&(a - b).unwrap()) / norm(a)
}

/// The output and both gradients.
fn with_gradients(case: &Case, dtype: DType, checkpointing: bool, tap: &mut dyn Tap) -> [Tensor; 3] {
    let made = case.make(dtype);
    let model = made.model.clone().with_checkpointing(checkpointing);
    let vars = [&made.sample, &made.context].map(|x| Var::from_tensor(x).unwrap());
    let y = model.forward(vars[0].as_tensor(), case.timesteps, vars[1].as_tensor(), tap).unwrap();
    let store = (&y * &made.cotangent).unwrap().sum_all().unwrap().backward().unwrap();
    [y.detach(), store.get(&vars[0]).unwrap().clone(), store.get(&vars[1]).unwrap().clone()]
}

#[test]
fn checkpointing_changes_the_order_of_a_few_sums_alone() {
    let case = &CASES[3];
    for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-14)] {
        let plain = with_gradients(case, dtype, false, &mut NoTap);
        let mut inside = Record::new(Choice::Where(|site| site.path().ends_with("attn2.to_q")));
        let watched = with_gradients(case, dtype, true, &mut inside);
        assert_eq!(inside.seen.len(), 6, "what is watched inside a checkpointed block comes by once");
        for other in [with_gradients(case, dtype, true, &mut NoTap), watched] {
            assert_eq!(distance(&plain[0], &other[0]), 0.0, "the values are the same bits");
            assert!(distance(&plain[1], &other[1]) <= tolerance, "{:e}", distance(&plain[1], &other[1]));
            assert!(distance(&plain[2], &other[2]) <= tolerance, "{:e}", distance(&plain[2], &other[2]));
        }
    }
}

#[test]
fn checkpointing_differentiates_the_sample_alone_and_refuses_trainable_weights() {
    let case = &CASES[3];
    let plain = with_gradients(case, DType::F32, false, &mut NoTap);
    let made = case.make(DType::F32);
    let sample = Var::from_tensor(&made.sample).unwrap();
    let model = made.model.clone().with_checkpointing(true);
    let y = model.forward(sample.as_tensor(), case.timesteps, &made.context, &mut NoTap).unwrap();
    let store = (y * &made.cotangent).unwrap().sum_all().unwrap().backward().unwrap();
    assert!(distance(&plain[1], store.get(&sample).unwrap()) <= 2e-6);

    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, 1, DType::F32, &Device::Cpu);
    let trainable =
        UNet2DConditionModel::new(&mut scope, made.model.config()).unwrap().with_checkpointing(true);
    let error = trainable.forward(&made.sample, case.timesteps, &made.context, &mut NoTap).unwrap_err();
    assert!(error.to_string().contains("trainable"), "{error}");
}

/// The digest that `tools/parity/unet.py` makes of diffusers' own state dict.
#[test]
fn the_published_networks_have_the_published_parameters() {
    #[derive(Deserialize)]
    struct Keys {
        parameters: usize,
        tensors: usize,
        sha256: String,
    }
    let keys: BTreeMap<String, Keys> = read("keys_unet.json");
    let published = |inputs: usize, heads: &str, context: usize, linear: bool| {
        format!(
            r#"{{"_class_name": "UNet2DConditionModel", "sample_size": 64, "in_channels": {inputs}, "cross_attention_dim": {context},
                "attention_head_dim": {heads}, "use_linear_projection": {linear}}}"#
        )
    };
    let texts = [
        ("1.x", published(4, "8", 768, false), 859_520_964),
        ("inpainting", published(9, "8", 768, false), 859_535_364),
        ("2.x", published(4, "[5, 10, 20, 20]", 1024, true), 865_910_724),
    ];
    for (name, text, count) in texts {
        let config = Config::from_json(&text).unwrap();
        let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, &config)).unwrap();
        assert_eq!(specification.count(), count, "{name}");
        assert_eq!(keys[name].parameters, count, "{name}");
        let mut lines: Vec<(&String, String)> = specification
            .parameters
            .iter()
            .map(|(path, shape)| (path, format!("{path} {shape:?}")))
            .collect();
        lines.sort();
        assert_eq!(lines.len(), keys[name].tensors, "{name}");
        let text: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
        let digest: String =
            Sha256::digest(text.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(digest, keys[name].sha256, "{name}");
    }
}

/// The trace set of causal tracing: 22 residual blocks, and self-attention, cross-attention and feed-forward of 16 transformers.
#[test]
fn stable_diffusion_has_seventy_places_to_trace() {
    let config = Config::from_json(r#"{"cross_attention_dim": 768}"#).unwrap();
    let sites = sites(&config).unwrap();
    let count = |kind: Kind, end: &str| {
        sites.iter().filter(|site| site.kind() == kind && site.path().ends_with(end)).count()
    };
    let resnets =
        sites.iter().filter(|site| site.kind() == Kind::Stream && site.path().contains(".resnets."));
    assert_eq!(resnets.count(), 22);
    let branches = [".attn1", ".attn2", ".ff"].map(|end| count(Kind::Branch, end));
    assert_eq!(branches, [16, 16, 16]);
    assert_eq!(count(Kind::Map, ".attn1") + count(Kind::Map, ".attn2"), 32);
    let first = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
    assert!(sites.contains(&Site::new(first, Kind::Branch)));
    assert_eq!(site(&config, first).unwrap(), Site::new(first, Kind::Branch));
    let message = site(&config, "mid_block.attention.0").unwrap_err().to_string();
    assert!(message.contains("did you mean `mid_block.attentions.0`"), "{message}");
    let features: Vec<&str> = sites
        .iter()
        .filter(|site| site.path().starts_with("up_blocks") && site.kind() == Kind::Feature)
        .map(Site::path)
        .collect();
    assert_eq!(features, ["up_blocks.0", "up_blocks.1", "up_blocks.2", "up_blocks.3"]);
}

/// Whether two tensors are equal to the bit.
fn same(a: &Tensor, b: &Tensor) -> bool {
    a.dims() == b.dims() && bits(a) == bits(b)
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Every activation but the maps, which are made only where they are asked for.
fn record(case: &Case, made: &Made) -> (Tensor, Record) {
    let mut record = Record::new(Choice::Where(|site| site.kind() != Kind::Map));
    let output = case.run(made, &mut record).unwrap();
    (output, record)
}

#[test]
fn patching_an_activation_with_itself_changes_no_bit() {
    let case = &CASES[3];
    let made = case.make(DType::F32);
    let (plain, record) = record(case, &made);
    assert!(same(&plain, &case.run(&made, &mut NoTap).unwrap()), "to be watched changes nothing");
    for (site, value) in &record.seen {
        let mut whole = Replace::default().whole(site.clone(), value.force_contiguous().unwrap());
        assert!(same(&case.run(&made, &mut whole).unwrap(), &plain), "{site}");
        let mut row = CopyRows::default();
        row.add(site, 1, 1);
        assert!(same(&case.run(&made, &mut row).unwrap(), &plain), "{site}, one row");
    }
}

#[test]
fn patching_a_map_with_itself_changes_no_bit() {
    let case = &CASES[3];
    let made = case.make(DType::F32);
    for site in sites(made.model.config()).unwrap().into_iter().filter(|site| site.kind() == Kind::Map) {
        let mut record = Record::new(Choice::These(vec![site.clone()]));
        let watched = case.run(&made, &mut record).unwrap();
        let map = record.at(&site).unwrap();
        let sums = map.sum(3).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(sums.iter().all(|sum| (sum - 1.0).abs() <= 1e-5), "{site}: rows are probabilities");
        let mut whole = Replace::default().whole(site.clone(), map.force_contiguous().unwrap());
        assert!(same(&case.run(&made, &mut whole).unwrap(), &watched), "{site}");
    }
}

/// What a row of the batch gives hangs on that row alone, to the bit: traces in lockstep are traces one by one.
#[test]
fn rows_of_a_batch_do_not_know_of_each_other() {
    for case in &CASES {
        let made = case.make(DType::F32);
        let (_, together) = record(case, &made);
        for row in 0..case.size[0] {
            let of = |x: &Tensor| x.narrow(0, row, 1).unwrap().force_contiguous().unwrap();
            let time = case.timesteps[row.min(case.timesteps.len() - 1)];
            let mut alone = Record::new(Choice::Where(|site| site.kind() != Kind::Map));
            made.model.forward(&of(&made.sample), &[time], &of(&made.context), &mut alone).unwrap();
            for ((site, one), (_, all)) in alone.seen.iter().zip(&together.seen) {
                assert!(same(one, &of(all)), "{}, row {row}: {site}", case.name);
            }
        }
    }
}

#[test]
fn the_last_transformer_decides_the_output_and_a_copied_row_is_the_donor_from_there_on() {
    let case = &CASES[0];
    let mut made = case.make(DType::F32);
    let clean = made.sample.narrow(0, 0, 1).unwrap();
    made.sample = Tensor::cat(&[&clean, &clean], 0).unwrap();
    let plain = case.run(&made, &mut NoTap).unwrap();
    let row = |x: &Tensor, i: usize| bits(&x.narrow(0, i, 1).unwrap());
    assert!(row(&plain, 0) != row(&plain, 1), "the texts of the rows differ");
    let last = Site::new("up_blocks.3.attentions.2", Kind::Stream);
    let mut copy = CopyRows::default();
    copy.add(&last, 0, 1);
    let patched = case.run(&made, &mut copy).unwrap();
    assert!(row(&patched, 1) == row(&plain, 0));
    assert!(row(&patched, 0) == row(&plain, 0), "the donor stays as it was");
}

/// The plan's rows by what they do: all the way, leave and come back, come in late.
fn with_rows(made: &Made, plan: &RowPlan, rows: usize) -> Result<Tensor> {
    let of = |x: &Tensor| x.narrow(0, 0, 1)?.repeat((rows, 1, 1));
    let sample = made.sample.narrow(0, 0, 1)?.repeat((rows, 1, 1, 1))?;
    made.model.forward_rows(&sample, &[3.0], &of(&made.context)?, plan, &mut NoTap)
}

#[test]
fn rows_that_leave_and_come_in_as_copies_of_their_like_are_the_full_batch_bit_for_bit() {
    for case in &CASES[..2] {
        let made = case.make(DType::F32);
        let row = made.model.forward(
            &made.sample.narrow(0, 0, 1).unwrap(),
            &[3.0],
            &made.context.narrow(0, 0, 1).unwrap(),
            &mut NoTap,
        );
        let row = bits(&row.unwrap());
        let on = |rows: &[usize]| rows.iter().map(|&row| Going::on(row)).collect::<Vec<_>>();
        // Row 1 leaves behind the first level and comes back as a copy of row 0; row 2 comes in late; all are equal, so they stay so.
        let mut plan = RowPlan::entering(vec![0, 1]);
        plan.go_on("down_blocks.1.attentions.0", on(&[0]));
        let back = Going { row: 1, from: 0, skips: 1 };
        plan.go_on("up_blocks.2.resnets.0", vec![Going::on(0), back, Going::copy(2, 0)]);
        let y = with_rows(&made, &plan, 3).unwrap();
        for place in 0..3 {
            assert_eq!(bits(&y.get(place).unwrap()), row, "{}, row {place}", case.name);
        }
    }
}

#[test]
fn a_plan_that_does_not_fit_is_refused_and_says_where() {
    let made = CASES[3].make(DType::F32);
    let refused = |plan: &RowPlan| with_rows(&made, plan, 2).unwrap_err().to_string();
    let all = || vec![Going::on(0), Going::on(1)];
    let mut plan = RowPlan::default();
    plan.go_on("conv_in", vec![Going::on(0)]);
    assert!(refused(&plan).contains("ends with rows [0]"), "{}", refused(&plan));
    plan.go_on("mid_block.resnets.0", vec![Going::on(0), Going::on(1)]);
    assert!(
        refused(&plan).contains("`mid_block.resnets.0` row 1 is to go on as row 1"),
        "{}",
        refused(&plan)
    );
    let mut plan = RowPlan::default();
    plan.go_on("mid_block.resnet.0", all());
    assert!(refused(&plan).contains("names 1 modules, of which 0"), "{}", refused(&plan));
    assert!(refused(&RowPlan::entering(vec![0, 2])).contains("row 2 enter a batch of 2"));
    // Row 1 left no skip connection of its own, and is no copy.
    let mut plan = RowPlan::entering(vec![0]);
    plan.go_on("mid_block.resnets.0", vec![Going::on(0), Going { row: 1, from: 0, skips: 1 }]);
    assert!(refused(&plan).contains("left no value for"), "{}", refused(&plan));
}

#[test]
fn a_pass_stops_where_it_is_told() {
    let case = &CASES[3];
    let made = case.make(DType::F32);
    let (_, record) = record(case, &made);
    let last = record.seen.last().unwrap().0.clone();
    for (site, value) in &record.seen {
        let mut stop = StopAt::new(site.clone());
        let output = until_stop(&mut stop, |tap| case.run(&made, tap)).unwrap();
        assert!(output.is_none(), "{site}");
        assert!(same(stop.value.as_ref().unwrap(), value), "{site}");
    }
    for site in sites(made.model.config()).unwrap().into_iter().filter(|site| site.kind() == Kind::Map) {
        let mut stop = StopAt::new(site.clone());
        assert!(until_stop(&mut stop, |tap| case.run(&made, tap)).unwrap().is_none(), "{site}");
        assert_eq!(stop.value.unwrap().rank(), 4, "{site}");
    }
    let mut late = Record::new(Choice::Where(|site| site.path().starts_with("up_blocks")));
    let first = Site::new("mid_block", Kind::Feature);
    let mut both = Both(StopAt::new(first), &mut late);
    assert!(until_stop(&mut both, |tap| case.run(&made, tap)).unwrap().is_none());
    assert!(late.seen.is_empty() && last.path() == "conv_out");
}

/// Two taps at once.
struct Both<'a>(StopAt, &'a mut Record);

impl Tap for Both<'_> {
    fn wants(&self, site: &Site) -> bool {
        self.0.wants(site) || self.1.wants(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        if self.0.wants(site) { self.0.visit(site, value) } else { self.1.visit(site, value) }
    }
}

#[test]
fn an_error_in_a_tap_names_the_site_and_leaves_nothing_behind() {
    let case = &CASES[3];
    let made = case.make(DType::F32);
    let before = bits(&case.run(&made, &mut NoTap).unwrap());
    let site = Site::new("mid_block.attentions.0.transformer_blocks.0.attn2", Kind::Branch);
    let mut wrong =
        Replace::default().whole(site.clone(), Tensor::zeros((1, 2), DType::F32, &Device::Cpu).unwrap());
    let message = case.run(&made, &mut wrong).unwrap_err().to_string();
    assert!(message.contains(&site.to_string()) && message.contains("[1, 2]"), "{message}");
    let mut outside = CopyRows::default();
    outside.add(&site, 0, 2);
    let message = case.run(&made, &mut outside).unwrap_err().to_string();
    assert!(message.contains(&site.to_string()) && message.contains("batch of 2"), "{message}");
    let mut stop = StopAt::new(site);
    assert!(case.run(&made, &mut stop).unwrap_err().to_string().contains("until_stop"));
    assert_eq!(bits(&case.run(&made, &mut NoTap).unwrap()), before);
}

#[test]
fn inputs_that_do_not_fit_are_refused_with_what_is_expected() {
    let case = &CASES[3];
    let made = case.make(DType::F32);
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let error = |sample: &[usize], times: &[f64], context: &[usize]| {
        made.model.forward(&zeros(sample), times, &zeros(context), &mut NoTap).unwrap_err().to_string()
    };
    let fine = ([2, 4, 8, 8], [2, 3, 32]);
    assert!(error(&[2, 3, 8, 8], &[1.0], &fine.1).contains("expected sample (B,4,H,W), found [2, 3, 8, 8]"));
    assert!(error(&[4, 8, 8], &[1.0], &fine.1).contains("expected sample (B,4,H,W)"));
    assert!(error(&fine.0, &[1.0; 3], &fine.1).contains("expected 1 timestep or 2"));
    assert!(error(&fine.0, &[], &fine.1).contains("expected 1 timestep or 2"));
    assert!(error(&fine.0, &[1.0], &[2, 3, 31]).contains("expected context (2,T,32), found [2, 3, 31]"));
    assert!(error(&fine.0, &[1.0], &[1, 3, 32]).contains("expected context (2,T,32)"));
}

#[test]
fn a_configuration_is_read_strictly_and_written_as_it_was_read() {
    let all: Value = read("unet_configs.json");
    for case in &CASES {
        let config = config(case.name);
        assert_eq!(Config::from_json(&config.to_json().to_string()).unwrap(), config, "{}", case.name);
        let given = all["configs"][case.name]["block_out_channels"].clone();
        assert_eq!(config.to_json()["block_out_channels"], given);
    }
    let error = |field: &str, value: &str| {
        let mut text = all["configs"]["1.x"].clone();
        text[field] = serde_json::from_str(value).unwrap();
        Config::from_json(&text.to_string()).unwrap_err().to_string()
    };
    let cases = [
        (
            "_class_name",
            "\"UNet3DConditionModel\"",
            "expected UNet2DConditionModel, found UNet3DConditionModel",
        ),
        (
            "addition_embed_type",
            "\"text_time\"",
            "field `addition_embed_type`: expected null, found \"text_time\"",
        ),
        (
            "down_block_types",
            "[\"AttnDownBlock2D\", \"DownBlock2D\", \"DownBlock2D\", \"DownBlock2D\"]",
            "AttnDownBlock2D",
        ),
        ("block_out_channels", "[30, 60, 60, 60]", "30 channels cannot be split into 32 groups"),
        ("attention_head_dim", "7", "32 channels cannot be split into 7 heads"),
        ("cross_attention_dim", "[1, 2]", "one for each of 4 levels, found 2"),
        ("layers_per_block", "\"two\"", "field `layers_per_block`: found \"two\""),
        ("rotary", "true", "field `rotary`: unknown"),
        ("up_block_types", "[\"UpBlock2D\"]", "field `up_block_types`: expected 4 of them, found 1"),
    ];
    for (field, value, expected) in cases {
        let message = error(field, value);
        assert!(message.contains(expected), "{field}: no {expected:?} in {message}");
    }
}
