//! The faults of `kernel_host::mutants`: each must fail one of the cases it names.

use std::collections::BTreeSet;

use kernel_host::cases::{self, Case};
use kernel_host::mutants::{ALL, Kind, Mutant};
use kernel_host::{COMMON_NAME, Host, Order};
use rayon::prelude::*;
use sd_core::cuda::COMMON;

use crate::kernels::run;
use crate::proof::host;

fn text_of(name: &str) -> &'static str {
    let own = kernel_host::sources().into_iter().find(|source| source.name == name).map(|source| source.text);
    if name == COMMON_NAME {
        COMMON
    } else {
        own.unwrap_or_else(|| panic!("there is no source called {name}"))
    }
}

fn named(words: &str) -> Vec<Case> {
    let mut cases = cases::all();
    cases.retain(|case| {
        case.timed.is_none() && words.split(',').all(|word| format!("{case:?}").contains(word))
    });
    cases
}

/// Why the mutant lives; `None` where it is killed.
fn survives(host: &Host, mutant: &Mutant) -> Option<String> {
    let told =
        |what: String| Some(format!("{}, {:?} ({}): {what}", mutant.source, mutant.kind, mutant.breaks));
    let changed = match mutant.apply(text_of(mutant.source)) {
        Ok(changed) => changed,
        Err(why) => return told(why),
    };
    let host = host.hasty().limited_to(20).with_text(mutant.source, changed);
    let cases = named(mutant.cases);
    let fails = |case: &Case| run(&host, case, &case.job().unwrap(), &[Order::Forward, Order::Reverse]).err();
    let failure = cases.iter().find_map(fails);
    match failure {
        Some(message) if message.contains("does not compile") => told(message),
        // Seen with `--nocapture`.
        Some(message) => {
            eprintln!("killed: {}: {}", mutant.breaks, message.lines().next().unwrap_or_default());
            None
        }
        None => told(format!("survives all of its {} cases", cases.len())),
    }
}

#[test]
fn every_mutant_is_killed() {
    let Some(host) = host() else { return };
    let alive: Vec<String> = ALL.par_iter().filter_map(|mutant| survives(&host, mutant)).collect();
    assert!(alive.is_empty(), "{} mutants live:\n{}", alive.len(), alive.join("\n"));
}

#[test]
fn every_file_has_a_mutant_and_every_kind_three() {
    let touched: BTreeSet<&str> = ALL.iter().map(|mutant| mutant.source).collect();
    for source in kernel_host::sources() {
        assert!(touched.contains(source.name), "{} has no mutant", source.path);
    }
    for kind in Kind::ALL {
        assert!(
            ALL.iter().filter(|mutant| mutant.kind == kind).count() >= 3,
            "fewer than three mutants of {kind:?}"
        );
    }
}

#[test]
fn a_change_that_does_not_fit_the_text_is_an_error() {
    let mutant = Mutant { find: "a", replace: "b", ..ALL[0] };
    assert_eq!(mutant.apply("xay"), Ok("xby".to_owned()));
    assert!(mutant.apply("xyz").is_err() && mutant.apply("aa").is_err());
}
