//! What restoring components of the UNet shows.

use std::collections::{BTreeMap, BTreeSet};

use lab::figure::{Axis, Bar, Content, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::row::{Row, Rows};
use lab::stats::Interval;
use lab::table::{Cell, Table, columns};

use super::{label, over_captions};
use crate::components::{Group, Part};
use crate::effects::Score;
use crate::experiment::{TraceExperiment, UnetStudy};
use crate::sets::{self, LEAST, Line};
use crate::trace::Control;

pub(super) fn show(
    experiment: &TraceExperiment,
    name: &str,
    study: &UnetStudy,
    rows: &Rows<'_>,
    downstream: &Downstream<'_>,
    shown: &mut Presentation,
) {
    let all = sets::lines(study, rows, Score::Clip);
    let by_class = sets::lines(study, rows, Score::Class);
    shown.tables.push(components(experiment, name, study, [&all, &by_class], downstream));
    shown.tables.push(parts(experiment, name, study, rows));
    shown.tables.push(groups(experiment, name, study, rows));
    if study.controls.len() > 1 {
        shown.tables.push(controls(experiment, name, study, rows));
    }
    if study.halves.len() > 1 {
        shown.tables.push(halves(experiment, name, study, rows));
    }
    let drawn = drawn(&all);
    if !drawn.is_empty() {
        shown.figures.push(bars(experiment, name, &drawn, Score::Clip));
        shown.figures.extend(overlap(experiment, name, &drawn, Score::Clip));
        shown.figures.extend(behind(name, &drawn, downstream));
    }
    let drawn = self::drawn(&by_class);
    if !drawn.is_empty() {
        shown.figures.push(bars(experiment, name, &drawn, Score::Class));
        shown.figures.extend(overlap(experiment, name, &drawn, Score::Class));
    }
}

/// The attributes of which there is something to draw: of a single caption the gallery shows more than bars.
fn drawn(all: &BTreeMap<String, Vec<Line>>) -> Vec<(&String, &Vec<Line>)> {
    let has_several = |line: &Line| line.recovery.is_some_and(|recovery| recovery.n > 1);
    all.iter().filter(|(_, lines)| lines.iter().any(has_several)).collect()
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
    [all, by_class]: [&BTreeMap<String, Vec<Line>>; 2],
    downstream: &Downstream<'_>,
) -> Table {
    let mut rows = Vec::new();
    for (arm, lines) in all {
        for (line, class) in lines.iter().zip(&by_class[arm]) {
            let [mean, low, high] = Cell::interval(line.recovery, 3);
            let estimate = |of: Option<Interval>| of.map(|interval| interval.estimate);
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
                Cell::number(line.foreign, 3),
                Cell::number(line.p, 4),
                yes(line.causal),
                Cell::number(estimate(line.effect), 4),
                Cell::number(line.absolute, 4),
                Cell::number(line.score, 4),
                yes(line.paper),
                Cell::number(estimate(class.recovery), 3),
                Cell::number(class.foreign, 3),
                yes(class.causal),
                Cell::number(downstream.get(line.component.as_str()).copied(), 3),
            ]);
        }
    }
    Table {
        id: format!("{name}_components"),
        title: "Every component".to_owned(),
        caption: format!(
            "Recovery of the CLIP-Score, (S(restored) − S(corrupted)) / (S(clean) − S(corrupted)), averaged over the kept captions with \
             a 95 % bootstrap interval (the seeds of a caption are averaged); the recovery from a foreign donor (control N2); p of clean − \
             foreign ≤ 0 after Holm over all components and attributes. Causal: the interval lies above {} and p < 0.05; not \
             said of fewer than {LEAST} captions, or without the control. AIE: mean of S(restored) − S(corrupted) over all captions, in cosines, and the mean \
             of its absolute value (trap T8). Paper mode: the mean score over the other captions reaches that \
             of restored pictures in which the classifier finds the attribute, over the first half of the captions. Then the same by the classifier's \
             probability. Downstream: share of a pass's multiply-accumulates that is done behind the component (trap T4).",
            study.above
        ),
        columns: columns(&[
            "attribute",
            "component",
            "recovery_clip",
            "ci_low",
            "ci_high",
            "n",
            "recovery_foreign",
            "p_holm",
            "causal",
            "aie",
            "absolute_ie",
            "score",
            "paper_mode_causal",
            "recovery_class",
            "recovery_class_foreign",
            "causal_class",
            "downstream",
        ]),
        rows,
    }
}

/// A line of a table of means over captions: attribute, `of` what, score, metric, mean and interval. None where there is nothing.
fn line(
    experiment: &TraceExperiment,
    rows: &Rows<'_>,
    arm: &str,
    [of, metric]: [&str; 2],
    score: Score,
    control: Option<Control>,
) -> Option<Vec<Cell>> {
    let mut tags = vec![("score", score.name()), ("attribute", arm)];
    tags.extend(control.map(|control| ("control", control.name())));
    let found = over_captions(rows, metric, of, &tags)?;
    let [mean, low, high] = Cell::interval(Some(found), 3);
    let named = [&label(experiment, arm), of, score.name(), metric].map(Cell::from);
    let mut cells = named.to_vec();
    cells.extend(control.map(|control| Cell::from(control.name())));
    cells.extend([Cell::Number(found.n as f64, 0), mean, low, high]);
    Some(cells)
}

