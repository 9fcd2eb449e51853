//! The rows of a trace: scores and distances as they were measured. What follows from them is `effects.rs`'s.

use anyhow::Result;
use lab::paper::TrialContext;
use lab::trial::Measure;

use super::{Bench, Case, Scores};
use crate::effects::{DISTANCE, Score};
use crate::trace::{CLEAN, CORRUPTED, Trace};

/// The scores of a trace's runs.
pub(crate) struct Measured(Scores);

impl Measured {
    pub(crate) fn of(bench: &Bench, case: &Case, trace: &Trace) -> Result<Self> {
        Ok(Self(bench.scores(case, &trace.pixels)?))
    }

    /// S of a run.
    pub(crate) fn score(&self, score: Score, run: usize) -> Option<f64> {
        match score {
            Score::Clip => self.0.clip.get(run).copied(),
            Score::Class => self.0.class.get(run).map(|(probability, _)| *probability),
        }
    }

    /// Whether the classifier finds the attribute; none without a classifier.
    fn is_right(&self, run: usize) -> Option<bool> {
        self.0.class.get(run).map(|(_, right)| *right)
    }

    /// Rows about the caption as a whole, with its words.
    pub(crate) fn write_caption(
        &self,
        case: &Case,
        trace: &Trace,
        std: f64,
        context: &mut TrialContext,
    ) -> Result<()> {
        for score in Score::ALL {
            let (Some(clean), Some(corrupted)) = (self.score(score, CLEAN), self.score(score, CORRUPTED))
            else {
                continue;
            };
            let tagged = |metric: &str, value: f64| Measure::new(metric, value).tag("score", score.name());
            context.row_full(tagged("total_effect", clean - corrupted))?;
            context.row_full(tagged("total_effect_is_positive", f64::from(u8::from(clean > corrupted))))?;
        }
        for (metric, run) in [("clean_right", CLEAN), ("corrupted_right", CORRUPTED)] {
            if let Some(right) = self.is_right(run) {
                context.row(metric, f64::from(u8::from(right)))?;
            }
        }
        let caption = &case.probe.caption;
        let sigma = Measure::new("sigma", trace.applied.sigma).tag("caption", caption.text.as_str());
        context.row_full(sigma.tag("subject", caption.subject.as_str()))?;
        context.row("embedding_std", std)?;
        context.row("noise_norm", trace.applied.noise)?;
        context.row("embedding_norm", trace.applied.embedding)?;
        context.row("attention_norm", trace.applied.attention)?;
        Ok(())
    }

    /// The rows of a run, with the tags that say which run it is.
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
        for score in Score::ALL {
            if let Some(value) = self.score(score, run) {
                context.row_full(row(score.metric(), value))?;
            }
        }
        if let Some(right) = self.is_right(run) {
            context.row_full(row("right", f64::from(u8::from(right))))?;
        }
        for (metric, other) in [(DISTANCE, CLEAN), ("distance_to_corrupted", CORRUPTED)] {
            if let Some(value) = trace.distance(run, other)? {
                context.row_full(row(metric, value))?;
            }
        }
        Ok(())
    }
}
