//! What is committed beside the weights: loss curves, what each judge and the autoencoder reach, gates, pictures, time.

use std::fmt::Write as _;
use std::fs;

use anyhow::{Context, Result};
use lab::figure::{Axis, Content, Figure, Panel, Series};
use worlds::scenes::{Picture, contact_sheet};

use super::gates::MISTAKES;
use super::{Judged, Pipeline, unet};
use crate::classifier::Attribute;
use crate::recipe::Training;
use crate::workshop::{State, Workshop};

/// Names, folders and settings of the stages that are trained.
fn trained<'r>(workshop: &'r Workshop<'_>) -> [(&'static str, &'r Training); 7] {
    let (recipe, judges) = (&workshop.recipe, &workshop.recipe.judges);
    [
        ("text", &recipe.text.training),
        ("vae", &recipe.vae.training),
        ("unet", &recipe.unet.training),
        ("classifier", &judges.classifier),
        ("judge-clip", &judges.clip),
        ("landmarks", &judges.landmarks),
        ("frechet", &judges.frechet),
    ]
}

/// Writes `report/` below the output.
///
/// # Errors
/// Where a computation fails or the system refuses.
pub(super) fn write(workshop: &Workshop<'_>, made: &Pipeline, judged: &Judged) -> Result<()> {
    let folder = workshop.out.join("report");
    lab::atomic::create_dir_all_synced(&folder)?;
    let put = |name: &str, bytes: &[u8]| lab::atomic::write_bytes(folder.join(name), bytes);
    put("loss.svg", loss_curves(workshop)?.as_bytes())?;
    put("training.csv", training(workshop, made, judged)?.as_bytes())?;
    put("quality.csv", quality(workshop, made, judged)?.as_bytes())?;
    put("samples.png", &unet::sheet(workshop, &made.unet, &made.vae, &made.text)?)?;
    put("reconstructions.png", &reconstructions(workshop, made)?)?;
    for name in ["gates.csv", MISTAKES] {
        let path = workshop.out.join(name);
        if path.exists() {
            put(name, &fs::read(&path)?)?;
        }
    }
    workshop.say(&format!("report: {}", folder.display()));
    Ok(())
}

/// One panel a stage that was trained here.
fn loss_curves(workshop: &Workshop<'_>) -> Result<String> {
    let panel = |(stage, _): (&'static str, &Training)| -> Result<Option<Panel>> {
        let points = losses(&workshop.folder(stage).join("loss.csv"))?;
        let axis = |label: &str, log| Axis { label: label.to_owned(), log, ..Axis::default() };
        Ok((!points.is_empty()).then(|| Panel {
            title: stage.to_owned(),
            x: axis("step", false),
            y: axis("loss", true),
            content: Content::Lines(vec![Series { label: String::new(), points, ..Series::default() }]),
        }))
    };
    let panels: Vec<Option<Panel>> = trained(workshop).into_iter().map(panel).collect::<Result<_>>()?;
    let figure = Figure {
        id: "loss".to_owned(),
        title: "Training losses of sd-mini".to_owned(),
        caption: "Mean over 25 steps.".to_owned(),
        panels: panels.into_iter().flatten().collect(),
        columns: 3,
    };
    Ok(lab::figure::render(&figure)?)
}

/// (step, loss) of every row; nothing of a stage that was not trained here.
fn losses(path: &std::path::Path) -> Result<Vec<(f64, f64)>> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let point = |line: &str| {
        let mut cells = line.split(',');
        Some((cells.next()?.parse().ok()?, cells.next()?.parse().ok()?))
    };
    Ok(text.lines().filter_map(point).collect())
}

/// Steps, scalars and time of each stage.
fn training(workshop: &Workshop<'_>, made: &Pipeline, judged: &Judged) -> Result<String> {
    let scalars = |state: &State| state.values().map(candle_core::Tensor::elem_count).sum::<usize>();
    let states: [&State; 7] = [
        &made.pair,
        &made.vae.state,
        &made.unet,
        &judged.classifier.state,
        &judged.clip,
        &judged.landmarks.state,
        &judged.frechet.state,
    ];
    let mut text = "stage,parameters,steps,batch,optimiser,lr,minutes,last loss\n".to_owned();
    for ((stage, training), state) in trained(workshop).into_iter().zip(states) {
        let losses = losses(&workshop.folder(stage).join("loss.csv"))?;
        let (steps, last) = losses.last().copied().unwrap_or_default();
        let minutes = workshop.seconds(stage) / 60.0;
        let (rule, lr) = (training.optimiser.rule.name(), training.optimiser.lr);
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{stage},{},{steps},{},{rule},{lr},{minutes:.1},{last:.5}",
            scalars(state),
            training.batch
        );
    }
    Ok(text)
}

/// What the autoencoder and the judges reach on test pictures.
fn quality(workshop: &Workshop<'_>, made: &Pipeline, judged: &Judged) -> Result<String> {
    let known = super::known_reconstructions(workshop, &made.vae, &judged.classifier.model)?;
    let mut text = "measure,value,needed\n".to_owned();
    let mut line = |name: &str, value: f64, needed: &str| {
        let _ = writeln!(text, "{name},{value:.4},{needed}");
    };
    line("autoencoder: dB on test pictures", made.vae.psnr, "32");
    line("autoencoder: scaling factor", made.vae.model.config().scaling_factor, "");
    line("landmarks: pixels off", judged.landmarks.error, "below 1");
    let mut shares = |name: &str, of: &[(Attribute, f64)], needed: &str| {
        for (attribute, share) in of {
            line(&format!("{name}: {}", attribute.name()), *share, needed);
        }
    };
    shares("classifier on test pictures", &judged.classifier.accuracy, "0.99");
    shares("classifier on reconstructions", &known, "0.98");
    shares("second classifier on test pictures", &judged.frechet.accuracy, "");
    Ok(text)
}

/// Test pictures above what the autoencoder makes of them.
fn reconstructions(workshop: &Workshop<'_>, made: &Pipeline) -> Result<Vec<u8>> {
    use worlds::scenes::{Split, World};
    let side = workshop.recipe.side;
    let examples = crate::data::examples(&World::new(workshop.recipe.judges_seed, Split::Test), 0, 16);
    let pictures = crate::data::pictures_of(&examples, side, &workshop.device)?;
    let [mean, _] = super::vae::encode(&made.vae.model, &pictures)?;
    let decoded = super::vae::decode(&made.vae.model, &mean)?.clamp(-1.0, 1.0)?;
    let bytes = ((decoded + 1.0)? * 127.5)?.round()?.to_dtype(candle_core::DType::U8)?;
    let made: Vec<Picture> = unet::to_pictures(&bytes)?;
    let drawn: Vec<Picture> = examples.iter().map(|example| example.scene.render(side)).collect();
    let rows: Vec<Vec<Picture>> = drawn
        .chunks(8)
        .zip(made.chunks(8))
        .flat_map(|(drawn, made)| [drawn.to_vec(), made.to_vec()])
        .collect();
    Ok(contact_sheet(&rows, 2)?)
}
