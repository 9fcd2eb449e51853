//! The gates: what the judges say of pictures of captions that training never saw.

use std::fmt::Write as _;

use anyhow::Result;
use candle_core::Tensor;
use sd_core::models::clip::TextModel;
use sd_core::pipeline::StableDiffusion;
use serde::{Deserialize, Serialize};
use worlds::scenes::{Example, Named, Split, World};

use super::unet;
use super::vae::Vae;
use crate::classifier::{Attribute, Classifier};
use crate::clip::Pair;
use crate::data;
use crate::landmarks::Regressor;
use crate::workshop::{State, Workshop};

/// Pictures drawn at once.
const BATCH: usize = 20;
/// Captions among which a picture's own must be the best.
const RETRIEVED_FROM: usize = 32;
/// How far a picture is shifted to see whether its landmarks follow, in pixels, and how far they may be off then.
const SHIFT: usize = 3;
const FOLLOWS: f64 = 1.0;
/// Captions of faces, and of combinations held out.
const FACES: usize = 60;
const HELD_OUT: usize = 120;

/// The judges, frozen.
pub struct Judges {
    /// Names attributes.
    pub classifier: Classifier,
    /// Tells captions apart.
    pub clip: Pair,
    /// Finds landmarks.
    pub landmarks: Regressor,
}

/// One gate and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gate {
    /// What was measured.
    pub name: String,
    /// Right answers.
    pub right: usize,
    /// Pictures asked about.
    pub asked: usize,
    /// The share that is needed; none: it is reported alone.
    pub needed: Option<f64>,
}

impl Gate {
    /// Share of right answers.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.right as f64 / self.asked.max(1) as f64
    }

    /// Whether the gate is met; a figure that is only reported always is.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.needed.is_none_or(|needed| self.asked > 0 && self.share() >= needed)
    }
}

/// The share that each attribute needs.
#[must_use]
pub fn needed(attribute: Attribute) -> Option<f64> {
    match attribute {
        Attribute::Object | Attribute::Colour | Attribute::Style => Some(0.9),
        Attribute::Action | Attribute::Viewpoint | Attribute::Count => Some(0.8),
        Attribute::Place => None,
    }
}

/// Draws the pictures and asks the judges.
///
/// # Errors
/// Where a computation fails or the stop is asked for.
pub fn measure(
    workshop: &Workshop<'_>,
    unet: &State,
    vae: &Vae,
    text: &TextModel,
    judges: &Judges,
) -> Result<Vec<Gate>> {
    let pipeline = unet::pipeline(workshop, unet, vae, text)?;
    let seed = workshop.recipe.judges_seed ^ 0x6A7E;
    let examples = data::examples(&World::new(seed, Split::Test), 0, workshop.recipe.gates.captions);
    let pictures = draw(workshop, &pipeline, &examples)?;
    let mut gates = attributes(&judges.classifier, &examples, &pictures)?;
    gates.push(retrieval(workshop, &judges.clip, &examples, &pictures)?);
    gates.push(faces(workshop, &pipeline, judges)?);
    gates.extend(held_out(workshop, &pipeline, &judges.classifier, seed)?);
    Ok(gates)
}

/// Pictures (B, 3, S, S) in −1 ..= 1 of the examples' captions, as a viewer sees them: rounded to bytes.
fn draw(workshop: &Workshop<'_>, pipeline: &StableDiffusion, examples: &[Example]) -> Result<Tensor> {
    let gates = &workshop.recipe.gates;
    let mut all = Vec::new();
    for (index, some) in examples.chunks(BATCH).enumerate() {
        workshop.check_stop()?;
        let prompts: Vec<String> = some.iter().map(|example| example.caption.clone()).collect();
        let pixels = unet::draw(pipeline, &prompts, index as u64, gates.steps, gates.guidance)?;
        let pictures = unet::to_pictures(&pixels)?;
        let side = workshop.recipe.side;
        let values: Vec<f32> = pictures.iter().flat_map(worlds::scenes::Picture::to_unit).collect();
        all.push(Tensor::from_vec(values, (some.len(), 3, side, side), &workshop.device)?);
    }
    Ok(Tensor::cat(&all, 0)?)
}

