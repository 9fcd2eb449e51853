//! What the programs say: results on standard output, messages on standard error.

use std::io::{self, Write as _};

/// Writes to standard output, at once.
///
/// # Errors
/// Where it cannot be written; [`nobody_listens`] tells a closed pipe from a failure.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes a line to standard error. Nobody reading it is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// An error and its causes on one line, each cause once: many messages quote theirs already.
pub(crate) fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |text, cause| match text.as_str() {
        "" => cause,
        told if told.contains(&cause) => text,
        _ => format!("{text}: {cause}"),
    })
}

/// Whether `error` is that the reader of our output went away, as `head` does: not an error.
pub(crate) fn nobody_listens(error: &anyhow::Error) -> bool {
    let closed = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(closed))
}

/// Lays cells out in columns, the last one left ragged.
pub(crate) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..count).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_end_without_blanks() {
        let rows = [
            vec!["a".to_owned(), "bb".to_owned()],
            vec!["ccc".to_owned(), "d".to_owned()],
            vec!["e".to_owned()],
        ];
        assert_eq!(columns(&rows), "a    bb\nccc  d\ne\n");
    }

    #[test]
    fn a_cause_is_told_once() {
        let error = anyhow::anyhow!("disk full").context("out: cannot write: disk full\n  help: make room");
        assert_eq!(told(&error), "out: cannot write: disk full\n  help: make room");
        assert_eq!(told(&anyhow::anyhow!("disk full").context("out")), "out: disk full");
    }

    #[test]
    fn a_closed_pipe_is_told_from_a_full_disk() {
        let error = |kind| anyhow::Error::new(io::Error::from(kind)).context("writing");
        assert!(nobody_listens(&error(io::ErrorKind::BrokenPipe)));
        assert!(!nobody_listens(&error(io::ErrorKind::StorageFull)));
    }
}
