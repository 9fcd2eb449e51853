//! What pictures show, beside their files: trials make the pictures, and a report may be made again where the trials are not.

use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::paper::Picture;

/// Where it is written, below the output folder.
pub(super) const FILE: &str = "figures/pictures.json";

/// A picture without its bytes.
#[derive(Serialize, Deserialize)]
struct Told {
    id: String,
    title: String,
    caption: String,
}

/// The file's content.
pub(super) fn told(pictures: &[Picture]) -> Vec<u8> {
    let told = |picture: &Picture| serde_json::json!({"id": picture.id, "title": picture.title, "caption": picture.caption});
    let all: Vec<_> = pictures.iter().map(told).collect();
    format!("{:#}\n", serde_json::Value::from(all)).into_bytes()
}

/// `made` and, of the pictures that an earlier report left in `out`, those that are not among them; in the earlier report's order.
///
/// # Errors
/// Where a file is there and cannot be read.
pub(crate) fn with_kept(out: &Path, mut made: Vec<Picture>) -> anyhow::Result<Vec<Picture>> {
    let path = out.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(made),
        read => read.with_context(|| path.display().to_string())?,
    };
    let earlier: Vec<Told> = serde_json::from_str(&text)
        .with_context(|| format!("{}: expected a list of `id`, `title` and `caption`", path.display()))?;
    let mut all = Vec::new();
    for Told { id, title, caption } in earlier {
        if let Some(index) = made.iter().position(|picture| picture.id == id) {
            all.push(made.remove(index));
            continue;
        }
        let file = out.join("figures").join(format!("{id}.png"));
        let png = std::fs::read(&file).with_context(|| file.display().to_string())?;
        all.push(Picture { id, title, caption, png });
    }
    all.extend(made);
    Ok(all)
}
