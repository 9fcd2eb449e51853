//! Every comparison, every verdict, and everything that can be missing.
#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;

fn row(arm: &str, case: &str, seed: u64, metric: &str, value: f64) -> Row {
    Row {
        trial: format!("{arm}-{case}-{seed}"),
        study: "images".into(),
        arm: arm.into(),
        case: case.into(),
        seed,
        metric: metric.into(),
        at: None,
        value,
        tags: Default::default(),
    }
}

/// One row a seed of `acc` for each arm.
fn arms(values: &[(&str, &[f64])]) -> Vec<Row> {
    let rows = |(arm, values): &(&str, &[f64])| {
        values
            .iter()
            .enumerate()
            .map(|(seed, value)| row(arm, "", seed as u64, "acc", *value))
            .collect::<Vec<_>>()
    };
    values.iter().flat_map(rows).collect()
}

fn claim(test: Value) -> Claim {
    gated(test, json!([]))
}

fn gated(test: Value, gates: Value) -> Claim {
    serde_json::from_value(json!({
        "id": "C1", "says": "so", "source": {"where": "Table I", "version": "v1", "seen": "in-text"},
        "test": test, "gates": gates,
    }))
    .unwrap()
}

fn found(test: Value, rows: &[Row]) -> Judgement {
    judge(&[claim(test)], rows).remove(0)
}

fn paired() -> Value {
    json!({"paired": {"metric": "acc", "a": "new", "b": "old"}, "expect": "> 0"})
}

#[test]
fn fewer_than_six_equal_values_decide_nothing() {
    let mean = json!({"mean": {"metric": "acc", "arm": "new"}, "expect": "> 0.5"});
    let same = json!({"equivalence": {"metric": "acc", "a": "new", "b": "old", "within": 1.0}});
    for (test, verdict) in
        [(mean, Verdict::Supported), (paired(), Verdict::Supported), (same, Verdict::Supported)]
    {
        for (count, expected) in [(2, Verdict::Inconclusive), (5, Verdict::Inconclusive), (6, verdict)] {
            let judgement =
                found(test.clone(), &arms(&[("new", &vec![0.75; count]), ("old", &vec![0.5; count])]));
            assert_eq!((judgement.verdict, judgement.n), (expected, count), "{test}");
            assert_eq!((judgement.low, judgement.high), (judgement.ours, judgement.ours));
            let told = judgement
                .note
                .contains(&format!("{count} equal values have no spread to judge by: 6 would be"));
            assert_eq!(told, count < 6, "{}", judgement.note);
        }
    }
}

#[test]
fn a_difference_clear_of_zero_is_supported_and_its_mirror_refuted() {
    let rows = arms(&[("new", &[91.0, 92.0, 93.0]), ("old", &[90.0, 91.1, 91.9])]);
    let judgement = found(paired(), &rows);
    assert_eq!((judgement.verdict, judgement.n), (Verdict::Supported, 3));
    // Differences 1.0, 0.9, 1.1: mean 1, standard error 0.1/√3, t(.975, 2) = 4.302653.
    assert!((judgement.ours.unwrap() - 1.0).abs() < 1e-9);
    assert!((judgement.high.unwrap() - 1.248_414).abs() < 1e-5, "{judgement:?}");
    let mirrored = json!({"paired": {"metric": "acc", "a": "old", "b": "new"}, "expect": "> 0"});
    assert_eq!(found(mirrored, &rows).verdict, Verdict::Refuted);
}

#[test]
fn pairing_removes_what_seeds_share() {
    // Seeds differ by 10, arms by 0.1: unpaired this could not be seen.
    let rows = arms(&[("new", &[70.1, 80.11, 90.09]), ("old", &[70.0, 80.0, 90.0])]);
    assert_eq!(found(paired(), &rows).verdict, Verdict::Supported);
}

#[test]
fn the_preregistered_rule_refutes_what_reaches_zero_and_excludes_the_margin() {
    let rows = arms(&[("new", &[0.1, -0.1, 0.05, -0.05]), ("old", &[0.0; 4])]);
    let test = |margin: f64| json!({"paired": {"metric": "acc", "a": "new", "b": "old", "refuted_below": margin}, "expect": "> 0"});
    let judgement = found(test(0.36), &rows);
    assert_eq!(judgement.verdict, Verdict::Refuted);
    assert!(judgement.note.contains("0.36"), "{}", judgement.note);
    // The interval ends at 0.145: a published margin of 0.1 is not excluded.
    assert_eq!(found(test(0.1), &rows).verdict, Verdict::Inconclusive);
    assert_eq!(found(paired(), &rows).verdict, Verdict::Inconclusive);
    // Positive throughout, though below the margin: the claim's sign stands.
    let positive = arms(&[("new", &[0.10, 0.11, 0.12]), ("old", &[0.0; 3])]);
    assert_eq!(found(test(0.36), &positive).verdict, Verdict::Supported);
}

