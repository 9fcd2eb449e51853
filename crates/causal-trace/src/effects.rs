//! From the scores of runs to effects: what follows from a trial's rows without its pictures, so that floors and thresholds can be changed
//! and judged anew.

use std::collections::BTreeMap;

use lab::row::{Row, Rows};
use lab::stats;

use crate::components::Group;
use crate::experiment::{Captions, Study, TextStudy, TraceExperiment, UnetStudy};
use crate::trace::Control;

/// By what a picture is scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Score {
    /// The judge's cosine: the paper's score.
    Clip,
    /// The classifier's probability of the attribute's class.
    Class,
}

impl Score {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Clip, Self::Class];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Class => "class",
        }
    }

    /// The metric of a run's score.
    pub(crate) fn metric(self) -> &'static str {
        match self {
            Self::Clip => "score_clip",
            Self::Class => "score_class",
        }
    }

    /// The metric of a run's recovery.
    pub(crate) fn recovery(self) -> &'static str {
        match self {
            Self::Clip => "recovery_clip",
            Self::Class => "recovery_class",
        }
    }
}

/// The metric of a run's distance to the clean picture.
pub(crate) const DISTANCE: &str = "distance_to_clean";

type Tags = BTreeMap<String, String>;

/// A tag's value; empty where there is none.
pub(crate) fn tag<'a>(tags: &'a Tags, name: &str) -> &'a str {
    tags.get(name).map_or("", String::as_str)
}

/// Whether a component lies before the last level: near the output restoring is copying the clean prediction, or the foreign one (trap T4).
pub(crate) fn is_inner(component: &str) -> bool {
    !component.starts_with("up_blocks.3")
}

/// A run, its scores, and how far its picture is from the clean one, in units of the corrupted one's distance.
struct Run<'a> {
    tags: &'a Tags,
    scores: [Option<f64>; 2],
    distance: Option<f64>,
}

/// The runs of a caption and a seed.
struct Unit<'a> {
    row: &'a Row,
    is_right: Option<bool>,
    clean: [Option<f64>; 2],
    corrupted: [Option<f64>; 2],
    /// The restored ones, in their order.
    runs: Vec<Run<'a>>,
    /// Where the run with these tags stands among them.
    places: BTreeMap<&'a Tags, usize>,
}

impl<'a> Unit<'a> {
    fn new(row: &'a Row) -> Self {
        Self {
            row,
            is_right: None,
            clean: [None; 2],
            corrupted: [None; 2],
            runs: Vec::new(),
            places: BTreeMap::new(),
        }
    }

    fn add(&mut self, row: &'a Row) {
        if row.metric == "clean_right" {
            self.is_right = Some(row.value > 0.0);
        }
        let score = Score::ALL.iter().position(|score| row.metric == score.metric());
        if score.is_none() && row.metric != DISTANCE {
            return;
        }
        if tag(&row.tags, "part") != "none" {
            let place = *self.places.entry(&row.tags).or_insert_with(|| {
                self.runs.push(Run { tags: &row.tags, scores: [None; 2], distance: None });
                self.runs.len() - 1
            });
            let run = &mut self.runs[place];
            match score {
                Some(score) => run.scores[score] = Some(row.value),
                None => run.distance = Some(row.value),
            }
            return;
        }
        let Some(score) = score else { return };
        match row.tags.get("component").or(row.tags.get("token")).map(String::as_str) {
            Some("clean") => self.clean[score] = Some(row.value),
            Some("corrupted") => self.corrupted[score] = Some(row.value),
            _ => {}
        }
    }

    /// TE = S(clean) − S(corrupted).
    fn total(&self, score: Score) -> Option<f64> {
        Some(self.clean[score as usize]? - self.corrupted[score as usize]?)
    }

    /// IE = S(restored) − S(corrupted).
    fn effect(&self, score: Score, run: &Run<'_>) -> Option<f64> {
        Some(run.scores[score as usize]? - self.corrupted[score as usize]?)
    }

    /// A row about it.
    fn says(&self, metric: &str, arm: Option<&str>, value: f64, tags: &[(&str, &str)]) -> Row {
        let own = arm.map(|_| ("attribute", self.row.arm.as_str()));
        let tags = tags.iter().copied().chain(own).map(|(name, value)| (name.to_owned(), value.to_owned()));
        Row {
            trial: "derived".to_owned(),
            study: self.row.study.clone(),
            arm: arm.unwrap_or(&self.row.arm).to_owned(),
            case: self.row.case.clone(),
            seed: self.row.seed,
            metric: metric.to_owned(),
            at: None,
            value,
            tags: tags.collect(),
        }
    }
}

