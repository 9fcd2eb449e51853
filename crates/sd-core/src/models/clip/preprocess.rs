//! What is done to a picture before CLIP's image encoder: transformers' `CLIPImageProcessor` (the one on Pillow).

use candle_core::{Device, Tensor, bail};
use serde::Deserialize;
use serde_json::{Value, json};

use super::pillow::bicubic;
use crate::models::config::{ConfigError, Fields};

/// Names under which `preprocessor_config.json` means this.
pub const PREPROCESSOR_CLASSES: [&str; 4] =
    ["CLIPImageProcessor", "CLIPImageProcessorFast", "CLIPImageProcessorPil", "CLIPFeatureExtractor"];

/// No picture is made larger than this: 200 MB.
const MOST_PIXELS: usize = 1 << 26;

/// Resizes the shorter side, cuts the middle out, scales bytes to 0..1, subtracts a mean and divides by a deviation.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    /// The shorter side after resizing; the longer one keeps the proportions, rounded down.
    pub shortest_edge: usize,
    /// Height and width of the middle that is kept; neither exceeds `shortest_edge`.
    pub crop: [usize; 2],
    /// Mean of red, green and blue.
    pub mean: [f64; 3],
    /// Deviation of red, green and blue.
    pub deviation: [f64; 3],
}

impl Default for Preprocessor {
    /// OpenAI's, of every CLIP.
    fn default() -> Self {
        Self {
            shortest_edge: 224,
            crop: [224, 224],
            mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            deviation: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

/// A size in the older and in the newer way of writing it.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Shortest { shortest_edge: usize },
    Box { height: usize, width: usize },
}

impl Preprocessor {
    /// Reads the text of `preprocessor_config.json`. Fields that are absent have transformers' defaults.
    ///
    /// # Errors
    /// Where the text is no configuration of this class, or one of its fields is not supported: all of them are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_str(json)
            .map_err(|error| ConfigError::NotAnObject { found: error.to_string() })?;
        let mut fields = Fields::of(value, &[])?;
        let usual = Self::default();
        let read = Self {
            shortest_edge: shortest(&mut fields, usual.shortest_edge),
            crop: crop(&mut fields, usual.crop),
            mean: fields.take("image_mean", usual.mean),
            deviation: fields.take("image_std", usual.deviation),
        };
        refuse(&mut fields);
        read.check(&mut fields);
        fields.finish()?;
        Ok(read)
    }

    fn check(&self, fields: &mut Fields) {
        if self.crop.contains(&0) || self.crop.iter().any(|side| *side > self.shortest_edge) {
            let (crop, edge) = (self.crop, self.shortest_edge);
            fields.fault(format!("field `crop_size`: expected 1 to `size` {edge}, found {crop:?}"));
        }
        if self.deviation.iter().any(|value| !(value.abs() > 0.0)) {
            fields.fault(format!(
                "field `image_std`: expected three numbers other than 0, found {:?}",
                self.deviation
            ));
        }
    }

    /// What transformers would write.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "image_processor_type": PREPROCESSOR_CLASSES[0],
            "feature_extractor_type": PREPROCESSOR_CLASSES[3],
            "do_resize": true,
            "size": {"shortest_edge": self.shortest_edge},
            "resample": 3,
            "do_center_crop": true,
            "crop_size": {"height": self.crop[0], "width": self.crop[1]},
            "do_rescale": true,
            "rescale_factor": 1.0 / 255.0,
            "do_normalize": true,
            "image_mean": self.mean,
            "image_std": self.deviation,
            "do_convert_rgb": true,
        })
    }

    /// Pixels (3, H, W) in `f32` of a picture's bytes, red, green and blue, row by row: the numbers of `CLIPImageProcessor`, bit for bit.
    ///
    /// # Errors
    /// Where there are not `height · width · 3` bytes, or none, or one side is so much longer than the other that the resized picture
    /// would fill the memory.
    pub fn apply(
        &self,
        rgb: &[u8],
        height: usize,
        width: usize,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        if rgb.is_empty()
            || Some(rgb.len()) != height.checked_mul(width).and_then(|pixels| pixels.checked_mul(3))
        {
            bail!(
                "a picture of {height}×{width} pixels has three bytes each, and more than none; found {} bytes",
                rgb.len()
            );
        }
        let size = self.resized([height, width]);
        if size[0].saturating_mul(size[1]) > MOST_PIXELS {
            bail!(
                "a picture of {height}×{width} pixels would be made {}×{}; expected sides that are less unlike: cut it first",
                size[0],
                size[1]
            );
        }
        let picture = bicubic(rgb, [height, width], size);
        let [rows, columns] = self.crop;
        let [top, left] = [(size[0] - rows) / 2, (size[1] - columns) / 2];
        let mut pixels = Vec::with_capacity(3 * rows * columns);
        for channel in 0..3 {
            let table = self.table(channel);
            for row in top..top + rows {
                let places = (left..left + columns).map(|column| (row * size[1] + column) * 3 + channel);
                pixels.extend(places.map(|place| table[usize::from(picture[place])]));
            }
        }
        Tensor::from_vec(pixels, (3, rows, columns), device)
    }

    /// Height and width after resizing.
    fn resized(&self, [height, width]: [usize; 2]) -> [usize; 2] {
        let edge = self.shortest_edge;
        let long = |long: usize, short: usize| ((edge * long) as f64 / short as f64) as usize;
        if width <= height { [long(height, width), edge] } else { [edge, long(width, height)] }
    }

    /// What each byte of a channel becomes.
    fn table(&self, channel: usize) -> [f32; 256] {
        let (mean, deviation) = (self.mean[channel] as f32, self.deviation[channel] as f32);
        std::array::from_fn(|byte| ((byte as f64 * (1.0 / 255.0)) as f32 - mean) / deviation)
    }
}

fn shortest(fields: &mut Fields, usual: usize) -> usize {
    match fields.take("size", Size::Side(usual)) {
        Size::Side(edge) | Size::Shortest { shortest_edge: edge } => edge,
        Size::Box { height, width } => {
            fields.fault(format!(
                "field `size`: expected a side or `shortest_edge`, found {height}×{width}: not supported"
            ));
            usual
        }
    }
}

fn crop(fields: &mut Fields, usual: [usize; 2]) -> [usize; 2] {
    match fields.take("crop_size", Size::Box { height: usual[0], width: usual[1] }) {
        Size::Side(side) | Size::Shortest { shortest_edge: side } => [side, side],
        Size::Box { height, width } => [height, width],
    }
}

/// What is supported in one way alone, and what changes nothing.
fn refuse(fields: &mut Fields) {
    for step in ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb"] {
        fields.neutral(step, &[json!(true)]);
    }
    let classes = PREPROCESSOR_CLASSES.map(Value::from);
    fields.neutral("image_processor_type", &classes);
    fields.neutral("feature_extractor_type", &classes);
    fields.neutral("resample", &[json!(3)]);
    fields.neutral("rescale_factor", &[json!(1.0 / 255.0)]);
    fields.neutral("use_square_size", &[json!(false)]);
    fields.neutral("default_to_square", &[json!(false)]);
    fields.neutral("do_pad", &[Value::Null, json!(false)]);
    [
        "processor_class",
        "_processor_class",
        "data_format",
        "input_data_format",
        "return_tensors",
        "device",
        "_valid_processor_keys",
    ]
    .iter()
    .for_each(|name| fields.ignored(name));
}