#[test]
fn one_seed_is_inconclusive_and_still_shown() {
    let judgement = found(paired(), &arms(&[("new", &[2.0]), ("old", &[1.0])]));
    assert_eq!((judgement.verdict, judgement.ours, judgement.n), (Verdict::Inconclusive, Some(1.0), 1));
    assert_eq!(judgement.low, None);
    assert!(judgement.note.contains("two seeds"));
}

#[test]
fn a_failed_trial_costs_its_pair_only() {
    let mut rows = arms(&[("new", &[1.0, 1.1, 0.9]), ("old", &[0.0, 0.0, 0.0])]);
    rows.retain(|row| !(row.arm == "old" && row.seed == 1));
    let judgement = found(paired(), &rows);
    assert_eq!((judgement.verdict, judgement.n), (Verdict::Supported, 2));
    assert!(judgement.note.contains("1 measurements have no partner"), "{}", judgement.note);
}

#[test]
fn several_cases_of_a_seed_are_one_unit() {
    let mut rows = Vec::new();
    for (case, shift) in [("a", 0.5), ("b", 1.5)] {
        for seed in 0..3 {
            rows.push(row("new", case, seed, "acc", shift + 0.01 * seed as f64));
            rows.push(row("old", case, seed, "acc", 0.0));
        }
    }
    let judgement = found(paired(), &rows);
    assert_eq!((judgement.n, judgement.ours.map(|x| (x * 1e6).round())), (3, Some(1_010_000.0)));
    let over =
        json!({"paired": {"metric": "acc", "a": "new", "b": "old", "over": "caseseed"}, "expect": "> 0"});
    assert_eq!(found(over, &rows).n, 6);
    let one =
        json!({"paired": {"metric": "acc", "a": "new", "b": "old", "where": {"case": "a"}}, "expect": "> 0"});
    assert!((found(one, &rows).ours.unwrap() - 0.51).abs() < 1e-9);
}

#[test]
fn what_is_missing_is_named() {
    let rows = arms(&[("new", &[1.0, 2.0])]);
    let cases = [
        (json!({"paired": {"metric": "ac", "a": "new", "b": "old"}, "expect": "> 0"}), "did you mean `acc`"),
        (paired(), "for the arm `old`"),
        (
            json!({"mean": {"metric": "acc", "arm": "new", "where": {"study": "toy", "at": 3.0}}, "expect": "> 0"}),
            "study = toy, at = 3",
        ),
        (json!({"check": {"metric": "xi"}, "expect": "< 1"}), "metric `xi`"),
        (json!({"untested": {"reason": "a theorem"}}), "a theorem"),
        (json!({"expect": "> 0"}), "no comparison"),
    ];
    for (test, part) in cases {
        let judgement = found(test, &rows);
        assert_eq!((judgement.verdict, judgement.ours), (Verdict::NotTestable, None));
        assert!(judgement.note.contains(part), "{}", judgement.note);
    }
    assert_eq!(found(paired(), &[]).verdict, Verdict::NotTestable);
}

#[test]
fn arms_without_a_common_seed_cannot_be_paired() {
    let rows = vec![row("new", "", 0, "acc", 1.0), row("old", "", 1, "acc", 1.0)];
    let judgement = found(paired(), &rows);
    assert_eq!(judgement.verdict, Verdict::NotTestable);
    assert!(judgement.note.contains("share no seed"), "{}", judgement.note);
}

#[test]
fn a_mean_is_read_from_its_interval() {
    let rows = arms(&[("new", &[0.500, 0.501, 0.502])]);
    let test = |expect: &str| json!({"mean": {"metric": "acc", "arm": "new"}, "expect": expect});
    assert_eq!(found(test("< 0.51"), &rows).verdict, Verdict::Supported);
    assert_eq!(found(test("> 0.51"), &rows).verdict, Verdict::Refuted);
    assert_eq!(found(test("< 0.502"), &rows).verdict, Verdict::Inconclusive);
}

