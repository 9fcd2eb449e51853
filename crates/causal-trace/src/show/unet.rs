//! What restoring components of the UNet shows.

use std::collections::{BTreeMap, BTreeSet};

use lab::figure::{Axis, Bar, Content, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::row::{Row, Rows};
use lab::stats::bootstrap_mean;
use lab::table::{Cell, Table, columns};

use super::label;
use crate::components::{Group, Part};
use crate::experiment::{TraceExperiment, UnetStudy};
use crate::sets::{self, LEAST, Line};

pub(super) fn show(
    experiment: &TraceExperiment,
    name: &str,
    study: &UnetStudy,
    rows: &Rows<'_>,
    downstream: &Downstream<'_>,
    shown: &mut Presentation,
) {
    let all = sets::lines(study, rows);
    shown.tables.push(components(experiment, name, study, &all, downstream));
    shown.tables.push(parts(experiment, name, study, rows));
    if study.controls.len() > 1 {
        shown.tables.push(controls(experiment, name, study, rows));
    }
    if study.halves.len() > 1 {
        shown.tables.push(halves(experiment, name, study, rows));
    }
    // An attribute none of whose captions is kept has nothing to draw.
    let drawn: Vec<(&String, &Vec<Line>)> =
        all.iter().filter(|(_, lines)| lines.iter().any(|line| line.recovery.is_some())).collect();
    if !drawn.is_empty() {
        shown.figures.push(bars(experiment, name, &drawn));
        shown.figures.extend(overlap(experiment, name, &drawn));
        shown.figures.extend(behind(name, &drawn, downstream));
    }
}

/// Share of a pass that lies behind each component, where the identities were measured.
pub(super) type Downstream<'a> = BTreeMap<&'a str, f64>;

pub(super) fn downstream(rows: &[Row]) -> Downstream<'_> {
    let of = |row: &'_ Row| row.metric == "downstream";
    rows.iter()
        .filter(|row| of(row))
        .filter_map(|row| Some((row.tags.get("component")?.as_str(), row.value)))
        .collect()
}

/// Mean recovery against what lies behind (trap T4), attributes averaged.
fn behind(name: &str, all: &[(&String, &Vec<Line>)], downstream: &Downstream<'_>) -> Option<Figure> {
    let mut found: BTreeMap<&str, Vec<(f64, f64)>> = BTreeMap::new();
    for part in Part::ALL {
        let lines = all.iter().flat_map(|(_, lines)| lines.iter()).filter(|line| line.part == part.name());
        let mut of: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for line in lines {
            of.entry(&line.component).or_default().extend(line.recovery.map(|recovery| recovery.estimate));
        }
        let point = |(component, values): (&str, Vec<f64>)| {
            Some((100.0 * downstream.get(component)?, lab::stats::mean(&values).ok()?))
        };
        let mut points: Vec<(f64, f64)> = of.into_iter().filter_map(point).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        found.insert(part.name(), points);
    }
    let series = |part: Part| Series {
        label: part.name().to_owned(),
        points: found.get(part.name()).cloned().unwrap_or_default(),
        band: Vec::new(),
        scatter: true,
    };
    let series: Vec<Series> =
        Part::ALL.into_iter().map(series).filter(|series| !series.points.is_empty()).collect();
    (!series.is_empty()).then(|| Figure {
        id: format!("{name}_downstream"),
        title: "Recovery and how much of the network comes after".to_owned(),
        caption: "Each point is a component: its mean recovery of the CLIP-Score, attributes averaged, against the share of a pass's \
                  multiply-accumulates that is done behind it. At the left, near the output, restoring is copying the clean prediction (trap T4)."
            .to_owned(),
        panels: vec![Panel {
            title: "All attributes".to_owned(),
            x: Axis { label: "done behind the component, % of a pass".to_owned(), ..Axis::default() },
            y: Axis { label: "recovery of the CLIP-Score".to_owned(), ..Axis::default() },
            content: Content::Lines(series),
        }],
        columns: 1,
    })
}

