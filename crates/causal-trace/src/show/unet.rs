//! What restoring components of the UNet shows.

use std::collections::{BTreeMap, BTreeSet};

use lab::figure::{Axis, Bar, Content, Figure, Panel};
use lab::paper::Presentation;
use lab::table::{Cell, Table};

use super::{columns, interval_cells, label};
use crate::components::{Group, Part};
use crate::experiment::{TraceExperiment, UnetStudy};
use crate::rows::{Rows, summary};
use crate::sets::{self, LEAST, Line};

pub(super) fn show(
    experiment: &TraceExperiment,
    name: &str,
    study: &UnetStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    let all = sets::lines(study, rows);
    shown.tables.push(components(experiment, name, study, &all));
    shown.tables.push(parts(experiment, name, study, rows));
    if study.halves.len() > 1 {
        shown.tables.push(halves(experiment, name, study, rows));
    }
    // An attribute none of whose captions is kept has nothing to draw.
    let drawn: Vec<(&String, &Vec<Line>)> =
        all.iter().filter(|(_, lines)| lines.iter().any(|line| line.recovery.is_some())).collect();
    if !drawn.is_empty() {
        shown.figures.push(bars(experiment, name, &drawn));
        shown.figures.extend(overlap(experiment, name, &drawn));
    }
}

fn components(
    experiment: &TraceExperiment,
    name: &str,
    study: &UnetStudy,
    all: &BTreeMap<String, Vec<Line>>,
) -> Table {
    let mut rows = Vec::new();
    for (arm, lines) in all {
        for line in lines {
            let [mean, low, high] = interval_cells(line.recovery, 3);
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
             of restored pictures in which the classifier finds the attribute, over the first half of the captions.",
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
            let [mean, low, high] = interval_cells(summary(&rows.values(metric, kind, &tags)), 3);
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
                  threshold for a caption; 95 % bootstrap intervals over captions and seeds."
            .to_owned(),
        columns: columns(&["attribute", "of", "metric", "mean", "ci_low", "ci_high"]),
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
            let [mean, low, high] = interval_cells(summary(&values), 3);
            let arm = label(experiment, arm);
            lines.push(vec![Cell::from(arm.as_str()), Cell::from(half.name()), mean, low, high]);
        }
    }
    Table {
        id: format!("{name}_halves"),
        title: "Which half of guidance is restored".to_owned(),
        caption: "Mean recovery of the CLIP-Score over all components, 95 % bootstrap intervals over captions and seeds.".to_owned(),
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