#[test]
fn equivalence_is_inside_outside_or_across() {
    let test = json!({"equivalence": {"metric": "acc", "a": "new", "b": "old", "within": 0.3}});
    let verdict = |shift: f64, noise: f64| {
        let new = [shift - noise, shift, shift + noise];
        found(test.clone(), &arms(&[("new", &new), ("old", &[0.0; 3])])).verdict
    };
    assert_eq!(verdict(0.0, 0.1), Verdict::Supported);
    assert_eq!(verdict(1.0, 0.1), Verdict::Refuted);
    assert_eq!(verdict(-1.0, 0.1), Verdict::Refuted);
    assert_eq!(verdict(0.3, 0.1), Verdict::Inconclusive);
    assert_eq!(verdict(0.0, 1.0), Verdict::Inconclusive);
}

#[test]
fn a_proportion_uses_wilson() {
    let rows = arms(&[("new", &[1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 0.0])]);
    let judgement = found(json!({"proportion": {"metric": "acc", "arm": "new"}, "expect": "> 0.4"}), &rows);
    assert_eq!((judgement.verdict, judgement.ours), (Verdict::Supported, Some(0.8)));
    assert!((judgement.low.unwrap() - 0.490_162_471_5).abs() < 1e-9);
    assert!(judgement.note.contains("8 of 10"));
}

fn exceeds() -> Value {
    json!({"exceeds_all": {"metric": "acc", "a": "new", "others": ["old", "older"]}, "expect": "> 0"})
}

#[test]
fn exceeding_all_shows_the_difference_to_the_best_other() {
    let rows = arms(&[("new", &[3.0, 3.1, 2.9]), ("old", &[1.0, 1.05, 0.95]), ("older", &[2.0, 2.12, 1.88])]);
    let judgement = found(exceeds(), &rows);
    assert_eq!(judgement.verdict, Verdict::Supported);
    assert!((judgement.ours.unwrap() - 1.0).abs() < 1e-9);
    assert!(judgement.note.contains("`older`"), "{}", judgement.note);
}

#[test]
fn one_better_arm_refutes_exceeding_all() {
    let rows = arms(&[("new", &[3.0, 3.1, 2.9]), ("old", &[1.0; 3]), ("older", &[4.0, 4.1, 3.95])]);
    let judgement = found(exceeds(), &rows);
    assert_eq!(judgement.verdict, Verdict::Refuted);
    assert!(judgement.high.unwrap() < 0.0);
}

#[test]
fn holm_makes_a_single_close_call_inconclusive() {
    // Two comparisons with two-sided p of about 0.035 each: significant alone, not as a family of two.
    let alone = found(paired(), &arms(&[("new", &[1.0, 0.7, 1.35]), ("old", &[0.0; 3])]));
    assert_eq!(alone.verdict, Verdict::Supported);
    let rows = arms(&[("new", &[1.0, 0.7, 1.35]), ("old", &[0.0; 3]), ("older", &[0.0; 3])]);
    assert_eq!(found(exceeds(), &rows).verdict, Verdict::Inconclusive);
}

#[test]
fn exceeding_one_by_too_few_equal_differences_is_not_exceeding_all() {
    let (new, old) = ([91.0, 92.0, 93.0], [90.0, 91.1, 91.9]);
    let varied = arms(&[("new", &new), ("old", &old), ("older", &[80.1, 80.9, 82.0])]);
    assert_eq!(found(exceeds(), &varied).verdict, Verdict::Supported);
    let equal = arms(&[("new", &new), ("old", &old), ("older", &[80.0, 81.0, 82.0])]);
    let judgement = found(exceeds(), &equal);
    assert_eq!(judgement.verdict, Verdict::Inconclusive);
    assert!(judgement.note.contains("not every other arm is clearly beaten"), "{}", judgement.note);
}

#[test]
fn the_best_of_a_group() {
    let rows = arms(&[("a", &[5.0, 5.1]), ("b", &[1.0, 1.0]), ("c", &[4.0, 4.05])]);
    let test = |group: &str, other: &str| json!({"best_of": {"metric": "acc", "group": [group, "b"], "others": [other]}, "expect": "> 0"});
    let judgement = found(test("a", "c"), &rows);
    assert_eq!(judgement.verdict, Verdict::Supported);
    assert!(judgement.note.contains("the best arm is `a`") && judgement.note.contains("narrower"));
    assert_eq!(found(test("c", "a"), &rows).verdict, Verdict::Refuted);
}

