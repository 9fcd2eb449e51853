//! Which components are causal, over all captions and seeds: section 2.6 of the specification.

use std::collections::{BTreeMap, BTreeSet};

use lab::row::{Row, Rows};
use lab::stats::{self, Interval, bootstrap_mean};

use crate::components::Group;
use crate::experiment::{Study, TraceExperiment, UnetStudy};
use crate::trace::Control;

/// Captions and seeds that are kept, without which no set is determined: with fewer no p-value survives Holm over all components.
pub(crate) const LEAST: usize = 10;
/// Captions on which the paper chose its threshold.
const VALIDATION: usize = 10;

/// A component of an attribute, all captions and seeds together.
pub(crate) struct Line {
    pub(crate) component: String,
    pub(crate) part: String,
    /// Recovery of the CLIP-Score.
    pub(crate) recovery: Option<Interval>,
    /// Recovery of the classifier's probability.
    pub(crate) class: Option<Interval>,
    /// Mean recovery from the foreign donor (control N2).
    pub(crate) foreign: Option<f64>,
    /// Mean score of the restored pictures of captions that the threshold was not chosen on.
    pub(crate) score: Option<f64>,
    /// p of "no more than the foreign donor", corrected by Holm over components and attributes.
    pub(crate) p: Option<f64>,
    /// Whether it is causal by the primary rule: the interval lies above the threshold, and p < 0.05. None where that cannot be said.
    pub(crate) causal: Option<bool>,
    /// Whether it is by the paper's rule: the mean score reaches the threshold. None where there is none.
    pub(crate) paper: Option<bool>,
}

/// The components of each attribute, in the order of a pass.
pub(crate) fn lines(study: &UnetStudy, rows: &Rows<'_>) -> BTreeMap<String, Vec<Line>> {
    let order = order(rows);
    let mut all: BTreeMap<String, Vec<Line>> =
        study.arms.iter().map(|arm| (arm.clone(), of_arm(study, rows, arm, &order))).collect();
    let p_values: Vec<f64> = all.values().flatten().filter_map(|line| line.p).collect();
    let mut corrected = stats::holm(&p_values).unwrap_or_default().into_iter();
    for line in all.values_mut().flatten() {
        line.p = line.p.and_then(|_| corrected.next());
        let enough = line.recovery.filter(|recovery| recovery.n >= LEAST);
        line.causal = enough.zip(line.p).map(|(recovery, p)| recovery.low > study.above && p < 0.05);
    }
    all
}

/// Names of components with their parts.
fn order(rows: &Rows<'_>) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let clean = rows.0.iter().filter(|row| {
        row.metric == "score_clip" && row.tags.get("control").is_some_and(|tag| tag == Control::Clean.name())
    });
    let named =
        clean.filter_map(|row| Some((row.tags.get("component")?.clone(), row.tags.get("part")?.clone())));
    named.filter(|(component, _)| seen.insert(component.clone())).collect()
}

fn of_arm(study: &UnetStudy, rows: &Rows<'_>, arm: &str, order: &[(String, String)]) -> Vec<Line> {
    let threshold = threshold(study, rows, arm);
    let one = |(component, part): &(String, String)| {
        let tags = |control| [("component", component.as_str()), ("control", control)];
        let clean = rows.by_unit("recovery_clip", arm, &tags("clean"));
        let foreign = rows.by_unit("recovery_clip", arm, &tags("foreign"));
        let differences: Vec<f64> =
            clean.iter().filter_map(|(unit, value)| Some(value - foreign.get(unit)?)).collect();
        let scores = rows.by_unit("score_clip", arm, &tags("clean"));
        let judged: Vec<f64> = scores
            .iter()
            .filter(|((case, _), _)| !is_validation(study, case))
            .map(|(_, score)| *score)
            .collect();
        let score = stats::mean(&judged).ok();
        Line {
            component: component.clone(),
            part: part.clone(),
            recovery: bootstrap_mean(&clean.values().copied().collect::<Vec<_>>()),
            class: bootstrap_mean(&rows.values("recovery_class", arm, &tags("clean"))),
            foreign: stats::mean(&foreign.values().copied().collect::<Vec<_>>()).ok(),
            p: stats::p_above(&differences, 0.0).ok(),
            paper: score.zip(threshold).map(|(score, threshold)| score >= threshold),
            score,
            causal: None,
        }
    };
    order.iter().map(one).collect()
}

