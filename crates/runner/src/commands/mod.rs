//! One module a command: each turns what was typed into what is meant, and does it.

pub(crate) mod bench;
pub(crate) mod claims;
pub(crate) mod datasets;
mod download;
pub(crate) mod edit;
pub(crate) mod forward;
pub(crate) mod generate;
pub(crate) mod gpu;
pub(crate) mod list;
mod machine;
mod model;
pub(crate) mod report;
pub(crate) mod reproduce;
pub(crate) mod schema;
pub(crate) mod trace;
pub(crate) mod train;
pub(crate) mod trial;
pub(crate) mod worlds;
