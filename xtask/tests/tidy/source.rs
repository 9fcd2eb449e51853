//! Rules on every source file: documentation, terminal output, tests that never run, whitespace, length.

use crate::files::{libraries, rust, with_extension};
use crate::{Rule, code, hold, lines_where};

const TEXT: [&str; 9] = ["rs", "toml", "md", "yaml", "yml", "cu", "cuh", "py", "sh"];
const LONGEST_FILE: usize = 700;

fn undocumented(text: &str) -> Vec<usize> {
    let first = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with("#!"));
    if first.is_some_and(|line| line.starts_with("//!")) { Vec::new() } else { vec![1] }
}

fn terminal_output(text: &str) -> Vec<usize> {
    const MACROS: [&str; 5] = ["println!", "eprintln!", "print!", "eprint!", "dbg!"];
    lines_where(text, |line| MACROS.iter().any(|name| code(line).contains(name)))
}

fn never_run(text: &str) -> Vec<usize> {
    lines_where(text, |line| code(line).contains("#[ignore"))
}

fn trailing_whitespace(text: &str) -> Vec<usize> {
    let ends_badly = |(_, line): &(usize, &str)| line.ends_with([' ', '\t', '\r']);
    let mut lines: Vec<usize> =
        text.split('\n').enumerate().filter(ends_badly).map(|(index, _)| index + 1).collect();
    if !text.is_empty() && (!text.ends_with('\n') || text.ends_with("\n\n")) {
        lines.push(text.lines().count());
    }
    lines
}

fn too_long(text: &str) -> Vec<usize> {
    let lines = text.lines().count();
    if lines > LONGEST_FILE { vec![lines] } else { Vec::new() }
}

#[test]
fn every_module_says_what_it_is() {
    hold(&rust(), undocumented, "a file begins with a `//!` line that says what the module is");
}

#[test]
fn libraries_leave_the_terminal_to_the_programs() {
    hold(&libraries(), terminal_output, "return it, or report it through the trial's context");
}

#[test]
fn every_test_runs() {
    hold(&rust(), never_run, "a test that never runs tests nothing: mend it or remove it");
}

#[test]
fn no_line_ends_in_whitespace_and_every_file_in_one_newline() {
    hold(
        &with_extension(&TEXT),
        trailing_whitespace,
        "no trailing whitespace; exactly one newline at the end",
    );
}

#[test]
fn no_file_is_a_whole_house() {
    hold(&rust(), too_long, "split it: one room, one file");
}

#[test]
fn each_rule_finds_what_it_is_for() {
    let bad: [(Rule, &str, usize); 10] = [
        (undocumented, "use std::fs;\n//! late\n", 1),
        (undocumented, "", 1),
        (terminal_output, "//! x\nfn f() {\n    println!(\"{}\", 1);\n}\n", 3),
        (terminal_output, "let y = dbg!(x);\n", 1),
        (never_run, "#[test]\n#[ignore = \"slow\"]\nfn f() {}\n", 2),
        (trailing_whitespace, "a\nb \n", 2),
        (trailing_whitespace, "a\r\n", 1),
        (trailing_whitespace, "a", 1),
        (trailing_whitespace, "a\n\n", 2),
        (too_long, &"x\n".repeat(LONGEST_FILE + 1), LONGEST_FILE + 1),
    ];
    for (rule, text, line) in bad {
        assert_eq!(rule(text), [line], "{text:?}");
    }
}

#[test]
fn each_rule_lets_good_text_pass() {
    let good = "#!/usr/bin/env run\n//! A module.\n\n// println!(\"only spoken of\")\nfn f() {}\n";
    for rule in [undocumented as Rule, terminal_output, never_run, trailing_whitespace, too_long] {
        assert!(rule(good).is_empty(), "{:?}", rule(good));
    }
}
