//! What must hold exactly: section 9 of the specification, on the model that is edited.

use anyhow::{Context, Result};
use candle_core::DType;
use faer::Mat;
use lab::paper::TrialContext;
use lab::trial::Measure;
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::models::unet::UNet2DConditionModel;
use sd_core::nn::Specification;
use sd_core::pipeline::tiny::Family;
use sd_core::rng::Rng;
use sd_core::taps::NoTap;
use sd_core::weights::Weights;

use super::{Bench, item};
use crate::edit::{Edit, Solved};
use crate::encoder::{Encoder, Keys as _, Projection};
use crate::experiment::IdentityStudy;
use crate::rows::{Bias, Change, Rule, Settings, last_token};
use crate::solve::{Statistics, System};

/// λ so small that keys get their values, and so large that nothing changes.
const SMALL: f64 = 1e-8;
const LARGE: f64 = 1e9;

pub(super) fn run(bench: &Bench, study: &IdentityStudy, context: &mut TrialContext) -> Result<()> {
    let changes: Vec<Change> =
        study.edits.iter().map(|name| Ok(item(name)?.change)).collect::<Result<_>>()?;
    let first = changes.first().context("no edit is named")?;
    let checks = Checks { bench, lambda: study.lambda };
    let single = checks.solved(std::slice::from_ref(first), study.lambda, Rule::default())?;
    let system = single.system.clone().context("one edit has few rows")?;
    let of = &single.original;
    let mut write =
        |case: &str, value: f64| context.row_full(Measure::new("identity_difference", value).case(case));
    write("primal_dual", off(&system.dual(of, study.lambda)?, &system.primal(of, study.lambda)?))?;
    let same = Change { to: first.from.clone(), ..first.clone() };
    let idle =
        |bias| checks.solved(std::slice::from_ref(&same), study.lambda, Rule { bias, ..Rule::default() });
    write("no_op", idle(Bias::Correct)?.size())?;
    write("large_lambda", system.solve(of, LARGE)?.norm_l2() / of.weight.norm_l2())?;
    write("orthogonal", checks.orthogonal(&system, &single)?)?;
    write("keys", checks.keys_get_their_values(first)?)?;
    let [order, reversed] = checks.joint(&changes, of)?;
    write("order", order)?;
    write("reversible", reversed)?;
    context.row("release_no_op", idle(Bias::Release)?.size())?;
    context.row("tensors_changed", checks.tensors_changed(first, context)? as f64)?;
    for change in &changes {
        let share = checks.attention_share(&change.from)?;
        context.row_full(Measure::new("attention_share", share).case(change.from.replace(' ', "_")))?;
    }
    let size = of.bias.len() as f64;
    let own = bench.model.unet.values().map(candle_core::Tensor::elem_count).sum::<usize>() as f64;
    context.row("share_of_unet", 100.0 * size * size / own)?;
    context.row("share_of_stable_diffusions_unet", stable_diffusion()?)?;
    Ok(())
}

/// 768² numbers of the network of Stable Diffusion 1.x, in per cent: counted from its configuration.
fn stable_diffusion() -> Result<f64> {
    let config = Family::FullSize.unet();
    let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, &config))?;
    let count: usize =
        specification.parameters.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let context = config.levels.first().map_or(0, |level| level.context) as f64;
    Ok(100.0 * context * context / count as f64)
}

struct Checks<'a> {
    bench: &'a Bench,
    lambda: f64,
}

