//! `schema`: what an editor needs to complete and check the experiment files.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::output::{print, say};
use crate::papers::Entry;
use crate::places;

/// Writes (or compares) the schema of each paper and of sd-mini's recipe, and looks whether each experiment file names it.
pub(crate) fn run(papers: &[Entry], typed: cli::Schema) -> Result<u8> {
    let root =
        places::repository().context("the schemas belong to the repository\n  help: run this inside it")?;
    let mut faults = Vec::new();
    let papers = papers.iter().map(|entry| (entry.paper.id(), entry.paper.schema()));
    let recipe = ("sd-mini", lab::schema::of::<sd_mini::Recipe>());
    for (name, wanted) in papers.chain([recipe]) {
        faults.extend(schema(name, &wanted, &root, typed.check)?);
        faults.extend(modelines(name, &root)?);
    }
    faults.iter().for_each(|fault| say(&format!("error: {fault}")));
    Ok(if faults.is_empty() { cli::exit::DONE } else { cli::exit::USAGE })
}

/// A schema file, brought up to date; or, when only checked, what is wrong with it.
fn schema(name: &str, wanted: &serde_json::Value, root: &Path, check: bool) -> Result<Option<String>> {
    let path = root.join("experiments/schema").join(format!("{name}.json"));
    let wanted = serde_json::to_string_pretty(wanted)? + "\n";
    if fs::read_to_string(&path).is_ok_and(|found| found == wanted) {
        return Ok(None);
    }
    if check {
        return Ok(Some(format!(
            "{} is not what the code says\n  help: run `cargo xtask schema`",
            path.display()
        )));
    }
    lab::atomic::create_dir_all_synced(root.join("experiments/schema"))?;
    lab::atomic::write_bytes(&path, wanted.as_bytes())?;
    print(&format!("wrote {}\n", path.display()))?;
    Ok(None)
}

fn modelines(paper: &str, root: &Path) -> Result<Vec<String>> {
    let folder = root.join("experiments").join(paper);
    let wanted = lab::schema::modeline(&format!("../schema/{paper}.json"));
    let mut faults = Vec::new();
    for path in experiment_files(&folder)? {
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        if !text.starts_with(&wanted) {
            let found = text.lines().next().unwrap_or_default();
            faults.push(format!("{}:1: expected `{}`, found `{found}`", path.display(), wanted.trim_end()));
        }
    }
    Ok(faults)
}

fn experiment_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let Ok(entries) = fs::read_dir(folder) else {
        bail!("{}: there are no experiment files\n  help: is this the whole repository?", folder.display())
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    Ok(files)
}
