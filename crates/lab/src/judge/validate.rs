//! Mistakes in claims that can be seen before anything runs.

use std::collections::BTreeSet;

use super::expect::Expect;
use crate::claim::{Claim, Gate, Test};
use crate::row::Selector;

/// What is wrong with the claims of an experiment: `(key path, message)` for every mistake, such as
/// `("claims.3.test.paired.a", "unknown arm `adm`; did you mean `adam`?")`.
///
/// `arms` and `studies` are the names that the rows will carry; an empty slice leaves them unchecked.
#[must_use]
pub fn validate(claims: &[Claim], arms: &[&str], studies: &[&str]) -> Vec<(String, String)> {
    let mut checker = Checker { arms, studies, found: Vec::new() };
    let mut seen = BTreeSet::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = format!("claims.{index}");
        if !seen.insert(&claim.id) {
            checker.add(
                &path,
                "id",
                format!("the id `{}` is used twice; give every claim its own", claim.id),
            );
        }
        checker.claim(&path, claim);
    }
    checker.found
}

/// The known name that is closest, where one is close enough.
pub(super) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|candidate| (strsim::jaro_winkler(name, candidate), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// `; did you mean …?` where a known name is close enough, else the list of what is known, else nothing.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    match closest(name, known.iter().copied()) {
        Some(candidate) => format!("; did you mean `{candidate}`?"),
        None if known.is_empty() => String::new(),
        None => format!("; known: {}", known.join(", ")),
    }
}

struct Checker<'a> {
    arms: &'a [&'a str],
    studies: &'a [&'a str],
    found: Vec<(String, String)>,
}

