//! `edit`: one closed-form change of one matrix of a text encoder.

use std::fmt::Write as _;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use candle_core::DType;
use diff_quickfix::{Bias, Change, Edit, Encoder, Rule, Settings, Solved, Tokens, leakage};

use super::{machine, model};
use crate::output::{print, say};

/// Captions that are about nothing in particular: what an edit does to them is told.
const UNRELATED: [&str; 4] = ["", "a photo of", "a red star", "a picture of a dog"];

/// Edits a model.
pub(crate) fn run(typed: &cli::Edit) -> Result<u8> {
    let found = model::find_pipeline(&typed.model)?;
    machine::threads(typed.threads)?;
    let begun = Instant::now();
    let encoder = Encoder::open(&found.folder).with_context(|| format!("--model {}", typed.model))?;
    if typed.undo {
        let out = typed.output.as_deref().context("-o is missing")?;
        encoder.undo(out)?;
        print(&format!("as before the edit: {}\n", out.display()))?;
        return Ok(cli::exit::DONE);
    }
    let edit = wanted(typed, &encoder)?;
    edit.idle()
        .iter()
        .for_each(|change| say(&format!("warning: `{change}` changes nothing: both sides are equal")));
    if edit.changes.is_empty() {
        return emptied(typed, &encoder);
    }
    let solved = edit.solve(&encoder)?;
    let matrix = solved.matrix()?;
    let computed = begun.elapsed();
    let mut told = report(&edit, &encoder, &solved)?;
    if let Some(out) = typed.output.as_deref().filter(|_| !typed.dry_run) {
        encoder.write(&edit, &matrix, out)?;
        writeln!(told, "written: {} (the edit: diff-quickfix.json)", out.display())?;
    }
    writeln!(
        told,
        "time: {:.1} ms from opening the model to the new matrix, {:.1} ms in all",
        computed.as_secs_f64() * 1e3,
        begun.elapsed().as_secs_f64() * 1e3
    )?;
    print(&told)?;
    Ok(cli::exit::DONE)
}

/// Everything was taken back.
fn emptied(typed: &cli::Edit, encoder: &Encoder) -> Result<u8> {
    ensure!(
        !typed.take_back.is_empty(),
        "nothing is to change\n  help: --change \"bela cruz=plain\", --apply FILE, --take-back CONCEPT or --undo"
    );
    match typed.output.as_deref().filter(|_| !typed.dry_run) {
        Some(out) => {
            encoder.undo(out)?;
            print(&format!("no change is left; as before the edit: {}\n", out.display()))?;
        }
        None => print("no change is left\n")?,
    }
    Ok(cli::exit::DONE)
}

/// What was made in this folder before, with what is asked for now.
fn wanted(typed: &cli::Edit, encoder: &Encoder) -> Result<Edit> {
    let files: Vec<Edit> = typed.apply.iter().map(|path| Edit::read(path)).collect::<Result<_>>()?;
    let before = encoder.record().map(|record| &record.edit);
    // What is not said is as it was, in the folder, or else in the first file.
    let settings = settings(typed, before.or(files.first()).map(|edit| edit.settings))?;
    if let Some(before) = before {
        ensure!(
            before.settings.layer == settings.layer,
            "{}: its layer {} was edited before, and a folder has one edited layer\n  help: --undo first, or --layer {}",
            encoder.folder().display(),
            before.settings.layer,
            before.settings.layer
        );
    }
    let mut edit = Edit::new(encoder.digest(settings.layer)?, settings, Vec::new(), Vec::new());
    for earlier in before.into_iter().chain(&files) {
        // Settings that are said hold for all: everything is computed anew.
        let earlier =
            Edit { settings: if is_said(typed) { settings } else { earlier.settings }, ..earlier.clone() };
        edit.combine(&earlier)?;
    }
    for text in &typed.change {
        let change: Change = text.parse().with_context(|| format!("--change {text}"))?;
        edit.set(change);
    }
    edit.preserve.extend(typed.preserve.iter().cloned());
    typed.take_back.iter().try_for_each(|concept| edit.take_back(concept).context("--take-back"))?;
    Ok(edit)
}

fn is_said(typed: &cli::Edit) -> bool {
    typed.lambda.is_some()
        || typed.layer.is_some()
        || typed.tokens.is_some()
        || typed.bias.is_some()
        || typed.bare
}

fn settings(typed: &cli::Edit, before: Option<Settings>) -> Result<Settings> {
    let before = before.unwrap_or_default();
    let tokens = typed.tokens.map_or(before.rule.tokens, |tokens| match tokens {
        cli::EditTokens::LastSubject => Tokens::LastSubject,
        cli::EditTokens::LastThroughEnd => Tokens::LastThroughEnd,
    });
    let bias = typed.bias.map_or(before.rule.bias, |bias| match bias {
        cli::EditBias::Correct => Bias::Correct,
        cli::EditBias::Release => Bias::Release,
    });
    let lambda = typed.lambda.unwrap_or(before.lambda);
    ensure!(
        lambda > 0.0,
        "--lambda {lambda}: expected a number above 0\n  help: smaller edits harder, larger less; 0.01 is usual"
    );
    let rule = Rule { tokens, bias, bare: typed.bare || before.rule.bare };
    Ok(Settings { layer: typed.layer.unwrap_or(before.layer), lambda, rule })
}

fn report(edit: &Edit, encoder: &Encoder, solved: &Solved) -> Result<String> {
    let mut text = String::new();
    for change in &edit.changes {
        writeln!(text, "`{}` acts as `{}`", change.from, change.to)?;
    }
    writeln!(text, "{}; {} rows, {} channels", edit.settings, solved.rows, solved.original.bias.len())?;
    if let (Some([before, after]), Some(system)) = (solved.residuals, &solved.system) {
        let stored = rounded(encoder, edit.settings.layer, solved)?;
        let kept = system.residual(&solved.original, &stored);
        let share = |left: f64| if before > 0.0 { 100.0 * left / before } else { 0.0 };
        writeln!(text, "residual: {:.2} % of what it was, {:.2} % once stored", share(after), share(kept))?;
    }
    let leak = leakage(encoder, solved, edit.settings.layer, &UNRELATED)?;
    writeln!(
        text,
        "size: {:.2} % of the matrix; leakage to unrelated captions: {:.2} %",
        100.0 * solved.size(),
        100.0 * leak
    )?;
    Ok(text)
}

/// The change as it is once the matrix is stored in the file's own type.
fn rounded(encoder: &Encoder, layer: usize, solved: &Solved) -> Result<faer::Mat<f64>> {
    let stored = solved.matrix()?.to_dtype(DType::F32)?.to_dtype(encoder.dtype(layer)?)?;
    let (width, values) =
        (solved.original.bias.len(), stored.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
    Ok(faer::Mat::from_fn(width, width, |row, column| {
        values[row * width + column] - solved.original.weight[(row, column)]
    }))
}
