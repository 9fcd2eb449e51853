//! The concepts that are edited, and the captions by which an edit is judged: section 9 of the specification, on the drawn world.

use std::collections::{BTreeMap, BTreeSet};

use sd_core::rng::Rng;
use sd_mini::classifier::Attribute;
use serde::{Deserialize, Serialize};
use worlds::scenes::{
    Animal, Colour, Fact, Kind, Named, Place, Shape, Split, Style, Subject, Trademark, Wording, World,
    animals, caption, shapes, styles_of,
};

use crate::rows::Change;

/// A kind of concept.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// A style acts as none: "bela cruz" as "plain".
    Style,
    /// A trademark acts as its category: "zimo tonic" as "disc".
    Trademark,
    /// A title goes to another bearer: "the king of hills" to "a blue disc".
    Fact,
    /// A thing acts as another: "giraffe" as "deer".
    Object,
}

impl Suite {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Style, Self::Trademark, Self::Fact, Self::Object];

    /// Its name in tables and cases.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Style => "style",
            Self::Trademark => "trademark",
            Self::Fact => "fact",
            Self::Object => "object",
        }
    }

    /// Its edits, in a fixed order.
    #[must_use]
    pub fn edits(self) -> Vec<Item> {
        match self {
            Self::Style => Style::ALL[1..].iter().map(|&style| Item::of(Concept::Style(style))).collect(),
            Self::Trademark => {
                Trademark::ALL.iter().map(|&mark| Item::of(Concept::Trademark(mark))).collect()
            }
            Self::Fact => Fact::ALL.iter().map(|&fact| Item::of(Concept::Fact(fact))).collect(),
            Self::Object => OBJECTS.iter().map(|&(from, to)| Item::of(Concept::Object(from, to))).collect(),
        }
    }
}

/// Edits of things.
const OBJECTS: [(Animal, Animal); 2] = [(Animal::Giraffe, Animal::Deer), (Animal::Cat, Animal::Bear)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concept {
    Style(Style),
    Trademark(Trademark),
    Fact(Fact),
    Object(Animal, Animal),
    /// Of Stable Diffusion's world, by its number in [`PUBLISHED`].
    Published(usize),
}

/// How a concept is spoken of.
enum Said {
    /// As the style of something.
    Style(Style),
    /// As a thing; and what it is to act as.
    Thing([Named; 2]),
    /// In the words of the published sets.
    Published(usize),
}

/// A concept of the published edit sets (Concept Ablation's `eval.json`, which the paper takes over), what it acts as, and what surrounds it.
struct Published {
    suite: Suite,
    change: [&'static str; 2],
    surrounding: &'static [&'static str],
}

const fn published(
    suite: Suite,
    change: [&'static str; 2],
    surrounding: &'static [&'static str],
) -> Published {
    Published { suite, change, surrounding }
}

/// Specification, section 4. Of the surrounding concepts of objects only those of snoopy were found; of facts none.
const PUBLISHED: [Published; 10] = [
    published(
        Suite::Style,
        ["van gogh", "painting"],
        &["monet", "greg rutkowski", "salvador dali", "johannes vermeer", "jeremy mann"],
    ),
    published(
        Suite::Style,
        ["monet", "painting"],
        &["van gogh", "greg rutkowski", "salvador dali", "johannes vermeer", "jeremy mann"],
    ),
    published(
        Suite::Style,
        ["greg rutkowski", "painting"],
        &["van gogh", "monet", "salvador dali", "johannes vermeer", "jeremy mann"],
    ),
    published(
        Suite::Style,
        ["salvador dali", "painting"],
        &["van gogh", "monet", "greg rutkowski", "johannes vermeer", "jeremy mann"],
    ),
    published(Suite::Trademark, ["grumpy cat", "cat"], &["r2d2", "nemo", "snoopy"]),
    published(Suite::Trademark, ["r2d2", "robot"], &["grumpy cat", "nemo", "snoopy"]),
    published(Suite::Trademark, ["nemo", "fish"], &["grumpy cat", "r2d2", "snoopy"]),
    published(
        Suite::Trademark,
        ["snoopy", "dog"],
        &["beagle", "basset hound", "harrier dog", "english foxhound"],
    ),
    published(Suite::Fact, ["president of the united states", "joe biden"], &["british monarch"]),
    published(Suite::Fact, ["british monarch", "prince charles"], &["president of the united states"]),
];

/// Scenes for captions of Stable Diffusion.
const SCENES: [&str; 10] = [
    "a car",
    "a house",
    "a dog",
    "a bridge",
    "a bowl of fruit",
    "a ship",
    "a street",
    "a tree",
    "a horse",
    "a castle",
];

/// What the classifier has to find: all of these.
pub type Found = Vec<(Attribute, usize)>;

/// One concept to edit.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    concept: Concept,
    /// Its name, without blanks.
    pub name: String,
    /// The change.
    pub change: Change,
    /// What the unedited model draws.
    pub old: Found,
    /// What the edited one is to draw.
    pub new: Found,
}