fn components(
    experiment: &TraceExperiment,
    name: &str,
    study: &UnetStudy,
    all: &BTreeMap<String, Vec<Line>>,
    downstream: &Downstream<'_>,
) -> Table {
    let mut rows = Vec::new();
    for (arm, lines) in all {
        for line in lines {
            let [mean, low, high] = Cell::interval(line.recovery, 3);
            let yes = |yes: Option<bool>| {
                yes.map_or(Cell::Missing, |yes| Cell::from(if yes { "yes" } else { "no" }))
            };
            rows.push(vec![
                Cell::from(label(experiment, arm).as_str()),
                Cell::from(line.component.as_str()),
                mean,
                low,
                high,
                Cell::Number(line.recovery.map_or(0, |recovery| recovery.n) as f64, 0),
                Cell::number(line.class.map(|class| class.estimate), 3),
                Cell::number(line.foreign, 3),
                Cell::number(line.p, 4),
                yes(line.causal),
                Cell::number(line.score, 4),
                yes(line.paper),
                Cell::number(downstream.get(line.component.as_str()).copied(), 3),
            ]);
        }
    }
    Table {
        id: format!("{name}_components"),
        title: "Every component".to_owned(),
        caption: format!(
            "Recovery of the CLIP-Score, (S(restored) − S(corrupted)) / (S(clean) − S(corrupted)), averaged over the kept captions and seeds with \
             a 95 % bootstrap interval; the same of the classifier's probability; the recovery from a foreign donor (control N2); p of clean − \
             foreign ≤ 0 after Holm over all components and attributes. Causal: the interval lies above {} and p < 0.05; not \
             said of fewer than {LEAST} captions and seeds, or without the control. Paper mode: the mean score over the other captions reaches that \
             of restored pictures in which the classifier finds the attribute, over the first half of the captions. Downstream: share of a \
             pass's multiply-accumulates that is done behind the component (trap T4).",
            study.above
        ),
        columns: columns(&[
            "attribute",
            "component",
            "recovery_clip",
            "ci_low",
            "ci_high",
            "n",
            "recovery_class",
            "recovery_foreign",
            "p_holm",
            "causal",
            "score",
            "paper_mode_causal",
            "downstream",
        ]),
        rows,
    }
}

fn parts(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for arm in &study.arms {
        let attribute = arm.as_str();
        let tags = [("score", "clip"), ("attribute", attribute)];
        let kinds = Part::ALL.map(|part| ("part_recovery", part.name()));
        let groups = Group::ALL.map(|group| ("causal_share", group.name()));
        for (metric, kind) in kinds.into_iter().chain(groups) {
            let [mean, low, high] = Cell::interval(bootstrap_mean(&rows.values(metric, kind, &tags)), 3);
            lines.push(vec![
                Cell::from(label(experiment, arm).as_str()),
                Cell::from(kind),
                Cell::from(metric),
                mean,
                low,
                high,
            ]);
        }
    }
    Table {
        id: format!("{name}_parts"),
        title: "Kinds of components and groups of blocks".to_owned(),
        caption: "Mean recovery of the CLIP-Score over the components of a kind, and the share of a group's components whose recovery exceeds the \
                  threshold and the foreign donor's for a caption, both without `up_blocks.3`; 95 % bootstrap intervals over captions and seeds."
            .to_owned(),
        columns: columns(&["attribute", "of", "metric", "mean", "ci_low", "ci_high"]),
        rows: lines,
    }
}

fn controls(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for arm in &study.arms {
        for control in &study.controls {
            let tags = [("score", "clip"), ("attribute", arm.as_str())];
            let [mean, low, high] =
                Cell::interval(bootstrap_mean(&rows.values("mean_recovery", control.name(), &tags)), 3);
            let arm = label(experiment, arm);
            lines.push(vec![Cell::from(arm.as_str()), Cell::from(control.name()), mean, low, high]);
        }
    }
    Table {
        id: format!("{name}_controls"),
        title: "Where the restored values come from".to_owned(),
        caption: "Mean recovery of the CLIP-Score over the components before `up_blocks.3`, 95 % bootstrap intervals over captions and seeds. Foreign: another caption's \
                  clean run (N2); permuted: the clean run's channels, permuted (N3); noise: of the clean activation's norm (N4); own_latent: the clean text on \
                  the restored run's own latents (T5); noising: the other direction, the clean run given the corrupted one's value, where 1 says that \
                  nothing was lost and 1 − the number is how far components are necessary."
            .to_owned(),
        columns: columns(&["attribute", "values", "recovery", "ci_low", "ci_high"]),
        rows: lines,
    }
}

