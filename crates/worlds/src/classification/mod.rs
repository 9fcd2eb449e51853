//! Labelled pictures for classifiers: two drawn worlds and two real data sets, all 32×32 RGB.

mod set;
pub mod shapes;
mod sheet;

use std::path::Path;

pub use set::{CHANNELS, ImageSet, PICTURE_BYTES, SIDE, Split};
pub use sheet::contact_sheet;

use crate::DataError;

/// Every data set [`load`] knows.
pub const NAMES: [&str; 2] = ["shapes10", "shapes100"];

/// Loads the training and the test set of `name`; real data is looked for below `root`.
///
/// # Errors
/// Where the name is unknown, the data is absent, or a file breaks a rule of its format.
pub fn load(name: &str, _root: &Path) -> Result<(ImageSet, ImageSet), DataError> {
    let recipe = recipe(name)?;
    Ok((recipe.draw(Split::Train), recipe.draw(Split::Test)))
}

/// A digest of the data set's content or files, for the keys of trials.
///
/// # Errors
/// As [`load`].
pub fn digest(name: &str, _root: &Path) -> Result<String, DataError> {
    Ok(recipe(name)?.digest().to_owned())
}

/// Checks that the data set is there.
///
/// # Errors
/// As [`load`].
pub fn check(name: &str, _root: &Path) -> Result<(), DataError> {
    recipe(name).map(|_| ())
}

fn recipe(name: &str) -> Result<shapes::Recipe, DataError> {
    shapes::Recipe::named(name).ok_or_else(|| DataError::Unknown {
        name: name.to_owned(),
        known: NAMES.join(", "),
        hint: String::new(),
    })
}
