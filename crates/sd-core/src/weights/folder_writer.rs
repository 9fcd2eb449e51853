//! Writes pipelines that diffusers and transformers load.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{Result as TensorResult, Tensor};
use serde_json::{Map, Value, json};

use super::error::{WeightsError, io, names_in};
use super::folder::INDEX;
use super::write::{Planned, write_streamed, write_tensors};
use super::{Component, Pipeline, whole};

/// The version of diffusers whose layout is written.
const DIFFUSERS: &str = "0.42.1";

/// A pipeline's folder being written. It is one only when [`FolderWriter::finish`] has written its index.
#[derive(Debug)]
pub struct FolderWriter {
    path: PathBuf,
    pipeline: Pipeline,
    classes: BTreeMap<Component, String>,
}

impl FolderWriter {
    /// Begins a folder, which must be new or empty.
    ///
    /// # Errors
    /// Where it holds something already, or cannot be made.
    pub fn create(path: &Path, pipeline: Pipeline) -> Result<Self, WeightsError> {
        io(path, "make this folder", std::fs::create_dir_all(path))?;
        let empty = io(path, "read this folder", std::fs::read_dir(path))?.next().is_none();
        if !empty {
            let action = "files of two models would mix: give another folder, or empty this one";
            return Err(WeightsError::absent(path, "a new or empty folder", names_in(path), action));
        }
        Ok(Self { path: path.to_owned(), pipeline, classes: BTreeMap::new() })
    }

    /// Writes a component that has weights, out of memory.
    ///
    /// `config` is its `config.json`; its class there (`_class_name` or `architectures`) stands in the index too.
    ///
    /// # Errors
    /// For a component without weights or a configuration without a class; as [`write_tensors`].
    pub fn model(
        &mut self,
        component: Component,
        config: &Value,
        tensors: &BTreeMap<String, Tensor>,
    ) -> Result<(), WeightsError> {
        let (path, class) = self.begin_model(component, config)?;
        write_tensors(&path, tensors)?;
        self.written(component, class)
    }

    /// As [`Self::model`], asking for one tensor at a time.
    ///
    /// # Errors
    /// As [`Self::model`].
    pub fn model_streamed(
        &mut self,
        component: Component,
        config: &Value,
        plan: Vec<Planned>,
        tensor: impl FnMut(&str) -> TensorResult<Tensor>,
    ) -> Result<(), WeightsError> {
        let (path, class) = self.begin_model(component, config)?;
        write_streamed(&path, plan, tensor)?;
        self.written(component, class)
    }

    /// The component is whole.
    fn written(&mut self, component: Component, class: String) -> Result<(), WeightsError> {
        self.classes.insert(component, class);
        Ok(())
    }

    /// Writes the configuration; says where the weights go, and of what class they are.
    fn begin_model(&self, component: Component, config: &Value) -> Result<(PathBuf, String), WeightsError> {
        let folder = self.path.join(component.name());
        let Some(name) = component.weights_name() else {
            let expected = "a component with weights (unet, vae or text_encoder)";
            let action = "write it with `files` or `scheduler`";
            return Err(WeightsError::absent(&folder, expected, component.name(), action));
        };
        let class = self.configuration(component, config)?;
        Ok((folder.join(name), class))
    }

    /// Writes the scheduler: its configuration is all of it.
    ///
    /// # Errors
    /// For a configuration without `_class_name`, and where the system refuses.
    pub fn scheduler(&mut self, config: &Value) -> Result<(), WeightsError> {
        let class = self.configuration(Component::Scheduler, config)?;
        self.written(Component::Scheduler, class)
    }

    /// Writes a component's configuration; gives the class that it names.
    fn configuration(&self, component: Component, config: &Value) -> Result<String, WeightsError> {
        let folder = self.path.join(component.name());
        let class = config["_class_name"].as_str().or_else(|| config["architectures"][0].as_str());
        let class = class.ok_or_else(|| {
            let path = folder.join(component.config_name());
            let expected = "the class of the component (`_class_name` or `architectures`)";
            WeightsError::broken(&path, "its fields", expected, "none", "name it in the configuration")
        })?;
        io(&folder, "make this folder", std::fs::create_dir_all(&folder))?;
        whole::write_bytes(&folder.join(component.config_name()), &pretty(config))?;
        Ok(class.to_owned())
    }

    /// Writes the tokenizer: the files it consists of, by name.
    ///
    /// # Errors
    /// For a name that is no plain file name, and where the system refuses.
    pub fn tokenizer<'a>(
        &mut self,
        class: &str,
        files: impl IntoIterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<(), WeightsError> {
        let folder = self.path.join(Component::Tokenizer.name());
        io(&folder, "make this folder", std::fs::create_dir_all(&folder))?;
        for (name, bytes) in files {
            if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', ':', '\0']) {
                let action = "give the name of a file in the tokenizer's folder";
                return Err(WeightsError::broken(
                    &folder,
                    "its files",
                    "a plain name",
                    format!("{name:?}"),
                    action,
                ));
            }
            whole::write_bytes(&folder.join(name), bytes)?;
        }
        self.written(Component::Tokenizer, class.to_owned())
    }

    /// Writes the index, after which the folder is a pipeline.
    ///
    /// # Errors
    /// Where a component was not written, or the system refuses.
    pub fn finish(self) -> Result<(), WeightsError> {
        let absent: Vec<&str> = Component::ALL
            .iter()
            .filter(|part| !self.classes.contains_key(part))
            .map(|part| part.name())
            .collect();
        if !absent.is_empty() {
            let action = format!("write also {}", absent.join(", "));
            return Err(WeightsError::absent(
                &self.path,
                "all five components",
                names_in(&self.path),
                action,
            ));
        }
        whole::write_bytes(&self.path.join(INDEX), &pretty(&self.index()))
    }

    fn index(&self) -> Value {
        let mut index = Map::new();
        index.insert("_class_name".to_owned(), json!(self.pipeline.class()));
        index.insert("_diffusers_version".to_owned(), json!(DIFFUSERS));
        for (component, class) in &self.classes {
            index.insert(component.name().to_owned(), json!([component.library(), class]));
        }
        for left_out in ["feature_extractor", "image_encoder", "safety_checker"] {
            index.insert(left_out.to_owned(), json!([null, null]));
        }
        index.insert("requires_safety_checker".to_owned(), json!(false));
        Value::Object(index)
    }
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
