//! `worlds`: contact sheets of the drawn world.

use anyhow::{Context as _, Result};
use cli::{Sheet, Split, WorldsAction};
use worlds::scenes::{self, World, sheets};

use crate::output::print;

/// Pictures of a sheet of examples.
const ROWS: usize = 8;
const COLUMNS: usize = 8;

/// Writes a contact sheet.
pub(crate) fn run(typed: &cli::Worlds) -> Result<u8> {
    let WorldsAction::Show { what, seed, split, side, output } = &typed.action;
    let world = World::new(*seed, split_of(*split));
    let rows = match what {
        Sheet::Attributes => sheets::attributes(*side),
        Sheet::Edits => sheets::edits(&world, ROWS, *side),
        Sheet::Examples => {
            let (pictures, captions) = sheets::examples(&world, ROWS, COLUMNS, *side);
            captions.iter().try_for_each(|caption| print(&format!("{caption}\n")))?;
            pictures
        }
    };
    let png = scenes::contact_sheet(&rows, (192 / side).max(1)).context("encoding the sheet")?;
    lab::atomic::write_bytes(output, &png)?;
    print(&format!("{}\n", output.display()))?;
    Ok(cli::exit::DONE)
}

fn split_of(typed: Split) -> scenes::Split {
    match typed {
        Split::Train => scenes::Split::Train,
        Split::Test => scenes::Split::Test,
        Split::HeldOut => scenes::Split::HeldOut,
    }
}
