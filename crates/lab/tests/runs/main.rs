//! Whole runs of a toy paper as processes, as a user starts them: resumed, interrupted, sharded, broken, refused.

#![allow(clippy::unwrap_used)]

mod end;
mod folder;
mod resume;
mod toy;