impl Checks<'_> {
    fn solved(&self, changes: &[Change], lambda: f64, rule: Rule) -> Result<Solved> {
        let settings = Settings { layer: 0, lambda, rule };
        Edit::new(String::new(), settings, changes.to_vec(), Vec::new()).solve(&self.bench.model.keys())
    }

    /// ‖W₀ k + b‖ / ‖x‖ at the concept's last token: how much of the stream behind the first self-attention the edited matrix makes. The rest,
    /// the token's own embedding x, no edit of that matrix reaches.
    fn attention_share(&self, concept: &str) -> Result<f64> {
        let prompt = self.bench.model.prompt(concept)?;
        let at = last_token(&prompt)?;
        let keys = self.bench.model.keys();
        let of = keys.projection(0)?;
        let attended = keys.attended(std::slice::from_ref(&prompt), 0)?;
        let k = Mat::from_fn(of.bias.len(), 1, |channel, _| attended[0][(at, channel)]);
        let b = Mat::from_fn(of.bias.len(), 1, |channel, _| of.bias[channel]);
        let ids = Prompt::stack(std::slice::from_ref(&prompt), &self.bench.model.pipeline.device)?;
        let output = self.bench.model.pipeline.text_encoder.forward(&ids, &mut NoTap)?;
        let first =
            output.hidden_states.first().context("a text encoder without a stream")?.get(0)?.get(at)?;
        let norm = first.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
        Ok((&of.weight * k + b).norm_l2() / norm)
    }

    /// ‖ΔW x‖ / ‖W₀ x‖ of a random x less its share in the keys' space.
    fn orthogonal(&self, system: &System, solved: &Solved) -> Result<f64> {
        let keys = system.keys();
        let mut rng = Rng::new(0, "diff-quickfix/orthogonal", 0);
        let mut x = Mat::from_fn(keys.ncols(), 1, |_, _| rng.normal());
        // A basis of the keys' space by Gram and Schmidt, twice for its rounding. Where the keys fill the whole space nothing is orthogonal.
        let mut basis: Vec<Mat<f64>> = Vec::new();
        for row in 0..keys.nrows() {
            let key = Mat::from_fn(keys.ncols(), 1, |channel, _| keys[(row, channel)]);
            let left = without(&without(&key, &basis), &basis);
            if left.norm_l2() > 1e-9 * key.norm_l2() {
                basis.push(&left * (1.0 / left.norm_l2()));
            }
        }
        if basis.len() >= keys.ncols() {
            return Ok(0.0);
        }
        x = without(&without(&x, &basis), &basis);
        Ok((&solved.change * &x).norm_l2() / (&solved.original.weight * &x).norm_l2())
    }

    /// ‖W k − v‖ / ‖v‖ at the last token of a bare concept, with a tiny λ.
    fn keys_get_their_values(&self, change: &Change) -> Result<f64> {
        let rule = Rule { tokens: crate::rows::Tokens::LastSubject, bare: true, ..Rule::default() };
        let solved = self.solved(std::slice::from_ref(change), SMALL, rule)?;
        let prompts: Vec<Prompt> = [&change.from, &change.to]
            .iter()
            .map(|text| self.bench.model.prompt(text))
            .collect::<Result<_>>()?;
        let attended = self.bench.model.keys().attended(&prompts, 0)?;
        let at = |which: usize| -> Result<Mat<f64>> {
            let row = last_token(&prompts[which])?;
            Ok(Mat::from_fn(attended[which].ncols(), 1, |channel, _| attended[which][(row, channel)]))
        };
        let wanted = &solved.original.weight * at(1)?;
        Ok(((&solved.original.weight + &solved.change) * at(0)? - &wanted).norm_l2() / wanted.norm_l2())
    }

    /// Whether the order of concepts matters; whether taking all back leaves anything.
    fn joint(&self, changes: &[Change], of: &Projection) -> Result<[f64; 2]> {
        let systems: Vec<System> = changes
            .iter()
            .map(|change| {
                let solved = self.solved(std::slice::from_ref(change), self.lambda, Rule::default())?;
                solved.system.context("one edit has few rows")
            })
            .collect::<Result<_>>()?;
        let sum = |order: &mut dyn Iterator<Item = &System>| {
            let mut statistics = Statistics::new(of.bias.len());
            order.for_each(|system| statistics.add(system));
            statistics
        };
        let mut all = sum(&mut systems.iter());
        let order =
            off(&all.solve(of, self.lambda)?, &sum(&mut systems.iter().rev()).solve(of, self.lambda)?);
        systems.iter().for_each(|system| all.take_back(system));
        Ok([order, all.solve(of, self.lambda)?.norm_l2() / of.weight.norm_l2()])
    }

    /// In how many tensors of all its files an edited folder differs from the model's.
    fn tensors_changed(&self, change: &Change, context: &TrialContext) -> Result<usize> {
        let encoder = Encoder::open(&self.bench.folder)?;
        let settings = Settings { lambda: self.lambda, ..Settings::default() };
        let edit = Edit::new(encoder.digest(0)?, settings, vec![change.clone()], Vec::new());
        let out = context.checkpoint()?.join("edited");
        if out.exists() {
            std::fs::remove_dir_all(&out)?;
        }
        encoder.write(&edit, &edit.solve(&encoder)?.matrix()?, &out)?;
        let mut changed = 0;
        for component in ["text_encoder", "unet", "vae"] {
            let old = Weights::open(&self.bench.folder.join(component))?;
            let new = Weights::open(&out.join(component))?;
            changed += old.names().filter(|name| old.bytes_of(name) != new.bytes_of(name)).count();
        }
        Ok(changed)
    }
}

fn without(x: &Mat<f64>, basis: &[Mat<f64>]) -> Mat<f64> {
    basis.iter().fold(x.clone(), |x, one| {
        let share = (one.transpose() * &x)[(0, 0)];
        x - one * share
    })
}

/// ‖a − b‖ / ‖a‖.
fn off(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    (a - b).norm_l2() / a.norm_l2().max(f64::MIN_POSITIVE)
}
