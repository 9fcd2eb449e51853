//! Random pictures with their captions: a function of (seed, split, index) alone.

use sd_core::rng::Rng;

use super::captions::{Wording, caption};
use super::named::{
    Expression, Named, Second, Subject, THINGS, animals, colours_of, neighbours, shapes, styles_of,
    trademarks,
};
use super::scene::{
    Action, Background, Colour, Face, Fact, Kind, Light, Object, Place, Rgb, Scene, Shape, Style, Viewpoint,
};

/// Which pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// For training: no caption that is kept for testing, no combination that is held out.
    Train,
    /// Captions that training never sees, of combinations that it does.
    Test,
    /// Combinations that training never sees, said or shown.
    HeldOut,
}

impl Split {
    fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::HeldOut => "held-out",
        }
    }
}

/// A picture, what is said of it, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The picture.
    pub scene: Scene,
    /// What the caption says.
    pub named: Named,
    /// The caption.
    pub caption: String,
}

/// A source of examples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct World {
    seed: u64,
    split: Split,
}

/// Whether a caption is kept for testing: a tenth of all captions, by a hash of their text.
#[must_use]
pub fn is_for_testing(caption: &str) -> bool {
    let hash = caption.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
    });
    // The low bits of this hash are weak.
    (hash >> 32) % 10 == 0
}

impl World {
    /// Its examples follow from `seed` and `split`.
    #[must_use]
    pub fn new(seed: u64, split: Split) -> Self {
        Self { seed, split }
    }

    /// Example number `index`.
    #[must_use]
    pub fn example(&self, index: u64) -> Example {
        let mut rng = Rng::new(self.seed, &format!("scenes/{}", self.split.name()), index);
        // A tenth of the captions is for testing, so either kind comes up soon; the last try is taken as it is.
        let mut found = self.named(&mut rng);
        for _ in 0..200 {
            if is_for_testing(&found.1) == (self.split == Split::Test) || self.split == Split::HeldOut {
                break;
            }
            found = self.named(&mut rng);
        }
        let (named, caption) = found;
        Example { scene: scene(&named, &mut rng), named, caption }
    }

    /// Up to `most` examples for training whose captions differ in one thing that all of them say, in other words each; their pictures share
    /// no more than that. What differs is each of [`neighbours`]' things equally often. A function of seed and `index`.
    #[must_use]
    pub fn group(&self, index: u64, most: usize) -> Vec<Example> {
        let mut rng = Rng::new(self.seed, "scenes/groups", index);
        let thing = rng.below(THINGS as u64) as usize;
        let (first, mut others) = loop {
            let named = random_named(&mut rng);
            let [.., others] = &mut neighbours(&named)[..=thing] else { continue };
            if !others.is_empty() {
                break (named, std::mem::take(others));
            }
        };
        rng.shuffle(&mut others);
        let captions = std::iter::once(first).chain(others).take(most);
        captions.filter_map(|named| for_training(named, &mut rng)).collect()
    }

    fn named(&self, rng: &mut Rng) -> (Named, String) {
        let named = if self.split == Split::HeldOut { held_out(rng) } else { random_named(rng) };
        let caption = caption(&named, &Wording::random(rng));
        (named, caption)
    }
}

/// A picture of what is said, in words that are for training; none where hardly any are.
fn for_training(named: Named, rng: &mut Rng) -> Option<Example> {
    for _ in 0..200 {
        let caption = caption(&named, &Wording::random(rng));
        if !is_for_testing(&caption) {
            return Some(Example { scene: scene(&named, rng), named, caption });
        }
    }
    None
}

