//! PNG files with their settings in them.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use lab::atomic::{self, AtomicError};
use png::{BitDepth, ColorType, Encoder};

/// The keyword under which programs that make pictures keep their settings.
const KEYWORD: &str = "parameters";

/// A picture as it is written.
pub(super) struct Picture<'a> {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Red, green and blue of each pixel, row by row.
    pub(super) bytes: &'a [u8],
    /// What it was made from, as JSON.
    pub(super) settings: String,
}

impl Picture<'_> {
    /// Writes the file whole or not at all.
    ///
    /// # Errors
    /// Names the file and the step.
    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let written = atomic::write(path, |file| self.encode(file).map_err(io::Error::other));
        // What an experiment's folder would need is no advice here.
        written.map_err(|AtomicError { path, doing, source }| {
            anyhow::anyhow!("{}: cannot {doing}: {source}\n  help: name another file with -o", path.display())
        })
    }

    fn encode(&self, to: &mut dyn Write) -> std::result::Result<(), png::EncodingError> {
        let mut encoder = Encoder::new(to, self.width, self.height);
        encoder.set_color(ColorType::Rgb);
        encoder.set_depth(BitDepth::Eight);
        // International text: a prompt may be in any script.
        encoder.add_itxt_chunk(KEYWORD.to_owned(), self.settings.clone())?;
        encoder.add_text_chunk(
            "Software".to_owned(),
            concat!("difflab ", env!("CARGO_PKG_VERSION")).to_owned(),
        )?;
        encoder.write_header()?.write_image_data(self.bytes)
    }
}

/// The files of `count` pictures: `path` itself for one, `out-1.png`, `out-2.png`, … for several.
pub(super) fn names(path: &Path, count: usize) -> Vec<PathBuf> {
    if count == 1 {
        return vec![path.to_owned()];
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    (1..=count).map(|i| path.with_file_name(format!("{stem}-{i}.png"))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_picture_comes_back_with_its_settings() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        let bytes: Vec<u8> = (0..24).collect();
        let settings = r#"{"prompt":"ein Löwe 狮子"}"#.to_owned();
        Picture { width: 4, height: 2, bytes: &bytes, settings: settings.clone() }.write(&path).unwrap();
        let decoder = png::Decoder::new(io::BufReader::new(std::fs::File::open(&path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut read = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut read).unwrap();
        assert_eq!(read, bytes);
        let text = &reader.info().utf8_text[0];
        assert_eq!((text.keyword.as_str(), text.get_text().unwrap()), (KEYWORD, settings));
        let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_picture_whose_bytes_do_not_fit_leaves_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.png");
        Picture { width: 4, height: 2, bytes: &[0; 3], settings: String::new() }.write(&path).unwrap_err();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn several_pictures_are_numbered_from_one() {
        let names = |count| {
            let names = names(Path::new("to/a.b.png"), count).into_iter();
            names.map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["to/a.b.png"]);
        assert_eq!(names(2), ["to/a.b-1.png", "to/a.b-2.png"]);
    }
}
