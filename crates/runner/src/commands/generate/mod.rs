//! `generate`: pictures from a prompt.

mod picture;
mod png;
mod progress;
mod settings;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use sd_core::pipeline::{Inpaint, Parts, Pictures, Request, StableDiffusion, Step, Watch};

use super::{machine, model};
use crate::output::{print, say};
use progress::Steps;
use settings::Settings;
pub(crate) use settings::kind;

/// Makes the pictures and writes them; the names of the files go to standard output.
pub(crate) fn run(typed: &cli::Generate) -> Result<u8> {
    let device = machine::device(typed.device)?;
    let dtype = machine::dtype(typed.dtype, &device)?;
    let names = names(&typed.output, typed.batch)?;
    let inpaint = inpaint(typed)?;
    let model = model::find_pipeline(&typed.model)?;
    machine::threads(typed.threads)?;
    let pipeline = Parts::open(&model.folder, dtype, &device)?.pipeline(typed.sampler.map(settings::kind))?;
    let request = request(typed, &model, inpaint);
    warn_of_cuts(&pipeline, typed)?;
    let digests = model.digests();
    let mut steps = Steps::new(typed.progress);
    let pictures = pipeline.generate(&request, &mut steps);
    steps.close();
    let pictures = pictures?;
    let settings = Settings::new(&model, &pipeline, &request, &digests.wait()?)?;
    write(&pictures, &names, &settings)?;
    Ok(cli::exit::DONE)
}

/// The files that will be written, which must be possible to write.
fn names(output: &Path, count: usize) -> Result<Vec<PathBuf>> {
    let shown = output.display();
    let is_png = output.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("png"));
    if !is_png {
        bail!("-o {shown}: pictures are written as PNG\n  expected: a name that ends in .png");
    }
    let folder = output.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.is_dir() {
        bail!("-o {shown}: there is no folder {}\n  help: make it first, or name another", folder.display());
    }
    if output.is_dir() {
        bail!("-o {shown}: this is a folder\n  expected: the name of a file");
    }
    Ok(png::names(output, count))
}

fn inpaint(typed: &cli::Generate) -> Result<Option<Inpaint>> {
    let (Some(image), Some(mask)) = (&typed.image, &typed.mask) else { return Ok(None) };
    Ok(Some(Inpaint { picture: picture::colours(image)?, mask: picture::mask(mask)? }))
}

fn request(typed: &cli::Generate, model: &model::Model, inpaint: Option<Inpaint>) -> Request {
    let sides = inpaint.as_ref().map(|inpaint| (inpaint.picture.dims()[2], inpaint.picture.dims()[3]));
    Request {
        prompts: vec![typed.prompt.clone(); typed.batch],
        negative: typed.negative.clone(),
        height: typed.height.or(sides.map(|(height, _)| height)),
        width: typed.width.or(sides.map(|(_, width)| width)),
        steps: typed.steps.unwrap_or(model.steps),
        guidance: typed.guidance.unwrap_or(model.guidance),
        sampler: typed.sampler.map(settings::kind),
        eta: typed.eta,
        seed: typed.seed,
        inpaint,
    }
}

/// Says what the text encoder will not see.
fn warn_of_cuts(pipeline: &StableDiffusion, typed: &cli::Generate) -> Result<()> {
    for (what, text) in [("prompt", &typed.prompt), ("negative prompt", &typed.negative)] {
        let encoded = pipeline.tokenizer.encode(text)?;
        if let Some(cut) = encoded.cut {
            say(&format!(
                "warning: the {what} is longer than {} tokens; its last {} are left out: {}",
                pipeline.tokenizer.length(),
                cut.tokens,
                shortened(&cut.text)
            ));
        }
    }
    Ok(())
}

/// A text in quotes, its middle left out where it is long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 400;
    let count = text.chars().count();
    if count <= SHOWN {
        return format!("{text:?}");
    }
    let begin: String = text.chars().take(SHOWN / 2).collect();
    let end: String = text.chars().skip(count - SHOWN / 2).collect();
    format!("{begin:?} … {end:?} ({count} characters)")
}

impl Watch for Steps {
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.show(step.index + 1, step.count);
        ControlFlow::Continue(())
    }
}

fn write(pictures: &Pictures, names: &[PathBuf], settings: &Settings) -> Result<()> {
    for (index, name) in names.iter().enumerate() {
        let row = pictures.pixels.get(index)?;
        let (height, width, _) = row.dims3()?;
        let bytes: Vec<u8> = row.flatten_all()?.to_vec1()?;
        let settings = settings.of_picture(index).to_string();
        let picture = png::Picture { width: width as u32, height: height as u32, bytes: &bytes, settings };
        picture.write(name)?;
        print(&format!("{}\n", name.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_that_cannot_be_written_is_refused_before_anything_is_computed() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str| names(&folder.path().join(name), 1).unwrap_err().to_string();
        assert!(refused("a.jpg").contains(".png"));
        assert!(refused("absent/a.png").contains("no folder"));
        std::fs::create_dir(folder.path().join("d.png")).unwrap();
        assert!(refused("d.png").contains("this is a folder"));
        assert_eq!(names(&folder.path().join("a.PNG"), 2).unwrap().len(), 2);
    }

    #[test]
    fn what_was_cut_is_shown_whole_or_from_both_ends() {
        assert_eq!(shortened("a \"fox\""), r#""a \"fox\"""#);
        let long = shortened(&"ä".repeat(9000));
        assert!(long.chars().count() < 450 && long.ends_with("(9000 characters)"), "{long}");
    }
}