/// A digest of a few hundred examples and their pictures: it changes with every change of the world that matters.
#[must_use]
pub fn digest() -> String {
    use rayon::prelude::*;
    use sha2::{Digest, Sha256};
    let one = |split, index| {
        let example = World::new(0, split).example(index);
        let words = format!("{} {:?}", example.caption, example.named);
        let picture = Sha256::digest(example.scene.render(64).pixels);
        Sha256::digest([words.as_bytes(), picture.as_slice()].concat()).to_vec()
    };
    let parts: Vec<Vec<u8>> = [Split::Train, Split::Test, Split::HeldOut]
        .into_iter()
        .flat_map(|split| (0..128).into_par_iter().map(|index| one(split, index)).collect::<Vec<_>>())
        .collect();
    crate::hex(&Sha256::digest(parts.concat()))
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

fn chance(rng: &mut Rng, share: f64) -> bool {
    rng.uniform() < share
}

fn between(rng: &mut Rng, low: f32, high: f32) -> f32 {
    low + (high - low) * rng.uniform_f32()
}

/// What a random caption says.
#[must_use]
pub fn random_named(rng: &mut Rng) -> Named {
    let place = |rng: &mut Rng, share| chance(rng, share).then(|| pick(rng, Place::ALL));
    let mut named = match rng.below(100) {
        0..=35 => flat(rng, 1),
        36..=51 => {
            let count = 2 + rng.below(3) as usize;
            flat(rng, count)
        }
        52..=63 => viewed(rng),
        64..=81 => animal(rng),
        82..=86 => Named::of(pick(rng, &trademarks())),
        87..=90 => Named::only(Subject::Fact(pick(rng, Fact::ALL))),
        91..=94 => pair(rng),
        _ => Named::only(Subject::Face(pick(rng, &Expression::ALL))),
    };
    if !matches!(named.subject, Subject::Face(_)) {
        named.place = place(rng, 0.3);
    }
    named
}

/// Flat shapes, one to four.
fn flat(rng: &mut Rng, count: usize) -> Named {
    let kind = pick(rng, &shapes());
    let colour = chance(rng, 0.55).then(|| pick(rng, &colours_of(kind)));
    let style = match rng.below(100) {
        0..=49 => Some(pick(rng, &styles_of(kind))),
        50..=56 => Some(Style::Plain),
        _ => None,
    };
    Named { colour, style, count, ..Named::of(kind) }
}

fn viewed(rng: &mut Rng) -> Named {
    let kind = pick(rng, &shapes());
    let colour = chance(rng, 0.4).then(|| pick(rng, &colours_of(kind)));
    Named { colour, viewpoint: Some(pick(rng, Viewpoint::ALL)), ..Named::of(kind) }
}

fn animal(rng: &mut Rng) -> Named {
    let kind = pick(rng, &animals());
    let colour = chance(rng, 0.4).then(|| pick(rng, &colours_of(kind)));
    let action = chance(rng, 0.75).then(|| pick(rng, Action::ALL));
    Named { colour, action, ..Named::of(kind) }
}

fn pair(rng: &mut Rng) -> Named {
    let [first, second] = [pick(rng, Shape::ALL), pick(rng, Shape::ALL)];
    let colour = Some(pick(rng, &colours_of(Kind::Shape(first))));
    let second = Second { shape: second, colour: pick(rng, &colours_of(Kind::Shape(second))) };
    Named { colour, ..Named::only(Subject::Pair(first, second)) }
}

/// A combination that training never shows.
fn held_out(rng: &mut Rng) -> Named {
    loop {
        let kind = pick(rng, &shapes());
        let named = match rng.below(2) {
            0 => Named { style: Some(pick(rng, Style::ALL)), ..Named::of(kind) },
            _ => Named { colour: Some(pick(rng, Colour::ALL)), ..Named::of(kind) },
        };
        if named.is_held_out() {
            return named;
        }
    }
}

/// A picture of what `named` says, with everything else random.
#[must_use]
pub fn scene(named: &Named, rng: &mut Rng) -> Scene {
    let place = named.place.unwrap_or_else(|| pick(rng, Place::ALL));
    let (background, light) = (background(place, rng), light(rng));
    let face = match named.subject {
        Subject::Face(expression) => Some(face(expression, rng)),
        _ => None,
    };
    Scene { background, light, objects: objects(named, rng), face }
}

fn objects(named: &Named, rng: &mut Rng) -> Vec<Object> {
    match named.subject {
        Subject::Face(_) => Vec::new(),
        Subject::Pair(first, second) => {
            let mut two = several(Kind::Shape(first), named.colour, Style::Plain, 2, rng);
            if let Some(object) = two.last_mut() {
                (object.kind, object.colour) = (Kind::Shape(second.shape), second.colour);
            }
            two
        }
        Subject::Fact(fact) => {
            let (shape, colour) = fact.bearer();
            several(Kind::Shape(shape), Some(colour), Style::Plain, 1, rng)
        }
        Subject::Objects(kind) => {
            let style = named.style.unwrap_or_else(|| unnamed_style(kind, named.viewpoint, rng));
            let mut all = several(kind, named.colour, style, named.count.clamp(1, super::MOST), rng);
            let action = matches!(kind, Kind::Animal(_))
                .then(|| named.action.unwrap_or_else(|| pick(rng, Action::ALL)));
            for object in &mut all {
                (object.action, object.viewpoint) = (action, named.viewpoint);
                if named.viewpoint.is_some() {
                    (object.style, object.rotation) = (Style::Plain, 0.25 * object.rotation);
                }
            }
            all
        }
    }
}

/// Half of what has no named rendition has none.
fn unnamed_style(kind: Kind, viewpoint: Option<Viewpoint>, rng: &mut Rng) -> Style {
    let styles = styles_of(kind);
    if styles.is_empty() || viewpoint.is_some() || chance(rng, 0.5) {
        Style::Plain
    } else {
        pick(rng, &styles)
    }
}

/// Equal objects that do not touch.
fn several(kind: Kind, colour: Option<Colour>, style: Style, count: usize, rng: &mut Rng) -> Vec<Object> {
    let colour = colour.unwrap_or_else(|| pick(rng, &colours_of(kind)));
    let radius = match count {
        1 => between(rng, 0.25, 0.36),
        2 => between(rng, 0.18, 0.22),
        3 => between(rng, 0.16, 0.2),
        _ => between(rng, 0.15, 0.19),
    };
    let turn = match kind {
        Kind::Shape(_) => 0.05,
        Kind::Animal(_) => 0.0,
        Kind::Trademark(_) => 0.02,
    };
    let jitter = std::array::from_fn(|_| between(rng, -0.03, 0.03));
    let object = |centre, rng: &mut Rng| Object {
        kind,
        colour,
        jitter,
        style,
        action: None,
        viewpoint: None,
        centre,
        radius,
        rotation: between(rng, -turn, turn),
        stretch: [1.0, 1.0],
        shadow: true,
    };
    places(radius, count, rng).into_iter().map(|centre| object(centre, rng)).collect()
}

/// Centres of `count` circles of this radius in the unit square, apart from each other.
fn places(radius: f32, count: usize, rng: &mut Rng) -> Vec<[f32; 2]> {
    let edge = radius + 0.02;
    for _ in 0..1000 {
        let centres: Vec<[f32; 2]> =
            (0..count).map(|_| [between(rng, edge, 1.0 - edge), between(rng, edge, 1.0 - edge)]).collect();
        let apart = |a: &[f32; 2], b: &[f32; 2]| {
            let [dx, dy] = [a[0] - b[0], a[1] - b[1]];
            dx * dx + dy * dy > 4.2 * radius * radius
        };
        if (0..count).all(|i| (0..i).all(|j| apart(&centres[i], &centres[j]))) {
            return centres;
        }
    }
    // Four circles of at most 0.19 always fit in the corners.
    let [near, far] = [edge.max(0.25), 1.0 - edge.max(0.25)];
    [[near, near], [far, far], [far, near], [near, far]][..count.min(4)].to_vec()
}

/// A place's two colours before they are jittered: muted, so that objects stand out.
fn tones(place: Place) -> [Rgb; 2] {
    match place {
        Place::Desert => [[0.93, 0.84, 0.66], [0.80, 0.66, 0.50]],
        Place::Field => [[0.78, 0.84, 0.60], [0.62, 0.72, 0.46]],
        Place::Kitchen => [[0.90, 0.90, 0.88], [0.70, 0.74, 0.80]],
        Place::Park => [[0.72, 0.86, 0.72], [0.92, 0.95, 0.84]],
        Place::Beach => [[0.66, 0.82, 0.90], [0.90, 0.88, 0.78]],
        Place::City => [[0.70, 0.56, 0.50], [0.84, 0.80, 0.76]],
        Place::Forest => [[0.34, 0.44, 0.34], [0.54, 0.64, 0.48]],
        Place::Mountain => [[0.74, 0.78, 0.88], [0.48, 0.52, 0.62]],
    }
}

fn background(place: Place, rng: &mut Rng) -> Background {
    let mut jittered = |tone: Rgb| tone.map(|value| value + between(rng, -0.04, 0.04));
    let [first, second] = tones(place);
    let colours = [jittered(first), jittered(second)];
    Background {
        place,
        colours,
        frequency: between(rng, 2.0, 3.0),
        phase: rng.uniform_f32(),
        angle: between(rng, -0.04, 0.04),
        seed: rng.next_u64(),
    }
}

fn light(rng: &mut Rng) -> Light {
    Light {
        tint: std::array::from_fn(|_| between(rng, 0.92, 1.08)),
        ramp: between(rng, -0.2, 0.2),
        angle: rng.uniform_f32(),
    }
}

fn face(expression: Expression, rng: &mut Rng) -> Face {
    let skins = [[0.96, 0.82, 0.70], [0.88, 0.68, 0.52], [0.70, 0.50, 0.36], [0.50, 0.34, 0.24]];
    let hairs = [[0.16, 0.12, 0.10], [0.42, 0.26, 0.14], [0.86, 0.70, 0.36], [0.66, 0.30, 0.14]];
    let (skin, hair) = (pick(rng, &skins), pick(rng, &hairs));
    let opening = match expression {
        Expression::Open => between(rng, 0.14, 0.3),
        Expression::Any if chance(rng, 0.4) => between(rng, 0.14, 0.3),
        _ => 0.0,
    };
    let smile = match expression {
        Expression::Smiling => between(rng, 0.07, 0.12),
        Expression::Sad => between(rng, -0.12, -0.07),
        Expression::Any | Expression::Open => between(rng, -0.12, 0.12),
    };
    Face {
        centre: [between(rng, 0.46, 0.54), between(rng, 0.48, 0.54)],
        size: between(rng, 0.36, 0.43),
        rotation: between(rng, -0.03, 0.03),
        skin,
        hair,
        jaw_width: between(rng, 0.64, 0.88),
        jaw_height: between(rng, 0.78, 0.98),
        eye_size: between(rng, 0.14, 0.21),
        mouth_width: between(rng, 0.24, 0.42),
        mouth_opening: opening,
        smile,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples(split: Split) -> impl Iterator<Item = Example> {
        let world = World::new(7, split);
        (0..4000).map(move |index| world.example(index))
    }

    #[test]
    fn an_example_is_a_function_of_seed_split_and_index() {
        let world = World::new(3, Split::Train);
        assert_eq!(world.example(5), World::new(3, Split::Train).example(5));
        assert_ne!(world.example(5), world.example(6));
        assert_ne!(world.example(5), World::new(4, Split::Train).example(5));
        assert_ne!(world.example(5), World::new(3, Split::Test).example(5));
    }

    #[test]
    fn captions_of_a_group_differ_in_one_thing() {
        let world = World::new(7, Split::Train);
        let said = |named: &Named| {
            let Named { subject, colour, style, action, viewpoint, count, place } = *named;
            let words =
                format!("{subject:?};{colour:?};{style:?};{action:?};{viewpoint:?};{count};{place:?}");
            words.split(';').map(str::to_owned).collect::<Vec<_>>()
        };
        let mut differing = [0; THINGS];
        for index in 0..1000 {
            let group: Vec<_> = world.group(index, 8).iter().map(|example| said(&example.named)).collect();
            assert!((2..=8).contains(&group.len()), "{group:?}");
            for (at, one) in group.iter().enumerate() {
                for other in &group[..at] {
                    let changed: Vec<usize> =
                        (0..THINGS).filter(|&thing| one[thing] != other[thing]).collect();
                    assert_eq!(changed.len(), 1, "{group:?}");
                    differing[changed[0]] += 1;
                }
            }
        }
        assert!(differing.iter().all(|&count| count > 100), "{differing:?}");
    }

    #[test]
    fn training_sees_no_caption_for_testing_and_no_held_out_combination() {
        let world = World::new(7, Split::Train);
        let near = (0..1000).flat_map(|index| world.group(index, 8));
        for example in examples(Split::Train).chain(near) {
            assert!(!is_for_testing(&example.caption), "{}", example.caption);
            for object in &example.scene.objects {
                let shown = Named {
                    colour: Some(object.colour),
                    style: Some(object.style),
                    ..Named::of(object.kind)
                };
                let own = matches!(object.kind, Kind::Trademark(_));
                assert!(own || !shown.is_held_out(), "{example:?}");
            }
        }
        let mut test = examples(Split::Test);
        assert!(test.all(|example| is_for_testing(&example.caption) && !example.named.is_held_out()));
        assert!(examples(Split::HeldOut).all(|example| example.named.is_held_out()));
    }

    #[test]
    fn pictures_show_what_captions_say() {
        for example in examples(Split::Train) {
            let (named, scene) = (&example.named, &example.scene);
            assert!(named.place.is_none_or(|place| scene.background.place == place));
            if let Some(kind) = named.kind() {
                assert_eq!(scene.objects.len(), named.count);
                for object in &scene.objects {
                    assert_eq!(object.kind, kind);
                    assert!(named.shown_colour().is_none_or(|colour| object.colour == colour));
                    assert!(named.style.is_none_or(|style| object.style == style));
                    assert!(named.action.is_none_or(|action| object.action == Some(action)));
                    assert_eq!(object.viewpoint, named.viewpoint);
                }
            }
            assert_eq!(scene.face.is_some(), matches!(named.subject, Subject::Face(_)));
        }
    }

    #[test]
    fn objects_lie_in_the_picture_and_apart() {
        for example in examples(Split::Train) {
            let objects = &example.scene.objects;
            for (i, object) in objects.iter().enumerate() {
                assert!(object.centre.iter().all(|&at| at > object.radius && at < 1.0 - object.radius));
                for other in &objects[..i] {
                    let [dx, dy] = [0, 1].map(|axis| object.centre[axis] - other.centre[axis]);
                    assert!((dx * dx + dy * dy).sqrt() > 1.99 * object.radius, "{example:?}");
                }
            }
        }
    }
}
