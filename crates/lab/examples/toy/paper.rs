//! A whole paper in one file: what a paper's crate has to give to the bench, on the smallest question there is.
//!
//! "A loaded die shows a higher mean than a fair one." One arm a die, one study that rolls it, one claim. The field `trouble` of
//! an arm breaks trials on purpose; the tests of the bench and of the runner live on it.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use lab::config::{ConfigError, Document, check_range};
use lab::experiment::Experiment;
use lab::figure::{Axis, Content, Estimate, Figure, Panel};
use lab::paper::{Header, Outcome, Paper, Presentation, Reproduction, TrialContext, TrialSpec};
use lab::row::Row;
use lab::table::{Cell, Table};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

// ---------------------------------------------------------------------------------------------------------------------
// The experiment file: two structs beside what every experiment has.

/// A die.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Die {
    /// Probability that a roll is turned into a six.
    load: f64,
    /// How its trials break, for tests.
    #[serde(default)]
    trouble: Trouble,
}

/// A way to break.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Trouble {
    #[default]
    None,
    /// An error.
    Error,
    /// A panic.
    Panic,
    /// The process dies.
    Crash,
    /// A measurement that is no number.
    Nan,
}

/// How often the dice are rolled.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Rolls {
    /// Rolls of a trial.
    rolls: u64,
    /// Pause after every ten rolls, in milliseconds, so that there is time to look (or to kill).
    #[serde(default)]
    pause_ms: u64,
}

// ---------------------------------------------------------------------------------------------------------------------
// The paper: reads an experiment.

/// The paper.
pub(crate) struct Toy;

impl Paper for Toy {
    fn id(&self) -> &'static str {
        "toy"
    }
    fn title(&self) -> &'static str {
        "A loaded die shows more"
    }
    fn citation(&self) -> &'static str {
        "Nobody, Nowhere, never."
    }
    fn schema(&self) -> serde_json::Value {
        lab::schema::of::<Experiment<Die, Rolls>>()
    }
    fn open(&self, document: &Document) -> Result<Box<dyn Reproduction>, ConfigError> {
        let experiment: Experiment<Die, Rolls> = document.decode()?;
        for (name, die) in &experiment.arms {
            check_range(document, &format!("arms.{name}.load"), die.load, 0.0, 1.0)?;
        }
        Ok(Box::new(Dice { experiment }))
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The reproduction: plans trials, runs one, shows what came out.

struct Dice {
    experiment: Experiment<Die, Rolls>,
}

impl Reproduction for Dice {
    fn header(&self) -> Header {
        self.experiment.header()
    }

    fn resolved(&self) -> serde_json::Value {
        serde_json::to_value(&self.experiment).unwrap_or_default()
    }

    fn trials(&self, _data: &Path) -> anyhow::Result<Vec<TrialSpec>> {
        let mut trials = Vec::new();
        for (study, rolls) in &self.experiment.studies {
            for (arm, die) in &self.experiment.arms {
                for index in 0..u64::from(self.experiment.seeds) {
                    trials.push(TrialSpec {
                        study: study.clone(),
                        arm: arm.clone(),
                        case: String::new(),
                        seed: self.experiment.seed + index,
                        config: serde_json::json!({"die": die, "rolls": rolls, "version": 1}),
                        seconds: 0.01 + (rolls.rolls / 10 * rolls.pause_ms) as f64 / 1000.0,
                        bytes: 100 * rolls.rolls,
                    });
                }
            }
        }
        Ok(trials)
    }

    fn check_data(&self, _: &Path) -> anyhow::Result<()> {
        Ok(())
    }

    fn run(&self, trial: &TrialSpec, context: &mut TrialContext) -> anyhow::Result<()> {
        let die = self.experiment.arms.get(&trial.arm).context("no such arm")?;
        let rolls = self.experiment.studies.get(&trial.study).context("no such study")?;
        roll(die, rolls, context)
    }

    fn present(&self, outcome: &Outcome) -> anyhow::Result<Presentation> {
        Ok(Presentation {
            tables: vec![table(&outcome.rows)],
            figures: vec![figure(&outcome.rows)],
            metrics: vec![("mean".to_owned(), "mean of all rolls, in pips".to_owned())],
            protocol: vec!["Dice are rolled and their pips averaged.".to_owned()],
            ..Presentation::default()
        })
    }
}

/// Where a trial is: what a killed process hands to the next one.
#[derive(Default, Serialize, Deserialize)]
struct Progress {
    rolled: u64,
    pips: u64,
    rows: Vec<Row>,
}

fn roll(die: &Die, rolls: &Rolls, context: &mut TrialContext) -> anyhow::Result<()> {
    let kept = context.checkpoint()?.join("progress.json");
    let mut at: Progress = match std::fs::read(&kept) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(_) => Progress::default(),
    };
    context.restore_rows(std::mem::take(&mut at.rows));
    while at.rolled < rolls.rolls {
        at.pips += pips(die, context.seed(), at.rolled);
        at.rolled += 1;
        if at.rolled.is_multiple_of(10) {
            context.row_at("mean_so_far", at.rolled as f64, at.pips as f64 / at.rolled as f64)?;
            let now = Progress { rows: context.rows().to_vec(), ..at };
            lab::atomic::write_bytes(&kept, &serde_json::to_vec(&now)?)?;
            context.progress(at.rolled as f64 / rolls.rolls as f64, &format!("{} rolls", at.rolled));
            std::thread::sleep(Duration::from_millis(rolls.pause_ms));
        }
    }
    break_as(die.trouble, context)?;
    context.artifact("pips.txt", format!("{}\n", at.pips).as_bytes())?;
    Ok(context.row("mean", at.pips as f64 / rolls.rolls as f64)?)
}

