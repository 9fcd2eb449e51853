//! The optimisers: diffGrad as written and as run, its control and variants, and the six that the paper compares it with.
//!
//! # The family
//!
//! `θ` parameter, `g` gradient of the mean loss with `weight_decay·θ` added, `p` the gradient of the step before (0 at first),
//! `t = 1, 2, …`, `σ(x) = 1/(1+e^{-x})`. All operations are element-wise. Adam's family shares
//!
//! ```text
//! m ← β1·m + (1−β1)·g        v ← β2·v + (1−β2)·g²        s = lr·√(1−β2ᵗ)/(1−β1ᵗ)
//! ```
//!
//! | rule | update | state | source |
//! |---|---|---|---|
//! | `sgd` | `b ← momentum·b + g; θ ← θ − lr·b` | b | torch.optim.SGD |
//! | `adagrad` | `S ← S + g²; θ ← θ − lr·g/(√S + eps)` | S | torch.optim.Adagrad |
//! | `adadelta` | `E ← ρE + (1−ρ)g²; d = g·√(U+eps)/√(E+eps); U ← ρU + (1−ρ)d²; θ ← θ − lr·d` | E, U | torch.optim.Adadelta |
//! | `rmsprop` | `E ← αE + (1−α)g²; θ ← θ − lr·g/(√E + eps)` | E | torch.optim.RMSprop |
//! | `adam` | `θ ← θ − s·m/(√v + eps)` | m, v | torch.optim.Adam; [`Epsilon`] tells where the family adds eps |
//! | `amsgrad` | `w ← max(w, v)`, then as `adam` with `w` | m, v, w | torch.optim.Adam(amsgrad=True) |
//! | `diffgrad` | `ξ = σ(\|p − g\|); p ← g; θ ← θ − s·ξ·m/(√v + eps)` | m, v, p | paper, equations 17–20; fixed public code |
//! | `diffgrad_as_run` | as `diffgrad`, with `ξ = σ(\|g\|)` at `t = 1`, then `1/2` | m, v | public code before the fix |
//! | `half_step` | as `diffgrad`, with `ξ = 1/2` | m, v | control: Adam(lr/2) |
//! | `diffgrad1` | `ξ = σ(p − g)` | m, v, p | paper, section VII-B |
//! | `diffgrad2` | `ξ = 9σ(\|p − g\|/2) − 4` | m, v, p | section VII-B, its parenthesis put right |
//! | `diffgrad3`, `4`, `5` | `ξ = σ(n·\|p − g\| − μ)`, `n = ν, ν², √ν` | m, v, p | section VII-B, **unresolved** |
//!
//! Of the variants 3 to 5 the paper says only that `μ` and `ν` are mean and standard deviation of the absolute gradients of the
//! batch; no code was published. Here: per tensor, population deviation, over `|g|` of this step. The range printed for them,
//! `[1/2, 1]`, cannot hold: without a change of gradient `ξ = σ(−μ) < 1/2`.
//!
//! # Why there are three diffGrads
//!
//! The code behind the published image tables kept the gradient buffer itself as `p`, and PyTorch wrote the next gradient into
//! the same buffer: from the second step on `p − g = 0`. That is `diffgrad_as_run`. Here `p` is always a copy; a test feeds one
//! buffer overwritten in place. And since `ξ` is near `1/2` on any large network, every comparison needs `half_step`.
//!
//! # How it is built
//!
//! `laws` holds what a step does to one element; [`fused`] runs it over all parameters in one pass, on slices; [`Optimiser`]
//! puts it over candle variables in place; [`mod@reference`] says the same slowly, for tests. Sparse gradients do not exist in
//! candle, so nothing is said about them.

mod config;
pub mod cuda;
pub mod fused;
mod laws;
mod lend;
mod optimiser;
mod real;
pub mod reference;
mod save;
mod spread;
mod stats;
mod training;

pub use config::{ConfigFault, Epsilon, OptimiserConfig, RuleName};
pub use optimiser::{OptimError, Optimiser};
pub use real::Real;
pub use stats::XiStats;
