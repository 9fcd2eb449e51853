//! Ids held against transformers 5.23.0 (`tools/parity/tokenizer.py`) with a small vocabulary (`tests/clip_vocabulary.rs` does it with
//! CLIP's own), spans, cuts, phrases, and folders that are wrong.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Prompt, Tokenizer};

fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer")
}

fn golden<T: serde::de::DeserializeOwned>(name: &str) -> T {
    serde_json::from_str(&fs::read_to_string(goldens().join(name)).unwrap()).unwrap()
}

/// One kind of folder: its settings files, the id that pads, and ids by the text's index.
#[derive(serde::Deserialize)]
struct Kind {
    files: BTreeMap<String, Value>,
    pad: u32,
    ids: Value,
}

/// A folder with our small vocabulary and these settings.
fn folder(settings: &BTreeMap<String, Value>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings.clone();
    if let Some(whole) = settings.get_mut("tokenizer.json") {
        let merges = fs::read_to_string(goldens().join("merges.txt")).unwrap();
        let merges: Vec<Vec<&str>> = merges.lines().skip(1).map(|line| line.split(' ').collect()).collect();
        whole["model"]["vocab"] = golden("vocab.json");
        whole["model"]["merges"] = json!(merges);
    } else {
        for name in ["vocab.json", "merges.txt"] {
            fs::copy(goldens().join(name), folder.path().join(name)).unwrap();
        }
    }
    for (name, content) in &settings {
        fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    folder
}

fn kind(name: &str) -> Kind {
    golden::<BTreeMap<String, Kind>>("small.json").remove(name).unwrap()
}

fn open(name: &str) -> Tokenizer {
    Tokenizer::open(folder(&kind(name).files).path()).unwrap()
}

/// `begin, tokens…, end` and nothing behind but padding.
fn check_ids(tokenizer: &Tokenizer, text: &str, expected: &str) {
    let prompt = tokenizer.encode(text).unwrap();
    let mut expected: Vec<u32> = expected.split(' ').map(|id| id.parse().unwrap()).collect();
    expected.resize(tokenizer.length(), tokenizer.pad());
    assert_eq!(prompt.ids, expected, "{text:?}");
}

#[test]
fn ids_are_transformers_for_every_kind_of_folder() {
    let texts: Vec<String> = golden("texts.json");
    assert_eq!(texts.len(), 1000);
    let kinds: BTreeMap<String, Kind> = golden("small.json");
    let first: Vec<String> = serde_json::from_value(kinds["sd1"].ids.clone()).unwrap();
    for (name, kind) in &kinds {
        let tokenizer = Tokenizer::open(folder(&kind.files).path()).unwrap();
        assert_eq!(tokenizer.pad(), kind.pad, "{name}");
        for (index, text) in texts.iter().enumerate() {
            let other = kind.ids.get(index.to_string()).and_then(Value::as_str);
            check_ids(&tokenizer, text, other.unwrap_or(&first[index]));
        }
    }
}

/// The texts of a prompt's tokens.
fn words(prompt: &Prompt) -> Vec<&str> {
    prompt.spans.iter().flatten().map(|span| &prompt.text[span.clone()]).collect()
}

#[test]
fn each_token_has_its_bytes_of_the_text() {
    let tokenizer = open("sd1");
    let prompt = tokenizer.encode("A  Photo\tof the CAFE\u{301}, don't!").unwrap();
    assert_eq!(words(&prompt).concat(), "APhotooftheCAFE\u{301},don't!");
    let prompt = tokenizer.encode("👍 of").unwrap();
    assert_eq!(words(&prompt), ["👍", "👍", "👍", "👍", "of"]);
    for text in golden::<Vec<String>>("texts.json") {
        let prompt = tokenizer.encode(&text).unwrap();
        let spans: Vec<_> = prompt.spans.iter().flatten().collect();
        let (first, last) = (prompt.spans.first().unwrap(), prompt.spans.last().unwrap());
        assert!(first.is_none() && last.is_none(), "{text:?}");
        assert!(spans.iter().all(|span| text.get((**span).clone()).is_some_and(|part| !part.is_empty())));
        if prompt.cut.is_none() {
            let covered = |at: usize| spans.iter().any(|span| span.contains(&at));
            assert!(text.char_indices().all(|(at, c)| covered(at) != c.is_whitespace()), "{text:?}");
        }
        let follow = |pair: &[&std::ops::Range<usize>]| {
            let shared = text.get(pair[1].start..pair[0].end).unwrap_or("");
            // Two tokens share one letter at most, with its accents.
            pair[0].start <= pair[1].start && pair[0].end <= pair[1].end && shared.len() <= 16
        };
        assert!(spans.windows(2).all(follow), "{text:?}");
    }
}

#[test]
fn what_does_not_fit_is_cut_and_told() {
    let tokenizer = open("sd1");
    let fits = "the ".repeat(75);
    assert_eq!(tokenizer.encode(&fits).unwrap().cut, None);
    let prompt = tokenizer.encode(&(fits.clone() + "red balloon")).unwrap();
    let cut = prompt.cut.unwrap();
    assert_eq!(cut.text, "red balloon");
    assert!(cut.tokens >= 2);
    assert_eq!((prompt.ids.len(), prompt.ids[76]), (77, tokenizer.end()));
    let inside = tokenizer.encode(&("the ".repeat(74) + "qqq end")).unwrap().cut.unwrap();
    assert_eq!(inside.text, "qq end");
}

#[test]
fn very_long_prompts_are_cut_like_others() {
    let tokenizer = open("sd1");
    let long = ["a photo of a cat, ".repeat(600), "x".repeat(10_000), "👩‍👩‍👧 ".repeat(600), " ".repeat(10_000)];
    for text in &long {
        let prompt = tokenizer.encode(text).unwrap();
        assert_eq!((prompt.ids.len(), prompt.spans.len()), (77, 77));
        assert_eq!(prompt.cut.is_some(), !text.trim().is_empty());
        let all = prompt.cut.map_or(0, |cut| cut.tokens);
        assert!(all <= text.len());
    }
}

#[test]
fn a_length_other_than_77_is_read() {
    let tokenizer = open("dollar");
    assert_eq!(tokenizer.length(), 20);
    assert_eq!(tokenizer.token(tokenizer.pad()).unwrap(), "$");
    let prompt = tokenizer.encode(&"the ".repeat(30)).unwrap();
    assert_eq!((prompt.ids.len(), prompt.cut.unwrap().tokens), (20, 12));
}

#[test]
fn a_phrase_is_found_among_the_tokens() {
    let tokenizer = open("sd1");
    let text = "a photo of Zyx Quux, the zyx  QUUX's cafe\u{301} and zyx";
    let prompt = tokenizer.encode(text).unwrap();
    let told = |span: std::ops::Range<usize>| {
        let bytes = |at: usize| prompt.spans[at].clone().unwrap();
        text[bytes(span.start).start..bytes(span.end - 1).end].to_owned()
    };
    let spans = tokenizer.spans_of(&prompt, "zyx quux").unwrap();
    assert_eq!(spans.into_iter().map(told).collect::<Vec<_>>(), ["Zyx Quux", "zyx  QUUX"]);
    let first = tokenizer.span_of(&prompt, "zyx quux").unwrap();
    assert!(first.len() > 2, "the words are several tokens each: {first:?}");
    assert_eq!(prompt.tokens_over(11..19), first);
    assert_eq!(told(tokenizer.span_of(&prompt, "café").unwrap()), "cafe\u{301}");
    assert_eq!(told(tokenizer.span_of(&prompt, "a").unwrap()), "a");
    assert_eq!(tokenizer.spans_of(&prompt, "zyx").unwrap().len(), 3);
}

#[test]
fn a_part_of_a_word_is_no_phrase() {
    let tokenizer = open("sd1");
    let prompt = tokenizer.encode("qcat catq cat").unwrap();
    let spans = tokenizer.spans_of(&prompt, "cat").unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(prompt.spans[spans[0].start], Some(10..13));
}

#[test]
fn a_phrase_that_is_not_there_is_an_error() {
    let tokenizer = open("sd1");
    let prompt = tokenizer.encode(&("the ".repeat(75) + "cat")).unwrap();
    for phrase in ["cat", "", " ", "dog", "the cat"] {
        let message = tokenizer.span_of(&prompt, phrase).unwrap_err().to_string();
        assert!(message.contains(&format!("{phrase:?}")) && message.contains("cut off"), "{message}");
    }
    // In 2.x the padding is a word; it is no part of the text.
    let second = open("sd2");
    let prompt = second.encode("a cat").unwrap();
    assert!(second.span_of(&prompt, "!").is_err());
    assert_eq!(second.span_of(&second.encode("a!cat").unwrap(), "cat").unwrap().start, 3);
}

#[test]
fn prompts_stack_into_a_batch() {
    let tokenizer = open("sd1");
    let prompts = [tokenizer.encode("a cat").unwrap(), tokenizer.encode("").unwrap()];
    let ids = Prompt::stack(&prompts, &candle_core::Device::Cpu).unwrap();
    assert_eq!(ids.dims(), [2, 77]);
    assert_eq!(ids.to_vec2::<u32>().unwrap(), [prompts[0].ids.clone(), prompts[1].ids.clone()]);
    assert!(Prompt::stack(&[], &candle_core::Device::Cpu).unwrap_err().to_string().contains("no prompt"));
    let other = open("dollar").encode("a").unwrap();
    let mixed = Prompt::stack(&[prompts[0].clone(), other], &candle_core::Device::Cpu);
    assert!(mixed.unwrap_err().to_string().contains("77 and 20"));
}

/// The message for a folder of 1.x that `spoil` has been at.
fn complaint(spoil: impl FnOnce(&Path)) -> String {
    let folder = folder(&kind("sd1").files);
    spoil(folder.path());
    Tokenizer::open(folder.path()).unwrap_err().to_string()
}

#[track_caller]
fn check_complaint(spoil: impl FnOnce(&Path), parts: &[&str]) {
    let message = complaint(spoil);
    for part in parts {
        assert!(message.contains(part), "no {part:?} in: {message}");
    }
}

/// Writes `name` with the pieces `(from, to)` exchanged.
fn edit(folder: &Path, name: &str, from: &str, to: &str) {
    let path = folder.join(name);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{name} has no {from:?}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

#[test]
fn missing_and_broken_files_are_named() {
    let remove = |name: &'static str| move |folder: &Path| fs::remove_file(folder.join(name)).unwrap();
    check_complaint(remove("vocab.json"), &["vocab.json is not there", "tokenizer.json"]);
    check_complaint(remove("merges.txt"), &["merges.txt is not there"]);
    let cut = |folder: &Path| edit(folder, "vocab.json", "\"!\": 0,", "\"!\": 0");
    check_complaint(cut, &["vocab.json", "line 1", "fetch it again"]);
    let typed = |folder: &Path| edit(folder, "vocab.json", "\"!\": 0,", "\"!\": -1,");
    check_complaint(typed, &["vocab.json", "-1"]);
    let list = |folder: &Path| fs::write(folder.join("special_tokens_map.json"), "[]").unwrap();
    check_complaint(list, &["special_tokens_map.json", "expected a map"]);
    let bytes = |folder: &Path| fs::write(folder.join("merges.txt"), [0xff, 0xfe, 0x00]).unwrap();
    check_complaint(bytes, &["merges.txt", "UTF-8"]);
    let empty = |folder: &Path| fs::write(folder.join("tokenizer.json"), "{\"model\": {}}").unwrap();
    check_complaint(empty, &["tokenizer.json", "missing field `vocab`"]);
}

#[test]
fn a_vocabulary_and_merges_that_do_not_fit_are_told_apart() {
    let unknown = |folder: &Path| edit(folder, "merges.txt", "#version: 0.2\n", "#version: 0.2\nzz qq\n");
    check_complaint(unknown, &["merges.txt", "merge 1 ", "\"zz\"", "vocab.json"]);
    let joined = |folder: &Path| edit(folder, "merges.txt", "#version: 0.2\n", "#version: 0.2\nz q\n");
    check_complaint(joined, &["merge 1 ", "\"zq\""]);
    let triple = |folder: &Path| edit(folder, "merges.txt", "#version: 0.2\n", "#version: 0.2\na b c\n");
    check_complaint(triple, &["merge 1:", "two tokens", "a b c"]);
    let twice = |folder: &Path| edit(folder, "vocab.json", "\"\\\"\": 1,", "\"\\\"\": 0,");
    check_complaint(twice, &["both have the number 0", "\"!\""]);
}

#[test]
fn special_tokens_that_are_not_in_the_vocabulary_are_told() {
    let end = |folder: &Path| edit(folder, "vocab.json", "<|endoftext|>", "<|over|>");
    check_complaint(end, &["no end-of-text token", "<|endoftext|>"]);
    let begin = |folder: &Path| edit(folder, "vocab.json", "<|startoftext|>", "<|start|>");
    check_complaint(begin, &["no begin-of-text token"]);
    let pad = |folder: &Path| {
        edit(folder, "special_tokens_map.json", "\"pad_token\":\"<|endoftext|>\"", "\"pad_token\":\"[PAD]\"");
    };
    check_complaint(pad, &["no padding token", "[PAD]"]);
    let number = |folder: &Path| {
        edit(folder, "special_tokens_map.json", "\"pad_token\":\"<|endoftext|>\"", "\"pad_token\":3");
    };
    check_complaint(number, &["special_tokens_map.json", "pad_token", "found 3"]);
}

#[test]
fn other_tokenizers_and_lengths_are_refused() {
    let class = |folder: &Path| edit(folder, "tokenizer_config.json", "CLIPTokenizer", "T5Tokenizer");
    check_complaint(class, &["tokenizer_class", "T5Tokenizer", "CLIPTokenizer"]);
    let length = |folder: &Path| edit(folder, "tokenizer_config.json", "77", "2");
    check_complaint(length, &["model_max_length", "at least 3", "found 2"]);
    let unigram = |folder: &Path| {
        let text = r#"{"model": {"type": "Unigram", "vocab": {}, "merges": []}}"#;
        fs::write(folder.join("tokenizer.json"), text).unwrap();
    };
    check_complaint(unigram, &["model.type", "BPE", "Unigram"]);
}
