//! What a picture shows: the judge of attributes.

use candle_core::{D, Device, Result, Tensor};
use sd_core::nn::{Linear, Scope};
use worlds::scenes::{Action, Colour, Example, Kind, Place, Style, Subject, Viewpoint};

use crate::cnn::Cnn;
use crate::losses::cross_entropy;

/// The attributes that the classifier tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Attribute {
    /// What the objects are: 18 kinds, or a face.
    Object,
    /// Their colour.
    Colour,
    /// Their rendition, plain among them.
    Style,
    /// What an animal does; nothing where there is none.
    Action,
    /// From where a shape is seen; from nowhere where it is flat.
    Viewpoint,
    /// How many objects there are.
    Count,
    /// The background.
    Place,
}

impl Attribute {
    /// Every one, in the order of the classifier's output.
    pub const ALL: [Self; 7] =
        [Self::Object, Self::Colour, Self::Style, Self::Action, Self::Viewpoint, Self::Count, Self::Place];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Colour => "colour",
            Self::Style => "style",
            Self::Action => "action",
            Self::Viewpoint => "viewpoint",
            Self::Count => "count",
            Self::Place => "place",
        }
    }

    /// How many values it has.
    #[must_use]
    pub fn classes(self) -> usize {
        match self {
            Self::Object => Kind::COUNT + 1,
            Self::Colour => Colour::ALL.len(),
            Self::Style => Style::ALL.len(),
            Self::Action => Action::ALL.len() + 1,
            Self::Viewpoint => Viewpoint::ALL.len() + 1,
            Self::Count => worlds::scenes::MOST,
            Self::Place => Place::ALL.len(),
        }
    }

    /// What a class is called: a word of captions, or what it is where none is said.
    #[must_use]
    pub fn word(self, class: usize) -> String {
        let of = |words: &[&str], class: usize| words.get(class).map_or("?", |word| *word).to_owned();
        let rest =
            |words: &[&str], none: &str| class.checked_sub(1).map_or(none.to_owned(), |at| of(words, at));
        match self {
            Self::Object => Kind::all().nth(class).map_or("face", Kind::word).to_owned(),
            Self::Colour => of(&words(Colour::ALL, Colour::word), class),
            Self::Style => of(&words(Style::ALL, Style::word), class),
            Self::Action => rest(&words(Action::ALL, Action::word), "none"),
            Self::Viewpoint => rest(&words(Viewpoint::ALL, Viewpoint::word), "flat"),
            Self::Count => (class + 1).to_string(),
            Self::Place => of(&words(Place::ALL, Place::word), class),
        }
    }

    /// The class that the picture shows, `None` where the question makes no sense (the kind of two different objects).
    #[must_use]
    pub fn shown(self, example: &Example) -> Option<usize> {
        let scene = &example.scene;
        let is_pair = matches!(example.named.subject, Subject::Pair(..));
        let object = scene.objects.first().filter(|_| !is_pair);
        let coloured = object.filter(|object| !matches!(object.kind, Kind::Trademark(_)));
        match self {
            Self::Object if scene.face.is_some() => Some(Kind::COUNT),
            Self::Object => object.map(|object| object.kind.index()),
            Self::Colour => coloured.map(|object| object.colour.index()),
            Self::Style => object.map(|object| object.style.index()),
            Self::Action => {
                Some(object.and_then(|object| object.action).map_or(0, |action| 1 + action.index()))
            }
            Self::Viewpoint => {
                Some(object.and_then(|object| object.viewpoint).map_or(0, |view| 1 + view.index()))
            }
            Self::Count => scene.objects.len().checked_sub(1),
            Self::Place => Some(scene.background.place.index()),
        }
    }

    /// The class that the caption says or implies, `None` where it says nothing of it.
    #[must_use]
    pub fn said(self, example: &Example) -> Option<usize> {
        let named = &example.named;
        let said = match self {
            Self::Object => matches!(named.subject, Subject::Face(_)) || named.kind().is_some(),
            Self::Colour => named.shown_colour().is_some(),
            Self::Style => named.style.is_some(),
            Self::Action => named.action.is_some(),
            Self::Viewpoint => named.viewpoint.is_some(),
            Self::Count => {
                matches!(named.subject, Subject::Objects(Kind::Shape(_))) && named.viewpoint.is_none()
            }
            Self::Place => named.place.is_some(),
        };
        self.shown(example).filter(|_| said)
    }
}

