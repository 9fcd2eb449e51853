//! The closed set of comparisons, each from rows to an estimate, an interval and a verdict.

use super::expect::Expect;
use super::quantity::quantity;
use super::select::{self, Values};
use crate::claim::{
    BestOf, Check, Equivalence, ExceedsAll, Interval as Method, Mean, Over, Paired, Spread, Test, Verdict,
};
use crate::row::{Row, Selector};
use crate::stats::{self, Interval};

/// What a comparison found; becomes a [`super::Judgement`] once the gates were read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    pub(super) verdict: Verdict,
    pub(super) ours: Option<f64>,
    pub(super) ends: Option<(f64, f64)>,
    pub(super) n: usize,
    pub(super) note: String,
    /// How far the estimate lies on the right side: orders the parts of `all_of`.
    pub(super) margin: f64,
}

impl Found {
    /// Nothing could be estimated.
    pub(super) fn nothing(note: impl Into<String>) -> Self {
        let note = note.into();
        Self { verdict: Verdict::NotTestable, ours: None, ends: None, n: 0, note, margin: 0.0 }
    }

    fn of(interval: Interval, verdict: Verdict, margin: f64, note: String) -> Self {
        let ends = Some((interval.low, interval.high));
        let found = Self { verdict, ours: Some(interval.estimate), ends, n: interval.n, note, margin };
        if too_few_equal(&interval) { found.undecided() } else { found }
    }

    /// Too few equal values: an interval without width would decide anything.
    fn undecided(self) -> Self {
        let rule =
            format!("{} equal values have no spread to judge by: {ENOUGH_EQUAL} would be needed", self.n);
        Self { verdict: Verdict::Inconclusive, note: join(&[&rule, &self.note]), ..self }
    }

    /// One unit: an estimate, and no way to know how far off it is.
    fn single(value: f64, margin: f64) -> Self {
        let note = "one measurement has no interval: run at least two seeds".to_owned();
        Self { verdict: Verdict::Inconclusive, ours: Some(value), ends: None, n: 1, note, margin }
    }
}

/// Fewest equal values that decide: were a value as likely on one side of the threshold as on the other, so many on one side would be seen in
/// less than 5 of 100 samples, as the sign test (two-sided) has it: 2 / 2⁶ = 0.03, and 2 / 2⁵ = 0.06.
const ENOUGH_EQUAL: usize = 6;

fn too_few_equal(interval: &Interval) -> bool {
    interval.low == interval.high && interval.n < ENOUGH_EQUAL
}

type Answer = Result<Found, String>;

/// Judges one test. What stops it (missing rows, too few units) is in the note.
pub(super) fn test(test: &Test, rows: &[Row]) -> Found {
    let expect = match test.expect.as_deref().map(Expect::parse).transpose() {
        Ok(expect) => expect.unwrap_or(Expect::POSITIVE),
        Err(message) => return Found::nothing(message),
    };
    answer(test, expect, rows).unwrap_or_else(Found::nothing)
}

fn answer(test: &Test, expect: Expect, rows: &[Row]) -> Answer {
    if let Some(part) = &test.paired {
        return paired(part, expect, rows);
    }
    if let Some(part) = &test.mean {
        return mean(part, expect, rows);
    }
    if let Some(part) = &test.equivalence {
        return equivalence(part, rows);
    }
    if let Some(part) = &test.proportion {
        return proportion(part, expect, rows);
    }
    if let Some(part) = &test.exceeds_all {
        return exceeds_all(part, expect, rows);
    }
    if let Some(part) = &test.best_of {
        return best_of(part, expect, rows);
    }
    if let Some(part) = &test.spread {
        return spread(part, expect, rows);
    }
    if let Some(part) = &test.check {
        return check(part, expect, rows);
    }
    if let Some(parts) = &test.all_of {
        return Ok(all_of(parts, parts.iter().map(|part| self::test(part, rows)).collect()));
    }
    let reason = test.untested.as_ref().map(|untested| untested.reason.clone());
    Err(reason.unwrap_or_else(|| "the claim names no comparison".to_owned()))
}

fn estimate(values: &[f64], method: Method, level: f64) -> Result<Interval, String> {
    let average = |units: &[usize]| units.iter().map(|unit| values[*unit]).sum::<f64>() / units.len() as f64;
    match method {
        Method::T => stats::t_interval(values, level),
        Method::Bootstrap => stats::bootstrap(values.len(), level, average),
    }
    .map_err(|error| error.to_string())
}

