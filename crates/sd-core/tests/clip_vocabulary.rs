//! Ids with CLIP's own vocabulary, where it is on this machine: `DIFFLAB_TEST_DATA` names the folder that holds `text_vocab/clip` with
//! `vocab.json` and `merges.txt`, and perhaps `tokenizer.json`. The ids are transformers' (`tools/parity/tokenizer.py`).
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::fs;
use std::path::{Path, PathBuf};

use sd_core::models::clip::Tokenizer;
use tempfile::TempDir;

fn golden(name: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/tokenizer").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The folder with CLIP's vocabulary; `None`, and says so, where there is none.
fn vocabulary() -> Option<PathBuf> {
    let Some(root) = std::env::var_os("DIFFLAB_TEST_DATA").map(PathBuf::from) else {
        eprintln!(
            "skipped: set DIFFLAB_TEST_DATA to a folder with text_vocab/clip/{{vocab.json,merges.txt}}"
        );
        return None;
    };
    let clip = root.join("text_vocab/clip");
    if !clip.join("vocab.json").is_file() {
        eprintln!("skipped: no text_vocab/clip/vocab.json in {}", root.display());
        return None;
    }
    Some(clip)
}

/// A folder with these of CLIP's files and no others.
fn only(clip: &Path, names: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in names {
        fs::copy(clip.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn check(folder: &Path) {
    let tokenizer = Tokenizer::open(folder).unwrap();
    assert_eq!([tokenizer.begin(), tokenizer.end(), tokenizer.pad()], [49406, 49407, 49407]);
    assert_eq!((tokenizer.vocabulary(), tokenizer.length()), (49408, 77));
    for (text, ids) in golden("texts.json").iter().zip(golden("clip.json")) {
        let mut expected: Vec<u32> = ids.split(' ').map(|id| id.parse().unwrap()).collect();
        expected.resize(77, 49407);
        assert_eq!(tokenizer.encode(text).unwrap().ids, expected, "{text:?}");
    }
}

#[test]
fn a_thousand_strings_have_transformers_ids() {
    let Some(clip) = vocabulary() else { return };
    let settings = ["special_tokens_map.json", "tokenizer_config.json"].map(|name| clip.join(name).is_file());
    if settings == [true, true] {
        check(
            only(&clip, &["vocab.json", "merges.txt", "special_tokens_map.json", "tokenizer_config.json"])
                .path(),
        );
    }
    if clip.join("tokenizer.json").is_file() {
        check(only(&clip, &["tokenizer.json"]).path());
    }
}

#[test]
fn the_subject_of_a_prompt_is_found() {
    let Some(clip) = vocabulary() else { return };
    let tokenizer = Tokenizer::open(only(&clip, &["vocab.json", "merges.txt"]).path()).unwrap();
    let prompt = tokenizer.encode("A photo of the Eiffel Tower's replica, diffusiongram").unwrap();
    assert_eq!(tokenizer.span_of(&prompt, "eiffel tower").unwrap(), 5..7);
    let long = tokenizer.span_of(&prompt, "diffusiongram").unwrap();
    assert!(long.len() > 1 && long.start == 10, "{long:?}");
    assert_eq!(tokenizer.token(prompt.ids[6]).as_deref(), Some("tower</w>"));
}