/// Whether a caption is one of those on which the threshold is chosen: the first half, at most ten.
fn is_validation(study: &UnetStudy, case: &str) -> bool {
    let number = case.rsplit_once('-').and_then(|(_, number)| number.parse::<usize>().ok());
    number.is_some_and(|number| number < VALIDATION.min(study.captions.count / 2))
}

/// Mean score of the restored pictures in which the classifier finds the attribute, over the validation captions: the paper's threshold,
/// people replaced by the classifier.
fn threshold(study: &UnetStudy, rows: &Rows<'_>, arm: &str) -> Option<f64> {
    let of = |metric| by_run(rows, metric, arm);
    let (scores, right) = (of("score_clip"), of("right"));
    let positives = scores
        .iter()
        .filter(|(run, _)| is_validation(study, run.0) && right.get(*run).is_some_and(|right| *right > 0.0));
    stats::mean(&positives.map(|(_, score)| *score).collect::<Vec<_>>()).ok()
}

/// Values of the runs restored from the clean one, by (case, seed, component).
fn by_run<'a>(rows: &Rows<'a>, metric: &str, arm: &str) -> BTreeMap<(&'a str, u64, &'a str), f64> {
    let component = |row: &'a Row| row.tags.get("component").map_or("", String::as_str);
    let found = rows.select(metric, arm, &[("control", "clean")]);
    found.map(|row| ((row.case.as_str(), row.seed, component(row)), row.value)).collect()
}

/// |A ∩ B| / |A ∪ B|; none where both are empty.
pub(crate) fn jaccard(a: &BTreeSet<&str>, b: &BTreeSet<&str>) -> Option<f64> {
    let union = a.union(b).count();
    (union > 0).then(|| a.intersection(b).count() as f64 / union as f64)
}

/// The causal components of an attribute; none where that cannot be said.
pub(crate) fn causal(lines: &[Line]) -> Option<BTreeSet<&str>> {
    let decided = lines.iter().any(|line| line.causal.is_some());
    decided.then(|| {
        lines.iter().filter(|line| line.causal == Some(true)).map(|line| line.component.as_str()).collect()
    })
}

/// Rows about sets: their size, how many groups of blocks they lie in, what the mean effects are worth, how far two of them agree.
pub(crate) fn derived(experiment: &TraceExperiment, rows: &[Row]) -> Vec<Row> {
    let mut all = Vec::new();
    for (name, study) in &experiment.studies {
        let Study::Unet(study) = study else { continue };
        let lines = lines(study, &Rows::of(rows, name));
        let mut row = |metric: &str, arm: &str, value: f64| {
            all.push(Row {
                trial: "derived".to_owned(),
                study: name.clone(),
                arm: arm.to_owned(),
                case: String::new(),
                seed: experiment.seed,
                metric: metric.to_owned(),
                at: None,
                value,
                tags: BTreeMap::new(),
            });
        };
        let sets: Vec<(&String, BTreeSet<&str>)> =
            lines.iter().filter_map(|(arm, lines)| Some((arm, causal(lines)?))).collect();
        for (arm, set) in &sets {
            let groups: BTreeSet<Group> = set.iter().map(|component| Group::of(component)).collect();
            row("set_size", arm, set.len() as f64);
            row("set_groups", arm, groups.len() as f64);
            if let Some(ratio) = participation(lines[*arm].iter().filter_map(above_foreign)) {
                row("set_participation", arm, ratio);
            }
        }
        let pairs = (0..sets.len()).flat_map(|i| (0..i).map(move |j| (i, j)));
        let most = pairs.filter_map(|(i, j)| jaccard(&sets[i].1, &sets[j].1)).max_by(f64::total_cmp);
        if let Some(most) = most {
            row("largest_jaccard", "model", most);
        }
    }
    all
}