fn halves(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for arm in &study.arms {
        let attribute = arm.as_str();
        for half in &study.halves {
            let values =
                rows.values("half_recovery", half.name(), &[("score", "clip"), ("attribute", attribute)]);
            let [mean, low, high] = Cell::interval(bootstrap_mean(&values), 3);
            let arm = label(experiment, arm);
            lines.push(vec![Cell::from(arm.as_str()), Cell::from(half.name()), mean, low, high]);
        }
    }
    Table {
        id: format!("{name}_halves"),
        title: "Which half of guidance is restored".to_owned(),
        caption: "Mean recovery of the CLIP-Score over the components before `up_blocks.3`, 95 % bootstrap intervals over captions and seeds.".to_owned(),
        columns: columns(&["attribute", "half", "recovery", "ci_low", "ci_high"]),
        rows: lines,
    }
}

/// `down_blocks.0.attentions.1.transformer_blocks.0.attn2` as `down0.a1.attn2`.
fn short(component: &str) -> String {
    component
        .replace("_blocks", "")
        .replace("_block", "")
        .replace(".transformer.0", "")
        .replace(".attentions.", ".a")
        .replace(".resnets.", ".r")
        .replacen("down.", "down", 1)
        .replacen("up.", "up", 1)
}

fn bars(experiment: &TraceExperiment, name: &str, all: &[(&String, &Vec<Line>)]) -> Figure {
    let panel = |(arm, lines): &(&String, &Vec<Line>)| {
        let bar = |line: &Line| Bar {
            label: format!("{}{}", short(&line.component), if line.causal == Some(true) { " *" } else { "" }),
            kind: Part::ALL.iter().position(|part| part.name() == line.part).unwrap_or(0),
            value: line.recovery.map(|recovery| recovery.estimate),
            interval: line
                .recovery
                .filter(|recovery| recovery.n > 1)
                .map(|recovery| (recovery.low, recovery.high)),
            control: line.foreign,
        };
        let n = lines.iter().filter_map(|line| line.recovery).map(|recovery| recovery.n).max().unwrap_or(0);
        Panel {
            title: format!("{}, n = {n}", label(experiment, arm)),
            x: Axis { label: "recovery of the CLIP-Score".to_owned(), ..Axis::default() },
            y: Axis::default(),
            content: Content::Bars {
                kinds: Part::ALL.map(|part| part.name().to_owned()).to_vec(),
                control: "foreign donor".to_owned(),
                bars: lines.iter().map(bar).collect(),
            },
        }
    };
    Figure {
        id: format!("{name}_components"),
        title: "What restoring one component brings back".to_owned(),
        caption: "Components in the order of a pass; bars are means over the kept captions and seeds, lines 95 % bootstrap intervals, diamonds the \
                  same with a foreign donor (control N2). A star: causal by the rule of the table. Residual blocks carry the whole stream, the \
                  others a summand (trap T3), and towards the end restoring is copying the clean prediction (trap T4)."
            .to_owned(),
        panels: all.iter().map(panel).collect(),
        columns: 3,
    }
}

fn overlap(experiment: &TraceExperiment, name: &str, all: &[(&String, &Vec<Line>)]) -> Option<Figure> {
    let decided: Vec<(&String, BTreeSet<&str>)> =
        all.iter().filter_map(|(arm, lines)| Some((*arm, sets::causal(lines)?))).collect();
    if decided.is_empty() {
        return None;
    }
    let (all, sets): (Vec<&String>, Vec<BTreeSet<&str>>) = decided.into_iter().unzip();
    let names: Vec<String> = all.iter().map(|arm| label(experiment, arm)).collect();
    let sized = names.iter().zip(&sets).map(|(name, set)| format!("{name} ({})", set.len())).collect();
    Some(Figure {
        id: format!("{name}_jaccard"),
        title: "How far the causal sets of two attributes agree".to_owned(),
        caption: "Jaccard index of the sets of causal components (in parentheses: how many there are); a dash where neither attribute has any.".to_owned(),
        panels: vec![Panel {
            title: "Jaccard index".to_owned(),
            x: Axis::default(),
            y: Axis::default(),
            content: Content::Heat {
                rows: sized,
                columns: names,
                values: sets.iter().map(|a| sets.iter().map(|b| sets::jaccard(a, b)).collect()).collect(),
            },
        }],
        columns: 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short() {
        assert_eq!(short("down_blocks.0.attentions.1.transformer_blocks.0.attn2"), "down0.a1.attn2");
        assert_eq!(short("mid_block.resnets.1"), "mid.r1");
        assert_eq!(short("up_blocks.3.resnets.2"), "up3.r2");
    }
}
