//! `report`: tables, figures, verdicts and the page again, from the trials that are done.

use anyhow::Result;

use crate::output::print;
use crate::papers::{self, Entry};
use crate::places;

/// Writes the report of one paper again.
pub(crate) fn run(all: &[Entry], typed: &cli::Report) -> Result<u8> {
    for entry in papers::named(all, &typed.paper)? {
        let out = places::results(entry.paper.id(), typed.scale, typed.out.as_deref());
        let document = places::experiment_of(entry, typed.scale, &out)?;
        print(&format!("{}\n", lab::run::report(entry.paper, &document, &out)?))?;
    }
    Ok(cli::exit::DONE)
}
