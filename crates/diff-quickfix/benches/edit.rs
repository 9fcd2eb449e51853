//! Edits at full size: a ViT-L/14 text encoder with random weights. `cargo bench -p diff-quickfix --bench edit`.
//!
//! With `DIFFLAB_TEST_DATA` set the tokenizer is CLIP's own, so that "van gogh" has its 291 rows; without, one of single bytes, with more
//! tokens a word and fewer rows.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::path::Path;

use candle_core::{DType, Device};
use criterion::{Criterion, criterion_group, criterion_main};
use diff_quickfix::{Change, Edit, Encoder, Settings};
use sd_core::models::clip::{TextConfig, TextModel, Tokenizer};
use sd_core::nn::{Parameters, Scope};
use sd_core::pipeline::tiny::{self, Family};
use sd_core::weights::write_tensors;

/// A pipeline whose text encoder alone has its full size: an edit reads nothing else.
fn write_model(folder: &Path) {
    tiny::write(folder, Family::One, 0).unwrap();
    let mut config = Family::FullSize.text_encoder();
    if let Some(data) = std::env::var_os("DIFFLAB_TEST_DATA") {
        let vocabulary = Path::new(&data).join("text_vocab/clip");
        for entry in fs::read_dir(vocabulary).into_iter().flatten() {
            let path = entry.unwrap().path();
            fs::copy(&path, folder.join("tokenizer").join(path.file_name().unwrap())).unwrap();
        }
        let tokenizer = Tokenizer::open(&folder.join("tokenizer")).unwrap();
        let [begin, end] = [tokenizer.begin(), tokenizer.end()].map(i64::from);
        config = TextConfig {
            vocab_size: tokenizer.vocabulary(),
            pad_token_id: end,
            bos_token_id: begin,
            eos_token_id: end,
            ..config
        };
    }
    let mut parameters = Parameters::default();
    TextModel::new(&mut Scope::root(&mut parameters, 0, DType::F32, &Device::Cpu), &config).unwrap();
    fs::write(folder.join("text_encoder/config.json"), config.to_json().to_string()).unwrap();
    write_tensors(&folder.join("text_encoder/model.safetensors"), &parameters.state().unwrap()).unwrap();
}

/// `count` concepts, each of two words.
fn changes(count: usize) -> Vec<Change> {
    let one = |index: usize| Change {
        from: format!("artist number {}", words(index)),
        to: "painting".to_owned(),
        weight: 1.0,
    };
    (0..count).map(one).collect()
}

fn words(index: usize) -> String {
    const SYLLABLES: [&str; 10] = ["ba", "do", "ki", "lu", "me", "no", "pa", "ri", "sa", "tu"];
    format!("{}{}", SYLLABLES[index / 10 % 10], SYLLABLES[index % 10])
}

fn edits(criterion: &mut Criterion) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("model");
    write_model(&folder);
    let mut group = criterion.benchmark_group("edit/vit-l-14");
    group.sample_size(10);
    for count in [1, 100] {
        let changes = match count {
            1 => vec!["van gogh=painting".parse().unwrap()],
            count => changes(count),
        };
        // From opening the files to the new matrix.
        group.bench_function(format!("{count} concepts, opened and solved"), |bencher| {
            bencher.iter(|| {
                let encoder = Encoder::open(&folder).unwrap();
                let edit =
                    Edit::new(encoder.digest(0).unwrap(), Settings::default(), changes.clone(), Vec::new());
                edit.solve(&encoder).unwrap().matrix().unwrap()
            });
        });
        // And the new matrix in a file of its own.
        group.bench_function(format!("{count} concepts, tensor written"), |bencher| {
            bencher.iter(|| {
                let encoder = Encoder::open(&folder).unwrap();
                let edit =
                    Edit::new(encoder.digest(0).unwrap(), Settings::default(), changes.clone(), Vec::new());
                let matrix = edit.solve(&encoder).unwrap().matrix().unwrap().to_dtype(DType::F32).unwrap();
                let tensors = [("weight".to_owned(), matrix)].into_iter().collect();
                write_tensors(&root.path().join("edited.safetensors"), &tensors).unwrap();
            });
        });
    }
    // The whole folder: the text encoder's file is copied, all else linked.
    let encoder = Encoder::open(&folder).unwrap();
    let edit = Edit::new(
        encoder.digest(0).unwrap(),
        Settings::default(),
        vec!["van gogh=painting".parse().unwrap()],
        Vec::new(),
    );
    let matrix = edit.solve(&encoder).unwrap().matrix().unwrap();
    let out = root.path().join("out");
    group.bench_function("folder written", |bencher| {
        bencher.iter(|| {
            encoder.write(&edit, &matrix, &out).unwrap();
            fs::remove_dir_all(&out).unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, edits);
criterion_main!(benches);