/// The captions and seeds of an attribute.
fn units<'a>(rows: &Rows<'a>, arm: &str) -> Vec<Unit<'a>> {
    let mut all: BTreeMap<(&str, u64), Unit<'a>> = BTreeMap::new();
    for &row in rows.0.iter().filter(|row| row.arm == arm) {
        all.entry((row.case.as_str(), row.seed)).or_insert_with(|| Unit::new(row)).add(row);
    }
    all.into_values().collect()
}

/// The least total effect for which a recovery is defined: what is asked, or the standard deviation of the clean picture's score over
/// the seeds of a caption where that is more (specification, section 3).
fn floor(units: &[Unit<'_>], score: Score, asked: f64) -> f64 {
    let mut by_case: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for unit in units {
        by_case.entry(&unit.row.case).or_default().extend(unit.clean[score as usize]);
    }
    let deviations = by_case.values().filter_map(|scores| stats::sd(scores).ok());
    let squares: Vec<f64> = deviations.map(|deviation| deviation * deviation).collect();
    stats::mean(&squares).map_or(asked, |variance| variance.sqrt().max(asked))
}

/// The captions of an attribute by one score, and which of them count.
struct Judged<'a> {
    score: Score,
    floor: f64,
    only_right: bool,
    units: &'a [Unit<'a>],
}

impl<'a> Judged<'a> {
    fn new(units: &'a [Unit<'a>], score: Score, asked: &Captions) -> Self {
        let least = match score {
            Score::Clip => asked.floor,
            Score::Class => asked.floor_class,
        };
        Self { score, floor: floor(units, score, least), only_right: asked.only_right, units }
    }

    /// Whether the clean picture shows the attribute, where that is asked for and a classifier says so.
    fn is_followed(&self, unit: &Unit<'_>) -> bool {
        !self.only_right || unit.is_right.unwrap_or(true)
    }

    /// Whether recoveries are defined: the clean picture shows the attribute, and its loss is large enough.
    fn is_kept(&self, unit: &Unit<'_>) -> bool {
        let total = unit.total(self.score);
        self.is_followed(unit) && total.is_some_and(|total| total > 0.0 && total >= self.floor)
    }

    /// ρ = IE / TE; none where it is not defined.
    fn recovery(&self, unit: &Unit<'_>, run: &Run<'_>) -> Option<f64> {
        let total = unit.total(self.score).filter(|_| self.is_kept(unit))?;
        Some(unit.effect(self.score, run)? / total)
    }
}

/// What follows from the rows of every study.
pub(crate) fn of(experiment: &TraceExperiment, rows: &[Row]) -> Vec<Row> {
    let mut all = Vec::new();
    for (name, study) in &experiment.studies {
        let own = Rows::of(rows, name);
        match study {
            Study::Unet(study) => {
                for_each(&study.arms, &study.captions, &own, |judged| unet(study, judged, &mut all));
                all.extend(study.arms.iter().flat_map(|arm| nearest(study, &units(&own, arm))));
            }
            Study::Text(study) => {
                for_each(&study.arms, &study.captions, &own, |judged| text(study, judged, &mut all));
            }
            Study::Sweep(_) => all.extend(own.0.iter().filter_map(|row| positive(row))),
            Study::Identities(_) => {}
        }
    }
    all
}

/// Whether a noise lowers the score of a caption and seed.
fn positive(row: &Row) -> Option<Row> {
    let is_of = |score: &&Score| row.metric.strip_prefix("sweep_total_effect_") == Some(score.name());
    let score = Score::ALL.iter().find(is_of)?;
    let mut tags = row.tags.clone();
    tags.insert("score".to_owned(), score.name().to_owned());
    let value = f64::from(u8::from(row.value > 0.0));
    Some(Row {
        trial: "derived".to_owned(),
        metric: "sweep_total_effect_is_positive".to_owned(),
        value,
        tags,
        ..row.clone()
    })
}

fn for_each(arms: &[String], captions: &Captions, rows: &Rows<'_>, mut then: impl FnMut(&Judged<'_>)) {
    for arm in arms {
        let units = units(rows, arm);
        for score in Score::ALL {
            if units.iter().any(|unit| unit.total(score).is_some()) {
                then(&Judged::new(&units, score, captions));
            }
        }
    }
}