#[test]
fn the_spread_of_arm_means() {
    let rows = arms(&[("a", &[5.0, 5.2]), ("b", &[4.4, 4.6]), ("c", &[4.9, 5.1])]);
    let test = json!({"spread": {"metric": "acc", "arms": ["a", "b", "c"]}, "expect": "<= 1"});
    let judgement = found(test, &rows);
    assert_eq!(judgement.verdict, Verdict::Supported);
    assert!((judgement.ours.unwrap() - 0.6).abs() < 1e-9);
}

#[test]
fn a_check_is_decided_by_its_worst_value() {
    let rows = arms(&[("a", &[0.5, 0.7]), ("b", &[0.49])]);
    let check = |expect: &str, tolerance: f64| {
        found(json!({"check": {"metric": "acc", "tolerance": tolerance}, "expect": expect}), &rows)
    };
    let judgement = check(">= 0.5", 0.0);
    assert_eq!((judgement.verdict, judgement.ours, judgement.n), (Verdict::Refuted, Some(0.49), 3));
    assert!(
        judgement.note.contains("1 of 3") && judgement.note.contains("arm b, seed 0"),
        "{}",
        judgement.note
    );
    assert_eq!(check("< 1", 0.0).verdict, Verdict::Supported);
    assert_eq!(check("== 0.6", 0.2).verdict, Verdict::Supported);
    assert_eq!(check("== 0.6", 0.05).verdict, Verdict::Refuted);
}

#[test]
fn a_conjunction_is_decided_by_its_worst_part() {
    let rows = arms(&[("new", &[1.0, 1.1, 0.9]), ("old", &[0.0; 3])]);
    let good = || paired();
    let bad = || json!({"paired": {"metric": "acc", "a": "old", "b": "new"}, "expect": "> 0"});
    let absent = || json!({"check": {"metric": "xi"}, "expect": "< 1"});
    let verdict = |parts: Vec<Value>| found(json!({"all_of": parts}), &rows).verdict;
    assert_eq!(verdict(vec![good(), good()]), Verdict::Supported);
    assert_eq!(verdict(vec![good(), bad(), absent()]), Verdict::Refuted);
    assert_eq!(verdict(vec![good(), absent()]), Verdict::Inconclusive);
    assert_eq!(verdict(vec![absent(), absent()]), Verdict::NotTestable);
    assert_eq!(verdict(vec![]), Verdict::NotTestable);
}

#[test]
fn a_conjunction_shows_its_weakest_part() {
    let mut rows = arms(&[("new", &[1.0, 1.1, 0.9]), ("old", &[0.0; 3])]);
    rows.extend((0..3).map(|seed| row("new", "", seed, "loss", 0.3 + 0.01 * seed as f64)));
    rows.extend((0..3).map(|seed| row("old", "", seed, "loss", 0.0)));
    let loss = json!({"paired": {"metric": "loss", "a": "new", "b": "old"}, "expect": "> 0"});
    let judgement = found(json!({"all_of": [paired(), loss]}), &rows);
    assert!((judgement.ours.unwrap() - 0.31).abs() < 1e-9);
    assert!(judgement.note.contains("part 2"), "{}", judgement.note);
}

#[test]
fn a_failed_gate_takes_the_verdict_and_leaves_the_numbers() {
    let rows = arms(&[("new", &[1.0, 1.1, 0.9]), ("old", &[0.0; 3])]);
    let gate = |least: f64, otherwise: &str| {
        let gates = json!([{"metric": "acc", "arm": "new", "at_least": least, "otherwise": otherwise, "because": "too short"}]);
        judge(&[gated(paired(), gates)], &rows).remove(0)
    };
    assert_eq!(gate(0.9, "not_testable").verdict, Verdict::Supported);
    let failed = gate(1.5, "not_testable");
    assert_eq!((failed.verdict, failed.n, failed.low.is_some()), (Verdict::NotTestable, 3, true));
    assert!(failed.note.contains("`acc` of `new` is 1, needed at least 1.5: too short"), "{}", failed.note);
    assert_eq!(gate(1.5, "inconclusive").verdict, Verdict::Inconclusive);
}

#[test]
fn a_gate_without_an_arm_holds_for_every_arm() {
    let rows = arms(&[("new", &[1.0, 1.1, 0.9]), ("old", &[0.0; 3])]);
    let gates = json!([{"metric": "acc", "at_least": 0.5, "because": "b"}]);
    let judgement = judge(&[gated(paired(), gates)], &rows).remove(0);
    assert!(judgement.note.contains("of `old` is 0"), "{}", judgement.note);
    let absent = json!([{"metric": "loss", "at_most": 1.0, "because": "b"}]);
    assert_eq!(judge(&[gated(paired(), absent)], &rows)[0].verdict, Verdict::NotTestable);
}

