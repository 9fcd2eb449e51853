//! Probe captions: an attribute, a caption that names it, and the words that do.

use sd_core::rng::Rng;
use sd_mini::classifier;
use serde::{Deserialize, Serialize};
use worlds::scenes::{
    Action, Animal, Colour, Kind, Named, Place, Shape, Viewpoint, Wording, caption, colours_of, plural,
    styles_of,
};

use crate::caption::Caption;

/// What is traced.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Attribute {
    /// The object noun.
    Object,
    /// The name of a style or artist.
    Style,
    /// The colour word.
    Colour,
    /// The verb.
    Action,
    /// The viewpoint word.
    Viewpoint,
    /// The numeral.
    Count,
}

impl Attribute {
    /// Every one, those of the paper's main text first.
    pub const ALL: [Self; 6] =
        [Self::Style, Self::Colour, Self::Object, Self::Action, Self::Viewpoint, Self::Count];

    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Style => "style",
            Self::Colour => "colour",
            Self::Action => "action",
            Self::Viewpoint => "viewpoint",
            Self::Count => "count",
        }
    }

    /// The classifier's question.
    #[must_use]
    pub fn asked(self) -> classifier::Attribute {
        match self {
            Self::Object => classifier::Attribute::Object,
            Self::Style => classifier::Attribute::Style,
            Self::Colour => classifier::Attribute::Colour,
            Self::Action => classifier::Attribute::Action,
            Self::Viewpoint => classifier::Attribute::Viewpoint,
            Self::Count => classifier::Attribute::Count,
        }
    }
}

/// A caption to trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The caption and its subject.
    pub caption: Caption,
    /// The same template with another value of the attribute: the foreign donor's caption. In sd-mini's world it has as many tokens.
    pub foreign: Caption,
    /// The class that the classifier should find; none for a model that it does not know.
    pub class: Option<usize>,
}

/// Captions of sd-mini's world, in an order that the seed draws. All of them are such as training may have seen: no combination is held out.
#[must_use]
pub fn of_world(attribute: Attribute, seed: u64) -> Vec<Probe> {
    let mut all = match attribute {
        Attribute::Object => objects(),
        Attribute::Style => styles(),
        Attribute::Colour => colours(),
        Attribute::Action => actions(),
        Attribute::Viewpoint => viewpoints(),
        Attribute::Count => counts(),
    };
    shuffle(&mut all, attribute, seed);
    all
}

fn say(named: Named, opening: usize) -> String {
    caption(&named, &Wording { opening, ..Wording::default() })
}

/// Of a list, the member behind `at` that differs from it and fits.
fn next<T: Copy + PartialEq>(all: &[T], at: T, fits: impl Fn(T) -> bool) -> Option<T> {
    let place = all.iter().position(|&one| one == at)?;
    (1..all.len()).map(|step| all[(place + step) % all.len()]).find(|&one| fits(one))
}

fn probe(texts: [String; 2], words: [&str; 2], class: usize) -> Probe {
    let [text, foreign] = texts;
    Probe {
        caption: Caption::new(text, words[0]),
        foreign: Caption::new(foreign, words[1]),
        class: Some(class),
    }
}

/// A photo of {object} in {location}.
fn objects() -> Vec<Probe> {
    let shapes: Vec<Kind> = Shape::ALL.iter().copied().map(Kind::Shape).collect();
    let animals: Vec<Kind> = Animal::ALL.iter().copied().map(Kind::Animal).collect();
    let mut all = Vec::new();
    for kinds in [shapes, animals] {
        for &kind in &kinds {
            for &place in Place::ALL {
                let Some(other) = next(&kinds, kind, |_| true) else { continue };
                let texts = [kind, other].map(|kind| say(Named { place: Some(place), ..Named::of(kind) }, 1));
                all.push(probe(texts, [kind.word(), other.word()], kind.index()));
            }
        }
    }
    all
}

/// A {object} in the style of {style}
fn styles() -> Vec<Probe> {
    let mut all = Vec::new();
    for &shape in Shape::ALL {
        let kind = Kind::Shape(shape);
        let styles = styles_of(kind);
        for &style in &styles {
            let Some(other) = next(&styles, style, |_| true) else { continue };
            let texts = [style, other].map(|style| say(Named { style: Some(style), ..Named::of(kind) }, 0));
            all.push(probe(texts, [style.word(), other.word()], style.index()));
        }
    }
    all
}

