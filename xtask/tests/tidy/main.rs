//! The rules of the house that neither the compiler nor clippy knows, as tests over the repository's files.
//!
//! Each rule is a function from a file's text to the lines that break it, and is itself tested on text that does.
#![allow(clippy::unwrap_used)]

mod engine;
mod files;
mod manifests;
mod repository;
mod source;

use files::File;

/// A rule on one file: the 1-based numbers of the lines that break it.
type Rule = fn(&str) -> Vec<usize>;

/// Applies `rule` to every file of `files` and fails with all places at once.
#[track_caller]
fn hold(files: &[File], rule: Rule, because: &str) {
    assert!(!files.is_empty(), "the rule has no file to look at");
    let broken: Vec<String> = files.iter().flat_map(|file| places(file, rule)).collect();
    assert!(broken.is_empty(), "{because}:\n{}", broken.join("\n"));
}

fn places(file: &File, rule: Rule) -> Vec<String> {
    rule(&file.text).into_iter().map(|line| format!("  {}:{line}", file.path.display())).collect()
}

/// The numbers of the lines for which `bad` holds.
fn lines_where(text: &str, bad: impl Fn(&str) -> bool) -> Vec<usize> {
    text.lines().enumerate().filter(|(_, line)| bad(line)).map(|(index, _)| index + 1).collect()
}

/// The part of a line before its comment.
fn code(line: &str) -> &str {
    let comment = line.match_indices("//").find(|(at, _)| !line[..*at].ends_with(':'));
    comment.map_or(line, |(at, _)| &line[..at])
}

/// Whether `word` stands in `text` and is not part of a longer identifier.
fn has_word(text: &str, word: &str) -> bool {
    let part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    text.match_indices(word)
        .any(|(at, _)| !part(text[..at].chars().next_back()) && !part(text[at + word.len()..].chars().next()))
}

#[test]
fn comments_are_told_from_code_and_words_from_their_parts() {
    assert_eq!(code("let x = 1; // dbg!(x)"), "let x = 1; ");
    assert_eq!(code("let url = \"http://host\";"), "let url = \"http://host\";");
    assert!(
        has_word("use a::{sdpa, b}", "sdpa") && !has_word("my_sdpa(x)", "sdpa") && !has_word("sdpas", "sdpa")
    );
}
