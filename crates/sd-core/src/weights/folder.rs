//! Pipelines as diffusers keeps them: a folder with `model_index.json` and a folder for each component.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use candle_core::DType;
use serde_json::Value;

use super::error::{WeightsError, io, listed, names_in};
use super::{Weights, find};

/// Longest JSON file that is read, in bytes. (A tokenizer's vocabulary has 1 MB.)
const LONGEST: u64 = 64 << 20;
/// Name of the file that says what a pipeline consists of.
pub(super) const INDEX: &str = "model_index.json";

/// What a pipeline does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// `StableDiffusionPipeline`: text to picture.
    TextToImage,
    /// `StableDiffusionImg2ImgPipeline`: a picture changed after a text.
    ImageToImage,
    /// `StableDiffusionInpaintPipeline`: a part of a picture changed after a text.
    Inpaint,
}

impl Pipeline {
    const ALL: [Self; 3] = [Self::TextToImage, Self::ImageToImage, Self::Inpaint];

    /// The class in diffusers.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::TextToImage => "StableDiffusionPipeline",
            Self::ImageToImage => "StableDiffusionImg2ImgPipeline",
            Self::Inpaint => "StableDiffusionInpaintPipeline",
        }
    }
}

/// A part of a pipeline that is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Component {
    /// The denoiser.
    Unet,
    /// The autoencoder.
    Vae,
    /// The text encoder.
    TextEncoder,
    /// The tokenizer.
    Tokenizer,
    /// The noise schedule and sampler.
    Scheduler,
}

impl Component {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Unet, Self::Vae, Self::TextEncoder, Self::Tokenizer, Self::Scheduler];

    /// Its name in the index, which is its folder's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::Vae => "vae",
            Self::TextEncoder => "text_encoder",
            Self::Tokenizer => "tokenizer",
            Self::Scheduler => "scheduler",
        }
    }

    /// The library whose class it is.
    pub(super) fn library(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae | Self::Scheduler => "diffusers",
            Self::TextEncoder | Self::Tokenizer => "transformers",
        }
    }

    /// Name of its configuration file.
    #[must_use]
    pub fn config_name(self) -> &'static str {
        match self {
            Self::Unet | Self::Vae | Self::TextEncoder => "config.json",
            Self::Tokenizer => "tokenizer_config.json",
            Self::Scheduler => "scheduler_config.json",
        }
    }

    /// Name of its file of weights, for those that have weights.
    #[must_use]
    pub fn weights_name(self) -> Option<&'static str> {
        match self {
            Self::Unet | Self::Vae => Some("diffusion_pytorch_model.safetensors"),
            Self::TextEncoder => Some("model.safetensors"),
            Self::Tokenizer | Self::Scheduler => None,
        }
    }

    /// Classes that can be used; of schedulers the sampler decides.
    fn classes(self) -> &'static [&'static str] {
        match self {
            Self::Unet => &["UNet2DConditionModel"],
            Self::Vae => &["AutoencoderKL"],
            Self::TextEncoder => &["CLIPTextModel", "CLIPTextModelWithProjection"],
            Self::Tokenizer => &["CLIPTokenizer", "CLIPTokenizerFast"],
            Self::Scheduler => &[],
        }
    }
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A pipeline's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    pipeline: Pipeline,
    classes: BTreeMap<Component, String>,
    unused: Vec<String>,
}

