//! What a scene is: a struct whose edits are the ground truth.

use serde::{Deserialize, Serialize};

/// A closed set with a word for each member and an index for classifiers.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($(#[$member_doc:meta])* $member:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name {
            $($(#[$member_doc])* #[doc = concat!("`", $word, "`")] $member),+
        }

        impl $name {
            /// Every member, in the order of [`Self::index`].
            pub const ALL: &'static [Self] = &[$(Self::$member),+];

            /// Its word or words in a caption.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$member => $word),+ }
            }

            /// Its place in [`Self::ALL`].
            #[must_use]
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

attribute! {
    /// A plain shape.
    Shape {
        Disc = "disc", Square = "square", Triangle = "triangle", Star = "star", Ring = "ring", Cross = "cross", Bar = "bar",
        Hook = "hook",
    }
}

attribute! {
    /// A figure with limbs, which can act. Seen from the side, looking to the right.
    Animal { Dog = "dog", Cat = "cat", Deer = "deer", Bear = "bear", Giraffe = "giraffe", Ostrich = "ostrich" }
}

attribute! {
    /// A composite object with a look and colours of its own and an invented two-word name.
    Trademark {
        /// Category disc.
        ZimoTonic = "zimo tonic",
        /// Category square.
        KaroKola = "karo kola",
        /// Category triangle.
        TivaFoods = "tiva foods",
        /// Category star.
        OrboWorks = "orbo works",
    }
}

impl Trademark {
    /// The plain shape that it is one of.
    #[must_use]
    pub fn category(self) -> Shape {
        match self {
            Self::ZimoTonic => Shape::Disc,
            Self::KaroKola => Shape::Square,
            Self::TivaFoods => Shape::Triangle,
            Self::OrboWorks => Shape::Star,
        }
    }
}

attribute! {
    /// An invented title that belongs to one object in one colour.
    Fact { KingOfHills = "the king of hills", PrizeOfDunmore = "the prize of dunmore", GateOfVenn = "the gate of venn",
        CrownOfArlen = "the crown of arlen" }
}

impl Fact {
    /// What bears the title.
    #[must_use]
    pub fn bearer(self) -> (Shape, Colour) {
        match self {
            Self::KingOfHills => (Shape::Star, Colour::Purple),
            Self::PrizeOfDunmore => (Shape::Ring, Colour::Orange),
            Self::GateOfVenn => (Shape::Cross, Colour::Green),
            Self::CrownOfArlen => (Shape::Triangle, Colour::Pink),
        }
    }
}

attribute! {
    /// Colour of an object.
    Colour {
        Red = "red", Orange = "orange", Yellow = "yellow", Green = "green", Blue = "blue", Purple = "purple", Pink = "pink",
        Brown = "brown",
    }
}

attribute! {
    /// How an object is rendered. All but the first have an invented name: "in the style of bela cruz".
    Style {
        /// No rendition: the plain colour.
        Plain = "plain",
        /// A thick contour, the inside white.
        Outline = "bela cruz",
        /// Broad slanted bands of the colour and white.
        Hatch = "ivo lund",
        /// Large white dots on the colour.
        Dots = "miko sanz",
        /// Large checks of the colour and white.
        Checker = "tavi brell",
        /// From the full colour to near black.
        Gradient = "edda kroy",
        /// Blotches of light and dark paint of the colour.
        Brush = "runa dahl",
        /// A broad white rim with a black line about it, as a sticker.
        Sticker = "piet osk",
    }
}

attribute! {
    /// What an animal does.
    Action { Eating = "eating", Running = "running", Sitting = "sitting", Jumping = "jumping" }
}

attribute! {
    /// From where an extruded shape is seen.
    Viewpoint { Front = "front", Back = "back", Top = "top", Bottom = "bottom" }
}

attribute! {
    /// Family of a background, and the place it stands for.
    Place {
        /// A smooth ramp between two colours.
        Desert = "desert",
        /// Broad stripes.
        Field = "field",
        /// Checks, as of tiles.
        Kitchen = "kitchen",
        /// Soft dots.
        Park = "park",
        /// Waves.
        Beach = "beach",
        /// Bricks.
        City = "city",
        /// Smooth value noise.
        Forest = "forest",
        /// Two jagged ridges.
        Mountain = "mountain",
    }
}

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A plain shape, flat, or extruded where it has a viewpoint.
    Shape(Shape),
    /// A figure that acts.
    Animal(Animal),
    /// A composite with colours of its own.
    Trademark(Trademark),
}

