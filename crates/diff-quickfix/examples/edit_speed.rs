//! Where the time of an edit goes, step by step, in a process of its own:
//!
//!     cargo run --release -p diff-quickfix --example edit_speed -- FOLDER "van gogh=painting" [CHANGE ...]
#![allow(clippy::print_stdout)]

use std::time::Instant;

use candle_core::DType;
use diff_quickfix::{Change, Edit, Encoder, Keys as _, Settings};
use sd_core::weights::write_tensors;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let Some((folder, changes)) = words.split_first().filter(|(_, changes)| !changes.is_empty()) else {
        anyhow::bail!("expected FOLDER CHANGE [CHANGE ...]")
    };
    let changes: Vec<Change> = changes.iter().map(|text| text.parse()).collect::<anyhow::Result<_>>()?;
    let begun = Instant::now();
    let mut last = begun;
    let mut told = |what: &str| {
        println!("{:>8.1} ms  {what}", last.elapsed().as_secs_f64() * 1e3);
        last = Instant::now();
    };
    let encoder = Encoder::open(folder.as_ref())?;
    told("headers and tokenizer");
    let edit = Edit::new(encoder.digest(0)?, Settings::default(), changes, Vec::new());
    told("digest of the matrix");
    let prompt = encoder.tokenizer().encode(&edit.changes[0].from)?;
    encoder.attended(&[prompt], 0)?;
    told("keys of one prompt (part of the next line; here the pages of the file are touched first)");
    let solved = edit.solve(&encoder)?;
    told("keys, system, solution");
    let matrix = solved.matrix()?.to_dtype(DType::F32)?;
    told("new matrix");
    let out = std::env::temp_dir().join(format!("edit-speed-{}.safetensors", std::process::id()));
    write_tensors(&out, &[("weight".to_owned(), matrix)].into_iter().collect())?;
    told("tensor written");
    std::fs::remove_file(out)?;
    println!("{:>8.1} ms  in all, {} rows", begun.elapsed().as_secs_f64() * 1e3, solved.rows);
    Ok(())
}