/// Whether a caption counts, and the recovery of every run of the trace.
fn recoveries(judged: &Judged<'_>, unit: &Unit<'_>, is_main: impl Fn(&Run<'_>) -> bool, all: &mut Vec<Row>) {
    let score = judged.score;
    let kept = f64::from(u8::from(judged.is_kept(unit)));
    all.push(unit.says("kept", None, kept, &[("score", score.name())]));
    for run in unit.runs.iter().filter(|run| is_main(run)) {
        if let Some(value) = judged.recovery(unit, run) {
            let tags: Vec<(&str, &str)> =
                run.tags.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            all.push(unit.says(score.recovery(), None, value, &tags));
        }
    }
}

/// Of a study of the UNet: means over components before the last level.
fn unet(study: &UnetStudy, judged: &Judged<'_>, all: &mut Vec<Row>) {
    let Some(main) = study.halves.first().map(|half| half.name()) else { return };
    let score = ("score", judged.score.name());
    for unit in judged.units {
        recoveries(judged, unit, |run| tag(run.tags, "half") == main, all);
        if !judged.is_followed(unit) {
            continue;
        }
        let of = |control: Control, half: &str| -> Vec<&Run<'_>> {
            unit.runs.iter().filter(|run| is_restored(run, control, half)).collect()
        };
        let effect = |runs: &[&Run<'_>]| mean(runs.iter().filter_map(|run| unit.effect(judged.score, run)));
        let recovery = |runs: &[&Run<'_>]| mean(runs.iter().filter_map(|run| judged.recovery(unit, run)));
        let mut both = |of: &str, arm: &str, runs: &[&Run<'_>], tags: &[(&str, &str)]| {
            for (kind, value) in [("effect", effect(runs)), ("recovery", recovery(runs))] {
                all.extend(value.map(|value| unit.says(&format!("{of}_{kind}"), Some(arm), value, tags)));
            }
        };
        for &control in &study.controls {
            let runs = of(control, main);
            both("mean", control.name(), &runs, &[score]);
            for part in crate::components::Part::ALL {
                let of_part: Vec<&Run<'_>> =
                    runs.iter().copied().filter(|run| tag(run.tags, "part") == part.name()).collect();
                both("part", part.name(), &of_part, &[score, ("control", control.name())]);
            }
        }
        for half in &study.halves {
            both("half", half.name(), &of(Control::Clean, half.name()), &[score]);
        }
        for &control in study.controls.iter().filter(|control| **control != Control::Noising) {
            let best = of(control, main).into_iter().filter_map(|run| judged.recovery(unit, run));
            let best = best.max_by(f64::total_cmp);
            all.extend(best.map(|best| unit.says("best_recovery", Some(control.name()), best, &[score])));
        }
        causal(study, judged, unit, [&of(Control::Clean, main), &of(Control::Foreign, main)], all);
    }
}

/// How near the clean picture the nearest of the restored ones comes, by where the values came from: 1 − distance, of components before
/// the last level. No score is asked, and so every caption counts.
fn nearest(study: &UnetStudy, units: &[Unit<'_>]) -> Vec<Row> {
    let Some(main) = study.halves.first() else { return Vec::new() };
    let mut all = Vec::new();
    for unit in units {
        for &control in study.controls.iter().filter(|control| **control != Control::Noising) {
            let is_one = |run: &&Run<'_>| is_restored(run, control, main.name());
            let distances = unit.runs.iter().filter(is_one).filter_map(|run| run.distance);
            let least = distances.min_by(f64::total_cmp);
            all.extend(least.map(|least| unit.says("best_return", Some(control.name()), 1.0 - least, &[])));
        }
    }
    all
}

/// Whether a run restores a component before the last level, from these values and in this half of guidance.
fn is_restored(run: &Run<'_>, control: Control, half: &str) -> bool {
    tag(run.tags, "control") == control.name()
        && tag(run.tags, "half") == half
        && is_inner(tag(run.tags, "component"))
}

/// Which components are causal for this caption and seed: ρ above the threshold, and above the foreign donor's.
fn causal(
    study: &UnetStudy,
    judged: &Judged<'_>,
    unit: &Unit<'_>,
    [clean, foreign]: [&[&Run<'_>]; 2],
    all: &mut Vec<Row>,
) {
    let score = ("score", judged.score.name());
    let component = |run: &Run<'_>| run.tags.get("component").cloned();
    let is_causal = |run: &Run<'_>| {
        let other = foreign.iter().find(|other| component(other) == component(run));
        let other = other.and_then(|other| judged.recovery(unit, other));
        judged.recovery(unit, run).map(|own| own > study.above && other.is_none_or(|foreign| own > foreign))
    };
    let told: Vec<(Group, bool)> = clean
        .iter()
        .filter_map(|run| Some((Group::of(tag(run.tags, "component")), is_causal(run)?)))
        .collect();
    if told.is_empty() {
        return;
    }
    let mut groups = 0;
    for group in Group::ALL {
        let of_group = || told.iter().filter(|(own, _)| *own == group).map(|(_, causal)| *causal);
        groups += usize::from(of_group().any(|causal| causal));
        if let Some(share) = mean(of_group().map(|causal| f64::from(u8::from(causal)))) {
            all.push(unit.says("causal_share", Some(group.name()), share, &[score]));
        }
    }
    let count = told.iter().filter(|(_, causal)| *causal).count();
    all.push(unit.says("causal_components", None, count as f64, &[score]));
    all.push(unit.says("causal_groups", None, groups as f64, &[score]));
}

/// A state of the text encoder: part, layer, place of the token.
pub(crate) type State<'a> = [&'a str; 3];

/// The paper's only causal state.
pub(crate) const FIRST: State<'static> = ["self_attn", "0", "last subject"];

/// The state that a row with these tags is about.
pub(crate) fn state(tags: &Tags) -> State<'_> {
    ["part", "layer", "token"].map(|name| tag(tags, name))
}

fn state_of<'a>(run: &Run<'a>) -> State<'a> {
    state(run.tags)
}