impl Folder {
    /// Reads `model_index.json` in `path`.
    ///
    /// # Errors
    /// Where there is none, it is broken, or it names a pipeline or a component's class that is not supported.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        let index = path.join(INDEX);
        if !index.is_file() {
            return Err(no_index(path));
        }
        let Value::Object(entries) = json(&index)? else {
            let expected = "a JSON object of components";
            return Err(WeightsError::broken(
                &index,
                "the file",
                expected,
                "another value",
                "fetch it again",
            ));
        };
        let pipeline = pipeline(&index, entries.get("_class_name"))?;
        let mut folder =
            Self { path: path.to_owned(), pipeline, classes: BTreeMap::new(), unused: Vec::new() };
        for (name, value) in &entries {
            folder.note(&index, name, value)?;
        }
        Ok(folder)
    }

    /// Takes note of one line of the index.
    fn note(&mut self, index: &Path, name: &str, value: &Value) -> Result<(), WeightsError> {
        // Settings are no lists; a component that was left out is `[null, null]`.
        let Some([_, class]) = value.as_array().map(Vec::as_slice) else { return Ok(()) };
        let Some(class) = class.as_str() else { return Ok(()) };
        let Some(component) = Component::ALL.into_iter().find(|component| component.name() == name) else {
            self.unused.push(name.to_owned());
            return Ok(());
        };
        let known = component.classes();
        if !known.is_empty() && !known.contains(&class) {
            let action = "this class is not supported here";
            return Err(WeightsError::broken(index, format!("`{name}`"), known.join(" or "), class, action));
        }
        self.classes.insert(component, class.to_owned());
        Ok(())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the pipeline does.
    #[must_use]
    pub fn pipeline(&self) -> Pipeline {
        self.pipeline
    }

    /// Class of a component, as the index says; none where the pipeline has none.
    #[must_use]
    pub fn class_of(&self, component: Component) -> Option<&str> {
        self.classes.get(&component).map(String::as_str)
    }

    /// Components that are there and not used here (`safety_checker`, `feature_extractor`).
    #[must_use]
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// Checks that all of `components` are there.
    ///
    /// # Errors
    /// [`WeightsError::Absent`] with every one that is not, and what is there instead.
    pub fn require(&self, components: &[Component]) -> Result<(), WeightsError> {
        let is_here = |component: &Component| {
            self.classes.contains_key(component) && self.path.join(component.name()).is_dir()
        };
        let absent: Vec<&Component> = components.iter().filter(|component| !is_here(component)).collect();
        if absent.is_empty() {
            return Ok(());
        }
        let expected = format!("the pipeline's {} (in {INDEX} and as a folder)", listed(&absent, 5));
        let action = "fetch the missing folders from where this pipeline came from";
        Err(WeightsError::absent(&self.path, expected, names_in(&self.path), action))
    }

    /// Folder of a component.
    ///
    /// # Errors
    /// As [`Self::require`].
    pub fn folder_of(&self, component: Component) -> Result<PathBuf, WeightsError> {
        self.require(&[component])?;
        Ok(self.path.join(component.name()))
    }

    /// A component's configuration: the text of its JSON file.
    ///
    /// # Errors
    /// Where the component or the file is absent or cannot be read.
    pub fn config(&self, component: Component) -> Result<String, WeightsError> {
        text(&self.config_path(component)?)
    }

    /// Where a component's configuration is; for messages about its fields.
    ///
    /// # Errors
    /// As [`Self::require`].
    pub fn config_path(&self, component: Component) -> Result<PathBuf, WeightsError> {
        Ok(self.folder_of(component)?.join(component.config_name()))
    }

    /// A component's weights; where there is a half-precision variant, that one if `dtype` is `f16` or there is no other.
    ///
    /// # Errors
    /// Where the component is absent, and as [`Weights::open`].
    pub fn weights(&self, component: Component, dtype: DType) -> Result<Weights, WeightsError> {
        Weights::open_for(&self.folder_of(component)?, Some(dtype))
    }
}

fn no_index(path: &Path) -> WeightsError {
    let expected = format!("a pipeline's folder, with {INDEX}");
    let is_component = path.join("config.json").is_file() || find::weights(path, None).is_ok();
    let action = if path.is_file() {
        "give the folder of a pipeline in diffusers' layout; one file of weights is not a pipeline (diffusers' \
         from_single_file(…).save_pretrained(…) makes the folder)"
    } else if is_component {
        "this is the folder of one component: give the folder around it"
    } else {
        "give the folder of a pipeline in diffusers' layout (unet/, vae/, text_encoder/, tokenizer/, scheduler/)"
    };
    let found = if path.is_file() { "a file".to_owned() } else { names_in(path) };
    WeightsError::absent(path, expected, found, action)
}

fn pipeline(index: &Path, class: Option<&Value>) -> Result<Pipeline, WeightsError> {
    let class = class.and_then(Value::as_str).unwrap_or("no class");
    Pipeline::ALL.into_iter().find(|pipeline| pipeline.class() == class).ok_or_else(|| {
        let expected = Pipeline::ALL.map(Pipeline::class).join(" or ");
        let action = "this pipeline is not supported here";
        WeightsError::broken(index, "`_class_name`", expected, class, action)
    })
}

/// Reads a text file of bounded length.
pub(super) fn text(path: &Path) -> Result<String, WeightsError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    if !path.exists() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let action = "fetch this file from where the rest of the folder came from";
        return Err(WeightsError::absent(folder, name, names_in(folder), action));
    }
    let length = io(path, "look at it", std::fs::metadata(path))?.len();
    if length > LONGEST {
        let expected = format!("at most {LONGEST} bytes");
        return Err(WeightsError::broken(path, "the file", expected, length, "is it the right file?"));
    }
    io(path, "read it", std::fs::read_to_string(path))
}

fn json(path: &Path) -> Result<Value, WeightsError> {
    let text = text(path)?;
    serde_json::from_str(&text).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        WeightsError::broken(path, place, "JSON", error, "the file is damaged: fetch it again")
    })
}
