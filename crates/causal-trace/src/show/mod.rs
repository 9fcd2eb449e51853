//! Tables, figures and explanations made from the rows of a reproduction.

mod galleries;
mod metrics;
mod sweep;
mod text;
mod unet;

use anyhow::Result;
use lab::paper::{Outcome, Presentation};
use lab::row::Rows;
use lab::stats::{self, Interval, bootstrap_mean};
use lab::table::{Cell, Table, columns};

use crate::experiment::{Captions, Study, TraceExperiment};
use crate::sets::by_case;

/// Everything the report shows besides verdicts.
pub(crate) fn present(experiment: &TraceExperiment, outcome: &Outcome) -> Result<Presentation> {
    let mut shown = Presentation {
        metrics: metrics::explained(),
        protocol: metrics::protocol(experiment),
        ..Default::default()
    };
    let downstream = unet::downstream(&outcome.rows);
    for (name, study) in &experiment.studies {
        let rows = Rows::of(&outcome.rows, name);
        if rows.0.is_empty() {
            continue;
        }
        match study {
            Study::Identities(_) => shown.tables.push(identities(name, &rows)),
            Study::Unet(study) => {
                shown.tables.push(captions(experiment, name, &study.arms, &study.captions, &rows));
                unet::show(experiment, name, study, &rows, &downstream, &mut shown);
                shown.pictures.extend(galleries::of(name, &rows, outcome)?);
            }
            Study::Text(study) => {
                shown.tables.push(captions(experiment, name, &study.arms, &study.captions, &rows));
                text::show(experiment, name, study, &rows, &mut shown);
            }
            Study::Sweep(study) => sweep::show(experiment, name, study, &rows, &mut shown),
        }
    }
    Ok(shown)
}

/// Mean over captions, the seeds of each averaged, with a 95 % bootstrap interval.
pub(crate) fn over_captions(
    rows: &Rows<'_>,
    metric: &str,
    arm: &str,
    tags: &[(&str, &str)],
) -> Option<Interval> {
    let by_case = by_case(&rows.by_unit(metric, arm, tags));
    bootstrap_mean(&by_case.into_values().collect::<Vec<_>>())
}

pub(crate) fn label(experiment: &TraceExperiment, arm: &str) -> String {
    experiment.arms.get(arm).map_or_else(|| arm.to_owned(), |arm| arm.label.clone())
}

/// What the model makes of the captions before anything is restored.
fn captions(
    experiment: &TraceExperiment,
    study: &str,
    arms: &[String],
    asked: &Captions,
    rows: &Rows<'_>,
) -> Table {
    let line = |arm: &String| {
        let share = |metric: &str| stats::mean(&rows.values(metric, arm, &[])).ok();
        let clip = [("score", "clip")];
        let effect = over_captions(rows, "total_effect", arm, &clip);
        let [mean, low, high] = Cell::interval(effect, 4);
        let positive = |score: &str| {
            stats::mean(&rows.values("total_effect_is_positive", arm, &[("score", score)])).ok()
        };
        let kept = |score: &str| stats::mean(&rows.values("kept", arm, &[("score", score)])).ok();
        vec![
            Cell::from(label(experiment, arm).as_str()),
            Cell::Number(rows.values("total_effect", arm, &clip).len() as f64, 0),
            Cell::number(share("clean_right"), 3),
            Cell::number(share("corrupted_right"), 3),
            mean,
            low,
            high,
            Cell::number(positive("clip"), 3),
            Cell::number(positive("class"), 3),
            Cell::number(kept("clip"), 3),
            Cell::number(kept("class"), 3),
            Cell::number(share("embedding_std"), 4),
            Cell::number(share("sigma"), 4),
            Cell::number(share("noise_norm"), 2),
            Cell::number(share("embedding_norm"), 2),
            Cell::number(share("attention_norm"), 2),
        ]
    };
    Table {
        id: format!("{study}_captions"),
        title: format!("Captions of the study `{study}`"),
        caption: format!(
            "Captions × seeds of each attribute; how often the classifier finds the attribute in the clean and in the corrupted picture; the total \
             effect in cosines of the judge with a 95 % bootstrap interval over captions, and how often it is positive by either score; and the share \
             that is kept: total effect at least {} cosines (or {} of the classifier's probability), or the standard deviation of the clean score over \
             seeds where that is more{}. Then the standard deviation that `std:` counts in and the absolute σ, and norms at a subject token (trap T10): of the noise, of what it is added to, and of \
             the first self-attention's output in the clean run.",
            asked.floor,
            asked.floor_class,
            if asked.only_right { ", attribute found in the clean picture" } else { "" }
        ),
        columns: columns(&[
            "attribute",
            "n",
            "clean_right",
            "corrupted_right",
            "total_effect",
            "ci_low",
            "ci_high",
            "positive_clip",
            "positive_class",
            "kept_clip",
            "kept_class",
            "embedding_std",
            "sigma",
            "noise_norm",
            "embedding_norm",
            "attention_norm",
        ]),
        rows: arms.iter().map(line).collect(),
    }
}

fn identities(study: &str, rows: &Rows<'_>) -> Table {
    let lines = [
        ("I2", "The last transformer restored gives the clean picture"),
        ("I3", "Every component restored from the corrupted run gives the corrupted picture"),
        ("I5", "All components restored give the clean picture"),
        ("I6", "Lockstep equals the loop (every ninth component)"),
    ];
    let row = |(case, what): (&str, &str)| {
        let value = rows.0.iter().find(|row| row.metric == "identity_difference" && row.case == case);
        let value = value.map_or(Cell::Missing, |row| Cell::Text(format!("{:.1e}", row.value)));
        vec![Cell::from(case), Cell::from(what), value, Cell::from("0")]
    };
    Table {
        id: format!("{study}_identities"),
        title: "What must hold exactly".to_owned(),
        caption: "Largest absolute difference of the last latents, measured on the model that is traced."
            .to_owned(),
        columns: columns(&["id", "identity", "largest_difference", "expected"]),
        rows: lines.into_iter().map(row).collect(),
    }
}