/// A {colour} {object}
fn colours() -> Vec<Probe> {
    let mut all = Vec::new();
    for &shape in Shape::ALL {
        let kind = Kind::Shape(shape);
        let colours = colours_of(kind);
        for &colour in &colours {
            let Some(other) = next(&colours, colour, |_| true) else { continue };
            let texts = [colour, other]
                .map(|colour: Colour| say(Named { colour: Some(colour), ..Named::of(kind) }, 0));
            all.push(probe(texts, [colour.word(), other.word()], colour.index()));
        }
    }
    all
}

/// An {animal} {action}
fn actions() -> Vec<Probe> {
    let mut all = Vec::new();
    for &animal in Animal::ALL {
        for &action in Action::ALL {
            let Some(other) = next(Action::ALL, action, |_| true) else { continue };
            let texts = [action, other]
                .map(|action| say(Named { action: Some(action), ..Named::of(Kind::Animal(animal)) }, 0));
            all.push(probe(texts, [action.word(), other.word()], 1 + action.index()));
        }
    }
    all
}

/// A {object} from the {viewpoint}
fn viewpoints() -> Vec<Probe> {
    let mut all = Vec::new();
    for &shape in Shape::ALL {
        for &view in Viewpoint::ALL {
            let Some(other) = next(Viewpoint::ALL, view, |_| true) else { continue };
            let texts = [view, other]
                .map(|view| say(Named { viewpoint: Some(view), ..Named::of(Kind::Shape(shape)) }, 0));
            all.push(probe(texts, [view.word(), other.word()], 1 + view.index()));
        }
    }
    all
}

/// A photo of {count} {objects} in a room.
fn counts() -> Vec<Probe> {
    const NUMERALS: [(usize, &str); 3] = [(2, "two"), (3, "three"), (4, "four")];
    let mut all = Vec::new();
    for &shape in Shape::ALL {
        for (index, (count, word)) in NUMERALS.into_iter().enumerate() {
            let (other, other_word) = NUMERALS[(index + 1) % NUMERALS.len()];
            let texts = [count, other].map(|count| {
                say(Named { count, place: Some(Place::Kitchen), ..Named::of(Kind::Shape(shape)) }, 1)
            });
            all.push(probe(texts, [word, other_word], count - 1));
        }
    }
    all
}

/// Captions after the paper's templates (specification, section 3; recollected, not verified), for Stable Diffusion.
#[must_use]
pub fn of_paper(attribute: Attribute, seed: u64) -> Vec<Probe> {
    let [first, second]: [&[&str]; 2] = match attribute {
        Attribute::Object => [&OBJECTS, &LOCATIONS],
        Attribute::Style => [&STYLES, &THINGS],
        Attribute::Colour => [&COLOURS, &THINGS],
        Attribute::Action => [&ACTIONS, &ANIMALS],
        Attribute::Viewpoint => [&VIEWPOINTS, &OBJECTS],
        Attribute::Count => [&COUNTS, &OBJECTS],
    };
    let text = |value: &str, other: &str| match attribute {
        Attribute::Object => format!("A photo of {value} in {other}."),
        Attribute::Style => format!("A {other} in the style of {value}"),
        Attribute::Colour => format!("A {value} {other}"),
        Attribute::Action => format!("{} {other} {value}", if other.starts_with('o') { "An" } else { "A" }),
        Attribute::Viewpoint => format!("A {other} from the {value}"),
        Attribute::Count => {
            format!("A photo of {value} {} in a room.", plural(&other.replace("knife", "knive")))
        }
    };
    let mut all = Vec::new();
    for other in second {
        for (index, value) in first.iter().enumerate() {
            let foreign = first[(index + 1) % first.len()];
            all.push(Probe {
                caption: Caption::new(text(value, other), *value),
                foreign: Caption::new(text(foreign, other), foreign),
                class: None,
            });
        }
    }
    shuffle(&mut all, attribute, seed);
    all
}

fn shuffle(all: &mut [Probe], attribute: Attribute, seed: u64) {
    Rng::new(seed, &format!("causal-trace/probes/{}", attribute.name()), 0).shuffle(all);
}

