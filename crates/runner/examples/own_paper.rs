//! A paper of one's own behind the whole command line. The paper is the bench's toy, one file of its own: read that first.
//!
//! ```text
//! cargo run -p runner --example own_paper -- reproduce toy --out /tmp/toy
//! ```
//!
//! The tests of the command line run it where they need trials that end at once or go wrong.

#[path = "../../lab/examples/toy/paper.rs"]
mod paper;

use std::process::ExitCode;

use runner::Entry;

const QUICK: &str = include_str!("../../lab/examples/toy/toy.yaml");

fn main() -> ExitCode {
    runner::main(&[Entry { paper: &paper::Toy, experiments: &[("quick", QUICK)] }])
}