fn differences(
    rows: &[Row],
    metric: &str,
    (a, b): (&str, &str),
    over: Over,
    only: &Selector,
) -> Result<(Vec<f64>, String), String> {
    let (a_values, b_values) =
        (select::values(rows, metric, a, only)?, select::values(rows, metric, b, only)?);
    let pairs = select::pairs(&a_values, &b_values, over);
    if pairs.differences.is_empty() {
        return Err(format!("`{metric}` of `{a}` and `{b}` share no seed and case: nothing can be paired"));
    }
    let note = match pairs.unpaired {
        0 => String::new(),
        count => format!("{count} measurements have no partner in the other arm and were left out"),
    };
    Ok((pairs.differences, note))
}

fn paired(part: &Paired, expect: Expect, rows: &[Row]) -> Answer {
    let (values, note) = differences(rows, &part.metric, (&part.a, &part.b), part.over, &part.only)?;
    if let [value] = values[..] {
        return Ok(Found::single(value, expect.margin(value)));
    }
    let interval = estimate(&values, part.interval, part.level)?;
    let note = join(&[&note, &narrow(part.interval, interval.n)]);
    Ok(registered(interval, expect, part.refuted_below, note))
}

/// `expect`'s verdict, or the pre-registered refutation: the interval reaches 0 or below and excludes the published margin.
fn registered(interval: Interval, expect: Expect, refuted_below: Option<f64>, note: String) -> Found {
    let verdict = expect.verdict(interval.low, interval.high);
    let margin = expect.margin(interval.estimate);
    let lies = match verdict {
        Verdict::Supported => format!("the whole interval is {expect}"),
        Verdict::Refuted => format!("no point of the interval is {expect}"),
        _ => format!("the interval is not wholly on either side of {}", expect.threshold),
    };
    let excluded = refuted_below.filter(|published| interval.high < *published && interval.low <= 0.0);
    match excluded {
        Some(published) if verdict == Verdict::Inconclusive => {
            let rule = format!("the interval holds 0 and ends below the published margin {published}");
            Found::of(interval, Verdict::Refuted, margin, join(&[&note, &rule]))
        }
        _ => Found::of(interval, verdict, margin, join(&[&lies, &note])),
    }
}

fn narrow(method: Method, n: usize) -> String {
    if method == Method::Bootstrap && n < 10 {
        return format!("a bootstrap of {n} units is narrower than it should be");
    }
    String::new()
}

fn mean(part: &Mean, expect: Expect, rows: &[Row]) -> Answer {
    let values = select::values(rows, &part.metric, &part.arm, &part.only)?;
    let units: Vec<f64> = select::by_unit(&values, part.over).into_values().collect();
    if let [value] = units[..] {
        return Ok(Found::single(value, expect.margin(value)));
    }
    let interval = estimate(&units, part.interval, part.level)?;
    Ok(registered(interval, expect, None, narrow(part.interval, interval.n)))
}

fn equivalence(part: &Equivalence, rows: &[Row]) -> Answer {
    let (values, note) = differences(rows, &part.metric, (&part.a, &part.b), part.over, &part.only)?;
    if let [value] = values[..] {
        return Ok(Found::single(value, part.within - value.abs()));
    }
    let interval = estimate(&values, Method::T, part.level)?;
    let verdict = if interval.low > -part.within && interval.high < part.within {
        Verdict::Supported
    } else if interval.low > part.within || interval.high < -part.within {
        Verdict::Refuted
    } else {
        Verdict::Inconclusive
    };
    let region = format!("{} % interval against ±{}", percent(part.level), part.within);
    Ok(Found::of(interval, verdict, part.within - interval.estimate.abs(), join(&[&region, &note])))
}

fn percent(level: f64) -> f64 {
    (level * 1e4).round() / 1e2
}

fn proportion(part: &Mean, expect: Expect, rows: &[Row]) -> Answer {
    let values: Vec<f64> =
        select::rows(rows, &part.metric, Some(&part.arm), &part.only).map(|row| row.value).collect();
    if values.is_empty() {
        return Err(select::missing(rows, &part.metric, Some(&part.arm), &part.only));
    }
    let successes = values.iter().filter(|value| **value != 0.0).count();
    let interval = stats::wilson(successes, values.len(), part.level).map_err(|error| error.to_string())?;
    Ok(registered(interval, expect, None, format!("{successes} of {}", values.len())))
}

fn mean_of(values: &Values) -> f64 {
    values.values().sum::<f64>() / values.len() as f64
}