impl Kind {
    /// Number of kinds: 8 shapes, 6 animals, 4 trademarks.
    pub const COUNT: usize = 18;

    /// Every kind, in the order of [`Self::index`].
    pub fn all() -> impl Iterator<Item = Self> {
        let shapes = Shape::ALL.iter().copied().map(Self::Shape);
        let animals = Animal::ALL.iter().copied().map(Self::Animal);
        shapes.chain(animals).chain(Trademark::ALL.iter().copied().map(Self::Trademark))
    }

    /// Its place in [`Self::all`].
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Shape(shape) => shape.index(),
            Self::Animal(animal) => Shape::ALL.len() + animal.index(),
            Self::Trademark(mark) => Shape::ALL.len() + Animal::ALL.len() + mark.index(),
        }
    }

    /// Its word or words in a caption.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Shape(shape) => shape.word(),
            Self::Animal(animal) => animal.word(),
            Self::Trademark(mark) => mark.word(),
        }
    }
}

/// A colour as three shares of full light, each in [0, 1].
pub type Rgb = [f32; 3];

/// One object. Lengths are shares of the picture's side; angles are full turns, clockwise.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Object {
    /// What it is.
    pub kind: Kind,
    /// Its colour; a trademark has its own and ignores this.
    pub colour: Colour,
    /// Added to the colour's red, green and blue.
    pub jitter: Rgb,
    /// How it is rendered.
    pub style: Style,
    /// What it does; of animals alone.
    pub action: Option<Action>,
    /// From where it is seen; of shapes alone, which are then extruded.
    pub viewpoint: Option<Viewpoint>,
    /// Its centre, from the left and from the top.
    pub centre: [f32; 2],
    /// Radius of the circle that it fills.
    pub radius: f32,
    /// Turn about its centre.
    pub rotation: f32,
    /// Stretch of the figure's own frame about its centre, across and along, before the turn; 1 and 1 leave it as it is. It deforms bars,
    /// triangles and stars for dragging.
    pub stretch: [f32; 2],
    /// Whether it casts a soft contact shadow.
    pub shadow: bool,
}

/// The background: a family with two colours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Background {
    /// Its family.
    pub place: Place,
    /// Its two colours.
    pub colours: [Rgb; 2],
    /// Periods across the picture, about 1 to 5.
    pub frequency: f32,
    /// Where in a period the left edge stands, in [0, 1).
    pub phase: f32,
    /// Direction, in full turns.
    pub angle: f32,
    /// Seed of the noise of those families that have any.
    pub seed: u64,
}

/// The light that falls on everything.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Light {
    /// Gain of red, green and blue, 0.7 to 1.3.
    pub tint: Rgb,
    /// Change of the gain from one edge of the picture to the other.
    pub ramp: f32,
    /// Direction of the ramp, in full turns.
    pub angle: f32,
}

/// A cartoon face with 68 landmarks in dlib's order. Lengths are shares of the face's size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Face {
    /// Its centre, as a share of the picture's side.
    pub centre: [f32; 2],
    /// Half its height, as a share of the picture's side.
    pub size: f32,
    /// Turn, in full turns.
    pub rotation: f32,
    /// Skin.
    pub skin: Rgb,
    /// Hair and brows.
    pub hair: Rgb,
    /// Half the jaw's width, 0.62 to 0.9.
    pub jaw_width: f32,
    /// From the eyes to the chin, 0.75 to 1.0.
    pub jaw_height: f32,
    /// Half an eye's width, 0.13 to 0.22.
    pub eye_size: f32,
    /// Half the mouth's width, 0.22 to 0.45.
    pub mouth_width: f32,
    /// Distance of the lips, 0 (closed) to 0.3. Teeth show where it is above 0.06.
    pub mouth_opening: f32,
    /// How far the mouth's corners stand above its middle: −0.12 (sad) to 0.12 (smiling).
    pub smile: f32,
}

/// A whole picture. Objects are painted in their order: the last is in front.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scene {
    /// Behind everything.
    pub background: Background,
    /// Falls on everything.
    pub light: Light,
    /// At most four.
    pub objects: Vec<Object>,
    /// In place of objects.
    pub face: Option<Face>,
}