fn break_as(trouble: Trouble, context: &mut TrialContext) -> anyhow::Result<()> {
    match trouble {
        Trouble::None => Ok(()),
        Trouble::Error => bail!("the die fell off the table"),
        Trouble::Panic => panic!("the die is on fire"),
        Trouble::Crash => std::process::abort(),
        Trouble::Nan => Ok(context.row("mean", f64::NAN)?),
    }
}

/// One roll, from the seed and its number alone. (A real paper takes its randomness from `sd_core::rng`.)
fn pips(die: &Die, seed: u64, number: u64) -> u64 {
    let bits = scrambled(seed.wrapping_mul(1_000_003).wrapping_add(number));
    let chance = (bits >> 11) as f64 / (1u64 << 53) as f64;
    if chance < die.load { 6 } else { 1 + scrambled(bits) % 6 }
}

/// A bijection of 64 bits under which neighbours end far apart.
fn scrambled(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn means(rows: &[Row]) -> BTreeMap<String, Vec<f64>> {
    let mut means: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.metric == "mean") {
        means.entry(row.arm.clone()).or_default().push(row.value);
    }
    means
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn table(rows: &[Row]) -> Table {
    let line = |(arm, values): (String, Vec<f64>)| {
        vec![Cell::Text(arm), Cell::Number(average(&values), 3), Cell::Missing]
    };
    Table {
        id: "means".to_owned(),
        title: "Mean pips".to_owned(),
        caption: "Mean over seeds.".to_owned(),
        columns: ["die", "mean_pips", "published"].map(str::to_owned).into(),
        rows: means(rows).into_iter().map(line).collect(),
    }
}

fn figure(rows: &[Row]) -> Figure {
    let estimate = |(arm, values): (String, Vec<f64>)| Estimate {
        label: arm,
        value: average(&values),
        interval: None,
        samples: values,
        published: None,
    };
    let x = Axis { label: "mean pips".to_owned(), ..Axis::default() };
    let content = Content::Intervals(means(rows).into_iter().map(estimate).collect());
    let panel = Panel { title: String::new(), x, y: Axis::default(), content };
    Figure {
        id: "means".to_owned(),
        title: "Mean pips".to_owned(),
        caption: "One mark a seed.".to_owned(),
        panels: vec![panel],
        columns: 1,
    }
}
