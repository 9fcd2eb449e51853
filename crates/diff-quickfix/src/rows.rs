//! Which tokens of which prompts become rows of the system.

use std::fmt;
use std::str::FromStr;

use anyhow::{Context as _, Result, ensure};
use sd_core::models::clip::Tokenizer;
use sd_core::models::clip::tokenizer::Prompt;
use serde::{Deserialize, Serialize};

/// A concept and what it is to act as.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    /// The concept, such as `van gogh`.
    pub from: String,
    /// What it is to act as, such as `painting`.
    pub to: String,
    /// How much its rows count, at least 0.
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.from, self.to)
    }
}

impl FromStr for Change {
    type Err = anyhow::Error;

    /// `van gogh=painting`, or with a weight `van gogh=painting@0.5`.
    fn from_str(text: &str) -> Result<Self> {
        let (from, to) = text.split_once('=').with_context(|| {
            format!("expected CONCEPT=REPLACEMENT, such as `van gogh=painting`, found `{text}`")
        })?;
        let (to, weight) = match to.rsplit_once('@') {
            None => (to, 1.0),
            Some((to, weight)) => {
                let number =
                    weight.trim().parse::<f64>().ok().filter(|weight| *weight >= 0.0 && weight.is_finite());
                (
                    to,
                    number.with_context(|| {
                        format!("expected a weight of at least 0 behind `@`, found `{weight}`")
                    })?,
                )
            }
        };
        let [from, to] = [from, to].map(|concept| concept.trim().to_owned());
        for (side, concept) in [("before", &from), ("behind", &to)] {
            ensure!(
                !concept.is_empty(),
                "no concept {side} the `=` of `{text}`\n  expected: such as `van gogh=painting`"
            );
        }
        Ok(Self { from, to, weight })
    }
}

/// Which tokens of a prompt become rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// The last token of the concept alone: what the paper's text says.
    LastSubject,
    /// From the last token of the concept through the end of the window, end-of-text and padding included: what the authors' release does.
    #[default]
    LastThroughEnd,
}

/// What a value is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// `v = W₀ k'`: the layer adds its bias itself.
    #[default]
    Correct,
    /// `v = W₀ k' + b`, as in the authors' release: the layer then adds the bias a second time (trap X2).
    Release,
}

/// How rows are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// Which tokens.
    pub tokens: Tokens,
    /// What values are.
    pub bias: Bias,
    /// Whether the concept alone is asked about, without the three prefixed prompts.
    pub bare: bool,
}

/// How an edit is made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The layer whose output projection is changed; the paper's is the first, 0.
    pub layer: usize,
    /// λ, above 0; the release's run has 0.01.
    pub lambda: f64,
    /// How rows are made.
    pub rule: Rule,
}

impl Settings {
    /// # Errors
    /// Where λ is not above 0.
    pub(crate) fn check(&self) -> Result<()> {
        ensure!(
            self.lambda > 0.0 && self.lambda.is_finite(),
            "λ is {}\n  expected: a number above 0\n  help: the authors' release has 0.01; smaller edits harder, larger less",
            self.lambda
        );
        Ok(())
    }
}

impl fmt::Display for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tokens = match self.rule.tokens {
            Tokens::LastSubject => "last-subject",
            Tokens::LastThroughEnd => "last-through-end",
        };
        let bias = match self.rule.bias {
            Bias::Correct => "correct",
            Bias::Release => "release",
        };
        let bare = if self.rule.bare { ", bare" } else { "" };
        write!(f, "layer {}, lambda {}, tokens {tokens}, bias {bias}{bare}", self.layer, self.lambda)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { layer: 0, lambda: 0.01, rule: Rule::default() }
    }
}

/// Prefixes of the augmented prompts (the release; TIME has the same).
const PREFIXES: [&str; 3] = ["A photo of ", "An image of ", "A picture of "];

