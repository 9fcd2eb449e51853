//! What a file is that is no safetensors file, told by its first bytes whatever its name says.

use std::path::Path;

use super::WeightsError;

/// Longest beginning that is looked at.
pub(super) const LOOKED_AT: usize = 512;

/// Refuses a file whose beginning shows that it is something else than safetensors.
///
/// A beginning that is the length of a safetensors header is let pass to its reader: the low bytes of a length can look like
/// another format's magic, its high bytes are zeros, which those formats do not have there.
pub(super) fn refuse(path: &Path, head: &[u8], length: u64) -> Result<(), WeightsError> {
    if begins_with_a_length(head) {
        return Ok(());
    }
    match recognise(head, length) {
        Some((found, action)) => {
            Err(WeightsError::Foreign { path: path.to_owned(), found, action: action(path) })
        }
        None => Ok(()),
    }
}

fn begins_with_a_length(head: &[u8]) -> bool {
    head.get(4..8) == Some(&[0; 4])
}

type Advice = fn(&Path) -> String;

fn recognise(head: &[u8], length: u64) -> Option<(&'static str, Advice)> {
    let text = head.trim_ascii_start().to_ascii_lowercase();
    let begins = |magic: &[u8]| head.starts_with(magic);
    let says = |words: &str| text.starts_with(words.as_bytes());
    Some(match () {
        () if length == 0 => ("an empty file", again),
        () if begins(b"PK\x03\x04") => {
            ("a zip archive, which is how PyTorch packs a pickled checkpoint", convert)
        }
        () if is_pickle(head) => ("a pickled checkpoint", convert),
        () if says("version https://git-lfs") => ("a Git LFS pointer, not the file it stands for", pull),
        () if says("<!doctype html") || says("<html") => ("a web page (HTML)", page),
        () if says("<?xml") => ("an XML document, such as a server's error", page),
        () if says("{") || says("[") => ("text in JSON", page),
        () if begins(b"GGUF") => ("a GGUF file", hub),
        () if begins(b"\x89HDF\r\n\x1a\n") => ("an HDF5 file (Keras)", hub),
        () if begins(b"\x1f\x8b") => ("a gzip archive", hub),
        () => return None,
    })
}

/// Protocol 2 and later begin with the PROTO opcode; the older textual ones with the opcodes of a dictionary.
fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..]) || head.starts_with(b"(dp") || head.starts_with(b"ccollections\n")
}

fn again(_: &Path) -> String {
    "the download or copy failed: remove it and fetch it again".to_owned()
}

fn pull(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    format!("run `git lfs pull --include {name}` in its repository, or fetch the file from the Hub")
}

fn page(_: &Path) -> String {
    "a server's answer was saved in place of the file: remove it and fetch it again, from the Hub's /resolve/ address or \
     with HF_TOKEN set where the model asks for an account"
        .to_owned()
}

fn hub(_: &Path) -> String {
    "use the .safetensors file of the same model on the Hub".to_owned()
}

/// A pickle is a program; the way out is the same weights as safetensors.
pub(super) fn convert(path: &Path) -> String {
    let target = path.with_extension("safetensors");
    let target = if target == path { path.with_extension("converted.safetensors") } else { target };
    format!(
        "a pickle can run any program when it is opened, so it is not: use the .safetensors file of the same model on the \
         Hub, or convert one that you trust with\n  python -c \"from torch import load; from safetensors.torch import \
         save_file; save_file(load('{}', weights_only=True), '{}', metadata={{'format': 'pt'}})\"\n(a whole pipeline in \
         one file: diffusers' StableDiffusionPipeline.from_single_file(…).save_pretrained(…))",
        path.display(),
        target.display()
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verdict(head: &[u8]) -> Option<String> {
        refuse(Path::new("a/model.safetensors"), head, head.len() as u64).err().map(|error| error.to_string())
    }

    #[test]
    fn each_kind_is_named_with_a_way_out() {
        let cases: [(&[u8], &[&str]); 10] = [
            (b"PK\x03\x04\x14\0\0\0\0\0", &["zip", "pickled", "Hub", "python -c", "converted.safetensors"]),
            (b"\x80\x02}q\0X\x03\0\0\0", &["pickled checkpoint", "save_file"]),
            (b"\x80\x04\x95abcdefgh", &["pickled checkpoint"]),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", &["LFS pointer", "git lfs pull"]),
            (b"<!DOCTYPE html><html>", &["HTML", "HF_TOKEN"]),
            (b"\n  <html lang=en>", &["HTML"]),
            (b"<?xml version=\"1.0\"?><Error>", &["XML"]),
            (b"{\"error\":\"Repository not found\"}", &["JSON"]),
            (b"GGUF\x03\0\0\0\0\0\0\0", &["GGUF"]),
            (b"", &["an empty file", "fetch it again"]),
        ];
        for (head, words) in cases {
            let message = verdict(head).unwrap();
            for word in words.iter().chain(&["a/model.safetensors", "expected a safetensors file"]) {
                assert!(message.contains(word), "no {word:?} in: {message}");
            }
        }
    }

    #[test]
    fn a_length_that_looks_like_a_magic_is_let_pass() {
        // A header of 0x0280 bytes begins as a pickle of protocol 2 does.
        let mut head = vec![0x80, 2, 0, 0, 0, 0, 0, 0, b'{'];
        head.resize(8 + 0x280, b' ');
        assert_eq!(verdict(&head), None);
        // Cut short it is a truncated file still, and no pickle.
        assert_eq!(verdict(&head[..100]), None);
        // Likewise 123 bytes and JSON.
        assert_eq!(verdict(b"{\0\0\0\0\0\0\0{}"), None);
    }

    #[test]
    fn noise_is_left_to_the_reader_of_headers() {
        assert_eq!(verdict(b"\x01\x02\x03\x04\x05\x06\x07\x08\x09"), None);
        assert_eq!(verdict(b"abc"), None);
    }
}