fn attributes(classifier: &Classifier, examples: &[Example], pictures: &Tensor) -> Result<Vec<Gate>> {
    let found = classifier.classes(pictures)?;
    let gate = |(at, attribute): (usize, Attribute)| {
        let answers = examples.iter().zip(&found);
        let asked: Vec<bool> =
            answers.filter_map(|(example, found)| Some(attribute.said(example)? == found[at])).collect();
        gate(attribute.name(), needed(attribute), &asked)
    };
    Ok(Attribute::ALL.into_iter().enumerate().map(gate).collect())
}

fn gate(name: &str, needed: Option<f64>, answers: &[bool]) -> Gate {
    let right = answers.iter().filter(|&&right| right).count();
    Gate { name: name.to_owned(), right, asked: answers.len(), needed }
}

/// Whether a picture's own caption is the best of 32, the others of which contradict it.
fn retrieval(workshop: &Workshop<'_>, clip: &Pair, examples: &[Example], pictures: &Tensor) -> Result<Gate> {
    let captions = examples.iter().map(|example| example.caption.as_str());
    let texts = clip.texts(&data::ids(&workshop.tokenizer, captions, &workshop.device)?)?;
    let cosines = clip.images(pictures)?.matmul(&texts.t()?.contiguous()?)?.detach().to_vec2::<f32>()?;
    let count = examples.len();
    let best = |own: usize| {
        let others = (1..count).map(|step| (own + step) % count);
        let wrong = others.filter(|&other| contradict(&examples[own].named, &examples[other].named));
        wrong.take(RETRIEVED_FROM - 1).all(|other| cosines[own][other] < cosines[own][own])
    };
    let answers: Vec<bool> = (0..count).map(best).collect();
    Ok(gate("retrieval", Some(0.8), &answers))
}

/// Whether no picture can show both.
#[must_use]
pub fn contradict(a: &Named, b: &Named) -> bool {
    fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.is_some() && b.is_some() && a != b
    }
    let subject = match (a.kind(), b.kind()) {
        (Some(first), Some(second)) => first != second,
        _ => a.subject != b.subject,
    };
    subject
        || differ(a.shown_colour(), b.shown_colour())
        || differ(a.style, b.style)
        || differ(a.action, b.action)
        || differ(a.place, b.place)
        || a.viewpoint != b.viewpoint
        || a.count != b.count
}

/// Whether a face is one to the classifier, and its landmarks move with the picture.
fn faces(workshop: &Workshop<'_>, pipeline: &StableDiffusion, judges: &Judges) -> Result<Gate> {
    let examples = super::judges::faces(workshop.recipe.judges_seed ^ 0x6A7E, 0, FACES);
    let pictures = draw(workshop, pipeline, &examples)?;
    let side = workshop.recipe.side;
    let kept = pictures.narrow(3, 0, side - SHIFT)?;
    let edge = pictures.narrow(3, 0, 1)?.repeat((1, 1, 1, SHIFT))?;
    let shifted = Tensor::cat(&[&edge, &kept], 3)?;
    let [here, there] =
        [judges.landmarks.forward(&pictures)?, judges.landmarks.forward(&shifted.contiguous()?)?];
    let moved = ((there - here)? * side as f64)?.detach().flatten_from(1)?.to_vec2::<f32>()?;
    let found = judges.classifier.classes(&pictures)?;
    let follows = |points: &[f32]| {
        let off = |point: &[f32]| f64::from(point[0] - SHIFT as f32).hypot(f64::from(point[1]));
        points.chunks(2).map(off).sum::<f64>() / (points.len() / 2) as f64 <= FOLLOWS
    };
    let answers: Vec<bool> = examples
        .iter()
        .zip(&found)
        .zip(&moved)
        .map(|((example, found), moved)| Attribute::Object.shown(example) == Some(found[0]) && follows(moved))
        .collect();
    Ok(gate("landmarks found", Some(0.8), &answers))
}

