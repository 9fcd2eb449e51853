//! What is traced: the components of the UNet and the states of the text encoder.

use std::fmt;

use anyhow::{Result, bail};
use sd_core::models::clip::TextConfig;
use sd_core::models::unet;
use sd_core::taps::{Kind, Site, sites};
use serde::{Deserialize, Serialize};

/// The kinds of the trace set A (specification, section 4): all residual blocks and, of every transformer block, both attentions and the
/// feed-forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// A residual block's output: the whole residual stream.
    Resnet,
    /// A self-attention's output, which is added to the stream after it.
    Attn1,
    /// A cross-attention's output, likewise.
    Attn2,
    /// A feed-forward's output, likewise.
    Ff,
}

impl Part {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Resnet, Self::Attn1, Self::Attn2, Self::Ff];

    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resnet => "resnet",
            Self::Attn1 => "attn1",
            Self::Attn2 => "attn2",
            Self::Ff => "ff",
        }
    }
}

/// The way down, the middle, the way up.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// `down_blocks`.
    Down,
    /// `mid_block`.
    Mid,
    /// `up_blocks`.
    Up,
}

impl Group {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::Down, Self::Mid, Self::Up];

    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Mid => "mid",
            Self::Up => "up",
        }
    }

    pub(crate) fn of(path: &str) -> Self {
        match path.split('_').next() {
            Some("down") => Self::Down,
            Some("mid") => Self::Mid,
            _ => Self::Up,
        }
    }
}

/// One of the components of the UNet that are traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component {
    /// Where its activation is.
    pub site: Site,
    /// What it is.
    pub part: Part,
    /// Where in the network it lies.
    pub group: Group,
}

impl fmt::Display for Component {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.site)
    }
}

/// How a component's effect is read: T3 of the specification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reading {
    /// Each module's own output, as the paper takes them: of residual blocks that is the whole stream, of the others a summand.
    #[default]
    Module,
    /// Summands alone: of residual blocks what is added to their shortcut.
    Branch,
    /// The residual stream behind every one.
    Stream,
}

/// The trace set A of a UNet, in the order of a pass: 70 components for Stable Diffusion 1.x, of which 54 without feed-forwards.
///
/// # Errors
/// Where the configuration makes no network.
pub fn components(config: &unet::Config, reading: Reading) -> Result<Vec<Component>> {
    let all = sites(config)?;
    let last = |path: &str| path.rsplit('.').next().unwrap_or_default().to_owned();
    let part = |site: &Site| -> Option<Part> {
        let (path, kind) = (site.path(), site.kind());
        let is_resnet = |path: &str| path.rsplit('.').nth(1) == Some("resnets");
        match (reading, kind) {
            (Reading::Module | Reading::Stream, Kind::Stream) if is_resnet(path) => Some(Part::Resnet),
            (Reading::Branch, Kind::Branch) => {
                let block = path.strip_suffix(".conv2").filter(|block| is_resnet(block));
                block.map(|_| Part::Resnet).or_else(|| branch(&last(path)))
            }
            (Reading::Module, Kind::Branch) => branch(&last(path)),
            (Reading::Stream, Kind::After) => branch(&last(path)),
            // Behind the feed-forward the stream is the transformer block's own output.
            (Reading::Stream, Kind::Stream) if path.rsplit('.').nth(1) == Some("transformer_blocks") => {
                Some(Part::Ff)
            }
            _ => None,
        }
    };
    let component = |site: Site| {
        let part = part(&site)?;
        Some(Component { part, group: Group::of(site.path()), site })
    };
    Ok(all.into_iter().filter_map(component).collect())
}

fn branch(name: &str) -> Option<Part> {
    match name {
        "attn1" => Some(Part::Attn1),
        "attn2" => Some(Part::Attn2),
        "ff" => Some(Part::Ff),
        _ => None,
    }
}

/// The components that come before any cross-attention: at a given step they depend on the latents alone (trap T5).
#[must_use]
pub fn before_text(components: &[Component]) -> Vec<Component> {
    components.iter().take_while(|one| one.part != Part::Attn2).cloned().collect()
}

/// Neighbouring components of one kind, restored together: `width` of them around each, as ROME does; near either end the
/// window is moved inwards, where ROME's is cut, so that all restore equally many.
#[must_use]
pub fn window(components: &[Component], centre: usize, width: usize) -> Vec<Site> {
    let Some(own) = components.get(centre) else { return Vec::new() };
    let alike: Vec<usize> =
        (0..components.len()).filter(|&index| components[index].part == own.part).collect();
    let at = alike.iter().position(|&index| index == centre).unwrap_or(0);
    let first = at.saturating_sub(width.saturating_sub(1) / 2).min(alike.len().saturating_sub(width));
    alike.iter().skip(first).take(width.max(1)).map(|&index| components[index].site.clone()).collect()
}

/// The component that is called `name`.
///
/// # Errors
/// Where there is none: the message has the nearest names.
pub fn named<'a>(components: &'a [Component], name: &str) -> Result<&'a Component> {
    if let Some(found) = components.iter().find(|one| one.to_string() == name) {
        return Ok(found);
    }
    let mut all: Vec<String> = components.iter().map(Component::to_string).collect();
    all.sort_by_key(|other| strsim::levenshtein(name, other));
    all.truncate(3);
    bail!(
        "no component is called `{name}`\n  expected: one of the {} that are traced\n  help: the nearest are {}",
        components.len(),
        all.join(", ")
    )
}

/// The kinds of states of the text encoder.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum TextPart {
    /// The output of a layer's self-attention, before it is added to the stream.
    SelfAttn,
    /// The output of a layer's MLP, likewise.
    Mlp,
    /// The stream behind the layer (ROME's `kind=None`).
    Block,
}

impl TextPart {
    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::SelfAttn => "self_attn",
            Self::Mlp => "mlp",
            Self::Block => "block",
        }
    }
}

/// The hidden state of one token at one place of the text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TextState {
    /// Of what.
    pub part: TextPart,
    /// Layer, from 0.
    pub layer: usize,
    /// Position of the token in the window, begin-of-text being 0.
    pub token: usize,
}

impl TextState {
    /// The activation that holds it.
    #[must_use]
    pub fn site(&self) -> Site {
        let layer = format!("text_model.encoder.layers.{}", self.layer);
        match self.part {
            TextPart::SelfAttn => Site::new(format!("{layer}.self_attn"), Kind::Branch),
            TextPart::Mlp => Site::new(format!("{layer}.mlp"), Kind::Branch),
            TextPart::Block => Site::new(layer, Kind::Stream),
        }
    }
}

/// The states of `parts` at the positions `tokens`, part by part, layer by layer.
#[must_use]
pub fn text_states(config: &TextConfig, parts: &[TextPart], tokens: &[usize]) -> Vec<TextState> {
    let mut all = Vec::new();
    for &part in parts {
        for layer in 0..config.num_hidden_layers {
            all.extend(tokens.iter().map(|&token| TextState { part, layer, token }));
        }
    }
    all
}