fn parts(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    let told = |control: &&Control| matches!(control, Control::Clean | Control::OwnLatent);
    for (arm, score) in study.arms.iter().flat_map(|arm| Score::ALL.map(|score| (arm, score))) {
        for &control in study.controls.iter().filter(told) {
            for metric in ["part_effect", "part_recovery"] {
                let of =
                    |part: Part| line(experiment, rows, arm, [part.name(), metric], score, Some(control));
                lines.extend(Part::ALL.into_iter().filter_map(of));
            }
        }
    }
    Table {
        id: format!("{name}_parts"),
        title: "Kinds of components".to_owned(),
        caption: "Effect (S(restored) − S(corrupted), in units of the score, captions whose clean picture shows the attribute) and recovery (of the \
                  kept captions), averaged over the components of a kind before `up_blocks.3`; 95 % bootstrap intervals over captions."
            .to_owned(),
        columns: columns(&["attribute", "of", "score", "metric", "values", "n", "mean", "ci_low", "ci_high"]),
        rows: lines,
    }
}

fn groups(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for (arm, score) in study.arms.iter().flat_map(|arm| Score::ALL.map(|score| (arm, score))) {
        let of = |group: Group| line(experiment, rows, arm, [group.name(), "causal_share"], score, None);
        lines.extend(Group::ALL.into_iter().filter_map(of));
    }
    Table {
        id: format!("{name}_groups"),
        title: "Groups of blocks".to_owned(),
        caption: "Share of a group's components whose recovery exceeds the threshold and the foreign donor's for a caption, without `up_blocks.3`; \
                  95 % bootstrap intervals over the kept captions."
            .to_owned(),
        columns: columns(&["attribute", "of", "score", "metric", "n", "mean", "ci_low", "ci_high"]),
        rows: lines,
    }
}

fn controls(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for (arm, score) in study.arms.iter().flat_map(|arm| Score::ALL.map(|score| (arm, score))) {
        for metric in ["mean_effect", "mean_recovery"] {
            let of = |control: &Control| line(experiment, rows, arm, [control.name(), metric], score, None);
            lines.extend(study.controls.iter().filter_map(of));
        }
    }
    Table {
        id: format!("{name}_controls"),
        title: "Where the restored values come from".to_owned(),
        caption: "Mean effect (in units of the score) and recovery over the components before `up_blocks.3`, 95 % bootstrap intervals over captions. Foreign: another caption's \
                  clean run (N2); permuted: the clean run's channels, permuted (N3); noise: of the clean activation's norm (N4); own_latent: the clean text on \
                  the restored run's own latents (T5); noising: the other direction, the clean run given the corrupted one's value, where a recovery of 1 says that \
                  nothing was lost and 1 − the number is how far components are necessary."
            .to_owned(),
        columns: columns(&["attribute", "values", "score", "metric", "n", "mean", "ci_low", "ci_high"]),
        rows: lines,
    }
}

fn halves(experiment: &TraceExperiment, name: &str, study: &UnetStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for (arm, score) in study.arms.iter().flat_map(|arm| Score::ALL.map(|score| (arm, score))) {
        for metric in ["half_effect", "half_recovery"] {
            let of = |half: &crate::lockstep::Half| {
                line(experiment, rows, arm, [half.name(), metric], score, None)
            };
            lines.extend(study.halves.iter().filter_map(of));
        }
    }
    Table {
        id: format!("{name}_halves"),
        title: "Which half of guidance is restored".to_owned(),
        caption: "Mean effect (in units of the score) and recovery over the components before `up_blocks.3`, 95 % bootstrap intervals over captions.".to_owned(),
        columns: columns(&["attribute", "half", "score", "metric", "n", "mean", "ci_low", "ci_high"]),
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

fn called(score: Score) -> &'static str {
    match score {
        Score::Clip => "the CLIP-Score",
        Score::Class => "the classifier's probability",
    }
}

/// Of the paper's score nothing is added to a file's name.
fn suffix(score: Score) -> &'static str {
    match score {
        Score::Clip => "",
        Score::Class => "_class",
    }
}

fn bars(experiment: &TraceExperiment, name: &str, all: &[(&String, &Vec<Line>)], score: Score) -> Figure {
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
            x: Axis { label: format!("recovery of {}", called(score)), ..Axis::default() },
            y: Axis::default(),
            content: Content::Bars {
                kinds: Part::ALL.map(|part| part.name().to_owned()).to_vec(),
                control: "foreign donor".to_owned(),
                bars: lines.iter().map(bar).collect(),
            },
        }
    };
    Figure {
        id: format!("{name}_components{}", suffix(score)),
        title: format!("What restoring one component brings back of {}", called(score)),
        caption: "Components in the order of a pass; bars are means over the kept captions, lines 95 % bootstrap intervals, diamonds the \
                  same with a foreign donor (control N2). A star: causal by the rule of the table. Residual blocks carry the whole stream, the \
                  others a summand (trap T3), and towards the end restoring is copying the clean prediction (trap T4)."
            .to_owned(),
        panels: all.iter().map(panel).collect(),
        columns: 3,
    }
}

fn overlap(
    experiment: &TraceExperiment,
    name: &str,
    all: &[(&String, &Vec<Line>)],
    score: Score,
) -> Option<Figure> {
    let decided: Vec<(&String, BTreeSet<&str>)> =
        all.iter().filter_map(|(arm, lines)| Some((*arm, sets::causal(lines)?))).collect();
    if decided.is_empty() {
        return None;
    }
    let (all, sets): (Vec<&String>, Vec<BTreeSet<&str>>) = decided.into_iter().unzip();
    let names: Vec<String> = all.iter().map(|arm| label(experiment, arm)).collect();
    let sized = names.iter().zip(&sets).map(|(name, set)| format!("{name} ({})", set.len())).collect();
    Some(Figure {
        id: format!("{name}_jaccard{}", suffix(score)),
        title: format!("How far the causal sets of two attributes agree, by {}", called(score)),
        caption: "Jaccard index of the sets of causal components before `up_blocks.3` (in parentheses: how many there are); a dash where neither attribute has any.".to_owned(),
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
