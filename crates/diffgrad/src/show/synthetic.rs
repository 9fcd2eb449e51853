//! The synthetic study: figure 4 again, the end points beside the printed ones, and how fragile they are.

use lab::figure::{Axis, Content, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::table::{Cell, Table, columns};

use super::Rows;
use crate::experiment::DiffGradExperiment;
use crate::optim::RuleName;
use crate::synthetic::{Function, SyntheticStudy};

/// End points that the paper states or shows (section V, figure 4): x and loss.
fn printed(function: Function, rule: RuleName) -> Option<(f64, f64)> {
    match (function, rule) {
        (Function::F1, RuleName::Adam) => Some((0.2, 0.05)),
        (Function::F1, RuleName::DiffGrad) => Some((-0.3, 0.0)),
        (Function::F2, RuleName::Adam) => Some((0.0, 0.85)),
        (Function::F2, RuleName::DiffGrad) => Some((-0.643, 0.0)),
        (Function::F3, RuleName::Adam | RuleName::DiffGrad) => Some((0.0, 0.0)),
        _ => None,
    }
}

pub(super) fn show(
    experiment: &DiffGradExperiment,
    name: &str,
    study: &SyntheticStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    shown.tables.push(end_points(experiment, name, study, rows));
    shown.tables.push(fragility(experiment, name, study, rows));
    shown.tables.push(swing(experiment, name, study, rows));
    shown.figures.push(graphs(name, study));
    shown.figures.push(descents(experiment, name, study, rows));
    shown.figures.push(sweeps(experiment, name, study, rows));
}

/// One table row for every function and arm.
fn cells(
    experiment: &DiffGradExperiment,
    study: &SyntheticStudy,
    row: impl Fn(Function, &str, RuleName) -> Vec<Cell>,
) -> Vec<Vec<Cell>> {
    let pairs =
        study.functions.iter().flat_map(|function| study.arms.iter().map(move |arm| (*function, arm)));
    let line = |(function, arm): (Function, &String)| {
        let found = &experiment.arms[arm];
        let mut line = vec![Cell::from(function.name()), Cell::from(found.label.as_str())];
        line.extend(row(function, arm, found.optimiser.rule));
        line
    };
    pairs.map(line).collect()
}

fn end_points(experiment: &DiffGradExperiment, name: &str, study: &SyntheticStudy, rows: &Rows<'_>) -> Table {
    let row = |function: Function, arm: &str, rule: RuleName| {
        let printed = printed(function, rule);
        vec![
            Cell::number(rows.one("final_x", arm, function.name()), 5),
            Cell::number(printed.map(|(x, _)| x), 3),
            Cell::number(rows.one("final_loss", arm, function.name()), 6),
            Cell::number(printed.map(|(_, loss)| loss), 3),
            Cell::number(rows.one("reaches_global", arm, function.name()), 0),
        ]
    };
    Table {
        id: format!("{name}_end_points"),
        title: "Where the descents end".to_owned(),
        caption: format!(
            "After {} updates from x₀ = {} at learning rate {}, β₁ = {}. Printed values: section V and figure 4. \
             reaches_global: 1 where |x − global minimum| < {}.",
            study.iterations, study.start, study.lr, study.beta1, study.reached
        ),
        columns: columns(&[
            "function",
            "arm",
            "final_x",
            "published_x",
            "final_loss",
            "published_loss",
            "reaches_global",
        ]),
        rows: cells(experiment, study, row),
    }
}

fn fragility(experiment: &DiffGradExperiment, name: &str, study: &SyntheticStudy, rows: &Rows<'_>) -> Table {
    let row = |function: Function, arm: &str, _| {
        let count = |metric: &str| Cell::number(rows.one(metric, arm, function.name()), 0);
        let total = |points: usize| Cell::Number(points as f64, 0);
        vec![
            count("lr_grid_successes"),
            total(study.lr_grid.points),
            count("start_grid_successes"),
            total(study.start_grid.points),
            count("reaches_global_other_beta1"),
        ]
    };
    Table {
        id: format!("{name}_fragility"),
        title: "How much hangs on the settings".to_owned(),
        caption: format!(
            "Descents that reach the global minimum: over learning rates {} to {}, over starts {} to {}, and with β₁ = {}. \
             The control ξ = ½ is Adam at half the learning rate; it has no friction that looks at the gradient.",
            study.lr_grid.from,
            study.lr_grid.to,
            study.start_grid.from,
            study.start_grid.to,
            study.other_beta1
        ),
        columns: columns(&[
            "function",
            "arm",
            "reached_over_lr",
            "of_lr",
            "reached_over_start",
            "of_start",
            "reaches_with_other_beta1",
        ]),
        rows: cells(experiment, study, row),
    }
}

fn swing(experiment: &DiffGradExperiment, name: &str, study: &SyntheticStudy, rows: &Rows<'_>) -> Table {
    let row = |function: Function, arm: &str, _| {
        let value = |metric: &str, decimals| Cell::number(rows.one(metric, arm, function.name()), decimals);
        vec![
            value("early_amplitude", 4),
            value("turning_points", 0),
            value("late_amplitude", 4),
            value("late_sd", 4),
        ]
    };
    Table {
        id: format!("{name}_swing"),
        title: "How the descents swing".to_owned(),
        caption: "early_amplitude: largest |x| over iterations 15–75. turning_points, late_amplitude (half of max − min) and \
                  late_sd: over iterations 201–300."
            .to_owned(),
        columns: columns(&["function", "arm", "early_amplitude", "turning_points", "late_amplitude", "late_sd"]),
        rows: cells(experiment, study, row),
    }
}

fn series(
    experiment: &DiffGradExperiment,
    study: &SyntheticStudy,
    rows: &Rows<'_>,
    metric: &str,
    function: Function,
) -> Vec<Series> {
    let curve = |arm: &String| Series {
        label: experiment.arms[arm].label.clone(),
        points: rows
            .curve(metric, arm, function.name())
            .into_iter()
            .map(|(at, values)| (at, values[0]))
            .collect(),
        ..Series::default()
    };
    study.arms.iter().map(curve).collect()
}

fn axis(label: &str) -> Axis {
    Axis { label: label.to_owned(), ..Axis::default() }
}

/// The three functions (panels a, d and g of figure 4).
fn graphs(name: &str, study: &SyntheticStudy) -> Figure {
    let graph = |function: &Function| Series {
        label: function.name().to_uppercase(),
        points: (0..=400).map(|i| f64::from(i) / 200.0 - 1.0).map(|x| (x, function.value(x))).collect(),
        ..Series::default()
    };
    let y = Axis { label: "F(x)".to_owned(), range: Some((0.0, 1.5)), log: false };
    let content = Content::Lines(study.functions.iter().map(graph).collect());
    Figure {
        id: format!("{name}_functions"),
        title: "The three functions (figure 4 a, d, g of the paper)".to_owned(),
        caption: "Global minima: F1 at −0.3, F2 at −0.643, F3 at 0. F2 leaves the frame to the left of −0.9 and to the right \
                  of 0.8."
            .to_owned(),
        panels: vec![Panel { title: "F1, F2, F3".to_owned(), x: axis("x"), y, content }],
        columns: 1,
    }
}

/// Loss and x over the iterations (the other panels of figure 4).
fn descents(experiment: &DiffGradExperiment, name: &str, study: &SyntheticStudy, rows: &Rows<'_>) -> Figure {
    let panels = study.functions.iter().flat_map(|function| {
        let upper = function.name().to_uppercase();
        [("loss", "F(x)"), ("x", "x")].map(|(metric, label)| Panel {
            title: format!("{upper}: {metric}"),
            x: axis("iteration"),
            y: axis(label),
            content: Content::Lines(series(experiment, study, rows, metric, *function)),
        })
    });
    Figure {
        id: format!("{name}_descents"),
        title: "How they are descended (figure 4 b, c, e, f, h, i of the paper)".to_owned(),
        caption: format!(
            "From x₀ = {} at learning rate {}, β₁ = {}; deterministic, so there is no interval. The control ξ = ½ is not in \
             the paper.",
            study.start, study.lr, study.beta1
        ),
        panels: panels.collect(),
        columns: 2,
    }
}

/// Final distance from the global minimum over learning rates and starts.
fn sweeps(experiment: &DiffGradExperiment, name: &str, study: &SyntheticStudy, rows: &Rows<'_>) -> Figure {
    let shown: Vec<Function> =
        study.functions.iter().copied().filter(|function| *function != Function::F3).collect();
    let panels = shown.into_iter().flat_map(|function| {
        [("lr_grid_distance", "learning rate"), ("start_grid_distance", "start x₀")].map(|(metric, label)| {
            let mut series = series(experiment, study, rows, metric, function);
            // Below this, how small a distance is says nothing; a floor keeps the axis readable.
            for point in series.iter_mut().flat_map(|series| &mut series.points) {
                point.1 = point.1.max(1e-6);
            }
            series.iter_mut().for_each(|series| series.scatter = true);
            Panel {
                title: format!("{} over {label}", function.name().to_uppercase()),
                x: axis(label),
                y: Axis { label: "|x − global minimum|".to_owned(), log: true, ..Axis::default() },
                content: Content::Lines(series),
            }
        })
    });
    Figure {
        id: format!("{name}_sweeps"),
        title: "Which settings find the global minimum".to_owned(),
        caption: format!(
            "Distance from the global minimum after {} updates, when the learning rate or the start alone is changed. The \
             paper shows one setting: learning rate {}, start {}. A point below {} counts as found.",
            study.iterations, study.lr, study.start, study.reached
        ),
        panels: panels.collect(),
        columns: 2,
    }
}
