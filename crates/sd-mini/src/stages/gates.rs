//! The gates: what the judges say of pictures of captions that training never saw.

use std::fmt::Write as _;

use anyhow::Result;
use candle_core::Tensor;
use sd_core::models::clip::TextModel;
use sd_core::pipeline::StableDiffusion;
use sd_core::rng::Rng;
use serde::{Deserialize, Serialize};
use worlds::scenes::{Colour, Example, Expression, Kind, Named, Split, Subject, World};

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
/// Above this, as a share of the picture's side, a mouth is open; captions mean 0.14 of a face's size, 0.05, or more.
const OPEN: f32 = 0.03;
/// Captions of faces, and of combinations held out.
const FACES: usize = 80;
const HELD_OUT: usize = 200;
/// Turns the judges' seed into that of the captions.
const GATES: u64 = 0x6A7E;
/// Pictures judged at once.
const JUDGED: usize = 100;

/// What the classifier finds in a picture, by attribute.
type Classes = [usize; Attribute::ALL.len()];

/// The judges that gates ask, frozen.
pub struct Panel {
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
    /// The same share for drawn pictures of the same captions: what the judge can tell at all.
    pub ceiling: f64,
}

impl Gate {
    /// Share of right answers.
    #[must_use]
    pub fn share(&self) -> f64 {
        share(self.right, self.asked)
    }

    /// Whether the gate is met; a figure that is only reported always is.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.needed.is_none_or(|needed| self.asked > 0 && self.share() >= needed)
    }
}

/// File of the gates below the output.
pub const FILE: &str = "gates.json";

/// File of the mistakes in the attributes, beside it.
pub const MISTAKES: &str = "mistakes.csv";

/// Gates, and whose they are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measured {
    /// Digest of the denoiser's weights.
    pub unet: String,
    /// What was measured.
    pub gates: Vec<Gate>,
}

fn share(right: usize, asked: usize) -> f64 {
    right as f64 / asked.max(1) as f64
}

/// Answers about generated pictures and about drawn ones.
struct Answers {
    generated: Vec<bool>,
    drawn: Vec<bool>,
}

impl Answers {
    fn gate(&self, name: &str, needed: Option<f64>) -> Gate {
        let right = |of: &[bool]| of.iter().filter(|&&right| right).count();
        let ceiling = share(right(&self.drawn), self.drawn.len());
        let (right, asked) = (right(&self.generated), self.generated.len());
        Gate { name: name.to_owned(), right, asked, needed, ceiling }
    }
}

/// Examples with the pictures that were generated for their captions, and those that the world draws.
struct Subjects {
    examples: Vec<Example>,
    generated: Tensor,
    drawn: Tensor,
}

impl Subjects {
    /// Generates pictures of the examples' captions; `purpose` names their noise.
    fn new(
        workshop: &Workshop<'_>,
        pipeline: &StableDiffusion,
        examples: Vec<Example>,
        purpose: &str,
    ) -> Result<Self> {
        let generated = generate(workshop, pipeline, &examples, purpose)?;
        let drawn = data::pictures_of(&examples, workshop.recipe.side, &workshop.device)?;
        Ok(Self { examples, generated, drawn })
    }