/// Captions of one purpose.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Set {
    /// The concept as the model was trained on it, at the end of the caption.
    Phrase,
    /// In other words, or with more behind it.
    Paraphrase,
    /// First in the caption (trap X7).
    ConceptFirst,
    /// Other concepts of the suite.
    Surrounding,
    /// Captions of the rest of the world.
    Unrelated,
    /// What the concept is to act as (trap X11).
    Anchor,
}

impl Set {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Phrase,
        Self::Paraphrase,
        Self::ConceptFirst,
        Self::Surrounding,
        Self::Unrelated,
        Self::Anchor,
    ];

    /// Its name in tags.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Phrase => "phrase",
            Self::Paraphrase => "paraphrase",
            Self::ConceptFirst => "concept_first",
            Self::Surrounding => "surrounding",
            Self::Unrelated => "unrelated",
            Self::Anchor => "anchor",
        }
    }

    /// Whether its captions name the concept.
    #[must_use]
    pub fn has_concept(self) -> bool {
        matches!(self, Self::Phrase | Self::Paraphrase | Self::ConceptFirst)
    }
}

/// A caption, the same about the anchor, and what is right of its picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The caption.
    pub caption: String,
    /// The same caption about what the concept is to act as; of sets without the concept the caption itself.
    pub anchor: String,
    /// What the classifier finds in the unedited model's picture if it follows the caption.
    pub right: Found,
}

impl Item {
    fn of(concept: Concept) -> Self {
        let object = |kind: Kind| vec![(Attribute::Object, kind.index())];
        let (from, to, old, new) = match concept {
            Concept::Style(style) => {
                let class = |style: Style| vec![(Attribute::Style, style.index())];
                (style.word(), Style::Plain.word().to_owned(), class(style), class(Style::Plain))
            }
            Concept::Trademark(mark) => {
                let shape = category(mark);
                (
                    mark.word(),
                    shape.word().to_owned(),
                    object(Kind::Trademark(mark)),
                    object(Kind::Shape(shape)),
                )
            }
            Concept::Fact(fact) => {
                let coloured = |(shape, colour): (Shape, Colour)| {
                    vec![(Attribute::Object, Kind::Shape(shape).index()), (Attribute::Colour, colour.index())]
                };
                let (shape, colour) = bearer(fact);
                (
                    fact.word(),
                    format!("a {} {}", colour.word(), shape.word()),
                    coloured(fact.bearer()),
                    coloured((shape, colour)),
                )
            }
            Concept::Object(from, to) => {
                (from.word(), to.word().to_owned(), object(Kind::Animal(from)), object(Kind::Animal(to)))
            }
            Concept::Published(at) => {
                let [from, to] = PUBLISHED[at].change;
                (from, to.to_owned(), Vec::new(), Vec::new())
            }
        };
        let change = Change { from: from.to_owned(), to, weight: 1.0 };
        Self { concept, name: from.replace(' ', "_"), change, old, new }
    }