#[test]
fn values_that_are_no_numbers_never_become_a_verdict() {
    let rows = arms(&[("new", &[1.0, f64::NAN]), ("old", &[0.0; 2])]);
    let judgement = found(paired(), &rows);
    assert_eq!((judgement.verdict, judgement.ours), (Verdict::NotTestable, None));
}

#[test]
fn order_of_rows_does_not_matter() {
    let mut rows = arms(&[("new", &[1.0, 0.3, 1.3]), ("old", &[0.1, 0.2, 0.35])]);
    let before = found(paired(), &rows);
    rows.reverse();
    assert_eq!(found(paired(), &rows), before);
}

fn mistakes(test: Value) -> Vec<(String, String)> {
    validate(&[claim(test)], &["adam", "diffgrad"], &["images"])
}

#[test]
fn valid_claims_have_no_mistakes() {
    let test = json!({"paired": {"metric": "acc", "a": "diffgrad", "b": "adam", "where": {"study": "images"}}, "expect": "> 0"});
    assert_eq!(mistakes(test), []);
    let parts =
        json!({"all_of": [{"check": {"metric": "xi"}, "expect": "< 1"}, {"untested": {"reason": "r"}}]});
    assert_eq!(mistakes(parts), []);
}

#[test]
fn mistakes_are_named_with_their_key_path() {
    let pair = |a: &str, b: &str| json!({"metric": "acc", "a": a, "b": b});
    let cases = [
        (
            json!({"paired": pair("diffgrd", "adam"), "expect": "> 0"}),
            "claims.0.test.paired.a",
            "did you mean `diffgrad`?",
        ),
        (
            json!({"paired": pair("zz", "adam"), "expect": "> 0"}),
            "claims.0.test.paired.a",
            "known: adam, diffgrad",
        ),
        (
            json!({"paired": pair("adam", "adam"), "expect": "> 0"}),
            "claims.0.test.paired.b",
            "compared with itself",
        ),
        (json!({"paired": pair("diffgrad", "adam"), "expect": "0"}), "claims.0.test.expect", "> 0"),
        (json!({"paired": pair("diffgrad", "adam")}), "claims.0.test", "needs `expect`"),
        (json!({"expect": "> 0"}), "claims.0.test", "found none"),
        (
            json!({"untested": {"reason": "r"}, "check": {"metric": "m"}, "expect": "> 0"}),
            "claims.0.test",
            "check and untested",
        ),
        (json!({"untested": {"reason": "r"}, "expect": "> 0"}), "claims.0.test.expect", "remove it"),
        (
            json!({"mean": {"metric": "m", "arm": "adam", "level": 95}, "expect": "> 0"}),
            "claims.0.test.mean.level",
            "0.95",
        ),
        (
            json!({"mean": {"metric": "m", "arm": "adam", "where": {"study": "image"}}, "expect": "> 0"}),
            "claims.0.test.mean.where.study",
            "did you mean `images`?",
        ),
        (
            json!({"equivalence": {"metric": "m", "a": "adam", "b": "diffgrad", "within": 0}}),
            "claims.0.test.equivalence.within",
            "positive",
        ),
        (
            json!({"all_of": [{"spread": {"metric": "m", "arms": []}, "expect": "< 1"}]}),
            "claims.0.test.all_of.0.spread.arms",
            "at least one arm",
        ),
        (
            json!({"best_of": {"metric": "m", "group": ["adam"], "others": ["sgd"]}}),
            "claims.0.test.best_of.others.0",
            "unknown arm `sgd`",
        ),
    ];
    for (test, path, part) in cases {
        let found = mistakes(test.clone());
        let hit = found.iter().any(|(at, message)| at == path && message.contains(part));
        assert!(hit, "{test}: expected {path}: …{part}…, found {found:?}");
    }
}

#[test]
fn duplicate_ids_and_empty_gates_are_mistakes() {
    let test = json!({"check": {"metric": "xi"}, "expect": "< 1"});
    let gates = json!([{"metric": "m", "because": "b"}, {"metric": "m", "at_least": 2.0, "at_most": 1.0, "because": "b"}]);
    let found = validate(&[claim(test.clone()), gated(test, gates)], &[], &[]);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["claims.1.id", "claims.1.gates.0.at_least", "claims.1.gates.1.at_least"]);
}