/// Differences of `a` to each of the others, with Holm's levels; judged by all, shown by the best of the others.
fn exceeds_all(part: &ExceedsAll, expect: Expect, rows: &[Row]) -> Answer {
    let mut best: (f64, usize) = (f64::NEG_INFINITY, 0);
    let mut families = Vec::new();
    for (index, other) in part.others.iter().enumerate() {
        families.push(differences(rows, &part.metric, (&part.a, other), part.over, &part.only)?.0);
        let average = mean_of(&select::values(rows, &part.metric, other, &part.only)?);
        if average > best.0 {
            best = (average, index);
        }
    }
    let name = part.others.get(best.1).ok_or("the claim names no other arm")?;
    let nearest = format!("the best of the {} others is `{name}`", part.others.len());
    if let Some(few) = families.iter().find(|family| family.len() < 2) {
        let single = Found::single(families[best.1][0], expect.margin(few[0]));
        return Ok(Found { note: join(&[&nearest, &single.note]), ..single });
    }
    let intervals =
        simultaneous(&families, expect.threshold, part.level).map_err(|error| error.to_string())?;
    Ok(strongest(&intervals, best.1, expect, part, nearest))
}

/// Intervals at the levels that Holm's procedure gives each comparison of the family.
fn simultaneous(families: &[Vec<f64>], threshold: f64, level: f64) -> stats::Result<Vec<Interval>> {
    let mut two_sided = Vec::new();
    for family in families {
        let above = stats::p_above(family, threshold)?;
        two_sided.push((2.0 * above.min(1.0 - above)).clamp(0.0, 1.0));
    }
    let levels = stats::holm_levels(&two_sided, level)?;
    families.iter().zip(levels).map(|(family, level)| stats::t_interval(family, level)).collect()
}

fn strongest(all: &[Interval], best: usize, expect: Expect, part: &ExceedsAll, nearest: String) -> Found {
    let verdict = |one: &Interval| match too_few_equal(one) {
        true => Verdict::Inconclusive,
        false => expect.verdict(one.low, one.high),
    };
    let verdicts: Vec<Verdict> = all.iter().map(verdict).collect();
    let beaten_by = verdicts.iter().position(|verdict| *verdict == Verdict::Refuted);
    let shown = beaten_by.unwrap_or(best);
    let note = match beaten_by {
        Some(index) if index == best => format!("{nearest}, which is better"),
        Some(index) => format!("`{}` is better; {nearest}", part.others[index]),
        None => join(&[&nearest, "Holm-adjusted interval"]),
    };
    let found = registered(all[shown], expect, part.refuted_below, note);
    let all_right = verdicts.iter().all(|verdict| *verdict == Verdict::Supported);
    if found.verdict == Verdict::Supported && !all_right {
        let note = join(&[&found.note, "not every other arm is clearly beaten"]);
        return Found { verdict: Verdict::Inconclusive, note, ..found };
    }
    found
}

/// Values of each arm, aligned over the seeds that all share.
fn blocks(rows: &[Row], metric: &str, arms: &[&String], only: &Selector) -> Result<Vec<Vec<f64>>, String> {
    let values: Vec<Values> =
        arms.iter().map(|arm| select::values(rows, metric, arm, only)).collect::<Result<_, _>>()?;
    let aligned = select::aligned(&values);
    if aligned.first().is_none_or(Vec::is_empty) {
        return Err(format!("the arms share no seed of `{metric}`"));
    }
    Ok(aligned)
}

fn arm_means<'a>(blocks: &'a [Vec<f64>], units: &'a [usize]) -> impl Iterator<Item = f64> + 'a {
    blocks.iter().map(|arm| units.iter().map(|unit| arm[*unit]).sum::<f64>() / units.len() as f64)
}

fn largest(blocks: &[Vec<f64>], units: &[usize]) -> f64 {
    arm_means(blocks, units).fold(f64::NEG_INFINITY, f64::max)
}

/// Bootstrap over the seeds of `blocks` of a statistic of the arm means.
fn over_seeds(seeds: usize, level: f64, expect: Expect, statistic: impl Fn(&[usize]) -> f64) -> Answer {
    if seeds < 2 {
        let value = statistic(&[0]);
        return Ok(Found::single(value, expect.margin(value)));
    }
    let interval = stats::bootstrap(seeds, level, statistic).map_err(|error| error.to_string())?;
    Ok(registered(interval, expect, None, narrow(Method::Bootstrap, seeds)))
}