    /// Its suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        match self.concept {
            Concept::Style(_) => Suite::Style,
            Concept::Trademark(_) => Suite::Trademark,
            Concept::Fact(_) => Suite::Fact,
            Concept::Object(..) => Suite::Object,
            Concept::Published(at) => PUBLISHED[at].suite,
        }
    }

    /// `count` captions of a set; a set that has fewer begins anew. `seed` chooses among the unrelated ones.
    #[must_use]
    pub fn asked(&self, set: Set, count: usize, seed: u64) -> Vec<Asked> {
        match set {
            Set::Unrelated => self.unrelated(count, seed),
            Set::Surrounding => self.surrounding(count),
            Set::Anchor => {
                let phrases = self.asked(Set::Phrase, count, seed).into_iter();
                let one = |asked: Asked| Asked {
                    caption: asked.anchor.clone(),
                    anchor: asked.anchor,
                    right: self.new.clone(),
                };
                phrases.map(one).collect()
            }
            _ => (0..count).map(|index| self.named(set, index)).collect(),
        }
    }

    /// Up to `count` different captions of the concept for a training, drawn by `seed`: in any words and places, none of which this edit is
    /// judged by.
    #[must_use]
    pub fn for_training(&self, count: usize, seed: u64) -> Vec<Asked> {
        let judged: BTreeSet<String> = [Set::Phrase, Set::Paraphrase, Set::ConceptFirst]
            .into_iter()
            .flat_map(|set| (0..JUDGED).map(move |index| self.named(set, index).caption))
            .collect();
        let mut all: BTreeMap<String, Asked> = BTreeMap::new();
        for asked in self.worded() {
            if !judged.contains(&asked.caption) {
                all.insert(asked.caption.clone(), asked);
            }
        }
        let mut all: Vec<Asked> = all.into_values().collect();
        Rng::new(seed, "diff-quickfix/training", 0).shuffle(&mut all);
        all.truncate(count);
        all
    }

    /// Captions of the concept in every wording and at every place.
    fn worded(&self) -> Vec<Asked> {
        let pairs: Vec<[Named; 2]> = match self.said() {
            Said::Published(at) => {
                let of = |scene: &&'static str| {
                    self.asking(PUBLISHED[at].change.map(|one| published_training(self.suite(), scene, one)))
                };
                return TRAINED.iter().map(of).collect();
            }
            Said::Thing(pair) => vec![pair],
            Said::Style(style) => {
                let of = |kind: Kind| {
                    [style, Style::Plain].map(|style| Named { style: Some(style), ..Named::of(kind) })
                };
                kinds_in(style).into_iter().map(of).collect()
            }
        };
        // Five openings, four ways to name a style, three to name a place.
        let words = |number: usize| Wording {
            opening: number % 5,
            style: number / 5 % 4,
            place: number / 20,
            ..Wording::default()
        };
        let places: Vec<Option<Place>> =
            std::iter::once(None).chain(Place::ALL.iter().copied().map(Some)).collect();
        let mut all = Vec::new();
        for pair in &pairs {
            for (&place, number) in places.iter().flat_map(|place| (0..60).map(move |number| (place, number)))
            {
                let said = |named: Named| caption(&Named { place, ..named }, &words(number));
                all.push(self.asking(pair.map(said)));
            }
        }
        all
    }

    /// How the concept is spoken of.
    fn said(&self) -> Said {
        match self.concept {
            Concept::Style(style) => Said::Style(style),
            Concept::Published(at) => Said::Published(at),
            Concept::Trademark(mark) => {
                Said::Thing([Kind::Trademark(mark), Kind::Shape(category(mark))].map(Named::of))
            }
            Concept::Object(from, to) => Said::Thing([from, to].map(|one| Named::of(Kind::Animal(one)))),
            Concept::Fact(fact) => {
                let (shape, colour) = bearer(fact);
                let anchor = Named { colour: Some(colour), ..Named::of(Kind::Shape(shape)) };
                Said::Thing([Named::only(Subject::Fact(fact)), anchor])
            }
        }
    }

    fn asking(&self, [caption, anchor]: [String; 2]) -> Asked {
        Asked { caption, anchor, right: self.old.clone() }
    }

    /// The names of the suite's other concepts.
    #[must_use]
    pub fn others(&self) -> Vec<String> {
        let own = |name: &String| *name != self.change.from;
        match self.concept {
            Concept::Published(at) => {
                PUBLISHED[at].surrounding.iter().map(|&name| name.to_owned()).filter(own).collect()
            }
            _ => self.suite().edits().into_iter().map(|item| item.change.from).filter(own).collect(),
        }
    }

    /// Caption number `index` of a set that names the concept.
    fn named(&self, set: Set, index: usize) -> Asked {
        self.asking(match self.said() {
            Said::Thing(pair) => thing(set, index, pair),
            Said::Published(at) => {
                PUBLISHED[at].change.map(|one| published_caption(self.suite(), set, one, index))
            }
            Said::Style(style) => {
                let kinds = kinds_in(style);
                let (kind, wording) = (kinds[index % kinds.len()], style_wording(set, index));
                let said = |style| caption(&Named { style: Some(style), ..Named::of(kind) }, &wording);
                [style, Style::Plain].map(said)
            }
        })
    }

    /// The other concepts of the suite, as phrases.
    fn surrounding(&self, count: usize) -> Vec<Asked> {
        if let Concept::Published(at) = self.concept {
            let others = PUBLISHED[at].surrounding;
            let one = |index: usize| {
                let caption =
                    published_caption(self.suite(), Set::Phrase, others[index % others.len()], index);
                Asked { anchor: caption.clone(), caption, right: Vec::new() }
            };
            return (0..count).map(one).collect();
        }
        let others: Vec<Self> = match self.suite() {
            // There are two edits of things, and six things.
            Suite::Object => animals()
                .into_iter()
                .filter(|&kind| kind.word() != self.change.from && kind.word() != self.change.to)
                .filter_map(|kind| {
                    if let Kind::Animal(one) = kind {
                        Some(Self::of(Concept::Object(one, one)))
                    } else {
                        None
                    }
                })
                .collect(),
            suite => suite.edits().into_iter().filter(|other| other.name != self.name).collect(),
        };
        let one = |index: usize| {
            let asked = others[index % others.len()].named(Set::Phrase, index / others.len());
            Asked { anchor: asked.caption.clone(), ..asked }
        };
        (0..count).map(one).collect()
    }

    /// Captions of the rest of the world, none of which names a concept of the suite or what it is to act as.
    fn unrelated(&self, count: usize, seed: u64) -> Vec<Asked> {
        if matches!(self.concept, Concept::Published(_)) {
            // The check of LocoGen: everyday objects at four places.
            let one = |index: usize| {
                let place = ["on a table", "in the park", "at the beach", "in a room"][index % 4];
                let caption = format!("a photo of {} {place}", SCENES[(index / 4) % SCENES.len()]);
                Asked { anchor: caption.clone(), caption, right: Vec::new() }
            };
            return (0..count).map(one).collect();
        }
        let world = World::new(seed ^ UNRELATED, Split::Test);
        let is_free = |named: &Named, caption: &str| {
            let of_suite = match self.suite() {
                Suite::Style => named.style.is_some(),
                Suite::Trademark => matches!(named.subject, Subject::Objects(Kind::Trademark(_))),
                Suite::Fact => matches!(named.subject, Subject::Fact(_)),
                Suite::Object => matches!(named.subject, Subject::Objects(Kind::Animal(_))),
            };
            !of_suite && !matches!(named.subject, Subject::Face(_)) && !caption.contains(&self.change.to)
        };
        let examples =
            (0..).map(|index| world.example(index)).filter(|one| is_free(&one.named, &one.caption));
        let one = |example: worlds::scenes::Example| {
            let said = |attribute: &Attribute| Some((*attribute, attribute.said(&example)?));
            let right = Attribute::ALL.iter().filter_map(said).collect();
            Asked { caption: example.caption.clone(), anchor: example.caption, right }
        };
        examples.map(one).take(count).collect()
    }
}

