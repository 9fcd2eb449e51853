//! Named activation sites: look at an activation, replace all or some rows of it, or stop the pass there.
//!
//! Every model's forward pass takes a [`Tap`] and offers it each activation under its [`Site`]. A site is named by the path of
//! the module that gives it, as in diffusers and transformers, so that the name of a weight's module is the name of its
//! activation. Activations that are no module's output (attention maps, the residual stream behind an addition) carry the path
//! of the module they belong to and a suffix.
//!
//! [`NoTap`] costs one virtual call a site.

mod ready;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

pub use ready::{Choice, CopyRows, Record, Replace, StopAt, copy_rows};

/// What an activation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A module's output that is the residual stream: what a ResNet block gives, a transformer block, `conv_in`.
    Stream,
    /// A module's output that is added to the residual stream after it: attention, feed-forward, a ResNet's last convolution.
    Branch,
    /// Queries (B, Tq, heads·D), before they are split into heads.
    Query,
    /// Keys (B, Tk, heads·D).
    Key,
    /// Values (B, Tk, heads·D).
    Value,
    /// Attention probabilities (B, heads, Tq, Tk). Asking for them makes them: without a tap they never exist.
    Map,
    /// The residual stream just after the module's branch was added to it.
    After,
    /// The output of a whole block, or of the model's ends.
    Feature,
}

impl Kind {
    /// What stands behind the path where the activation is not the module's own output.
    fn suffix(self) -> &'static str {
        match self {
            Self::Map => "#map",
            Self::After => "#stream",
            _ => "",
        }
    }
}

/// The name of an activation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Site(Arc<(String, Kind)>);

impl Site {
    /// The activation of `kind` at the module `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, kind: Kind) -> Self {
        Self(Arc::new((path.into(), kind)))
    }

    /// The module's path: `down_blocks.0.attentions.1.transformer_blocks.0.attn2`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.0.0
    }

    /// What the activation is.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.0.1
    }

    /// Offers an activation to a tap: what the pass goes on with. Models call this at each of their sites.
    ///
    /// # Errors
    /// Where the tap fails, stops the pass, or gives a tensor that does not fit.
    pub fn offer(&self, value: Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        if !tap.wants(self) {
            return Ok(value);
        }
        match tap.visit(self, &value)? {
            Action::Keep => Ok(value),
            Action::Replace(other) => {
                check(self, &value, &other)?;
                Ok(other)
            }
            Action::Stop => bail!("the tap stopped the pass at {self}; call it through `taps::until_stop`"),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.path(), self.kind().suffix())
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({:?})", self.kind())
    }
}

/// A configuration whose model offers activations.
pub trait Sited {
    /// Their names, in the order of a pass.
    ///
    /// # Errors
    /// Where the configuration makes no model.
    fn sites(&self) -> Result<Vec<Site>>;
}

/// The activations that the model of `config` offers to a tap, in the order of a pass; nothing is allocated.
///
/// # Errors
/// Where the configuration makes no model.
pub fn sites(config: &(impl Sited + ?Sized)) -> Result<Vec<Site>> {
    config.sites()
}

/// The activation of `config`'s model that is called `name`, as [`Site`] is displayed. A tap on a site that a model does not have would
/// never be called, and say nothing.
///
/// # Errors
/// Where there is no such activation: names the nearest.
pub fn site(config: &(impl Sited + ?Sized), name: &str) -> Result<Site> {
    let all = sites(config)?;
    if let Some(site) = all.iter().find(|site| site.to_string() == name) {
        return Ok(site.clone());
    }
    let nearest = all.iter().map(Site::to_string).min_by_key(|other| strsim::levenshtein(name, other));
    bail!(
        "there is no activation `{name}`; did you mean `{}`? `taps::sites` lists all {}",
        nearest.unwrap_or_default(),
        all.len()
    )
}

/// What a tap wants done with an activation.
pub enum Action {
    /// Go on with it.
    Keep,
    /// Go on with this one in its place: of the same shape, dtype and device.
    Replace(Tensor),
    /// End the pass here; see [`until_stop`].
    Stop,
}

/// Something that watches or changes a forward pass.
pub trait Tap {
    /// Whether [`Self::visit`] should be called at `site`.
    fn wants(&self, site: &Site) -> bool;

    /// Called once a pass at each site that it wants, in the order of the pass.
    ///
    /// # Errors
    /// Where the tap cannot do its work; the pass ends with this error.
    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action>;
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoTap;

impl Tap for NoTap {
    fn wants(&self, _: &Site) -> bool {
        false
    }

    fn visit(&mut self, _: &Site, _: &Tensor) -> Result<Action> {
        Ok(Action::Keep)
    }
}

fn check(site: &Site, value: &Tensor, other: &Tensor) -> Result<()> {
    if value.dims() != other.dims() || value.dtype() != other.dtype() {
        bail!(
            "{site}: the tap was handed {:?} {:?} and gave {:?} {:?} back",
            value.dtype(),
            value.dims(),
            other.dtype(),
            other.dims()
        );
    }
    if !value.device().same_device(other.device()) {
        bail!("{site}: the tap gave a tensor on another device than it was handed");
    }
    Ok(())
}

/// Runs a pass that a tap may stop: `None` where it did.
///
/// # Errors
/// Those of the pass.
pub fn until_stop<T>(tap: &mut dyn Tap, pass: impl FnOnce(&mut dyn Tap) -> Result<T>) -> Result<Option<T>> {
    let mut watched = Watched { tap, stopped: false };
    match pass(&mut watched) {
        Err(_) if watched.stopped => Ok(None),
        result => result.map(Some),
    }
}

/// Remembers that the tap stopped the pass.
struct Watched<'a> {
    tap: &'a mut dyn Tap,
    stopped: bool,
}

impl Tap for Watched<'_> {
    fn wants(&self, site: &Site) -> bool {
        self.tap.wants(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        let action = self.tap.visit(site, value)?;
        self.stopped |= matches!(action, Action::Stop);
        Ok(action)
    }
}
