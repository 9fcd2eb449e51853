//! Which components are causal, over all captions and seeds: section 2.6 of the specification.

use std::collections::{BTreeMap, BTreeSet};

use lab::row::{Row, Rows};
use lab::stats::{self, Interval, bootstrap_mean};

use crate::components::Group;
use crate::experiment::{Study, TextStudy, TraceExperiment, UnetStudy};
use crate::trace::Control;

/// Captions that are kept, without which no set is determined: with fewer no p-value survives Holm over all components.
pub(crate) const LEAST: usize = 10;
/// Captions on which the paper chose its threshold.
const VALIDATION: usize = 10;

/// A component of an attribute, all captions together; the seeds of a caption are averaged.
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
        let clean = by_case(&rows.by_unit("recovery_clip", arm, &tags("clean")));
        let foreign = by_case(&rows.by_unit("recovery_clip", arm, &tags("foreign")));
        let differences: Vec<f64> =
            clean.iter().filter_map(|(case, value)| Some(value - foreign.get(case)?)).collect();
        let scores = rows.by_unit("score_clip", arm, &tags("clean"));
        let judged: Vec<f64> = scores
            .iter()
            .filter(|((case, _), _)| !is_validation(study, case))
            .map(|(_, score)| *score)
            .collect();
        let score = stats::mean(&judged).ok();
        let class = by_case(&rows.by_unit("recovery_class", arm, &tags("clean")));
        Line {
            component: component.clone(),
            part: part.clone(),
            recovery: bootstrap_mean(&clean.values().copied().collect::<Vec<_>>()),
            class: bootstrap_mean(&class.into_values().collect::<Vec<_>>()),
            foreign: stats::mean(&foreign.values().copied().collect::<Vec<_>>()).ok(),
            p: stats::p_above(&differences, 0.0).ok(),
            paper: score.zip(threshold).map(|(score, threshold)| score >= threshold),
            score,
            causal: None,
        }
    };
    order.iter().map(one).collect()
}

/// The mean over the seeds of each caption.
fn by_case<'a>(units: &BTreeMap<(&'a str, u64), f64>) -> BTreeMap<&'a str, f64> {
    let mut all: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for ((case, _), value) in units {
        all.entry(case).or_default().push(*value);
    }
    all.into_iter().filter_map(|(case, values)| Some((case, stats::mean(&values).ok()?))).collect()
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
        let own = Rows::of(rows, name);
        let found = match study {
            Study::Unet(study) => of_components(study, &own),
            Study::Text(study) => of_states(study, &own),
            Study::Identities(_) | Study::Sweep(_) => Vec::new(),
        };
        all.extend(found.into_iter().map(|(metric, arm, value)| Row {
            trial: "derived".to_owned(),
            study: name.clone(),
            arm,
            case: String::new(),
            seed: experiment.seed,
            metric: metric.to_owned(),
            at: None,
            value,
            tags: BTreeMap::new(),
        }));
    }
    all
}

