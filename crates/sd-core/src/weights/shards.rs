//! A model in several files: `*.safetensors.index.json` says which tensor lies in which.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};

use super::error::{WeightsError, io, listed};
use super::file::Mapped;

/// Longest index that is read, in bytes. (One of a thousand tensors has 100 kB.)
const LONGEST: u64 = 100_000_000;
/// Names of a kind that a message lists.
const LISTED: usize = 20;

/// Opens every file that the index at `path` names; they lie in its folder.
pub(super) fn open(path: &Path) -> Result<(Vec<Mapped>, BTreeMap<String, usize>), WeightsError> {
    let index = read(path)?;
    let files: BTreeSet<&String> = index.weight_map.0.values().collect();
    let files: Vec<&String> = files.into_iter().collect();
    let folder = path.parent().unwrap_or(Path::new("."));
    let places = places(path, folder, &files)?;
    let parts: Vec<Mapped> = places.iter().map(|place| Mapped::open(place)).collect::<Result<_, _>>()?;
    let place_of = |file: &String| files.binary_search(&file).unwrap_or_default();
    let mut owners: BTreeMap<String, usize> =
        index.weight_map.0.iter().map(|(name, file)| (name.clone(), place_of(file))).collect();
    holds_what_it_should(path, &parts, &owners)?;
    add_unlisted(path, &parts, &mut owners)?;
    Ok((parts, owners))
}

#[derive(serde::Deserialize)]
struct Index {
    weight_map: WeightMap,
}

fn read(path: &Path) -> Result<Index, WeightsError> {
    let length = io(path, "look at it", std::fs::metadata(path))?.len();
    let action = "fetch the index and its files again";
    if length > LONGEST {
        let expected = format!("at most {LONGEST} bytes");
        return Err(WeightsError::broken(path, "the file", expected, format!("{length} bytes"), action));
    }
    let text = io(path, "read it", std::fs::read(path))?;
    serde_json::from_slice(&text).map_err(|error| {
        let place = format!("line {} column {}", error.line(), error.column());
        WeightsError::broken(path, place, "an index: {\"weight_map\": {tensor: file}}", error, action)
    })
}

/// The paths of the files, each a plain name, all of them there.
fn places(index: &Path, folder: &Path, files: &[&String]) -> Result<Vec<PathBuf>, WeightsError> {
    if let Some(bad) = files.iter().find(|file| !is_plain(file)) {
        let action =
            "an index that points out of its folder is not followed: fetch it again from a place you trust";
        return Err(WeightsError::broken(
            index,
            "weight_map",
            "names of files in this folder",
            format!("{bad:?}"),
            action,
        ));
    }
    let absent: Vec<&&String> = files.iter().filter(|file| !folder.join(file).exists()).collect();
    if !absent.is_empty() {
        let expected = format!("all {} files that the index names", files.len());
        let found = format!("{} missing: {}", absent.len(), listed(&absent, LISTED));
        return Err(WeightsError::absent(index, expected, found, "fetch the missing files into its folder"));
    }
    Ok(files.iter().map(|file| folder.join(file)).collect())
}

fn is_plain(file: &str) -> bool {
    !file.is_empty() && file != "." && file != ".." && !file.contains(['/', '\\', ':', '\0'])
}

/// Each listed tensor must be in the file that the index gives for it.
fn holds_what_it_should(
    index: &Path,
    parts: &[Mapped],
    owners: &BTreeMap<String, usize>,
) -> Result<(), WeightsError> {
    let absent: Vec<String> = owners
        .iter()
        .filter(|(name, part)| !parts[**part].header.tensors.contains_key(*name))
        .map(|(name, part)| format!("{name} (in {})", file_name(&parts[*part].path)))
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    let found = format!("{} that are not there: {}", absent.len(), listed(&absent, LISTED));
    let expected = "tensors in the files that the index gives";
    let action = "index and files are of different models or states: fetch them together";
    Err(WeightsError::broken(index, "weight_map", expected, found, action))
}

/// Tensors that are in a file and not in the index are there all the same: whoever loads a model hears of them.
fn add_unlisted(
    index: &Path,
    parts: &[Mapped],
    owners: &mut BTreeMap<String, usize>,
) -> Result<(), WeightsError> {
    for (place, part) in parts.iter().enumerate() {
        for name in part.header.tensors.keys() {
            let owner = *owners.entry(name.clone()).or_insert(place);
            if owner != place {
                let both = format!("it in {} and {}", file_name(&parts[owner].path), file_name(&part.path));
                let action = "one of the files is not of this model: fetch index and files together";
                return Err(WeightsError::broken(
                    index,
                    format!("tensor `{name}`"),
                    "one file that has it",
                    both,
                    action,
                ));
            }
        }
    }
    Ok(())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// File by tensor, a tensor named twice refused.
struct WeightMap(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of file names by tensor")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WeightMap, A::Error> {
        let mut files = BTreeMap::new();
        while let Some((name, file)) = map.next_entry::<String, String>()? {
            if files.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the tensor `{name}` stands there twice")));
            }
            files.insert(name, file);
        }
        Ok(WeightMap(files))
    }
}
