//! Diff-QuickFix: Basu, Zhao, Morariu, Feizi, Manjunatha, "Localizing and Editing Knowledge in Text-to-Image Generative Models", ICLR 2024,
//! the editing half.
//!
//! One matrix W of the text encoder, the output projection of one layer's self-attention, is changed so that a caption c_k acts as
//! another caption c_v does:
//!
//! ```text
//! min_W  Σ_i w_i ‖W k_i − v_i‖² + λ ‖W − W₀‖²      k_i: input of W at a token of c_k      v_i = W₀ k'_i: output at the token of c_v
//! ΔW = Rᵀ (λ I + K Kᵀ)⁻¹ K = Rᵀ K (λ I + Kᵀ K)⁻¹    R = V − K W₀ᵀ
//! ```
//!
//! (equation 8 of the paper in delta form). The change lives in the row space of the keys, so what is orthogonal to all of them keeps its
//! output exactly. Keys and values are always those of the original weights: no key depends on W, and so edits are joint whatever their
//! order ([`Statistics`]).

pub mod collect;
pub mod edit;
pub mod encoder;
pub mod experiment;
pub mod folder;
pub mod methods;
pub mod model;
mod paper;
pub mod rows;
mod run;
mod show;
pub mod solve;
pub mod suites;

pub use collect::{Attended, collect};
pub use edit::{Edit, Solved, leakage};
pub use encoder::{Encoder, InMemory, Keys, Projection};
pub use paper::DIFF_QUICKFIX;
pub use rows::{Bias, Change, Rule, Settings, Tokens};
pub use solve::{Statistics, System};
