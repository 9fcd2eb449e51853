//! The image experiments: residual networks on CIFAR or on the drawn classification world, trained by one optimiser a trial
//! (paper, section VI; reduced protocol, specification section 8).

pub mod batches;
mod checkpoint;
pub mod resnet;
pub mod train;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use resnet::Network;

/// One cell of an image experiment: a data set, a network, a batch size and a schedule, for every arm and seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageStudy {
    /// Role of the data set (a key of `data:`).
    pub data: String,
    /// Network.
    pub network: Network,
    /// Side of the images in pixels; 32-pixel images are reduced to a divisor of 32 by averaging squares.
    pub side: usize,
    /// Training images of every class, drawn by the trial's seed; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_class: Option<usize>,
    /// Test images, the first ones of the test set; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test_images: Option<usize>,
    /// Batch size; the last, smaller batch of an epoch is kept.
    pub batch: usize,
    /// Epochs.
    pub epochs: usize,
    /// Epoch (from 0) at whose start the learning rate is multiplied by `drop_factor`; optimiser state is kept.
    pub drop_at: usize,
    /// Factor of the learning rate's drop.
    #[serde(default = "drop_factor")]
    pub drop_factor: f64,
    /// Black pixels added on every side before the random crop.
    pub crop_padding: usize,
    /// The test set is evaluated after each of the last this many epochs.
    pub evaluate_last: usize,
    /// Arms (keys of `arms:`).
    pub arms: Vec<String>,
    /// Number of seeds for this study, where it differs from the experiment's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<u32>,
}

fn drop_factor() -> f64 {
    0.1
}

impl ImageStudy {
    /// The first key that cannot be used: (key, expected, found).
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String, String)> {
        let positive = [
            ("batch", self.batch),
            ("epochs", self.epochs),
            ("side", self.side),
            ("evaluate_last", self.evaluate_last),
            ("images_per_class", self.images_per_class.unwrap_or(1)),
            ("test_images", self.test_images.unwrap_or(1)),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Some((key, "at least 1".into(), "0".into()));
        }
        if !32usize.is_multiple_of(self.side) || self.side < 8 {
            return Some(("side", "8, 16 or 32".into(), self.side.to_string()));
        }
        if self.drop_at > self.epochs {
            return Some(("drop_at", format!("at most epochs = {}", self.epochs), self.drop_at.to_string()));
        }
        if self.evaluate_last > self.epochs {
            return Some((
                "evaluate_last",
                format!("at most epochs = {}", self.epochs),
                self.evaluate_last.to_string(),
            ));
        }
        if !(self.drop_factor > 0.0 && self.drop_factor.is_finite()) {
            return Some(("drop_factor", "a positive number".into(), self.drop_factor.to_string()));
        }
        None
    }
}
