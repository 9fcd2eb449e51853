//! Captions: templates with paraphrases over a closed vocabulary.

use sd_core::rng::Rng;

use super::named::{Expression, Named, Subject};
use super::scene::{Action, Animal, Colour, Fact, Kind, Place, Shape, Style, Trademark, Viewpoint};

/// How many ways there are to say each part; [`Wording`] picks one each.
const OPENINGS: [&str; 5] = ["", "a photo of ", "a picture of ", "a drawing of ", "an image of "];
const STYLES: [&str; 4] = [" in the style of {}", " by {}", " painted by {}", " in {} style"];
const PLACES: [&str; 3] = [" in the {}", " at the {}", " and the {} behind"];
const VIEWS: [&str; 3] = [" from the {}", " seen from the {}", " in {} view"];
const NUMBERS: [&str; 4] = ["one", "two", "three", "four"];

/// Which of the paraphrases a caption uses. The first of each is the one that probes and examples use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Wording {
    /// Of the five openings.
    pub opening: usize,
    /// Of the four ways to name a style.
    pub style: usize,
    /// Of the three ways to name a place.
    pub place: usize,
    /// Of the three ways to name a viewpoint.
    pub view: usize,
    /// Whether the style stands in front: "ivo lund painting of a star".
    pub style_first: bool,
    /// Whether the colour stands behind: "a star in red".
    pub colour_behind: bool,
}

impl Wording {
    /// Random: the plain forms most often.
    #[must_use]
    pub fn random(rng: &mut Rng) -> Self {
        let mut one_of = |ways: usize| rng.below(ways as u64 + 1).saturating_sub(1) as usize;
        let (opening, style, place, view) =
            (one_of(OPENINGS.len()), one_of(STYLES.len()), one_of(PLACES.len()), one_of(VIEWS.len()));
        let (style_first, colour_behind) = (rng.below(8) == 0, rng.below(6) == 0);
        Self { opening, style, place, view, style_first, colour_behind }
    }
}

/// The caption that says `named` in these words.
#[must_use]
pub fn caption(named: &Named, wording: &Wording) -> String {
    let mut text = opening(named, wording);
    text += &subject(named, wording);
    if let Some(action) = named.action {
        text += " ";
        text += action.word();
    }
    if let Some(style) = named.style.filter(|_| !says_style_first(named, wording)) {
        text += &style_phrase(style, wording);
    }
    if let Some(viewpoint) = named.viewpoint {
        text += &VIEWS[wording.view % VIEWS.len()].replace("{}", viewpoint.word());
    }
    if let Some(place) = named.place {
        text += &PLACES[wording.place % PLACES.len()].replace("{}", place.word());
    }
    text
}

fn opening(named: &Named, wording: &Wording) -> String {
    match named.style {
        Some(style) if says_style_first(named, wording) => format!("{} painting of ", style.word()),
        _ => OPENINGS[wording.opening % OPENINGS.len()].to_owned(),
    }
}

fn says_style_first(named: &Named, wording: &Wording) -> bool {
    wording.style_first && named.style.is_some_and(|style| style != Style::Plain)
}

/// "in plain style" whatever the wording: nobody paints like that.
fn style_phrase(style: Style, wording: &Wording) -> String {
    let way = if style == Style::Plain { 3 } else { wording.style % STYLES.len() };
    STYLES[way].replace("{}", style.word())
}

fn subject(named: &Named, wording: &Wording) -> String {
    match named.subject {
        Subject::Objects(kind) => objects(kind, named, wording),
        Subject::Pair(shape, second) => {
            let first = one(&[named.colour.map(Colour::word), Some(shape.word())]);
            format!("{first} and {}", one(&[Some(second.colour.word()), Some(second.shape.word())]))
        }
        Subject::Fact(fact) => fact.word().to_owned(),
        Subject::Face(Expression::Any) => "a face".to_owned(),
        Subject::Face(Expression::Smiling) => "a smiling face".to_owned(),
        Subject::Face(Expression::Sad) => "a sad face".to_owned(),
        Subject::Face(Expression::Open) => "a face with an open mouth".to_owned(),
    }
}

