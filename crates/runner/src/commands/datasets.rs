//! `datasets`: what real data there is, whether it is here, how to get it, and whether it is the right one.

use std::path::Path;

use anyhow::{Context as _, Result};
use cli::DatasetsAction;
use lab::executor::readable_bytes;
use worlds::datasets::{self, FileReport, Hub, Listing, Manifest, Verdict};

use super::download::Bar;
use crate::output::{print, say};
use crate::places;

/// Lists, fetches or verifies.
pub(crate) fn run(typed: &cli::Datasets) -> Result<u8> {
    let hub = Hub::from_env()?;
    match &typed.action {
        DatasetsAction::List { data } => list(&places::data(data.as_deref()), &hub),
        DatasetsAction::Fetch { names } => fetch(names, &hub),
        DatasetsAction::Verify { names, data } => verify(names, &places::data(data.as_deref()), &hub),
    }
}

fn list(root: &Path, hub: &Hub) -> Result<u8> {
    for listing in datasets::list(root, hub) {
        print(&paragraph(&listing))?;
    }
    print(&format!("Looked in {} and in the Hub's cache {}.\n", root.display(), hub.cache.display()))?;
    Ok(cli::exit::DONE)
}

fn paragraph(listing: &Listing) -> String {
    let manifest = listing.manifest;
    let here = match &listing.files {
        Ok(files) => files.iter().map(|file| format!("  here     {}\n", file.display())).collect(),
        Err(_) => format!(
            "  not here; to download {}: cargo xtask datasets fetch {}\n",
            size(manifest),
            manifest.name
        ),
    };
    format!(
        "{}: {}\n  what     {}\n  source   {}@{}\n  licence  {}\n{here}\n",
        manifest.name,
        manifest.title,
        manifest.about.trim(),
        manifest.hub.repository,
        &manifest.hub.revision,
        manifest.licence.trim(),
    )
}

fn size(manifest: &Manifest) -> String {
    readable_bytes(manifest.hub.files.iter().map(|file| file.size).sum())
}

fn fetch(names: &[String], hub: &Hub) -> Result<u8> {
    for name in names {
        let manifest = datasets::manifest(name).with_context(|| unknown(name))?;
        say(&format!("{name}: {} into {}", size(manifest), hub.cache.display()));
        let files = datasets::fetch(manifest, hub, &mut Bar::default().shown());
        for file in files? {
            print(&format!("{}\n", file.display()))?;
        }
    }
    Ok(cli::exit::DONE)
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = datasets::manifests().iter().map(|manifest| manifest.name.as_str()).collect();
    format!("no data set is called `{name}`\n  expected: {}", known.join(" or "))
}

/// Checks the data sets asked for, or all that are here; one that was asked for and is absent is an error.
fn verify(names: &[String], root: &Path, hub: &Hub) -> Result<u8> {
    let here = |listing: &Listing| listing.files.is_ok();
    let chosen = match names {
        [] => datasets::list(root, hub)
            .into_iter()
            .filter(here)
            .map(|listing| listing.manifest.name.clone())
            .collect(),
        names => names.to_vec(),
    };
    if chosen.is_empty() {
        print("No data set is here; `cargo xtask datasets list` says how to get one.\n")?;
    }
    for name in chosen {
        for file in datasets::verify(&name, root, hub)? {
            print(&line(&name, &file))?;
        }
    }
    Ok(cli::exit::DONE)
}

fn line(name: &str, file: &FileReport) -> String {
    let verdict = match &file.verdict {
        Verdict::Pinned => "as pinned".to_owned(),
        Verdict::Known { title, note, .. } => format!("{title}: {}", note.trim()),
        Verdict::Unknown => "keeps the format's rules, but is no file that the manifest knows".to_owned(),
    };
    format!("{name}  {}  {}\n  {verdict}\n", &file.sha256, file.path.display())
}