/// Of a study of the text encoder, blocks left out: they carry the whole stream.
fn text(study: &TextStudy, judged: &Judged<'_>, all: &mut Vec<Row>) {
    let score = ("score", judged.score.name());
    let rivals = [("other_state", strongest(judged, |_| true)), ("mlp_state", strongest(judged, is_mlp))];
    for unit in judged.units {
        recoveries(judged, unit, |_| true, all);
        let of_run = |run| Some((state_of(run), judged.recovery(unit, run)?));
        let states: Vec<(State<'_>, f64)> =
            unit.runs.iter().filter_map(of_run).filter(|(state, _)| state[0] != "block").collect();
        let Some((best, most)) = states.iter().max_by(|a, b| a.1.total_cmp(&b.1)) else { continue };
        let is_claimed = f64::from(u8::from(*best == FIRST && *most > study.above));
        all.push(unit.says("best_is_first_attention", None, is_claimed, &[score]));
        let above = || states.iter().filter(|(_, recovery)| *recovery > study.above);
        let mlps = above().filter(|(state, _)| is_mlp(state)).count();
        all.push(unit.says("causal_states", None, above().count() as f64, &[score]));
        all.push(unit.says("causal_mlps", None, mlps as f64, &[score]));
        let mut arm = |name: &str, value: Option<f64>| {
            all.extend(value.map(|value| unit.says("state_recovery", Some(name), value, &[score])));
        };
        let of = |wanted: &State<'_>| {
            states.iter().find(|(state, _)| state == wanted).map(|(_, recovery)| *recovery)
        };
        arm("first_attention", of(&FIRST));
        for (name, rival) in &rivals {
            arm(name, rival.as_ref().and_then(of));
        }
        for part in ["self_attn", "mlp"] {
            let of_part = states.iter().filter(|(state, _)| state[0] == part).map(|(_, recovery)| *recovery);
            arm(part, of_part.max_by(f64::total_cmp));
        }
    }
}

fn is_mlp(state: &State<'_>) -> bool {
    state[0] == "mlp"
}

/// The state besides the first whose mean recovery is largest, of those that at least half of the captions have: what a claim that no
/// other state is causal has to be tested on.
fn strongest<'a>(judged: &Judged<'a>, is_one: impl Fn(&State<'_>) -> bool) -> Option<State<'a>> {
    let mut all: BTreeMap<State<'a>, Vec<f64>> = BTreeMap::new();
    for unit in judged.units {
        for run in &unit.runs {
            all.entry(state_of(run)).or_default().extend(judged.recovery(unit, run));
        }
    }
    let kept = judged.units.iter().filter(|unit| judged.is_kept(unit)).count();
    let rivals = all.into_iter().filter(|(state, values)| {
        *state != FIRST && state[0] != "block" && is_one(state) && 2 * values.len() >= kept
    });
    let means = rivals.filter_map(|(state, values)| Some((state, stats::mean(&values).ok()?)));
    means.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(state, _)| state)
}