    fn answers(&self, of: impl Fn(&Tensor) -> Result<Vec<bool>>) -> Result<Answers> {
        Ok(Answers { generated: of(&self.generated)?, drawn: of(&self.drawn)? })
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
    judges: &Panel,
) -> Result<Vec<Gate>> {
    let pipeline = unet::pipeline(workshop, unet, vae, text)?;
    let seed = workshop.recipe.judges_seed ^ GATES;
    let examples = data::examples(&World::new(seed, Split::Test), 0, workshop.recipe.gates.captions);
    let subjects = Subjects::new(workshop, &pipeline, examples, "test")?;
    let mut gates = attributes(workshop, &judges.classifier, &subjects)?;
    gates.push(retrieval(workshop, &judges.clip, &subjects)?);
    let examples = super::judges::faces(seed, 0, FACES);
    gates.extend(faces(workshop, judges, &Subjects::new(workshop, &pipeline, examples, "faces")?)?);
    let examples = data::examples(&World::new(seed, Split::HeldOut), 0, HELD_OUT);
    let subjects = Subjects::new(workshop, &pipeline, examples, "held-out")?;
    gates.extend(held_out(&judges.classifier, &subjects)?);
    Ok(gates)
}

/// Pictures (B, 3, S, S) in −1 ..= 1 of the examples' captions, as a viewer sees them: rounded to bytes.
fn generate(
    workshop: &Workshop<'_>,
    pipeline: &StableDiffusion,
    examples: &[Example],
    purpose: &str,
) -> Result<Tensor> {
    let (gates, side) = (&workshop.recipe.gates, workshop.recipe.side);
    let mut all = Vec::new();
    for (index, some) in examples.chunks(BATCH).enumerate() {
        workshop.check_stop()?;
        let prompts: Vec<String> = some.iter().map(|example| example.caption.clone()).collect();
        let seed =
            Rng::new(workshop.recipe.judges_seed, &format!("gates/{purpose}"), index as u64).next_u64();
        let pixels = unet::draw(pipeline, &prompts, seed, gates.steps, gates.guidance)?;
        let pictures = unet::to_pictures(&pixels)?;
        let values: Vec<f32> = pictures.iter().flat_map(worlds::scenes::Picture::to_unit).collect();
        all.push(Tensor::from_vec(values, (some.len(), 3, side, side), &workshop.device)?);
    }
    Ok(Tensor::cat(&all, 0)?)
}

/// What the classifier finds, batch by batch.
fn classes(classifier: &Classifier, pictures: &Tensor) -> Result<Vec<Classes>> {
    let count = pictures.dims()[0];
    let batch = |first: usize| classifier.classes(&pictures.narrow(0, first, JUDGED.min(count - first))?);
    let all: Vec<Vec<Classes>> = (0..count).step_by(JUDGED).map(batch).collect::<candle_core::Result<_>>()?;
    Ok(all.concat())
}

fn attributes(workshop: &Workshop<'_>, classifier: &Classifier, subjects: &Subjects) -> Result<Vec<Gate>> {
    let [generated, drawn] =
        [&subjects.generated, &subjects.drawn].map(|pictures| classes(classifier, pictures));
    let (generated, drawn) = (generated?, drawn?);
    lab::atomic::write_bytes(
        workshop.out.join(MISTAKES),
        mistakes(&subjects.examples, &generated).as_bytes(),
    )?;
    let answers = |attribute: Attribute, found: &[Classes]| -> Vec<bool> {
        let examples = subjects.examples.iter().zip(found);
        examples
            .filter_map(|(example, found)| Some(asked(attribute, example)? == found[attribute as usize]))
            .collect()
    };
    let gate = |attribute: Attribute| {
        let answers =
            Answers { generated: answers(attribute, &generated), drawn: answers(attribute, &drawn) };
        answers.gate(attribute.name(), needed(attribute))
    };
    Ok(Attribute::ALL.into_iter().map(gate).collect())
}

/// A row for each attribute of a generated picture that is not what the caption says: which values are mistaken for which.
fn mistakes(examples: &[Example], found: &[Classes]) -> String {
    let mut text = "attribute,asked,found,caption\n".to_owned();
    for attribute in Attribute::ALL {
        for (example, found) in examples.iter().zip(found) {
            let found = found[attribute as usize];
            if let Some(asked) = asked(attribute, example).filter(|&asked| asked != found) {
                let [asked, found] = [asked, found].map(|class| attribute.word(class));
                let _ = writeln!(text, "{},{asked},{found},{}", attribute.name(), example.caption);
            }
        }
    }
    text
}

/// The class that a gate asks for. One object is what most captions mean without saying so: of counts, two and more are asked for.
fn asked(attribute: Attribute, example: &Example) -> Option<usize> {
    attribute.said(example).filter(|_| attribute != Attribute::Count || example.named.count > 1)
}

/// Whether a picture's own caption is the best of 32, the others of which contradict it. A picture with fewer others is not asked
/// about.
fn retrieval(workshop: &Workshop<'_>, clip: &Pair, subjects: &Subjects) -> Result<Gate> {
    let examples = &subjects.examples;
    let captions = examples.iter().map(|example| example.caption.as_str());
    let texts = clip.texts(&data::ids(&workshop.tokenizer, captions, &workshop.device)?)?;
    let answers = subjects.answers(|pictures| {
        let cosines = clip.images(pictures)?.matmul(&texts.t()?.contiguous()?)?.detach().to_vec2::<f32>()?;
        Ok((0..examples.len()).filter_map(|own| is_best(own, examples, &cosines[own])).collect())
    })?;
    Ok(answers.gate("retrieval", Some(0.8)))
}

fn is_best(own: usize, examples: &[Example], cosines: &[f32]) -> Option<bool> {
    let others = (1..examples.len()).map(|step| (own + step) % examples.len());
    let wrong: Vec<usize> = others
        .filter(|&other| contradict(&examples[own].named, &examples[other].named))
        .take(RETRIEVED_FROM - 1)
        .collect();
    (wrong.len() == RETRIEVED_FROM - 1).then(|| wrong.iter().all(|&other| cosines[other] < cosines[own]))
}

/// Whether no picture can show both.
#[must_use]
pub fn contradict(a: &Named, b: &Named) -> bool {
    fn differ<T: PartialEq>(a: Option<T>, b: Option<T>) -> bool {
        a.is_some() && b.is_some() && a != b
    }
    let is_pair = |named: &Named| matches!(named.subject, Subject::Pair(..));
    if is_pair(a) && is_pair(b) {
        return pair_of(a) != pair_of(b) || differ(a.place, b.place);
    }
    other_subject(a, b)
        || differ(a.shown_colour(), b.shown_colour())
        || differ(a.style, b.style)
        || differ(a.action, b.action)
        || differ(a.place, b.place)
        || a.viewpoint != b.viewpoint
        || a.count != b.count
}

fn other_subject(a: &Named, b: &Named) -> bool {
    match (a.subject, b.subject) {
        (Subject::Face(first), Subject::Face(second)) => {
            first != second && first != Expression::Any && second != Expression::Any
        }
        _ => match (a.kind(), b.kind()) {
            (Some(first), Some(second)) => first != second,
            _ => a.subject != b.subject,
        },
    }
}

/// The two objects of a pair in an order of their own.
fn pair_of(named: &Named) -> Option<[(usize, Option<usize>); 2]> {
    let Subject::Pair(first, second) = named.subject else { return None };
    let first = (first.index(), named.colour.map(Colour::index));
    let mut two = [first, (second.shape.index(), Some(second.colour.index()))];
    two.sort_unstable();
    Some(two)
}

/// Whether a face is one to the classifier and its landmarks move with the picture; and whether the mouth is as the caption says.
fn faces(workshop: &Workshop<'_>, judges: &Panel, subjects: &Subjects) -> Result<[Gate; 2]> {
    let side = workshop.recipe.side;
    let found = subjects.answers(|pictures| {
        let [here, there] =
            [pictures.clone(), shifted(pictures, side)?].map(|x| judges.landmarks.forward(&x));
        let moved = ((there? - here?)? * side as f64)?.detach().flatten_from(1)?.to_vec2::<f32>()?;
        let classes = classes(&judges.classifier, pictures)?;
        let is_face = |found: &Classes| found[Attribute::Object as usize] == Kind::COUNT;
        Ok(classes.iter().zip(&moved).map(|(found, moved)| is_face(found) && follows(moved)).collect())
    })?;
    let expressions = subjects.answers(|pictures| {
        let points = judges.landmarks.forward(pictures)?.detach().flatten_from(1)?.to_vec2::<f32>()?;
        let examples = subjects.examples.iter().zip(&points);
        Ok(examples.filter_map(|(example, points)| shows(example, points)).collect())
    })?;
    Ok([found.gate("landmarks found", Some(0.8)), expressions.gate("expression", None)])
}

/// The pictures [`SHIFT`] pixels to the right; the left edge is repeated.
fn shifted(pictures: &Tensor, side: usize) -> candle_core::Result<Tensor> {
    let edge = pictures.narrow(3, 0, 1)?.repeat((1, 1, 1, SHIFT))?;
    Tensor::cat(&[&edge, &pictures.narrow(3, 0, side - SHIFT)?], 3)?.contiguous()
}

/// Whether the points (x, y, x, y, …), in pixels, moved by [`SHIFT`] to the right on the average.
fn follows(moved: &[f32]) -> bool {
    let off = |point: &[f32]| f64::from(point[0] - SHIFT as f32).hypot(f64::from(point[1]));
    moved.chunks(2).map(off).sum::<f64>() / (moved.len() / 2) as f64 <= FOLLOWS
}

/// Whether the mouth (landmarks as x, y, x, y, …, shares of the side) is what the caption says; none where it says nothing.
fn shows(example: &Example, landmarks: &[f32]) -> Option<bool> {
    let y = |point: usize| landmarks[2 * point + 1];
    // Corners 48 and 54, the outer lips' middle 51 and 57, the inner lips' middle 62 and 66; y grows downwards.
    let corners_above = 0.5 * (y(51) + y(57)) - 0.5 * (y(48) + y(54));
    let opening = y(66) - y(62);
    match example.named.subject {
        Subject::Face(Expression::Smiling) => Some(corners_above > 0.0),
        Subject::Face(Expression::Sad) => Some(corners_above < 0.0),
        Subject::Face(Expression::Open) => Some(opening > OPEN),
        _ => None,
    }
}

/// Combinations that training never showed: both words of the pair must be right.
fn held_out(classifier: &Classifier, subjects: &Subjects) -> Result<[Gate; 2]> {
    let of = |second: Attribute| {
        subjects.answers(|pictures| {
            let found = classes(classifier, pictures)?;
            let answer = |(example, found): (&Example, &Classes)| {
                let said = second.said(example)?;
                let object = Attribute::Object.shown(example) == Some(found[Attribute::Object as usize]);
                Some(object && said == found[second as usize])
            };
            Ok(subjects.examples.iter().zip(&found).filter_map(answer).collect())
        })
    };
    Ok([
        of(Attribute::Colour)?.gate("held-out object and colour", None),
        of(Attribute::Style)?.gate("held-out object and style", None),
    ])
}

/// The table, as CSV.
#[must_use]
pub fn csv(gates: &[Gate]) -> String {
    let mut text = "gate,share,right,asked,needed,met,ceiling\n".to_owned();
    for gate in gates {
        let needed = gate.needed.map_or_else(String::new, |needed| needed.to_string());
        let met = if gate.needed.is_none() {
            ""
        } else if gate.is_met() {
            "yes"
        } else {
            "no"
        };
        let Gate { name, right, asked, ceiling, .. } = gate;
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name},{:.4},{right},{asked},{needed},{met},{ceiling:.4}", gate.share());
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
        let (share, ceiling) = (100.0 * gate.share(), 100.0 * gate.ceiling);
        format!("  {}: {share:.1} % of {}, of drawn pictures {ceiling:.1} %{verdict}", gate.name, gate.asked)
    };
    gates.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use worlds::scenes::{Second, Shape, Style};

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
        let face = |expression| Named::only(Subject::Face(expression));
        assert!(contradict(&face(Expression::Sad), &face(Expression::Smiling)));
        assert!(!contradict(&face(Expression::Any), &face(Expression::Smiling)));
        let pair = |first, colour, shape, other| Named {
            colour: Some(colour),
            ..Named::only(Subject::Pair(first, Second { shape, colour: other }))
        };
        let one = pair(Shape::Star, Colour::Red, Shape::Disc, Colour::Blue);
        assert!(!contradict(&one, &pair(Shape::Disc, Colour::Blue, Shape::Star, Colour::Red)));
        assert!(contradict(&one, &pair(Shape::Disc, Colour::Red, Shape::Star, Colour::Blue)));
    }

    #[test]
    fn a_caption_must_beat_thirty_one_that_contradict_it() {
        let examples = data::examples(&World::new(5, Split::Test), 0, 60);
        let mut cosines = vec![0.0; 60];
        cosines[0] = 1.0;
        assert_eq!(is_best(0, &examples, &cosines), Some(true));
        let wrong = (1..60).find(|&other| contradict(&examples[0].named, &examples[other].named));
        cosines[wrong.unwrap_or_default()] = 2.0;
        assert_eq!(is_best(0, &examples, &cosines), Some(false));
        assert_eq!(is_best(0, &examples[..20], &cosines), None, "too few to choose from");
    }

    #[test]
    fn landmarks_that_stay_behind_do_not_follow_and_mouths_are_read() {
        let moved = |by: f32| [by, 0.0].repeat(68);
        assert!(
            follows(&moved(3.0)) && follows(&moved(2.2)) && !follows(&moved(0.0)) && !follows(&moved(5.0))
        );
        for example in super::super::judges::faces(3, 0, 100) {
            let Some(face) = &example.scene.face else { continue };
            let points: Vec<f32> = face.landmarks().into_iter().flatten().collect();
            assert_ne!(shows(&example, &points), Some(false), "{example:?}");
        }
    }

    #[test]
    fn a_gate_is_met_at_its_share_and_not_without_pictures() {
        let at = |right, asked, needed| Gate { name: "x".to_owned(), right, asked, needed, ceiling: 1.0 };
        assert!(at(9, 10, Some(0.9)).is_met() && !at(8, 10, Some(0.9)).is_met());
        assert!(!at(0, 0, Some(0.9)).is_met() && at(0, 10, None).is_met());
        let table = csv(&[at(8, 10, Some(0.9)), at(1, 2, None)]);
        assert_eq!(
            table,
            "gate,share,right,asked,needed,met,ceiling\nx,0.8000,8,10,0.9,no,1.0000\nx,0.5000,1,2,,,1.0000\n"
        );
    }
}
