//! What a caption says of a picture, and which combinations are kept for testing.

use serde::{Deserialize, Serialize};

use super::scene::{Action, Animal, Colour, Fact, Kind, Place, Shape, Style, Trademark, Viewpoint};

/// Objects that a caption can count: one to four.
pub const MOST: usize = 4;

/// A single object of a pair: "a red star".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Second {
    /// What it is.
    pub shape: Shape,
    /// Its colour.
    pub colour: Colour,
}

/// How a face looks, as captions say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expression {
    /// Nothing is said.
    Any,
    /// "a smiling face"
    Smiling,
    /// "a sad face"
    Sad,
    /// "a face with an open mouth"
    Open,
}

impl Expression {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Any, Self::Smiling, Self::Sad, Self::Open];
}

/// What a picture is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// One to four equal objects.
    Objects(Kind),
    /// Two plain shapes in two colours; the first one's colour stands in [`Named::colour`].
    Pair(Shape, Second),
    /// The bearer of an invented title.
    Fact(Fact),
    /// A cartoon face.
    Face(Expression),
}

/// What a caption says. What is `None` is not said, and is random in the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    /// What the picture is of.
    pub subject: Subject,
    /// The objects' colour.
    pub colour: Option<Colour>,
    /// Their rendition; `Plain` where the caption says "plain".
    pub style: Option<Style>,
    /// What an animal does.
    pub action: Option<Action>,
    /// From where a shape is seen.
    pub viewpoint: Option<Viewpoint>,
    /// How many, 1 to 4. 1 is said by "a"; and is what pictures of everything else show.
    pub count: usize,
    /// Where.
    pub place: Option<Place>,
}

impl Named {
    /// A caption that says what is there and nothing else.
    #[must_use]
    pub fn only(subject: Subject) -> Self {
        Self { subject, colour: None, style: None, action: None, viewpoint: None, count: 1, place: None }
    }

    /// That of the objects of one kind.
    #[must_use]
    pub fn of(kind: Kind) -> Self {
        Self::only(Subject::Objects(kind))
    }

    /// What kind the objects are of, where they are of one.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        match self.subject {
            Subject::Objects(kind) => Some(kind),
            Subject::Fact(fact) => Some(Kind::Shape(fact.bearer().0)),
            Subject::Pair(..) | Subject::Face(_) => None,
        }
    }

    /// The colour that the picture must show, said or implied.
    #[must_use]
    pub fn shown_colour(&self) -> Option<Colour> {
        match self.subject {
            Subject::Fact(fact) => Some(fact.bearer().1),
            Subject::Objects(Kind::Trademark(_)) | Subject::Face(_) => None,
            _ => self.colour,
        }
    }

    /// Whether it says a combination that is kept out of training.
    #[must_use]
    pub fn is_held_out(&self) -> bool {
        let Some(kind) = self.kind() else { return false };
        self.style.is_some_and(|style| style_is_held_out(kind, style))
            || self.colour.is_some_and(|colour| colour_is_held_out(kind, colour))
    }
}

/// The things that captions say: subject, colour, style, action, viewpoint, place, count.
pub const THINGS: usize = 7;

/// What captions near this one say: for each thing in turn, all that say another value of it, the same besides, and are shown in training. None
/// for a thing that it does not say.
#[must_use]
pub fn neighbours(named: &Named) -> [Vec<Named>; THINGS] {
    let colours = match named.subject {
        Subject::Pair(first, _) => colours_of(Kind::Shape(first)),
        _ => Colour::ALL.to_vec(),
    };
    let several = (named.count > 1).then_some(named.count);
    [
        varied(named, subjects_near(named.subject), |other, value| other.subject = value),
        varied(named, others(&colours, named.colour), |other, value| other.colour = Some(value)),
        varied(named, others(Style::ALL, named.style), |other, value| other.style = Some(value)),
        varied(named, others(Action::ALL, named.action), |other, value| other.action = Some(value)),
        varied(named, others(Viewpoint::ALL, named.viewpoint), |other, value| other.viewpoint = Some(value)),
        varied(named, others(Place::ALL, named.place), |other, value| other.place = Some(value)),
        varied(named, others(&[2, 3, MOST], several), |other, value| other.count = value),
    ]
}

/// `named` with each of the values in one place, but for what is held out.
fn varied<T>(named: &Named, values: impl IntoIterator<Item = T>, set: fn(&mut Named, T)) -> Vec<Named> {
    let with = |value| {
        let mut other = *named;
        set(&mut other, value);
        other
    };
    values.into_iter().map(with).filter(|other| !other.is_held_out()).collect()
}

