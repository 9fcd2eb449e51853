//! Pictures with exact ground truth, and readers of real data sets.
//!
//! [`classification`] gives labelled 32×32 pictures: worlds that are drawn here, and CIFAR as published.
//! Nothing in this crate swaps one data set for another: what is absent is an error that says how to get it.

pub mod classification;
mod error;

pub use error::DataError;