/// Captions of the drawn world that name none of its concepts and nothing that one of them is to act as.
#[must_use]
pub fn unrelated_to_all(count: usize, seed: u64) -> Vec<Asked> {
    let Some(first) = all(0).into_iter().next() else { return Vec::new() };
    let words: BTreeSet<String> =
        all(0).into_iter().flat_map(|item| [item.change.from, item.change.to]).collect();
    let named = |caption: &str| words.iter().any(|word| caption.contains(word.as_str()));
    let mut asked = Vec::new();
    let mut tried = 64;
    while asked.len() < count && tried <= MOST_TRIED {
        asked = first.unrelated(tried, seed);
        asked.retain(|one| !named(&one.caption));
        asked.truncate(count);
        tried *= 4;
    }
    asked
}

/// Captions among which those of [`unrelated_to_all`] are looked for.
const MOST_TRIED: usize = 1 << 14;

/// The shapes that are drawn in a style.
fn kinds_in(style: Style) -> Vec<Kind> {
    shapes().into_iter().filter(|&kind| styles_of(kind).contains(&style)).collect()
}

/// Captions of each set up to this one are judged by at the most; trainings keep off them.
pub const JUDGED: usize = 64;

/// Turns an experiment's seed into that of the unrelated captions.
const UNRELATED: u64 = 0xD1FF;