/// Other values of what is said; none where nothing is.
fn others<T: Copy + PartialEq>(values: &[T], said: Option<T>) -> impl Iterator<Item = T> {
    values.iter().copied().filter(move |&value| said.is_some_and(|said| said != value))
}

/// Subjects of the same sort that differ in one thing.
fn subjects_near(subject: Subject) -> Vec<Subject> {
    match subject {
        Subject::Objects(kind) => {
            let family = match kind {
                Kind::Shape(_) => shapes(),
                Kind::Animal(_) => animals(),
                Kind::Trademark(_) => trademarks(),
            };
            others(&family, Some(kind)).map(Subject::Objects).collect()
        }
        Subject::Pair(first, second) => {
            let colours = colours_of(Kind::Shape(second.shape));
            let pair = |colour| Subject::Pair(first, Second { colour, ..second });
            others(&colours, Some(second.colour)).map(pair).collect()
        }
        Subject::Fact(fact) => others(Fact::ALL, Some(fact)).map(Subject::Fact).collect(),
        Subject::Face(face) => others(&Expression::ALL, Some(face)).map(Subject::Face).collect(),
    }
}

/// Whether this kind is never shown in this rendition in training: about a tenth of the pairs.
#[must_use]
pub fn style_is_held_out(kind: Kind, style: Style) -> bool {
    matches!(kind, Kind::Shape(_))
        && style != Style::Plain
        && (3 * kind.index() + 7 * style.index()) % 10 == 4
}

/// Whether this kind is never shown in this colour in training: about a tenth of the pairs.
#[must_use]
pub fn colour_is_held_out(kind: Kind, colour: Colour) -> bool {
    !matches!(kind, Kind::Trademark(_)) && (kind.index() + 3 * colour.index()) % 10 == 6
}

/// Colours in which a kind is shown in training.
#[must_use]
pub fn colours_of(kind: Kind) -> Vec<Colour> {
    Colour::ALL.iter().copied().filter(|&colour| !colour_is_held_out(kind, colour)).collect()
}

/// Named renditions in which a kind is shown in training: shapes alone have any.
#[must_use]
pub fn styles_of(kind: Kind) -> Vec<Style> {
    let named = Style::ALL[1..].iter().copied();
    match kind {
        Kind::Shape(_) => named.filter(|&style| !style_is_held_out(kind, style)).collect(),
        Kind::Animal(_) | Kind::Trademark(_) => Vec::new(),
    }
}

/// Kinds whose pictures differ in nothing but the kind: for drawing one at random.
#[must_use]
pub fn shapes() -> Vec<Kind> {
    Shape::ALL.iter().copied().map(Kind::Shape).collect()
}

/// The figures that act.
#[must_use]
pub fn animals() -> Vec<Kind> {
    Animal::ALL.iter().copied().map(Kind::Animal).collect()
}

/// The composites.
#[must_use]
pub fn trademarks() -> Vec<Kind> {
    Trademark::ALL.iter().copied().map(Kind::Trademark).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_the_pairs_is_held_out_and_no_word_is_lost() {
        let (kinds, colours): (Vec<Kind>, Vec<Kind>) = (shapes(), [shapes(), animals()].concat());
        let styles: usize = kinds.iter().map(|&kind| 7 - styles_of(kind).len()).sum();
        let shades: usize = colours.iter().map(|&kind| 8 - colours_of(kind).len()).sum();
        assert!((4..=8).contains(&styles), "{styles} of 56 pairs of object and style");
        assert!((9..=14).contains(&shades), "{shades} of 112 pairs of object and colour");
        for kind in &kinds {
            assert!(styles_of(*kind).len() >= 5 && colours_of(*kind).len() >= 6, "{kind:?}");
        }
        for style in &Style::ALL[1..] {
            assert!(kinds.iter().filter(|&&kind| styles_of(kind).contains(style)).count() >= 5, "{style:?}");
        }
        for colour in Colour::ALL {
            assert!(
                colours.iter().filter(|&&kind| colours_of(kind).contains(colour)).count() >= 9,
                "{colour:?}"
            );
        }
    }

    #[test]
    fn facts_can_be_shown() {
        for fact in Fact::ALL {
            let (shape, colour) = fact.bearer();
            assert!(colours_of(Kind::Shape(shape)).contains(&colour), "{fact:?}");
        }
    }
}
