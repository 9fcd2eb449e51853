//! diffGrad: An Optimization Method for Convolutional Neural Networks (Dubey et al., IEEE TNNLS 2020, arXiv 1909.11015).
//!
//! | paper | here |
//! |---|---|
//! | equations 11–13, 17–20, the baselines | [`optim`] |
//! | section V, equations 24–26, figure 4 | [`synthetic`] |
//! | section VI, ResNet50 on CIFAR | [`images`] |
//! | tables I–III as printed | [`published`] |
//! | what must hold exactly | [`identities`] |
//!
//! [`DIFFGRAD`] is what the runner knows of it. The crate's `README.md` maps every symbol and explains every metric.

pub mod experiment;
pub mod identities;
pub mod images;
pub mod optim;
mod paper;
pub mod published;
mod show;
pub mod synthetic;

pub use paper::DIFFGRAD;

/// The example of the crate's README, compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExamples;
