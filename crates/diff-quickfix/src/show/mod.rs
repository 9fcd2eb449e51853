//! Tables, figures and explanations made from the rows of a reproduction.

mod editing;
mod galleries;
mod joint;
mod metrics;

use anyhow::Result;
use lab::paper::{Outcome, Presentation};
use lab::row::Rows;
use lab::stats;
use lab::table::{Cell, Table, columns};

use crate::experiment::{QuickfixExperiment, Study};

/// Everything the report shows besides verdicts.
pub(crate) fn present(experiment: &QuickfixExperiment, outcome: &Outcome) -> Result<Presentation> {
    let mut shown = Presentation {
        metrics: metrics::explained(),
        protocol: metrics::protocol(experiment),
        ..Default::default()
    };
    for (name, study) in &experiment.studies {
        let rows = Rows::of(&outcome.rows, name);
        if rows.0.is_empty() {
            continue;
        }
        match study {
            Study::Identities(_) => shown.tables.push(identities(name, &rows)),
            Study::Editing(study) => {
                editing::show(experiment, name, study, &rows, &mut shown);
                shown.pictures.extend(galleries::of(name, &rows, outcome)?);
            }
            Study::Joint(study) => joint::show(experiment, name, study, &rows, &mut shown),
        }
    }
    Ok(shown)
}

/// The middle value; of times and counts of work, which one slow moment should not decide.
fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        count if count % 2 == 1 => Some(values[middle]),
        _ => Some(0.5 * (values[middle - 1] + values[middle])),
    }
}

fn label(experiment: &QuickfixExperiment, arm: &str) -> String {
    experiment.arms.get(arm).map_or_else(|| arm.to_owned(), |arm| arm.label.clone())
}

fn identities(study: &str, rows: &Rows<'_>) -> Table {
    let lines = [
        ("primal_dual", "Primal and dual solutions", "at most 1e-10"),
        ("no_op", "A concept edited into itself: ‖ΔW‖ / ‖W₀‖", "0"),
        ("large_lambda", "λ = 1e9: ‖ΔW‖ / ‖W₀‖", "about 0"),
        ("orthogonal", "A direction orthogonal to every key: ‖ΔW x‖ / ‖W₀ x‖", "about 0"),
        ("keys", "λ = 1e-8: ‖W k − v‖ / ‖v‖", "about 0"),
        ("order", "Concepts added in the opposite order", "at most 1e-10"),
        ("reversible", "All concepts taken back: ‖ΔW‖ / ‖W₀‖", "at most 1e-10"),
    ];
    let row = |(case, what, expected): (&str, &str, &str)| {
        let value = rows.0.iter().find(|row| row.metric == "identity_difference" && row.case == case);
        let value = value.map_or(Cell::Missing, |row| Cell::Text(format!("{:.1e}", row.value)));
        vec![Cell::from(case), Cell::from(what), value, Cell::from(expected)]
    };
    let mut all: Vec<Vec<Cell>> = lines.into_iter().map(row).collect();
    let single = |metric: &str, what: &str, expected: &str| {
        let value = rows.0.iter().find(|row| row.metric == metric);
        let value = value.map_or(Cell::Missing, |row| Cell::Text(format!("{:.4}", row.value)));
        vec![Cell::from(metric), Cell::from(what), value, Cell::from(expected)]
    };
    all.push(single("release_no_op", "As no_op, with the release's bias (trap X2)", "above 0"));
    let shares: Vec<f64> =
        rows.0.iter().filter(|row| row.metric == "attention_share").map(|row| row.value).collect();
    all.push(vec![
        Cell::from("attention_share"),
        Cell::from(
            "‖W₀ k + b‖ / ‖embedding‖ at a concept's last token: what the edit can reach of the stream",
        ),
        stats::mean(&shares).map_or(Cell::Missing, |share| Cell::Text(format!("{share:.4}"))),
        Cell::from(""),
    ]);
    all.push(single("tensors_changed", "Tensors in which the edited folder differs", "1"));
    all.push(single("share_of_unet", "Numbers of W in per cent of this model's UNet", ""));
    all.push(single("share_of_stable_diffusions_unet", "The same of Stable Diffusion 1.x", "0.0686"));
    Table {
        id: format!("{study}_identities"),
        title: "What must hold exactly".to_owned(),
        caption: "Relative differences in the Frobenius norm, measured on the model that is edited."
            .to_owned(),
        columns: columns(&["id", "identity", "found", "expected"]),
        rows: all,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_middles() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