fn objects(kind: Kind, named: &Named, wording: &Wording) -> String {
    let colour = named.colour.map(Colour::word);
    let (before, behind) = if wording.colour_behind { (None, colour) } else { (colour, None) };
    let mut text = match named.count {
        0 | 1 => one(&[before, Some(kind.word())]),
        count => {
            let words = [Some(NUMBERS[(count - 1) % NUMBERS.len()]), before];
            format!("{} {}", join(&words), plural(kind.word()))
        }
    };
    if let Some(colour) = behind {
        text += &format!(" in {colour}");
    }
    text
}

/// "a red star", "an orange star".
fn one(words: &[Option<&str>]) -> String {
    let text = join(words);
    let article = if text.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {text}")
}

fn join(words: &[Option<&str>]) -> String {
    words.iter().flatten().copied().collect::<Vec<_>>().join(" ")
}

/// The plural of a kind's word.
#[must_use]
pub fn plural(word: &str) -> String {
    match word {
        "deer" => word.to_owned(),
        _ if word.ends_with(['s', 'h']) => format!("{word}es"),
        _ => format!("{word}s"),
    }
}

/// Every word that a caption can hold, sorted, each once: what the tokenizer is made for.
#[must_use]
pub fn vocabulary() -> Vec<String> {
    let phrases = OPENINGS.iter().chain(&STYLES).chain(&PLACES).chain(&VIEWS).chain(&NUMBERS);
    let mut words: Vec<String> = phrases.flat_map(|phrase| split(phrase)).collect();
    words.extend(
        ["painting of an", "a smiling sad face with open mouth"].iter().flat_map(|phrase| split(phrase)),
    );
    for kind in Kind::all() {
        words.extend(split(kind.word()));
        words.extend(split(&plural(kind.word())));
    }
    let attributes = [
        Colour::ALL.iter().map(|one| one.word()).collect::<Vec<_>>(),
        Style::ALL.iter().map(|one| one.word()).collect(),
        Action::ALL.iter().map(|one| one.word()).collect(),
        Viewpoint::ALL.iter().map(|one| one.word()).collect(),
        Place::ALL.iter().map(|one| one.word()).collect(),
        Fact::ALL.iter().map(|one| one.word()).collect(),
        Shape::ALL.iter().map(|one| one.word()).collect(),
        Animal::ALL.iter().map(|one| one.word()).collect(),
        Trademark::ALL.iter().map(|one| one.word()).collect(),
    ];
    words.extend(attributes.concat().iter().flat_map(|word| split(word)));
    words.sort();
    words.dedup();
    words
}

fn split(phrase: &str) -> Vec<String> {
    phrase.split_whitespace().filter(|word| *word != "{}").map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn star() -> Named {
        Named::of(Kind::Shape(Shape::Star))
    }

    #[test]
    fn captions_read_well() {
        let plain = Wording::default();
        let named = Named { count: 2, colour: Some(Colour::Green), style: Some(Style::Outline), ..star() };
        assert_eq!(caption(&named, &plain), "two green stars in the style of bela cruz");
        let named = Named { colour: Some(Colour::Orange), place: Some(Place::Forest), ..star() };
        assert_eq!(caption(&named, &plain), "an orange star in the forest");
        let wording = Wording { opening: 1, style_first: true, colour_behind: true, ..plain };
        let named = Named { colour: Some(Colour::Red), style: Some(Style::Hatch), ..star() };
        assert_eq!(caption(&named, &wording), "ivo lund painting of a star in red");
        let dog = Named { action: Some(Action::Running), ..Named::of(Kind::Animal(Animal::Dog)) };
        assert_eq!(caption(&dog, &Wording { opening: 1, ..plain }), "a photo of a dog running");
        let named = Named { viewpoint: Some(Viewpoint::Top), ..star() };
        assert_eq!(caption(&named, &plain), "a star from the top");
        assert_eq!(caption(&Named::only(Subject::Fact(Fact::KingOfHills)), &plain), "the king of hills");
    }

    #[test]
    fn every_word_of_every_caption_is_in_the_vocabulary() {
        let vocabulary = vocabulary();
        for index in 0..5000 {
            let example = super::super::World::new(1, super::super::Split::Train).example(index);
            for word in example.caption.split(' ') {
                assert!(
                    vocabulary.binary_search(&word.to_owned()).is_ok(),
                    "{word:?} of {:?}",
                    example.caption
                );
            }
            assert!(example.caption.split(' ').count() <= 18, "{:?}", example.caption);
        }
    }
}