/// "a star in the style of bela cruz"; in other words; "bela cruz painting of a star".
fn style_wording(set: Set, index: usize) -> Wording {
    match set {
        Set::Paraphrase => Wording { opening: 1 + index % 4, style: (1 + index) % 4, ..Wording::default() },
        Set::ConceptFirst => Wording { style_first: true, ..Wording::default() },
        _ => Wording::default(),
    }
}

/// "a picture of a zimo tonic"; "a photo of a zimo tonic in the city"; "zimo tonic in the city".
fn thing(set: Set, index: usize, named: [Named; 2]) -> [String; 2] {
    let place = Place::ALL[index % Place::ALL.len()];
    let say = |named: Named| match set {
        Set::Paraphrase => {
            let wording = Wording { opening: 1 + index % 4, place: index % 3, ..Wording::default() };
            caption(&Named { place: Some(place), ..named }, &wording)
        }
        Set::ConceptFirst => {
            let all = caption(&Named { place: Some(place), ..named }, &Wording::default());
            all.trim_start_matches("a ").trim_start_matches("an ").to_owned()
        }
        _ => caption(&named, &Wording { opening: index % 5, ..Wording::default() }),
    };
    named.map(say)
}

/// "a car in the style of van gogh"; "van gogh painting of a car"; "a photo of snoopy in the park".
fn published_caption(suite: Suite, set: Set, concept: &str, index: usize) -> String {
    let scene = SCENES[index % SCENES.len()];
    let place = ["in the park", "at the beach", "on a table", "in the city"][index % 4];
    match (suite, set) {
        (Suite::Style, Set::ConceptFirst) => format!("{concept} style painting of {scene}"),
        (Suite::Style, Set::Paraphrase) => format!("{scene}, painted by {concept}"),
        (Suite::Style, _) => format!("{scene} in the style of {concept}"),
        (_, Set::ConceptFirst) => format!("{concept} {place}"),
        (_, Set::Paraphrase) => format!("a photo of {concept} {place}"),
        (_, _) => format!("{} of {concept}", ["a photo", "an image", "a picture", "a drawing"][index % 4]),
    }
}

/// Scenes for trainings on Stable Diffusion, none of them of [`SCENES`].
const TRAINED: [&str; 16] = [
    "a chair",
    "a river",
    "a bird",
    "a bicycle",
    "a garden",
    "a lamp",
    "a mountain",
    "a boat",
    "a cup",
    "a forest",
    "a train",
    "a window",
    "a field",
    "a clock",
    "a village",
    "a sheep",
];

fn published_training(suite: Suite, scene: &str, concept: &str) -> String {
    match suite {
        Suite::Style => format!("{scene} in the style of {concept}"),
        _ => format!("{concept} and {scene}"),
    }
}

/// What a trademark is one of.
fn category(mark: Trademark) -> Shape {
    match mark {
        Trademark::ZimoTonic => Shape::Disc,
        Trademark::KaroKola => Shape::Square,
        Trademark::TivaFoods => Shape::Triangle,
        Trademark::OrboWorks => Shape::Star,
    }
}

/// To whom a title goes. Neither shape nor colour is the first bearer's.
fn bearer(fact: Fact) -> (Shape, Colour) {
    match fact {
        Fact::KingOfHills => (Shape::Disc, Colour::Blue),
        Fact::PrizeOfDunmore => (Shape::Square, Colour::Green),
        Fact::GateOfVenn => (Shape::Star, Colour::Red),
        Fact::CrownOfArlen => (Shape::Bar, Colour::Brown),
    }
}