/// A metric, an arm and a value.
type Found = (&'static str, String, f64);

/// Of the sets of components of the UNet.
fn of_components(study: &UnetStudy, rows: &Rows<'_>) -> Vec<Found> {
    let lines = lines(study, rows);
    let sets: Vec<(&String, BTreeSet<&str>)> =
        lines.iter().filter_map(|(arm, lines)| Some((arm, causal(lines)?))).collect();
    let mut all = Vec::new();
    for (arm, set) in &sets {
        let groups: BTreeSet<Group> = set.iter().map(|component| Group::of(component)).collect();
        all.push(("set_size", (*arm).clone(), set.len() as f64));
        all.push(("set_groups", (*arm).clone(), groups.len() as f64));
        let members = lines[*arm].iter().filter(|line| line.causal == Some(true));
        if let Some(ratio) = participation(members.filter_map(above_foreign)) {
            all.push(("set_participation", (*arm).clone(), ratio));
        }
    }
    // Of attributes that the model follows and that have a set: to agree on nothing is no agreement, nor to differ by it.
    let is_followed =
        |arm: &str| stats::mean(&rows.values("clean_right", arm, &[])).is_ok_and(|share| share >= FOLLOWED);
    let told: Vec<(&BTreeSet<&str>, Recoveries<'_>)> = sets
        .iter()
        .filter(|(arm, set)| !set.is_empty() && is_followed(arm))
        .map(|(arm, set)| (set, Recoveries::of(rows, arm)))
        .collect();
    let mut most: Option<[f64; 2]> = None;
    for (i, (one, own)) in told.iter().enumerate() {
        for (other, others) in &told[..i] {
            let Some(index) = jaccard(one, other) else { continue };
            let high = jaccard_high(own, others, study.above);
            let [least, upper] = most.unwrap_or_default();
            most = Some([index.max(least), high.unwrap_or(1.0).max(index).max(upper)]);
        }
    }
    if let Some([index, high]) = most {
        all.push(("largest_jaccard", "model".to_owned(), index));
        all.push(("largest_jaccard_high", "model".to_owned(), high));
    }
    all
}

/// Share of clean pictures in which the classifier finds an attribute that the model follows.
const FOLLOWED: f64 = 0.8;

/// Recoveries of an attribute by caption and component: from the clean and from the foreign donor.
struct Recoveries<'a>(Vec<BTreeMap<&'a str, [f64; 2]>>);

impl<'a> Recoveries<'a> {
    fn of(rows: &Rows<'a>, arm: &str) -> Self {
        let mut all: BTreeMap<&str, BTreeMap<&str, [Vec<f64>; 2]>> = BTreeMap::new();
        for (which, control) in ["clean", "foreign"].into_iter().enumerate() {
            for row in rows.select("recovery_clip", arm, &[("control", control)]) {
                let Some(component) = row.tags.get("component") else { continue };
                all.entry(&row.case).or_default().entry(component).or_default()[which].push(row.value);
            }
        }
        let means = |values: [Vec<f64>; 2]| values.map(|values| stats::mean(&values).unwrap_or(f64::NAN));
        let case = |of: BTreeMap<&'a str, [Vec<f64>; 2]>| {
            of.into_iter().map(|(component, values)| (component, means(values))).collect()
        };
        Self(all.into_values().map(case).collect())
    }

    /// The components whose mean over these captions exceeds `above` and that of the foreign donor.
    fn set(&self, captions: impl Iterator<Item = usize>, above: f64) -> BTreeSet<&'a str> {
        let mut sums: BTreeMap<&str, [f64; 3]> = BTreeMap::new();
        for caption in captions {
            for (component, [clean, foreign]) in &self.0[caption] {
                let sum = sums.entry(component).or_default();
                *sum = [sum[0] + clean, sum[1] + foreign, sum[2] + 1.0];
            }
        }
        let is_in = |[clean, foreign, count]: [f64; 3]| clean / count > above && clean > foreign;
        sums.into_iter().filter(|(_, sum)| is_in(*sum)).map(|(component, _)| component).collect()
    }
}

/// Upper end of the 95 % bootstrap interval, over captions, of the Jaccard index of two attributes' sets.
fn jaccard_high(a: &Recoveries<'_>, b: &Recoveries<'_>, above: f64) -> Option<f64> {
    let (first, second) = (a.0.len(), b.0.len());
    let index = |units: &[usize]| {
        let one = a.set(units[..first].iter().map(|unit| unit % first), above);
        let other = b.set(units[first..].iter().map(|unit| unit % second), above);
        jaccard(&one, &other).unwrap_or_default()
    };
    stats::bootstrap(first + second, 0.95, index).ok().map(|interval| interval.high)
}