fn words<T: Copy>(values: &[T], word: fn(T) -> &'static str) -> Vec<&'static str> {
    values.iter().map(|&value| word(value)).collect()
}

/// The network: a trunk and a linear layer whose outputs are all attributes' logits, one after the other.
#[derive(Clone, Debug)]
pub struct Classifier {
    trunk: Cnn,
    heads: Linear,
}

impl Classifier {
    /// The network with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, channels: &[usize]) -> Result<Self> {
        let features = channels.last().copied().unwrap_or(0);
        let outputs = Attribute::ALL.into_iter().map(Attribute::classes).sum();
        Ok(Self {
            trunk: Cnn::new(&mut scope.child("trunk"), channels)?,
            heads: Linear::new(&mut scope.child("heads"), features, outputs)?,
        })
    }

    /// Features (B, C), in which a Fréchet distance can be taken.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn features(&self, pictures: &Tensor) -> Result<Tensor> {
        self.trunk.pooled(pictures)
    }

    /// The output of every stage (B, C, h, w), for perceptual distances.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn stages(&self, pictures: &Tensor) -> Result<Vec<Tensor>> {
        self.trunk.stages(pictures)
    }

    /// Logits (B, classes) of each attribute.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn logits(&self, pictures: &Tensor) -> Result<Vec<Tensor>> {
        let all = self.heads.forward(&self.features(pictures)?)?;
        let mut first = 0;
        let mut next = |attribute: Attribute| {
            first += attribute.classes();
            all.narrow(D::Minus1, first - attribute.classes(), attribute.classes())
        };
        Attribute::ALL.into_iter().map(&mut next).collect()
    }

    /// The most likely class of each attribute, a row for each picture.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn classes(&self, pictures: &Tensor) -> Result<Vec<[usize; Attribute::ALL.len()]>> {
        let mut rows = vec![[0; Attribute::ALL.len()]; pictures.dims()[0]];
        for (at, logits) in self.logits(pictures)?.iter().enumerate() {
            for (row, class) in rows.iter_mut().zip(logits.detach().argmax(D::Minus1)?.to_vec1::<u32>()?) {
                row[at] = class as usize;
            }
        }
        Ok(rows)
    }

    /// The sum over attributes of the mean cross-entropy of what the examples show.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn loss(&self, pictures: &Tensor, examples: &[Example]) -> Result<Tensor> {
        let losses: Vec<Tensor> = Attribute::ALL
            .into_iter()
            .zip(self.logits(pictures)?)
            .map(|(attribute, logits)| {
                cross_entropy(&logits, &targets(attribute, examples, pictures.device())?)
            })
            .collect::<Result<_>>()?;
        Tensor::stack(&losses, 0)?.sum_all()
    }
}

/// One-hot rows; zeros where the picture has no answer.
fn targets(attribute: Attribute, examples: &[Example], device: &Device) -> Result<Tensor> {
    let classes = attribute.classes();
    let mut hot = vec![0f32; examples.len() * classes];
    for (row, example) in examples.iter().enumerate() {
        if let Some(class) = attribute.shown(example) {
            hot[row * classes + class] = 1.0;
        }
    }
    Tensor::from_vec(hot, (examples.len(), classes), device)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::DType;
    use sd_core::nn::Parameters;
    use worlds::scenes::{Split, World};

    use super::*;

    #[test]
    fn what_a_caption_says_is_what_the_picture_shows() {
        for index in 0..500 {
            let example = World::new(2, Split::Train).example(index);
            for attribute in Attribute::ALL {
                let (said, shown) = (attribute.said(&example), attribute.shown(&example));
                assert!(said.is_none() || said == shown, "{attribute:?} of {example:?}");
                assert!(
                    shown.is_none_or(|class| class < attribute.classes()),
                    "{attribute:?} of {example:?}"
                );
            }
        }
    }

    #[test]
    fn a_class_is_called_by_the_word_that_captions_have_for_it() {
        let spoken =
            [Attribute::Object, Attribute::Style, Attribute::Action, Attribute::Viewpoint, Attribute::Place];
        for index in 0..500 {
            let example = World::new(2, Split::Train).example(index);
            // A fact and a face are said in other words.
            if !matches!(example.named.subject, Subject::Objects(_)) {
                continue;
            }
            for attribute in spoken {
                let Some(class) = attribute.said(&example) else { continue };
                let word = attribute.word(class);
                assert!(example.caption.contains(&word), "{word}: {}", example.caption);
            }
        }
        assert_eq!(Attribute::Colour.word(Colour::Red.index()), "red");
        assert_eq!(Attribute::Object.word(Kind::COUNT), "face");
        assert_eq!([Attribute::Action.word(0), Attribute::Viewpoint.word(0)], ["none", "flat"]);
        assert_eq!(Attribute::Count.word(2), "3");
    }

    #[test]
    fn every_class_of_every_attribute_comes_up() {
        let mut seen: Vec<Vec<bool>> = Attribute::ALL.iter().map(|one| vec![false; one.classes()]).collect();
        for index in 0..3000 {
            let example = World::new(2, Split::Train).example(index);
            for (seen, attribute) in seen.iter_mut().zip(Attribute::ALL) {
                attribute.shown(&example).into_iter().for_each(|class| seen[class] = true);
            }
        }
        assert!(seen.iter().flatten().all(|&seen| seen), "{seen:?}");
    }

    #[test]
    fn a_few_steps_on_one_batch_lower_the_loss_and_every_parameter_has_a_gradient() {
        let mut parameters = Parameters::default();
        let mut scope = Scope::root(&mut parameters, 0, DType::F32, &Device::Cpu);
        let classifier = Classifier::new(&mut scope, &[8, 16]).unwrap();
        let examples = crate::data::examples(&World::new(2, Split::Train), 0, 16);
        let pictures = crate::data::pictures_of(&examples, 32, &Device::Cpu).unwrap();
        let mut losses = Vec::new();
        for _ in 0..30 {
            let loss = classifier.loss(&pictures, &examples).unwrap();
            losses.push(loss.to_scalar::<f32>().unwrap());
            let gradients = loss.backward().unwrap();
            for (name, var) in parameters.named() {
                let gradient = gradients.get(var).unwrap_or_else(|| panic!("{name} has no gradient"));
                var.set(&(var.as_tensor() - (gradient * 0.05).unwrap()).unwrap()).unwrap();
            }
        }
        assert!(losses[29] < 0.8 * losses[0], "{losses:?}");
    }
}
