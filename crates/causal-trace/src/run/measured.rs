//! From scores of runs to effects, and the rows that they become.

use anyhow::Result;
use lab::paper::TrialContext;
use lab::trial::Measure;

use super::{Bench, Case, Scores};
use crate::experiment::Captions;
use crate::trace::{CLEAN, CORRUPTED, Trace};

/// By what a picture is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    /// The judge's cosine: the paper's score.
    Clip,
    /// The classifier's probability of the attribute's class.
    Class,
}

impl Score {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Class => "class",
        }
    }
}

/// The scores of a trace's runs.
pub(crate) struct Effects {
    scores: Scores,
    floors: [f64; 2],
    only_right: bool,
}

impl Effects {
    pub(crate) fn of(bench: &Bench, case: &Case, trace: &Trace, captions: &Captions) -> Result<Self> {
        let floors = [captions.floor, captions.floor_class];
        Ok(Self { scores: bench.scores(case, &trace.pixels)?, floors, only_right: captions.only_right })
    }

    /// S of a run.
    pub(crate) fn score(&self, score: Score, run: usize) -> Option<f64> {
        match score {
            Score::Clip => self.scores.clip.get(run).copied(),
            Score::Class => self.scores.class.get(run).map(|(probability, _)| *probability),
        }
    }

    /// Whether the classifier finds the attribute; none without a classifier.
    pub(crate) fn is_right(&self, run: usize) -> Option<bool> {
        self.scores.class.get(run).map(|(_, right)| *right)
    }

    /// TE = S(clean) − S(corrupted).
    pub(crate) fn total(&self, score: Score) -> Option<f64> {
        Some(self.score(score, CLEAN)? - self.score(score, CORRUPTED)?)
    }

    /// Whether recoveries are defined: the clean picture shows the attribute and its loss is large enough.
    pub(crate) fn is_kept(&self, score: Score) -> bool {
        let floor = match score {
            Score::Clip => self.floors[0],
            Score::Class => self.floors[1],
        };
        let is_right = !self.only_right || self.is_right(CLEAN).unwrap_or(true);
        is_right && self.total(score).is_some_and(|total| total >= floor && total > 0.0)
    }

    /// ρ = (S(run) − S(corrupted)) / TE; none where it is not defined.
    pub(crate) fn recovery(&self, score: Score, run: usize) -> Option<f64> {
        let total = self.total(score).filter(|_| self.is_kept(score))?;
        Some((self.score(score, run)? - self.score(score, CORRUPTED)?) / total)
    }

    /// The scores that there are.
    pub(crate) fn scores(&self) -> Vec<Score> {
        [Score::Clip, Score::Class].into_iter().filter(|&score| self.score(score, CLEAN).is_some()).collect()
    }

    /// Rows about the caption as a whole.
    pub(crate) fn write_caption(&self, trace: &Trace, std: f64, context: &mut TrialContext) -> Result<()> {
        for score in self.scores() {
            let tagged = |metric: &str, value: f64| Measure::new(metric, value).tag("score", score.name());
            if let Some(total) = self.total(score) {
                context.row_full(tagged("total_effect", total))?;
                context.row_full(tagged("total_effect_is_positive", f64::from(u8::from(total > 0.0))))?;
            }
            context.row_full(tagged("kept", f64::from(u8::from(self.is_kept(score)))))?;
        }
        for (metric, run) in [("clean_right", CLEAN), ("corrupted_right", CORRUPTED)] {
            if let Some(right) = self.is_right(run) {
                context.row(metric, f64::from(u8::from(right)))?;
            }
        }
        context.row("sigma", trace.applied.sigma)?;
        context.row("embedding_std", std)?;
        context.row("noise_norm", trace.applied.noise)?;
        context.row("embedding_norm", trace.applied.embedding)?;
        context.row("attention_norm", trace.applied.attention)?;
        Ok(())
    }

    /// The raw rows of a run: scores and distances, with the tags that say which run it is.
    pub(crate) fn write_run(
        &self,
        trace: &Trace,
        run: usize,
        tags: &[(&str, &str)],
        context: &mut TrialContext,
    ) -> Result<()> {
        let row = |metric: &str, value: f64| {
            tags.iter().fold(Measure::new(metric, value), |row, (name, value)| row.tag(*name, *value))
        };
        for score in self.scores() {
            if let Some(value) = self.score(score, run) {
                context.row_full(row(&format!("score_{}", score.name()), value))?;
            }
            if let Some(value) = self.recovery(score, run).filter(|_| run > CORRUPTED) {
                context.row_full(row(&format!("recovery_{}", score.name()), value))?;
            }
        }
        if let Some(right) = self.is_right(run) {
            context.row_full(row("right", f64::from(u8::from(right))))?;
        }
        for (metric, other) in [("distance_to_clean", CLEAN), ("distance_to_corrupted", CORRUPTED)] {
            if let Some(value) = trace.distance(run, other)? {
                context.row_full(row(metric, value))?;
            }
        }
        Ok(())
    }
}

/// Mean of what there is.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0usize), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}