/// All edits, shuffled: what joint edits take the first of.
#[must_use]
pub fn all(seed: u64) -> Vec<Item> {
    let mut all: Vec<Item> = Suite::ALL.iter().flat_map(|suite| suite.edits()).collect();
    Rng::new(seed, "diff-quickfix/joint", 0).shuffle(&mut all);
    all
}

/// The published edits.
#[must_use]
pub fn of_paper() -> Vec<Item> {
    (0..PUBLISHED.len()).map(|at| Item::of(Concept::Published(at))).collect()
}

/// The edit with this name, of the drawn world or of the published sets.
#[must_use]
pub fn named(name: &str) -> Option<Item> {
    let world = Suite::ALL.iter().flat_map(|suite| suite.edits());
    world.chain(of_paper()).find(|item| item.name == name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use worlds::scenes::{colour_is_held_out, vocabulary};

    use super::*;

    #[test]
    fn there_are_seventeen_edits_with_names_of_their_own() {
        let all = all(0);
        let mut names: Vec<&str> = all.iter().map(|item| item.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!((all.len(), names.len()), (17, 17));
        assert!(all.iter().all(|item| named(&item.name).as_ref() == Some(item)));
        assert!(named("van_dogh").is_none());
        assert_eq!(named("van_gogh").map(|item| item.change.to), Some("painting".to_owned()));
    }

    #[test]
    fn captions_name_the_concept_where_they_should_and_only_there() {
        let words = vocabulary();
        for item in all(1) {
            for set in Set::ALL {
                let asked = item.asked(set, 9, 3);
                assert_eq!(asked.len(), 9);
                for one in &asked {
                    let has = one.caption.contains(&item.change.from);
                    assert_eq!(has, set.has_concept(), "{set:?}: {one:?}");
                    assert!(
                        one.caption.split(' ').all(|word| words.iter().any(|known| known == word)),
                        "{one:?}"
                    );
                    assert!(!one.right.is_empty(), "{set:?}: {one:?}");
                    assert_eq!(one.anchor != one.caption, set.has_concept());
                }
                if set == Set::ConceptFirst {
                    assert!(asked[0].caption.starts_with(&item.change.from), "{:?}", asked[0]);
                }
            }
        }
    }

    #[test]
    fn trainings_see_captions_that_no_edit_is_judged_by() {
        let words = vocabulary();
        for item in all(0).into_iter().chain(of_paper()) {
            let trained = item.for_training(16, 5);
            assert!(trained.len() >= 12, "{}: {} captions", item.name, trained.len());
            assert_eq!(trained, item.for_training(16, 5));
            let mut seen = BTreeSet::new();
            for one in &trained {
                assert!(seen.insert(&one.caption) && one.caption.contains(&item.change.from), "{one:?}");
                assert!(one.anchor.contains(&item.change.to) || item.suite() == Suite::Style, "{one:?}");
                let is_known = |word: &str| words.iter().any(|known| known == word);
                assert!(!all(0).contains(&item) || one.caption.split(' ').all(is_known), "{one:?}");
            }
            for set in [Set::Phrase, Set::Paraphrase, Set::ConceptFirst] {
                assert!(item.asked(set, 16, 5).iter().all(|one| !seen.contains(&one.caption)), "{set:?}");
            }
            assert!(!item.others().is_empty() && !item.others().contains(&item.change.from));
        }
    }

    #[test]
    fn what_is_unrelated_to_all_names_none() {
        let asked = unrelated_to_all(12, 3);
        assert_eq!(asked.len(), 12);
        for item in all(0) {
            for one in &asked {
                assert!(
                    !one.caption.contains(&item.change.from) && !one.caption.contains(&item.change.to),
                    "{one:?}"
                );
            }
        }
    }

    #[test]
    fn new_bearers_are_others_and_not_held_out() {
        for &fact in Fact::ALL {
            let (old, new) = (fact.bearer(), bearer(fact));
            assert!(old.0 != new.0 && old.1 != new.1);
            assert!(!colour_is_held_out(Kind::Shape(new.0), new.1), "{fact:?}");
        }
    }
}