/// Of the sets of states of the text encoder: those whose mean recovery over captions has its interval above the threshold.
fn of_states(study: &TextStudy, rows: &Rows<'_>) -> Vec<Found> {
    let mut all = Vec::new();
    for arm in &study.arms {
        let mut states: BTreeMap<[&str; 3], BTreeMap<(&str, u64), f64>> = BTreeMap::new();
        for row in rows.select("recovery_clip", arm, &[]) {
            let tag = |name: &str| row.tags.get(name).map_or("none", String::as_str);
            let state = [tag("part"), tag("layer"), tag("token")];
            if ["self_attn", "mlp"].contains(&state[0]) {
                states.entry(state).or_default().insert((row.case.as_str(), row.seed), row.value);
            }
        }
        let means = states.into_iter().filter_map(|(state, units)| {
            Some((state, bootstrap_mean(&by_case(&units).into_values().collect::<Vec<_>>())?))
        });
        let decided: Vec<([&str; 3], bool)> = means
            .filter(|(_, mean)| mean.n >= LEAST)
            .map(|(state, mean)| (state, mean.low > study.above))
            .collect();
        if decided.is_empty() {
            continue;
        }
        let set: Vec<[&str; 3]> =
            decided.iter().filter(|(_, causal)| *causal).map(|(state, _)| *state).collect();
        let has_first = set.contains(&["self_attn", "0", "last subject"]);
        all.push(("text_set_size", arm.clone(), set.len() as f64));
        all.push(("text_set_has_first", arm.clone(), f64::from(u8::from(has_first))));
        let mlps = set.iter().filter(|state| state[0] == "mlp").count();
        all.push(("text_set_mlps", arm.clone(), mlps as f64));
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

    /// Two attributes whose sets share one of two components; of a third nothing recovers.
    #[test]
    fn agreement_is_of_sets_that_there_are_and_has_an_upper_end() {
        let (mut study, rows) = planted();
        study.arms = ["style", "colour", "count"].map(str::to_owned).to_vec();
        let mut all = Vec::new();
        for (arm, strong) in [("style", "a.resnets.0"), ("colour", "b.attn1"), ("count", "none")] {
            for row in &rows {
                let component = row.tags["component"].as_str();
                let is_both = component == "c.attn2" && arm != "count";
                let value = match row.tags["control"].as_str() {
                    "clean" if component == strong || is_both => 0.9,
                    _ => 0.0,
                };
                all.push(Row { arm: arm.to_owned(), value, ..row.clone() });
            }
            let right =
                Row { metric: "clean_right".to_owned(), arm: arm.to_owned(), value: 1.0, ..rows[0].clone() };
            all.push(right);
        }
        let found = of_components(&study, &Rows::of(&all, "unet"));
        let of = |metric: &str| found.iter().find(|(name, ..)| *name == metric).map(|(.., value)| *value);
        assert_eq!(of("largest_jaccard"), Some(1.0 / 3.0));
        assert_eq!(of("largest_jaccard_high"), Some(1.0 / 3.0));
        assert!(found.iter().any(|one| *one == ("set_size", "count".to_owned(), 0.0)));
        let participations: Vec<&str> = found
            .iter()
            .filter(|(name, ..)| *name == "set_participation")
            .map(|(_, arm, _)| arm.as_str())
            .collect();
        assert_eq!(participations, ["colour", "style"]);
        // An attribute that the model does not follow is left out, and one alone agrees with nobody.
        all.iter_mut()
            .filter(|row| row.metric == "clean_right" && row.arm == "style")
            .for_each(|row| row.value = 0.5);
        let found = of_components(&study, &Rows::of(&all, "unet"));
        assert!(found.iter().all(|(name, ..)| *name != "largest_jaccard"));
    }

    #[test]
    fn states_of_the_text_encoder_make_sets_from_ten_captions_on() {
        let study: TextStudy = serde_json::from_value(serde_json::json!({
            "arms": ["style"], "captions": {"count": 12, "floor": 0.0}, "making": {"steps": 1, "guidance": 2.0}, "parts": ["self_attn", "mlp"],
            "above": 0.3,
        }))
        .unwrap_or_else(|error| panic!("{error}"));
        let states = [
            ("self_attn", "0", "last subject", 0.9),
            ("self_attn", "1", "last subject", 0.2),
            ("mlp", "0", "+1", 0.6),
        ];
        let (_, planted) = planted();
        let mut rows = Vec::new();
        for index in 0..12 {
            for (part, layer, token, value) in states {
                let tags = [("part", part), ("layer", layer), ("token", token)];
                rows.push(Row {
                    case: format!("style-{index:02}"),
                    value: value + 0.01 * f64::from(index % 5 - 2),
                    tags: tags.map(|(name, tag)| (name.to_owned(), tag.to_owned())).into(),
                    ..planted[0].clone()
                });
            }
        }
        let found = of_states(&study, &Rows::of(&rows, "unet"));
        let values: Vec<(&str, f64)> = found.iter().map(|(name, _, value)| (*name, *value)).collect();
        assert_eq!(values, [("text_set_size", 2.0), ("text_set_has_first", 1.0), ("text_set_mlps", 1.0)]);
        let few: Vec<Row> = rows.into_iter().filter(|row| row.case.as_str() < "style-05").collect();
        assert!(of_states(&study, &Rows::of(&few, "unet")).is_empty());
    }

    #[test]
    fn participation_counts_equal_members() {
        assert_eq!(participation([2.0; 5].into_iter()), Some(5.0));
        assert_eq!(participation([0.0, 3.0, 0.0].into_iter()), Some(1.0));
        assert_eq!(participation([0.0; 3].into_iter()), None);
    }
}
