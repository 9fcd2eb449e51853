//! An edit: what is to change, how, and on which matrix; and the change that follows.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{Device, Tensor};
use faer::Mat;
use rayon::prelude::*;
use sd_core::models::clip::tokenizer::Prompt;
use serde::{Deserialize, Serialize};

use crate::collect::Attended;
use crate::encoder::{Keys, Projection};
use crate::rows::{Change, Settings, encode, last_token, pairings};
use crate::solve::{Statistics, System};

/// Version of the edit file.
const FORMAT: u32 = 1;
/// Changes whose sums one thread makes at a time, and whose keys are in memory then. Fixed: the order of summation, and so every bit, is the same
/// for any number of threads.
const TOGETHER: usize = 16;

/// An edit as it is kept in a file: a few lines that can be shared, combined, and applied again. Keys and values themselves are not in it:
/// they follow from the prompts and the original weights, whose digest is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Edit {
    /// Version of this format.
    pub format: u32,
    /// SHA-256 of the original matrix as it stands in the file of weights.
    pub original: String,
    /// How.
    pub settings: Settings,
    /// What, all at once.
    pub changes: Vec<Change>,
    /// Prompts that are to stay as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preserve: Vec<String>,
}

/// The change of the matrix, and what it took.
#[derive(Clone, Debug)]
pub struct Solved {
    /// ΔW (D, D).
    pub change: Mat<f64>,
    /// W₀ and b.
    pub original: Projection,
    /// Rows of the system.
    pub rows: usize,
    /// The root of the sum of squares before and after; none where there are so many rows that no system was kept.
    pub residuals: Option<[f64; 2]>,
    /// The rows, where they were kept.
    pub system: Option<System>,
}

impl Solved {
    /// W₀ + ΔW as a tensor of `f64`.
    ///
    /// # Errors
    /// Where it is not finite.
    pub fn matrix(&self) -> Result<Tensor> {
        let (width, all) = (self.change.ncols(), &self.original.weight + &self.change);
        let values: Vec<f64> = (0..width * width).map(|at| all[(at / width, at % width)]).collect();
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "the edited matrix has numbers that are infinite or none\n  help: take a larger --lambda"
        );
        Ok(Tensor::from_vec(values, (width, width), &Device::Cpu)?)
    }

    /// ‖ΔW‖ / ‖W₀‖.
    #[must_use]
    pub fn size(&self) -> f64 {
        self.change.norm_l2() / self.original.weight.norm_l2()
    }
}

impl Edit {
    /// An edit of the matrix with this digest.
    #[must_use]
    pub fn new(original: String, settings: Settings, changes: Vec<Change>, preserve: Vec<String>) -> Self {
        Self { format: FORMAT, original, settings, changes, preserve }
    }