/// Mean recovery beyond that from a foreign donor, at least 0.
fn above_foreign(line: &Line) -> Option<f64> {
    Some((line.recovery?.estimate - line.foreign?).max(0.0))
}

/// `(Σ x)² / Σ x²`: how many equal members a set of non-negative numbers is worth. None where all are 0.
fn participation(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, squares) =
        values.fold((0.0, 0.0), |(sum, squares), value| (sum + value, squares + value * value));
    (squares > 0.0).then(|| sum * sum / squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An experiment of one attribute, twelve captions and three components: one that recovers more than the foreign donor, one that
    /// recovers as much, and one that recovers nothing.
    fn planted() -> (UnetStudy, Vec<Row>) {
        let study: UnetStudy = serde_json::from_value(serde_json::json!({
            "arms": ["style"], "captions": {"count": 12, "floor": 0.0}, "making": {"steps": 1, "guidance": 2.0},
            "controls": ["clean", "foreign"], "above": 0.3,
        }))
        .unwrap_or_else(|error| panic!("{error}"));
        let mut rows = Vec::new();
        for index in 0..12 {
            let wiggle = 0.01 * f64::from(index % 5 - 2);
            let of = [("a.resnets.0", 0.8, 0.1), ("b.attn1", 0.8, 0.8), ("c.attn2", 0.0, 0.0)];
            for (component, clean, foreign) in of {
                for (control, value) in [("clean", clean + wiggle), ("foreign", foreign)] {
                    for (metric, value) in
                        [("recovery_clip", value), ("score_clip", value), ("right", value.round())]
                    {
                        let tags = [("component", component), ("part", "resnet"), ("control", control)];
                        rows.push(Row {
                            trial: String::new(),
                            study: "unet".to_owned(),
                            arm: "style".to_owned(),
                            case: format!("style-{index:02}"),
                            seed: 0,
                            metric: metric.to_owned(),
                            at: None,
                            value,
                            tags: tags.map(|(name, tag)| (name.to_owned(), tag.to_owned())).into(),
                        });
                    }
                }
            }
        }
        (study, rows)
    }

    #[test]
    fn causal_is_what_recovers_more_than_a_foreign_donor() {
        let (study, rows) = planted();
        let found = lines(&study, &Rows::of(&rows, "unet"));
        let style = &found["style"];
        let told: Vec<Option<bool>> = style.iter().map(|line| line.causal).collect();
        assert_eq!(told, [Some(true), Some(false), Some(false)]);
        assert!(style[0].p.is_some_and(|p| p < 1e-6) && style[2].p.is_some_and(|p| p > 0.05));
        assert_eq!(causal(style).map(|set| set.len()), Some(1));
        // The paper's rule has no control: both that recover much pass it. Its threshold is of captions 0 to 5.
        let told: Vec<Option<bool>> = style.iter().map(|line| line.paper).collect();
        assert!(style.iter().all(|line| line.score.is_some()) && told[2] == Some(false), "{told:?}");
    }

    #[test]
    fn few_captions_determine_no_set_and_a_study_without_control_neither() {
        let (study, mut rows) = planted();
        let few: Vec<Row> = rows.iter().filter(|row| row.case.as_str() < "style-05").cloned().collect();
        assert!(lines(&study, &Rows::of(&few, "unet"))["style"].iter().all(|line| line.causal.is_none()));
        rows.retain(|row| row.tags["control"] == "clean");
        let found = lines(&study, &Rows::of(&rows, "unet"));
        assert!(found["style"].iter().all(|line| line.causal.is_none() && line.p.is_none()));
        assert_eq!(causal(&found["style"]), None);
    }

    #[test]
    fn participation_counts_equal_members() {
        assert_eq!(participation([2.0; 5].into_iter()), Some(5.0));
        assert_eq!(participation([0.0, 3.0, 0.0].into_iter()), Some(1.0));
        assert_eq!(participation([0.0; 3].into_iter()), None);
    }
}
