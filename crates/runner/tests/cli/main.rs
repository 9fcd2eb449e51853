//! The command line as a person meets it: through the built program, in a scratch repository, with no network and no data.
#![allow(clippy::unwrap_used)]

mod commands;
mod config;
mod data;
mod edit;
mod kill;
mod outputs;
mod pictures;
mod places;
mod support;
mod trace;
mod train;
mod trials;