    /// Reads an edit file.
    ///
    /// # Errors
    /// Where it is absent or no such file.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            std::fs::read_to_string(path).with_context(|| format!("{}: cannot read it", path.display()))?;
        let edit: Self = serde_json::from_str(&text).with_context(|| {
            format!(
                "{}: expected an edit file, as `cargo xtask edit` writes it beside the edited weights (diff-quickfix.json)",
                path.display()
            )
        })?;
        ensure!(
            edit.format == FORMAT,
            "{}: expected format {FORMAT}, found {}\n  help: a newer version of this program wrote it",
            path.display(),
            edit.format
        );
        Ok(edit)
    }

    /// The file's text.
    ///
    /// # Errors
    /// Where a number is not finite.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Adds another edit's changes and prompts. A concept that both change is the other's from then on.
    ///
    /// # Errors
    /// Where the edits are of different matrices or made in different ways.
    pub fn combine(&mut self, other: &Self) -> Result<()> {
        ensure!(
            self.original == other.original,
            "the edits are of different models\n  expected: the matrix {}…\n  found: {}…\n  help: make the edit anew on this model with --change",
            &self.original.get(..12).unwrap_or(&self.original),
            &other.original.get(..12).unwrap_or(&other.original)
        );
        ensure!(
            self.settings == other.settings,
            "the edits were made in different ways, and one matrix has one way\n  expected: {}\n  found: {}\n  help: give both the same \
             --layer, --lambda, --tokens, --bias and --bare",
            self.settings,
            other.settings
        );
        for change in &other.changes {
            self.set(change.clone());
        }
        let new = other.preserve.iter().filter(|prompt| !self.preserve.contains(prompt));
        self.preserve.extend(new.cloned().collect::<Vec<_>>());
        Ok(())
    }

    /// Adds a change; one of the same concept is replaced.
    pub fn set(&mut self, change: Change) {
        match self.changes.iter_mut().find(|other| other.from == change.from) {
            Some(other) => *other = change,
            None => self.changes.push(change),
        }
    }

    /// Takes the change of a concept back.
    ///
    /// # Errors
    /// Where there is none; the message lists those that there are.
    pub fn take_back(&mut self, concept: &str) -> Result<()> {
        let at = self.changes.iter().position(|change| change.from == concept).with_context(|| {
            let mut known = String::new();
            for change in &self.changes {
                let _ = write!(known, " `{}`", change.from);
            }
            format!("no change of `{concept}` to take back\n  found:{known}")
        })?;
        self.changes.remove(at);
        Ok(())
    }

    /// The changes that change nothing: equal concepts.
    #[must_use]
    pub fn idle(&self) -> Vec<&Change> {
        self.changes.iter().filter(|change| change.from.trim() == change.to.trim()).collect()
    }

    /// Computes the change. Few rows make one system, whose residual is known; of many, sums alone are kept.
    ///
    /// # Errors
    /// Where a concept is empty or does not fit the window, λ is not above 0, the layer does not exist, or a number is not finite.
    pub fn solve(&self, keys: &(dyn Keys + Sync)) -> Result<Solved> {
        self.settings.check()?;
        ensure!(!self.changes.is_empty(), "nothing is to change\n  help: --change \"van gogh=painting\"");
        let asked = self.asked(keys)?;
        let original = keys.projection(self.settings.layer)?;
        let width = original.bias.len();
        let preserved = self.preserved(keys, width)?;
        let rows = preserved.rows() + self.rows(&asked)?;
        let lambda = self.settings.lambda;
        if rows < width {
            let system = self.system(keys, &asked, width)?.and(&preserved);
            let (change, residuals) = system.dual_with_residuals(&original, lambda)?;
            return Ok(Solved { change, original, rows, residuals: Some(residuals), system: Some(system) });
        }
        let sums: Vec<Statistics> = asked
            .par_chunks(TOGETHER)
            .map(|some| Ok(Statistics::of(&self.system(keys, some, width)?)))
            .collect::<Result<_>>()?;
        let mut all = Statistics::of(&preserved);
        sums.iter().for_each(|sum| all.merge(sum));
        let change = all.solve(&original, lambda)?;
        Ok(Solved { change, original, rows, residuals: None, system: None })
    }

    /// The changes with their prompts.
    fn asked(&self, keys: &dyn Keys) -> Result<Vec<Asked<'_>>> {
        let one = |change| -> Result<Asked<'_>> {
            let pairs = encode(keys.tokenizer(), change, self.settings.rule)?;
            for prompt in pairs.iter().flatten() {
                last_token(prompt).with_context(|| format!("the change `{change}`"))?;
            }
            Ok(Asked { change, pairs })
        };
        self.changes.iter().map(one).collect()
    }

    /// How many rows these changes have.
    fn rows(&self, asked: &[Asked<'_>]) -> Result<usize> {
        let tokens = self.settings.rule.tokens;
        let pairs = asked.iter().flat_map(|asked| &asked.pairs);
        pairs.map(|[from, to]| Ok(pairings(from, to, tokens)?.len())).sum()
    }

    /// The rows of some changes.
    fn system(&self, keys: &dyn Keys, asked: &[Asked<'_>], width: usize) -> Result<System> {
        let Settings { layer, rule, .. } = self.settings;
        let prompts: Vec<Prompt> = asked.iter().flat_map(|asked| &asked.pairs).flatten().cloned().collect();
        let attended = finite(keys.attended(&prompts, layer)?)?;
        let weights =
            asked.iter().flat_map(|asked| asked.pairs.iter().map(|pair| (pair, asked.change.weight)));
        let systems: Vec<System> = weights
            .zip(attended.chunks(2))
            .map(|(([from, to], weight), keys)| {
                let rows = pairings(from, to, rule.tokens)?;
                System::of_pair([&keys[0], &keys[1]], &rows, rule.bias, weight)
            })
            .collect::<Result<_>>()?;
        Ok(System::joined(&systems.iter().collect::<Vec<_>>(), width))
    }

    /// The rows of the prompts that are to stay as they are: from the last word on.
    fn preserved(&self, keys: &dyn Keys, width: usize) -> Result<System> {
        let prompts: Vec<Prompt> =
            self.preserve.iter().map(|text| Ok(keys.tokenizer().encode(text)?)).collect::<Result<_>>()?;
        let attended = finite(keys.attended(&prompts, self.settings.layer)?)?;
        let one = |(prompt, keys): (&Prompt, &Attended)| -> Result<System> {
            let positions: Vec<usize> = (last_token(prompt)?..keys.nrows()).collect();
            Ok(System::preserving(keys, &positions))
        };
        let systems: Vec<System> = prompts.iter().zip(&attended).map(one).collect::<Result<_>>()?;
        Ok(System::joined(&systems.iter().collect::<Vec<_>>(), width))
    }
}

/// A change and its prompts, in pairs.
struct Asked<'a> {
    change: &'a Change,
    pairs: Vec<[Prompt; 2]>,
}

/// # Errors
/// Where a key is infinite or no number.
fn finite(attended: Vec<Attended>) -> Result<Vec<Attended>> {
    let is_finite = |keys: &Attended| keys.col_iter().all(|column| column.iter().all(|x| x.is_finite()));
    ensure!(
        attended.iter().all(is_finite),
        "keys of the text encoder are infinite or no numbers\n  help: the weights are damaged: fetch them again"
    );
    Ok(attended)
}

/// Mean of `‖ΔW k‖ / ‖W₀ k‖` over every position of some prompts: what an edit does to captions that it is not about (section 4 of the
/// specification). The first position, begin-of-text, is the same in all.
///
/// # Errors
/// Where the keys cannot be computed.
pub fn leakage(keys: &dyn Keys, solved: &Solved, layer: usize, captions: &[&str]) -> Result<f64> {
    let prompts: Vec<Prompt> =
        captions.iter().map(|text| Ok(keys.tokenizer().encode(text)?)).collect::<Result<_>>()?;
    let mut shares = Vec::new();
    for k in keys.attended(&prompts, layer)? {
        let [moved, whole] = [&solved.change, &solved.original.weight].map(|w| &k * w.transpose());
        let share = |row: usize| moved.row(row).norm_l2() / whole.row(row).norm_l2();
        shares.extend((0..k.nrows()).map(share).filter(|share| share.is_finite()));
    }
    Ok(shares.iter().sum::<f64>() / shares.len().max(1) as f64)
}
