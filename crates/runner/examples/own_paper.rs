//! A whole paper of one's own in a page: a claim about coins, its experiment file, its trials, its table and figure.
//!
//! ```text
//! cargo run --release --example own_paper -- reproduce coins --out /tmp/coins
//! ```
//!
//! Everything else (resuming, pooling, verdicts, report) comes from the bench. The tests of the command line run this
//! paper where they need trials that end at once, take their time, or go wrong.

use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::bail;
use lab::config::{ConfigError, Document};
use lab::experiment::Experiment;
use lab::figure::{Axis, Content, Estimate, Figure, Panel};
use lab::paper::{Header, Outcome, Paper, Presentation, Reproduction, TrialContext, TrialSpec};
use lab::table::{Cell, Table};
use runner::Entry;
use schemars::JsonSchema;
use sd_core::rng::Rng;
use serde::{Deserialize, Serialize};

/// What is compared: a coin.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Coin {
    /// Probability of heads, between 0 and 1.
    heads: f64,
    /// How the trial goes wrong, for trying out what the bench does then.
    #[serde(default)]
    trouble: Trouble,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Trouble {
    /// Not at all.
    #[default]
    None,
    /// It returns an error.
    Error,
    /// It panics.
    Panic,
}

/// What is run: tosses.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Tosses {
    /// How often each coin is tossed.
    count: u32,
    /// Milliseconds that a trial takes at least.
    #[serde(default)]
    milliseconds: u64,
}

const EXPERIMENT: &str = "\
# yaml-language-server: $schema=../schema/coins.json
paper: coins
scale: quick
about: Two coins, tossed.
seed: 7
seeds: 4
arms:
  fair: {heads: 0.5}
  loaded: {heads: 0.7}
studies:
  tosses: {count: 400}
claims:
  - id: C1
    says: The loaded coin shows heads more often than the fair one
    source: {where: Table I, version: of our own making, seen: in-text}
    published: {loaded: 0.7, fair: 0.5}
    unit: share of heads
    test: {paired: {metric: heads, a: loaded, b: fair}, expect: \"> 0\"}
";

struct Coins;

impl Paper for Coins {
    fn id(&self) -> &'static str {
        "coins"
    }
    fn title(&self) -> &'static str {
        "On the tossing of coins"
    }
    fn citation(&self) -> &'static str {
        "A. N. Example. On the tossing of coins. 2026."
    }
    fn schema(&self) -> serde_json::Value {
        lab::schema::of::<Experiment<Coin, Tosses>>()
    }
    fn open(&self, document: &Document) -> Result<Box<dyn Reproduction>, ConfigError> {
        document.check_finite()?;
        let experiment: Experiment<Coin, Tosses> = document.decode()?;
        for (name, coin) in &experiment.arms {
            if !(0.0..=1.0).contains(&coin.heads) {
                let place = format!("arms.{name}.heads");
                return Err(document.error_at(
                    &place,
                    "a probability, 0 to 1",
                    coin.heads,
                    "0.5 is a fair coin",
                ));
            }
        }
        Ok(Box::new(Run(experiment)))
    }
}

struct Run(Experiment<Coin, Tosses>);

impl Reproduction for Run {
    fn header(&self) -> Header {
        let Experiment { paper, scale, about, data, seed, seeds, claims, .. } = self.0.clone();
        Header { paper, scale, about, data, seed, seeds, claims }
    }

    fn resolved(&self) -> serde_json::Value {
        serde_json::json!(self.0)
    }

    fn trials(&self, _data: &Path) -> anyhow::Result<Vec<TrialSpec>> {
        let mut trials = Vec::new();
        for (study, tosses) in &self.0.studies {
            for (arm, coin) in &self.0.arms {
                let config = serde_json::json!({"coin": coin, "tosses": tosses});
                trials.extend((0..u64::from(self.0.seeds)).map(|index| TrialSpec {
                    study: study.clone(),
                    arm: arm.clone(),
                    case: String::new(),
                    seed: self.0.seed + index,
                    config: config.clone(),
                    seconds: 0.1 + tosses.milliseconds as f64 / 1e3,
                    bytes: 1_000,
                }));
            }
        }
        Ok(trials)
    }

    fn check_data(&self, _data: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    fn run(&self, trial: &TrialSpec, context: &mut TrialContext) -> anyhow::Result<()> {
        let (coin, tosses) = (&self.0.arms[&trial.arm], &self.0.studies[&trial.study]);
        match coin.trouble {
            Trouble::None => {}
            Trouble::Error => bail!("the coin rolled under the table"),
            Trouble::Panic => panic!("the coin landed on its edge"),
        }
        sleep(Duration::from_millis(tosses.milliseconds));
        let mut rng = Rng::new(context.seed(), "toss", 0);
        let heads = (0..tosses.count).filter(|_| rng.uniform() < coin.heads).count();
        context.row("heads", heads as f64 / f64::from(tosses.count))?;
        Ok(())
    }

    fn present(&self, outcome: &Outcome) -> anyhow::Result<Presentation> {
        let shares = |arm: &str| -> Vec<f64> {
            outcome.rows.iter().filter(|row| row.arm == arm).map(|row| row.value).collect()
        };
        let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
        let arms: Vec<(&String, Vec<f64>)> = self
            .0
            .arms
            .keys()
            .map(|arm| (arm, shares(arm)))
            .filter(|(_, shares)| !shares.is_empty())
            .collect();
        let rows = arms.iter().map(|(arm, shares)| vec![arm.as_str().into(), Cell::Number(mean(shares), 3)]);
        let table = Table {
            id: "coins".to_owned(),
            title: "Share of heads".to_owned(),
            caption: "Mean over seeds.".to_owned(),
            columns: vec!["coin".to_owned(), "heads".to_owned()],
            rows: rows.collect(),
        };
        let estimate = |(arm, shares): (&String, Vec<f64>)| Estimate {
            label: arm.clone(),
            value: mean(&shares),
            samples: shares,
            ..Estimate::default()
        };
        let estimates = arms.into_iter().map(estimate).collect();
        let axis = Axis { label: "share of heads".to_owned(), range: Some((0.0, 1.0)), log: false };
        let panel = Panel {
            title: String::new(),
            x: axis,
            y: Axis::default(),
            content: Content::Intervals(estimates),
        };
        let figure = Figure {
            id: "coins".to_owned(),
            title: "Share of heads".to_owned(),
            caption: "Mean and single seeds.".to_owned(),
            panels: vec![panel],
            columns: 1,
        };
        Ok(Presentation { tables: vec![table], figures: vec![figure], ..Presentation::default() })
    }
}

fn main() -> ExitCode {
    runner::main(&[Entry { paper: &Coins, experiments: &[("quick", EXPERIMENT)] }])
}
