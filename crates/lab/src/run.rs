//! From an experiment file to a finished folder.

use crate::config::{ConfigError, Document};
use crate::paper::{Paper, Reproduction};

/// Opens `document` with the paper that it names.
///
/// # Errors
/// Where the paper is unknown or refuses the document.
pub fn open(papers: &[&dyn Paper], document: &Document) -> Result<Box<dyn Reproduction>, ConfigError> {
    paper_of(papers, document)?.open(document)
}

/// The paper that `document` names in its key `paper`.
///
/// # Errors
/// Where the key is missing or names none of `papers`.
pub fn paper_of<'a>(papers: &[&'a dyn Paper], document: &Document) -> Result<&'a dyn Paper, ConfigError> {
    #[derive(serde::Deserialize)]
    struct Named {
        paper: String,
    }
    let named: Named = document.decode()?;
    papers.iter().copied().find(|paper| paper.id() == named.paper).ok_or_else(|| {
        let known: Vec<String> = papers.iter().map(|paper| format!("`{}`", paper.id())).collect();
        document.error_at("paper", known.join(" or "), format!("`{}`", named.paper), "")
    })
}
