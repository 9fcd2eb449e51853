//! From stored pictures to normalised batches: the fixed subset, the reduction, crop and flip, the order of an epoch.
//!
//! Everything random is a function of the trial's seed, the epoch and the picture, and of nothing else: every arm of a seed
//! sees the same pictures, cropped the same way, in the same order.

use candle_core::{Device, Result, Tensor};
use sd_core::rng::Rng;
use worlds::classification::ImageSet;

const CHANNELS: usize = 3;

/// Per-channel constants of the normalisation (kuangliu/pytorch-cifar `main.py`; specification section 5). The deviation is
/// the mean over images of a per-image deviation, so inputs do not have unit variance: as in the original.
pub const CIFAR_MEAN: [f32; CHANNELS] = [0.4914, 0.4822, 0.4465];
/// See [`CIFAR_MEAN`].
pub const CIFAR_STD: [f32; CHANNELS] = [0.2023, 0.1994, 0.2010];

/// Pictures of one size in `[0, 1]`, (N, 3, side, side), not yet normalised.
#[derive(Clone, Debug, PartialEq)]
pub struct Pictures {
    pixels: Vec<f32>,
    labels: Vec<u32>,
    /// Width and height.
    pub side: usize,
}

/// Crop and flip of one picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Augmentation {
    down: usize,
    right: usize,
    flip: bool,
}

impl Pictures {
    /// The pictures of `set` at `indices`, reduced to `side` by averaging squares of `set.side / side` pixels.
    ///
    /// # Errors
    /// Where `side` does not divide the pictures' side.
    pub fn select(set: &ImageSet, indices: &[usize], side: usize) -> anyhow::Result<Self> {
        if side == 0 || !set.side.is_multiple_of(side) {
            anyhow::bail!(
                "side {side} does not divide the pictures' {0} pixels; use a divisor of {0}",
                set.side
            );
        }
        let pixels = indices.iter().flat_map(|&index| reduce(set.picture(index), set.side, side)).collect();
        let labels = indices.iter().map(|&index| u32::from(set.labels[index])).collect();
        Ok(Self { pixels, labels, side })
    }

    /// All pictures of `set`.
    ///
    /// # Errors
    /// As [`Pictures::select`].
    pub fn all(set: &ImageSet, side: usize) -> anyhow::Result<Self> {
        Self::select(set, &(0..set.len()).collect::<Vec<_>>(), side)
    }

    /// Number of pictures.
    #[must_use]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn picture(&self, index: usize) -> &[f32] {
        let size = CHANNELS * self.side * self.side;
        &self.pixels[index * size..(index + 1) * size]
    }

    /// A batch without augmentation: normalised pictures (B, 3, side, side) and labels (B).
    ///
    /// # Errors
    /// Where the tensors cannot be made.
    pub fn batch(&self, indices: &[u32], device: &Device) -> Result<(Tensor, Tensor)> {
        let still = Augmentation { down: 0, right: 0, flip: false };
        self.assemble(indices, 0, |_| still, device)
    }

    /// A training batch: every picture padded with `padding` black pixels, cropped back at a random place, flipped with
    /// probability ½, then normalised (so that padding is black before normalisation, not zero after it).
    ///
    /// # Errors
    /// Where the tensors cannot be made.
    pub fn augmented(
        &self,
        indices: &[u32],
        padding: usize,
        seed: u64,
        epoch: usize,
        device: &Device,
    ) -> Result<(Tensor, Tensor)> {
        let draw = |index: u32| {
            let mut rng = Rng::new(seed, "augment", ((epoch as u64) << 32) | u64::from(index));
            let places = 2 * padding as u64 + 1;
            Augmentation {
                down: rng.below(places) as usize,
                right: rng.below(places) as usize,
                flip: rng.below(2) == 1,
            }
        };
        self.assemble(indices, padding, draw, device)
    }

    fn assemble(
        &self,
        indices: &[u32],
        padding: usize,
        draw: impl Fn(u32) -> Augmentation,
        device: &Device,
    ) -> Result<(Tensor, Tensor)> {
        let mut pixels = Vec::with_capacity(indices.len() * CHANNELS * self.side * self.side);
        for &index in indices {
            self.crop(self.picture(index as usize), padding, draw(index), &mut pixels);
        }
        let labels: Vec<u32> = indices.iter().map(|&index| self.labels[index as usize]).collect();
        let shape = (indices.len(), CHANNELS, self.side, self.side);
        Ok((Tensor::from_vec(pixels, shape, device)?, Tensor::from_vec(labels, indices.len(), device)?))
    }

    fn crop(&self, picture: &[f32], padding: usize, augmentation: Augmentation, out: &mut Vec<f32>) {
        let side = self.side;
        for (channel, plane) in picture.chunks_exact(side * side).enumerate() {
            let normalise = |value: f32| (value - CIFAR_MEAN[channel]) / CIFAR_STD[channel];
            for row in 0..side {
                for column in 0..side {
                    let column = if augmentation.flip { side - 1 - column } else { column };
                    let source = (row + augmentation.down, column + augmentation.right);
                    let inside = |at: usize| (padding..side + padding).contains(&at);
                    let value = if inside(source.0) && inside(source.1) {
                        plane[(source.0 - padding) * side + source.1 - padding]
                    } else {
                        0.0
                    };
                    out.push(normalise(value));
                }
            }
        }
    }
}