/// Combinations that training never showed, apart: both words of the pair must be right.
fn held_out(
    workshop: &Workshop<'_>,
    pipeline: &StableDiffusion,
    classifier: &Classifier,
    seed: u64,
) -> Result<Vec<Gate>> {
    let examples = data::examples(&World::new(seed, Split::HeldOut), 0, HELD_OUT);
    let found = classifier.classes(&draw(workshop, pipeline, &examples)?)?;
    let of = |second: Attribute, at: usize| -> Vec<bool> {
        let answer = |(example, found): (&Example, &[usize; 7])| {
            let said = second.said(example)?;
            Some(Attribute::Object.shown(example) == Some(found[0]) && said == found[at])
        };
        examples.iter().zip(&found).filter_map(answer).collect()
    };
    Ok(vec![
        gate("held-out object and colour", None, &of(Attribute::Colour, 1)),
        gate("held-out object and style", None, &of(Attribute::Style, 2)),
    ])
}

/// The table, as CSV.
#[must_use]
pub fn csv(gates: &[Gate]) -> String {
    let mut text = "gate,share,right,asked,needed,met\n".to_owned();
    for gate in gates {
        let needed = gate.needed.map_or_else(String::new, |needed| needed.to_string());
        let met = if gate.needed.is_none() {
            ""
        } else if gate.is_met() {
            "yes"
        } else {
            "no"
        };
        // Writing to a string cannot fail.
        let _ =
            writeln!(text, "{},{:.4},{},{},{needed},{met}", gate.name, gate.share(), gate.right, gate.asked);
    }
    text
}

/// The table in words.
#[must_use]
pub fn told(gates: &[Gate]) -> String {
    let line = |gate: &Gate| {
        let verdict = match gate.needed {
            None => String::new(),
            Some(needed) if gate.is_met() => format!(" (needs {:.0} %: met)", 100.0 * needed),
            Some(needed) => format!(" (needs {:.0} %: MISSED)", 100.0 * needed),
        };
        format!("  {}: {:.1} % of {}{verdict}", gate.name, 100.0 * gate.share(), gate.asked)
    };
    gates.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use worlds::scenes::{Colour, Kind, Shape, Style};

    use super::*;

    fn star() -> Named {
        Named::of(Kind::Shape(Shape::Star))
    }

    #[test]
    fn captions_contradict_where_no_picture_can_show_both() {
        let (red, blue) = (Some(Colour::Red), Some(Colour::Blue));
        assert!(contradict(&Named { colour: red, ..star() }, &Named { colour: blue, ..star() }));
        assert!(contradict(&star(), &Named::of(Kind::Shape(Shape::Disc))));
        assert!(contradict(&star(), &Named { count: 2, ..star() }));
        assert!(!contradict(&star(), &Named { colour: red, ..star() }));
        let styled = Named { style: Some(Style::Hatch), ..star() };
        assert!(!contradict(&styled, &Named { colour: red, ..star() }));
    }

    #[test]
    fn a_gate_is_met_at_its_share_and_not_without_pictures() {
        let at = |right, asked, needed| Gate { name: "x".to_owned(), right, asked, needed };
        assert!(at(9, 10, Some(0.9)).is_met() && !at(8, 10, Some(0.9)).is_met());
        assert!(!at(0, 0, Some(0.9)).is_met() && at(0, 10, None).is_met());
        let table = csv(&[at(8, 10, Some(0.9)), at(1, 2, None)]);
        assert_eq!(table, "gate,share,right,asked,needed,met\nx,0.8000,8,10,0.9,no\nx,0.5000,1,2,,\n");
    }
}