/// Mean of what there is.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    stats::mean(&values.collect::<Vec<_>>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn study<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> T {
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{error}"))
    }

    fn row(case: &str, seed: u64, metric: &str, value: f64, tags: &[(&str, &str)]) -> Row {
        Row {
            trial: String::new(),
            study: "s".to_owned(),
            arm: "style".to_owned(),
            case: case.to_owned(),
            seed,
            metric: metric.to_owned(),
            at: None,
            value,
            tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        }
    }

    /// Clean 0.9, corrupted 0.1, and three components from two donors in either half.
    fn of_unet(case: &str, clean: f64, right: f64) -> Vec<Row> {
        let score = |component: &str, part: &str, control: &str, half: &str, value: f64| {
            let tags = [("component", component), ("part", part), ("control", control), ("half", half)];
            row(case, 0, "score_clip", value, &tags)
        };
        let mut rows = vec![
            row(case, 0, "clean_right", right, &[]),
            score("clean", "none", "none", "cond", clean),
            score("corrupted", "none", "none", "cond", 0.1),
        ];
        let of = [
            ("down_blocks.0.resnets.0", "resnet", 0.5, 0.1),
            ("mid_block.attentions.0.transformer_blocks.0.attn2", "attn2", 0.3, 0.3),
            ("up_blocks.3.resnets.2", "resnet", 0.9, 0.9),
        ];
        for (component, part, clean, foreign) in of {
            rows.push(score(component, part, "clean", "cond", clean));
            rows.push(score(component, part, "foreign", "cond", foreign));
            rows.push(score(component, part, "clean", "uncond", 0.1));
        }
        rows
    }

    fn unet_study() -> UnetStudy {
        study(serde_json::json!({
            "arms": ["style"], "captions": {"count": 2, "floor": 0.1}, "making": {"steps": 1, "guidance": 2.0},
            "halves": ["cond", "uncond"], "controls": ["clean", "foreign"], "above": 0.3,
        }))
    }

    fn derived_of_unet(rows: &[Row]) -> Vec<Row> {
        let study = unet_study();
        let mut all = Vec::new();
        for_each(&study.arms, &study.captions, &Rows::of(rows, "s"), |judged| {
            unet(&study, judged, &mut all);
        });
        all
    }

    #[test]
    fn effects_and_recoveries_are_those_of_the_formula() {
        let rows = of_unet("style-00", 0.9, 1.0);
        let all = derived_of_unet(&rows);
        let close = |metric: &str, arm: &str, tags: &[(&str, &str)], expected: &[f64]| {
            let found: Vec<&Row> = all
                .iter()
                .filter(|row| row.metric == metric && row.arm == arm)
                .filter(|row| tags.iter().all(|(name, value)| tag(&row.tags, name) == *value))
                .collect();
            assert_eq!(found.len(), expected.len(), "{metric} of {arm}: {found:?}");
            for (row, expected) in found.iter().zip(expected) {
                assert!((row.value - expected).abs() < 1e-12, "{metric} of {arm}: {row:?}");
            }
        };
        // (0.5 − 0.1) / 0.8, (0.3 − 0.1) / 0.8, and the whole of the last level.
        close("recovery_clip", "style", &[("control", "clean")], &[0.5, 0.25, 1.0]);
        close("mean_effect", "clean", &[], &[0.3]);
        close("mean_recovery", "clean", &[], &[0.375]);
        close("mean_effect", "foreign", &[], &[0.1]);
        close("part_effect", "resnet", &[("control", "clean")], &[0.4]);
        close("part_recovery", "attn2", &[("control", "foreign")], &[0.25]);
        close("half_effect", "uncond", &[], &[0.0]);
        close("best_recovery", "clean", &[], &[0.5]);
        close("causal_components", "style", &[], &[1.0]);
        close("causal_share", "down", &[], &[1.0]);
        close("causal_share", "mid", &[], &[0.0]);
    }

    #[test]
    fn the_nearest_return_is_of_every_caption_and_before_the_last_level() {
        // The model does not follow the caption, which has no recovery: a distance needs none.
        let mut rows = of_unet("style-00", 0.9, 0.0);
        let mut distances: Vec<Row> = rows
            .iter()
            .filter(|row| tag(&row.tags, "part") != "none" && tag(&row.tags, "half") == "cond")
            .map(|row| Row { metric: DISTANCE.to_owned(), value: 1.0 - row.value, ..row.clone() })
            .collect();
        rows.append(&mut distances);
        let study = unet_study();
        let found = nearest(&study, &units(&Rows::of(&rows, "s"), "style"));
        assert_eq!(found.len(), 2);
        for (row, (arm, value)) in found.iter().zip([("clean", 0.5), ("foreign", 0.3)]) {
            assert!(row.arm == arm && (row.value - value).abs() < 1e-12, "{row:?}");
        }
    }

    #[test]
    fn captions_count_that_show_the_attribute_and_lose_enough() {
        let mut rows = of_unet("style-00", 0.15, 1.0);
        rows.extend(of_unet("style-01", 0.9, 0.0));
        let all = derived_of_unet(&rows);
        assert!(all.iter().filter(|row| row.metric == "kept").all(|row| row.value == 0.0));
        assert!(all.iter().all(|row| !row.metric.contains("recovery")));
        // An effect needs no ratio: the caption that loses little has one, the one that the model does not follow has none.
        let effects: Vec<&Row> =
            all.iter().filter(|row| row.metric == "mean_effect" && row.arm == "clean").collect();
        assert!(effects.len() == 1 && effects[0].case == "style-00");
    }

    #[test]
    fn the_floor_is_what_seeds_change_where_that_is_more() {
        let clean = |seed, value| {
            row("style-00", seed, "score_clip", value, &[("component", "clean"), ("part", "none")])
        };
        let rows = [clean(0, 0.4), clean(1, 0.8)];
        let rows = Rows::of(&rows, "s");
        let units = units(&rows, "style");
        assert!((floor(&units, Score::Clip, 0.1) - 0.08_f64.sqrt()).abs() < 1e-12);
        assert_eq!(floor(&units, Score::Clip, 0.5), 0.5);
        assert_eq!(floor(&units[..1], Score::Clip, 0.1), 0.1);
    }

    #[test]
    fn a_noise_lowers_a_score_or_not() {
        let of = |metric: &str, value: f64| {
            positive(&Row { at: Some(7.0), ..row("style-00", 0, metric, value, &[("unit", "std")]) })
        };
        let found = of("sweep_total_effect_class", 0.2).unwrap_or_else(|| panic!("no row"));
        assert_eq!((found.value, found.at, found.tags["score"].as_str()), (1.0, Some(7.0), "class"));
        assert_eq!(found.tags["unit"], "std");
        assert!(of("sweep_total_effect_clip", -0.1).is_some_and(|row| row.value == 0.0));
        assert!(of("sweep_sigma", 1.0).is_none());
    }

    #[test]
    fn the_strongest_rival_is_one_state_for_all_captions() {
        let study: TextStudy = study(serde_json::json!({
            "arms": ["style"], "captions": {"count": 2, "floor": 0.0}, "making": {"steps": 1, "guidance": 2.0},
            "parts": ["self_attn", "mlp"], "above": 0.3,
        }));
        let mut rows = Vec::new();
        for (case, mlps) in [("style-00", [0.6, 0.1]), ("style-01", [0.2, 0.5])] {
            let mut add = |part: &str, layer: &str, token: &str, value: f64| {
                let tags = [("part", part), ("layer", layer), ("token", token)];
                rows.push(row(case, 0, "score_clip", value, &tags));
            };
            add("none", "none", "clean", 1.0);
            add("none", "none", "corrupted", 0.0);
            add("self_attn", "0", "last subject", 0.9);
            add("mlp", "0", "+1", mlps[0]);
            add("mlp", "1", "+1", mlps[1]);
        }
        let mut all = Vec::new();
        for_each(&study.arms, &study.captions, &Rows::of(&rows, "s"), |judged| {
            text(&study, judged, &mut all);
        });
        let of = |arm: &str| -> Vec<f64> {
            all.iter()
                .filter(|row| row.metric == "state_recovery" && row.arm == arm)
                .map(|row| row.value)
                .collect()
        };
        assert_eq!(of("first_attention"), [0.9, 0.9]);
        // Layer 0 has the larger mean (0.4 against 0.3), though not for every caption; the best of each caption is another thing.
        assert_eq!(of("mlp_state"), [0.6, 0.2]);
        assert_eq!(of("mlp"), [0.6, 0.5]);
    }
}