impl Checker<'_> {
    fn add(&mut self, path: &str, key: &str, message: impl Into<String>) {
        self.found.push((format!("{path}.{key}"), message.into()));
    }

    fn claim(&mut self, path: &str, claim: &Claim) {
        for (name, value) in &claim.published {
            if value.is_some_and(|value| !value.is_finite()) {
                self.add(
                    path,
                    &format!("published.{name}"),
                    "expected a finite number, or null where not found",
                );
            }
        }
        self.test(&format!("{path}.test"), &claim.test);
        for (index, gate) in claim.gates.iter().enumerate() {
            self.gate(&format!("{path}.gates.{index}"), gate);
        }
    }

    fn test(&mut self, path: &str, test: &Test) {
        let kinds = kinds(test);
        if kinds.len() != 1 {
            let found = if kinds.is_empty() { "none".to_owned() } else { kinds.join(" and ") };
            let message = format!("expected exactly one comparison; found {found}");
            self.found.push((path.to_owned(), message));
        }
        self.expectation(path, test, &kinds);
        self.differences(path, test);
        self.averages(path, test);
        self.groups(path, test);
        for (index, part) in test.all_of.iter().flatten().enumerate() {
            self.test(&format!("{path}.all_of.{index}"), part);
        }
        if test.all_of.as_ref().is_some_and(Vec::is_empty) {
            self.add(path, "all_of", "expected at least one part; found none");
        }
    }

    fn expectation(&mut self, path: &str, test: &Test, kinds: &[&str]) {
        let needless = ["equivalence", "all_of", "untested"];
        let optional = ["exceeds_all", "best_of"];
        match &test.expect {
            Some(text) => {
                if let Err(message) = Expect::parse(text) {
                    self.add(path, "expect", message);
                }
                if kinds.iter().any(|kind| needless.contains(kind)) {
                    self.add(
                        path,
                        "expect",
                        format!("`{}` needs no `expect`; remove it", kinds.join(" and ")),
                    );
                }
            }
            None if kinds.iter().any(|kind| !needless.contains(kind) && !optional.contains(kind)) => {
                let message = format!("`{}` needs `expect`, such as \"> 0\"", kinds.join(" and "));
                self.found.push((path.to_owned(), message));
            }
            None => {}
        }
    }

    fn differences(&mut self, path: &str, test: &Test) {
        if let Some(part) = &test.paired {
            let path = format!("{path}.paired");
            self.pair(&path, &part.a, &part.b);
            self.common(&path, Some(part.level), &part.only);
            self.finite(&path, "refuted_below", part.refuted_below);
        }
        if let Some(part) = &test.equivalence {
            let path = format!("{path}.equivalence");
            self.pair(&path, &part.a, &part.b);
            self.common(&path, Some(part.level), &part.only);
            if !(part.within > 0.0 && part.within.is_finite()) {
                self.add(&path, "within", format!("expected a positive number; found {}", part.within));
            }
        }
        if let Some(part) = &test.exceeds_all {
            let path = format!("{path}.exceeds_all");
            self.arm(&path, "a", &part.a);
            self.group(&path, "others", &part.others);
            self.common(&path, Some(part.level), &part.only);
            self.finite(&path, "refuted_below", part.refuted_below);
        }
    }

    fn averages(&mut self, path: &str, test: &Test) {
        for (name, part) in [("mean", &test.mean), ("proportion", &test.proportion)] {
            if let Some(part) = part {
                let path = format!("{path}.{name}");
                self.arm(&path, "arm", &part.arm);
                self.common(&path, Some(part.level), &part.only);
            }
        }
        if let Some(part) = &test.check {
            let path = format!("{path}.check");
            part.arm.iter().for_each(|arm| self.arm(&path, "arm", arm));
            self.common(&path, None, &part.only);
            if !(part.tolerance >= 0.0 && part.tolerance.is_finite()) {
                self.add(
                    &path,
                    "tolerance",
                    format!("expected a number of at least 0; found {}", part.tolerance),
                );
            }
        }
    }

    fn groups(&mut self, path: &str, test: &Test) {
        if let Some(part) = &test.best_of {
            let path = format!("{path}.best_of");
            self.group(&path, "group", &part.group);
            self.group(&path, "others", &part.others);
            self.common(&path, Some(part.level), &part.only);
        }
        if let Some(part) = &test.spread {
            let path = format!("{path}.spread");
            self.group(&path, "arms", &part.arms);
            self.common(&path, Some(part.level), &part.only);
        }
    }

    fn gate(&mut self, path: &str, gate: &Gate) {
        gate.arm.iter().for_each(|arm| self.arm(path, "arm", arm));
        self.common(path, None, &gate.only);
        self.finite(path, "at_least", gate.at_least);
        self.finite(path, "at_most", gate.at_most);
        match (gate.at_least, gate.at_most) {
            (None, None) => self.add(path, "at_least", "a gate needs `at_least`, `at_most` or both"),
            (Some(least), Some(most)) if least > most => {
                self.add(path, "at_least", format!("{least} is above `at_most`, {most}: nothing can pass"));
            }
            _ => {}
        }
    }

    fn pair(&mut self, path: &str, a: &str, b: &str) {
        self.arm(path, "a", a);
        self.arm(path, "b", b);
        if a == b {
            self.add(path, "b", format!("`{b}` is compared with itself; name another arm"));
        }
    }

    fn group(&mut self, path: &str, key: &str, arms: &[String]) {
        if arms.is_empty() {
            self.add(path, key, "expected at least one arm; found none");
        }
        for (index, arm) in arms.iter().enumerate() {
            self.arm(path, &format!("{key}.{index}"), arm);
        }
    }

    fn arm(&mut self, path: &str, key: &str, arm: &str) {
        if !self.arms.is_empty() && !self.arms.contains(&arm) {
            let hint = nearest(arm, self.arms.iter().copied());
            self.add(path, key, format!("unknown arm `{arm}`{hint}"));
        }
    }

    fn common(&mut self, path: &str, level: Option<f64>, only: &Selector) {
        if let Some(level) = level.filter(|level| !(*level > 0.0 && *level < 1.0)) {
            self.add(
                path,
                "level",
                format!("expected a number between 0 and 1, such as 0.95; found {level}"),
            );
        }
        let unknown = only.study.as_deref().filter(|study| !self.studies.contains(study));
        if let Some(study) = unknown.filter(|_| !self.studies.is_empty()) {
            let hint = nearest(study, self.studies.iter().copied());
            self.add(path, "where.study", format!("unknown study `{study}`{hint}"));
        }
    }

    fn finite(&mut self, path: &str, key: &str, value: Option<f64>) {
        if let Some(value) = value.filter(|value| !value.is_finite()) {
            self.add(path, key, format!("expected a finite number; found {value}"));
        }
    }
}

fn kinds(test: &Test) -> Vec<&'static str> {
    let present = [
        ("paired", test.paired.is_some()),
        ("mean", test.mean.is_some()),
        ("equivalence", test.equivalence.is_some()),
        ("proportion", test.proportion.is_some()),
        ("exceeds_all", test.exceeds_all.is_some()),
        ("best_of", test.best_of.is_some()),
        ("spread", test.spread.is_some()),
        ("check", test.check.is_some()),
        ("all_of", test.all_of.is_some()),
        ("untested", test.untested.is_some()),
    ];
    present.into_iter().filter(|(_, present)| *present).map(|(name, _)| name).collect()
}