/// The prompts that stand for a concept: itself, and with `augmented` after three prefixes, a leading "A" in lower case first.
#[must_use]
pub fn prompts(concept: &str, augmented: bool) -> Vec<String> {
    let mut all = vec![concept.to_owned()];
    if augmented {
        let inside = match concept.strip_prefix('A') {
            Some(rest) => format!("a{rest}"),
            None => concept.to_owned(),
        };
        all.extend(PREFIXES.iter().map(|prefix| format!("{prefix}{inside}")));
    }
    all
}

/// A row: the place of the key in one prompt, and of the value in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairing {
    /// Position in the prompt that is changed.
    pub key: usize,
    /// Position in the prompt that it is to act as.
    pub value: usize,
}

/// The position of the last token of a prompt: the one before the first end-of-text.
///
/// # Errors
/// Where the prompt is empty or does not fit the window.
pub fn last_token(prompt: &Prompt) -> Result<usize> {
    let words = prompt.spans.iter().filter(|span| span.is_some()).count();
    ensure!(words > 0, "the concept is empty: `{}` has no token\n  help: name a concept", prompt.text);
    if let Some(cut) = &prompt.cut {
        anyhow::bail!(
            "`{}` is {} tokens too long for the encoder's window\n  found: `{}` would be cut off\n  help: shorten the concept",
            prompt.text,
            cut.tokens,
            cut.text
        );
    }
    Ok(words)
}

/// The rows of a pair of prompts: both are paired from their last tokens on; where the value's window ends first its last position is
/// repeated, and what is left over of it is cut.
///
/// # Errors
/// As [`last_token`].
pub fn pairings(from: &Prompt, to: &Prompt, tokens: Tokens) -> Result<Vec<Pairing>> {
    let (key, value) = (last_token(from)?, last_token(to)?);
    let last = to.ids.len() - 1;
    let count = match tokens {
        Tokens::LastSubject => 1,
        Tokens::LastThroughEnd => from.ids.len() - key,
    };
    Ok((0..count).map(|step| Pairing { key: key + step, value: (value + step).min(last) }).collect())
}

/// The prompts of a change, encoded: pairs of (changed, acted as).
///
/// # Errors
/// Where the tokenizer fails.
pub fn encode(tokenizer: &Tokenizer, change: &Change, rule: Rule) -> Result<Vec<[Prompt; 2]>> {
    let [from, to] = [&change.from, &change.to].map(|concept| prompts(concept, !rule.bare));
    from.iter().zip(&to).map(|(from, to)| Ok([tokenizer.encode(from)?, tokenizer.encode(to)?])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concepts_are_asked_about_in_four_ways() {
        let all = prompts("A cat", true);
        assert_eq!(all, ["A cat", "A photo of a cat", "An image of a cat", "A picture of a cat"]);
        assert_eq!(prompts("van gogh", false), ["van gogh"]);
    }

    fn prompt(words: usize, window: usize) -> Prompt {
        let mut spans = vec![None];
        spans.extend((0..words).map(|at| Some(at..at + 1)));
        spans.resize(window, None);
        Prompt { text: "x".repeat(words), ids: vec![0; window], spans, cut: None }
    }

    #[test]
    fn positions_are_paired_from_the_last_tokens_on_filled_and_cut() {
        let pairs = |from, to, tokens| pairings(&prompt(from, 6), &prompt(to, 6), tokens).ok();
        let of = |all: &[(usize, usize)]| {
            Some(all.iter().map(|&(key, value)| Pairing { key, value }).collect::<Vec<_>>())
        };
        assert_eq!(pairs(2, 1, Tokens::LastSubject), of(&[(2, 1)]));
        assert_eq!(pairs(2, 1, Tokens::LastThroughEnd), of(&[(2, 1), (3, 2), (4, 3), (5, 4)]));
        assert_eq!(pairs(1, 3, Tokens::LastThroughEnd), of(&[(1, 3), (2, 4), (3, 5), (4, 5), (5, 5)]));
        assert!(pairings(&prompt(0, 6), &prompt(1, 6), Tokens::LastSubject).is_err());
    }
}