/// One picture in `[0, 1]`, averaged down.
fn reduce(picture: &[u8], from: usize, to: usize) -> Vec<f32> {
    let factor = from / to;
    let scale = 1.0 / (255 * factor * factor) as f32;
    let mut out = Vec::with_capacity(CHANNELS * to * to);
    for plane in picture.chunks_exact(from * from) {
        for row in 0..to {
            for column in 0..to {
                let square = (0..factor * factor).map(|i| {
                    let (down, right) = (i / factor, i % factor);
                    u32::from(plane[(row * factor + down) * from + column * factor + right])
                });
                out.push(square.sum::<u32>() as f32 * scale);
            }
        }
    }
    out
}

/// `per_class` pictures of every class, drawn by `seed`; all of them where `per_class` is `None`.
///
/// # Errors
/// Where a class has fewer pictures than asked for.
pub fn subset(set: &ImageSet, per_class: Option<usize>, seed: u64) -> anyhow::Result<Vec<usize>> {
    let Some(per_class) = per_class else { return Ok((0..set.len()).collect()) };
    let order = Rng::new(seed, "subset", 0).permutation(u32::try_from(set.len())?);
    let mut taken = vec![0; set.classes];
    let mut chosen = Vec::with_capacity(per_class * set.classes);
    for index in order {
        let class = usize::from(set.labels[index as usize]);
        if taken[class] < per_class {
            taken[class] += 1;
            chosen.push(index as usize);
        }
    }
    if let Some(class) = taken.iter().position(|&count| count < per_class) {
        anyhow::bail!(
            "class {class} has {} training pictures; images_per_class asks for {per_class}",
            taken[class]
        );
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Two 4×4 pictures of two classes with every pixel different.
    fn set() -> ImageSet {
        ImageSet {
            pixels: (0..96u8).collect(),
            labels: vec![0, 1],
            side: 4,
            classes: 2,
            names: vec!["a".into(), "b".into()],
        }
    }

    fn values(batch: &(Tensor, Tensor)) -> Vec<f32> {
        batch.0.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn reduction_averages_squares() {
        let pictures = Pictures::all(&set(), 2).unwrap();
        // Rows 0, 1, 2, 3 and 4, 5, 6, 7: the first square holds 0, 1, 4, 5.
        assert!((pictures.pixels[0] - 2.5 / 255.0).abs() < 1e-7);
        assert!(Pictures::all(&set(), 3).unwrap_err().to_string().contains("divisor of 4"));
    }

    #[test]
    fn no_shift_and_no_flip_is_the_picture_itself() {
        let pictures = Pictures::all(&set(), 4).unwrap();
        let still = Augmentation { down: 2, right: 2, flip: false };
        let moved = pictures.assemble(&[1], 2, |_| still, &Device::Cpu).unwrap();
        assert_eq!(values(&moved), values(&pictures.batch(&[1], &Device::Cpu).unwrap()));
    }

    #[test]
    fn padding_is_black_before_normalisation_and_flips_mirror() {
        let pictures = Pictures::all(&set(), 4).unwrap();
        let corner = Augmentation { down: 0, right: 2, flip: false };
        let moved = values(&pictures.assemble(&[0], 2, |_| corner, &Device::Cpu).unwrap());
        assert_eq!(moved[0], (0.0 - CIFAR_MEAN[0]) / CIFAR_STD[0]);
        let flip = Augmentation { down: 2, right: 2, flip: true };
        let flipped = values(&pictures.assemble(&[0], 2, |_| flip, &Device::Cpu).unwrap());
        let plain = values(&pictures.batch(&[0], &Device::Cpu).unwrap());
        assert_eq!(flipped[..4], [plain[3], plain[2], plain[1], plain[0]]);
    }

    #[test]
    fn augmentation_depends_on_seed_epoch_and_picture_alone() {
        let pictures = Pictures::all(&set(), 4).unwrap();
        let draw = |indices: &[u32], seed, epoch| {
            values(&pictures.augmented(indices, 2, seed, epoch, &Device::Cpu).unwrap())
        };
        assert_eq!(draw(&[0, 1], 1, 3)[48..], draw(&[1], 1, 3), "neighbours in the batch do not matter");
        let epochs: Vec<_> = (0..8).map(|epoch| draw(&[0], 1, epoch)).collect();
        assert!(epochs.iter().any(|values| *values != epochs[0]));
    }

    #[test]
    fn a_subset_is_balanced_and_fixed_by_its_seed() {
        let mut set = set();
        set.labels = (0..40).map(|i| i % 4).collect();
        set.classes = 4;
        let chosen = subset(&set, Some(5), 7).unwrap();
        assert_eq!(chosen, subset(&set, Some(5), 7).unwrap());
        assert_ne!(chosen, subset(&set, Some(5), 8).unwrap());
        for class in 0..4 {
            assert_eq!(chosen.iter().filter(|&&index| set.labels[index] == class).count(), 5);
        }
        assert!(subset(&set, Some(11), 7).unwrap_err().to_string().contains("images_per_class"));
    }
}