/// Those of the paper's 24 that are known by name.
const OBJECTS: [&str; 22] = [
    "dog",
    "cat",
    "bicycle",
    "oven",
    "tv",
    "bowl",
    "banana",
    "bottle",
    "cup",
    "fork",
    "knife",
    "apple",
    "sandwich",
    "pizza",
    "bed",
    "laptop",
    "microwave",
    "book",
    "clock",
    "vase",
    "toothbrush",
    "hairdryer",
];
const LOCATIONS: [&str; 7] = ["beach", "forest", "city", "kitchen", "mountain", "park", "room"];
const STYLES: [&str; 7] =
    ["monet", "pablo picasso", "salvador dali", "van gogh", "baroque", "leonardo da vinci", "michelangelo"];
const COLOURS: [&str; 7] = ["blue", "red", "yellow", "brown", "black", "pink", "green"];
/// The object categories of MS COCO.
const THINGS: [&str; 80] = [
    "person",
    "bicycle",
    "car",
    "motorcycle",
    "airplane",
    "bus",
    "train",
    "truck",
    "boat",
    "traffic light",
    "fire hydrant",
    "stop sign",
    "parking meter",
    "bench",
    "bird",
    "cat",
    "dog",
    "horse",
    "sheep",
    "cow",
    "elephant",
    "bear",
    "zebra",
    "giraffe",
    "backpack",
    "umbrella",
    "handbag",
    "tie",
    "suitcase",
    "frisbee",
    "skis",
    "snowboard",
    "sports ball",
    "kite",
    "baseball bat",
    "baseball glove",
    "skateboard",
    "surfboard",
    "tennis racket",
    "bottle",
    "wine glass",
    "cup",
    "fork",
    "knife",
    "spoon",
    "bowl",
    "banana",
    "apple",
    "sandwich",
    "orange",
    "broccoli",
    "carrot",
    "hot dog",
    "pizza",
    "donut",
    "cake",
    "chair",
    "couch",
    "potted plant",
    "bed",
    "dining table",
    "toilet",
    "tv",
    "laptop",
    "mouse",
    "remote",
    "keyboard",
    "cell phone",
    "microwave",
    "oven",
    "toaster",
    "sink",
    "refrigerator",
    "book",
    "clock",
    "vase",
    "scissors",
    "teddy bear",
    "hair drier",
    "toothbrush",
];
const ANIMALS: [&str; 14] = [
    "bear", "cat", "deer", "dog", "giraffe", "goat", "horse", "lion", "monkey", "mouse", "ostrich", "sheep",
    "tiger", "wolf",
];
const ACTIONS: [&str; 4] = ["eating", "running", "sitting", "sprinting"];
const VIEWPOINTS: [&str; 4] = ["front", "back", "top", "bottom"];
const COUNTS: [&str; 4] = ["2", "4", "6", "8"];

/// The subjects of every caption of an attribute: what the noise's unit is measured on.
#[must_use]
pub fn subjects(probes: &[Probe]) -> Vec<&str> {
    let mut all: Vec<&str> = probes.iter().map(|probe| probe.caption.subject.as_str()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attribute_has_twenty_captions_that_name_it_and_a_foreign_one_that_does_not() {
        for attribute in Attribute::ALL {
            let probes = of_world(attribute, 5);
            assert_eq!(probes, of_world(attribute, 5));
            assert!(probes.len() >= 20, "{attribute:?}");
            for Probe { caption, foreign, class } in &probes {
                assert!(caption.text.contains(&caption.subject), "{caption:?}");
                assert!(!foreign.text.contains(&caption.subject), "{caption:?} {foreign:?}");
                assert!(class.is_some_and(|class| class < attribute.asked().classes()));
                let words = |text: &str| text.split(' ').count();
                assert_eq!(words(&caption.text), words(&foreign.text));
            }
        }
    }

    #[test]
    fn the_papers_templates_hold_their_subjects() {
        for attribute in Attribute::ALL {
            let probes = of_paper(attribute, 0);
            assert!(probes.len() >= 56);
            assert!(probes.iter().all(|probe| probe.caption.text.contains(&probe.caption.subject)));
            let first: std::collections::BTreeSet<&str> =
                probes[..10].iter().map(|probe| probe.caption.subject.as_str()).collect();
            assert!(first.len() > 2, "shuffled: {first:?}");
        }
    }

    #[test]
    fn captions_read_as_the_templates_say() {
        let first = |attribute| of_world(attribute, 0).remove(0).caption;
        assert!(first(Attribute::Object).text.starts_with("a photo of a"));
        assert!(first(Attribute::Style).text.contains(" in the style of "));
        assert!(first(Attribute::Count).text.ends_with("in the kitchen"));
    }
}