fn best_of(part: &BestOf, expect: Expect, rows: &[Row]) -> Answer {
    let arms: Vec<&String> = part.group.iter().chain(&part.others).collect();
    let blocks = blocks(rows, &part.metric, &arms, &part.only)?;
    let (group, others) = blocks.split_at(part.group.len());
    let statistic = |units: &[usize]| largest(group, units) - largest(others, units);
    let found = over_seeds(blocks[0].len(), part.level, expect, statistic)?;
    let all: Vec<usize> = (0..blocks[0].len()).collect();
    let means: Vec<f64> = arm_means(&blocks, &all).collect();
    let top = (0..means.len()).max_by(|a, b| means[*a].total_cmp(&means[*b])).unwrap_or(0);
    Ok(Found { note: join(&[&format!("the best arm is `{}`", arms[top]), &found.note]), ..found })
}

fn spread(part: &Spread, expect: Expect, rows: &[Row]) -> Answer {
    let blocks = blocks(rows, &part.metric, &part.arms.iter().collect::<Vec<_>>(), &part.only)?;
    let range =
        |units: &[usize]| largest(&blocks, units) - arm_means(&blocks, units).fold(f64::INFINITY, f64::min);
    over_seeds(blocks[0].len(), part.level, expect, range)
}

fn check(part: &Check, expect: Expect, rows: &[Row]) -> Answer {
    let selected: Vec<&Row> = select::rows(rows, &part.metric, part.arm.as_deref(), &part.only).collect();
    let worst =
        selected.iter().min_by(|a, b| expect.margin(a.value).total_cmp(&expect.margin(b.value))).copied();
    let worst = worst.ok_or_else(|| select::missing(rows, &part.metric, part.arm.as_deref(), &part.only))?;
    let failing = selected.iter().filter(|row| !expect.holds(row.value, part.tolerance)).count();
    let (verdict, note) = match failing {
        0 if selected.len() == 1 => (Verdict::Supported, format!("exact: the value is {expect}")),
        0 => (Verdict::Supported, format!("exact: all {} values are {expect}", selected.len())),
        1 if selected.len() == 1 => (Verdict::Refuted, format!("exact: the value is not {expect}")),
        count => {
            let place = place(worst);
            (
                Verdict::Refuted,
                format!("exact: {count} of {} values are not {expect}; worst {place}", selected.len()),
            )
        }
    };
    let margin = expect.margin(worst.value);
    Ok(Found { verdict, ours: Some(worst.value), ends: None, n: selected.len(), note, margin })
}

fn place(row: &Row) -> String {
    let case = if row.case.is_empty() { String::new() } else { format!(", case {}", row.case) };
    let at = row.at.map_or(String::new(), |at| format!(", at {at}"));
    format!("arm {}{case}, seed {}{at}", row.arm, row.seed)
}

/// Order in which a part decides a conjunction: a refuted part refutes it, a missing one keeps it open.
fn gravity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Refuted => 3,
        Verdict::Inconclusive => 2,
        Verdict::Supported => 1,
        Verdict::NotTestable => 0,
    }
}

/// All parts hold. The numbers shown are those of the part that decides, the weakest among equals.
fn all_of(tests: &[Test], parts: Vec<Found>) -> Found {
    let measured = parts.iter().filter(|part| part.verdict != Verdict::NotTestable).count();
    let deciding = parts.iter().enumerate().max_by(|(_, a), (_, b)| {
        gravity(a.verdict).cmp(&gravity(b.verdict)).then(b.margin.total_cmp(&a.margin))
    });
    let Some((index, deciding)) = deciding else { return Found::nothing("the claim has no parts") };
    let open = deciding.verdict == Verdict::Supported && measured < parts.len();
    let verdict = if open { Verdict::Inconclusive } else { deciding.verdict };
    let supported = parts.iter().filter(|part| part.verdict == Verdict::Supported).count();
    let summary = format!("{supported} of {} parts supported, {measured} measured", parts.len());
    let missing = parts.iter().find(|part| open && part.verdict == Verdict::NotTestable);
    let what = quantity(&tests[index]).filter(|_| measured > 0);
    let shown = what.map_or(String::new(), |what| format!("shown: part {}, {what}", index + 1));
    let note = join(&[&summary, &shown, &deciding.note, missing.map_or("", |part| &part.note)]);
    Found { verdict, note, ..deciding.clone() }
}

/// Joins the notes that say something.
pub(super) fn join(parts: &[&str]) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("; ")
}
