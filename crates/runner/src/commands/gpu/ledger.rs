//! `results/gpu/ledger.csv`: which kernel was verified on which GPU, as which source.
//!
//! A line is added and never changed. It speaks of a source by its digest, so a kernel that was edited since is not verified.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The columns.
pub(crate) const HEADER: &str =
    "kernel_file,sha256,device,driver,date,commit,cases,worst_error,achieved,unit,share_of_roof";

/// One kernel file verified in one sitting.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    /// Path of the `.cu` file in the repository.
    pub(crate) kernel_file: String,
    /// Digest of the file and of `common.cuh`.
    pub(crate) sha256: String,
    /// Name of the GPU.
    pub(crate) device: String,
    /// Version of its driver.
    pub(crate) driver: String,
    /// Day, as 2026-11-23.
    pub(crate) date: String,
    /// Commit of the working tree, with a `+` where it had changes.
    pub(crate) commit: String,
    /// Cases whose values were right.
    pub(crate) cases: usize,
    /// The largest error over the cases, in units of the case's tolerance.
    pub(crate) worst_error: f64,
    /// The timed case with the smallest share; none where none is timed.
    pub(crate) speed: Option<Speed>,
}

/// How fast a kernel ran.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Speed {
    /// The rate.
    pub(crate) achieved: f64,
    /// `GB/s` or `TFLOP/s`.
    pub(crate) unit: Unit,
    /// The rate as a share of the roof measured in the same sitting: a copy's or a matrix product's.
    pub(crate) share: f64,
}

/// What bounds a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Memory.
    Bytes,
    /// Arithmetic.
    Flops,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bytes => "GB/s",
            Self::Flops => "TFLOP/s",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::Bytes, Self::Flops].into_iter().find(|unit| unit.name() == name)
    }
}

/// Reads the ledger; one that is not there is empty.
///
/// # Errors
/// Names the file and the line that cannot be read.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(&text).map_err(|fault| anyhow::anyhow!("{}:{fault}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("{}: cannot read the ledger", path.display())),
    }
}

/// Adds lines; the file is replaced as a whole or not at all.
///
/// # Errors
/// Where the ledger cannot be read or written; it is then as it was.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]
pub(crate) fn append(path: &Path, more: &[Entry]) -> Result<()> {
    let mut entries = read(path)?;
    entries.extend_from_slice(more);
    if let Some(folder) = path.parent() {
        lab::atomic::create_dir_all_synced(folder)?;
    }
    lab::atomic::write_bytes(path, text(&entries).as_bytes())?;
    Ok(())
}

fn text(entries: &[Entry]) -> String {
    let lines = entries.iter().map(line);
    std::iter::once(HEADER.to_owned()).chain(lines).map(|line| line + "\n").collect()
}

fn line(entry: &Entry) -> String {
    let speed = entry.speed.map_or([const { String::new() }; 3], |speed| {
        [format!("{:.1}", speed.achieved), speed.unit.name().to_owned(), format!("{:.3}", speed.share)]
    });
    let texts = [
        &entry.kernel_file,
        &entry.sha256,
        &entry.device,
        &entry.driver,
        &entry.date,
        &entry.commit,
        &entry.cases.to_string(),
        &format!("{:.3e}", entry.worst_error),
    ];
    // A device's name could hold a comma; nothing else can.
    let cells = texts.into_iter().chain(&speed).map(|cell| cell.replace([',', '\n'], " "));
    cells.collect::<Vec<_>>().join(",")
}

/// The fault begins with the number of the line.
fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if header != HEADER {
        return Err(format!("1: expected the columns `{HEADER}`, found `{header}`"));
    }
    let numbered = lines.enumerate().filter(|(_, line)| !line.is_empty());
    numbered.map(|(index, line)| entry(line).map_err(|fault| format!("{}: {fault}", index + 2))).collect()
}

fn entry(line: &str) -> Result<Entry, String> {
    let cells: Vec<&str> = line.split(',').collect();
    let [kernel_file, sha256, device, driver, date, commit, cases, error, achieved, unit, share] = cells[..]
    else {
        return Err(format!("expected {} cells, found {}", HEADER.split(',').count(), cells.len()));
    };
    if sha256.len() != 64 || !sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("expected a sha256 of 64 hexadecimal digits, found `{sha256}`"));
    }
    let text = str::to_owned;
    Ok(Entry {
        kernel_file: text(kernel_file),
        sha256: text(sha256),
        device: text(device),
        driver: text(driver),
        date: text(date),
        commit: text(commit),
        cases: cases.parse().map_err(|_| format!("expected a number of cases, found `{cases}`"))?,
        worst_error: number(error)?,
        speed: speed(achieved, unit, share)?,
    })
}

fn speed(achieved: &str, unit: &str, share: &str) -> Result<Option<Speed>, String> {
    if [achieved, unit, share].iter().all(|cell| cell.is_empty()) {
        return Ok(None);
    }
    let named = Unit::named(unit).ok_or_else(|| format!("expected GB/s or TFLOP/s, found `{unit}`"))?;
    Ok(Some(Speed { achieved: number(achieved)?, unit: named, share: number(share)? }))
}

fn number(cell: &str) -> Result<f64, String> {
    let found = cell.parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0);
    found.ok_or_else(|| format!("expected a number of at least 0, found `{cell}`"))
}

/// The newest line about exactly this source.
pub(crate) fn find<'a>(entries: &'a [Entry], kernel_file: &str, sha256: &str) -> Option<&'a Entry> {
    entries.iter().rev().find(|entry| entry.kernel_file == kernel_file && entry.sha256 == sha256)
}

/// Refuses a line that would say more than was seen.
///
/// # Errors
/// Where an error is not within its tolerance or no case ran.
#[cfg_attr(not(any(test, feature = "cuda")), allow(dead_code))]
pub(crate) fn vouch(entry: &Entry) -> Result<()> {
    if entry.cases == 0 {
        bail!("{}: no case ran: not verified", entry.kernel_file);
    }
    // Written so that NaN is refused.
    if !(entry.worst_error <= 1.0) {
        bail!("{}: the worst error is {} tolerances: not verified", entry.kernel_file, entry.worst_error);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn verified(kernel_file: &str, digit: &str) -> Entry {
        Entry {
            kernel_file: kernel_file.to_owned(),
            sha256: digit.repeat(64),
            device: "NVIDIA H200".to_owned(),
            driver: "580.95.05".to_owned(),
            date: "2026-11-23".to_owned(),
            commit: "0123abcd".to_owned(),
            cases: 12,
            worst_error: 0.25,
            speed: Some(Speed { achieved: 3456.7, unit: Unit::Bytes, share: 0.812 }),
        }
    }

    #[test]
    fn lines_are_added_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("results/gpu/ledger.csv");
        assert_eq!(read(&path).unwrap(), []);
        let untimed = Entry { speed: None, device: "a, b".to_owned(), ..verified("b.cu", "b") };
        append(&path, &[verified("a.cu", "a")]).unwrap();
        append(&path, std::slice::from_ref(&untimed)).unwrap();
        let expected = [verified("a.cu", "a"), Entry { device: "a  b".to_owned(), ..untimed }];
        assert_eq!(read(&path).unwrap(), expected);
        assert!(std::fs::read_to_string(&path).unwrap().starts_with(&format!("{HEADER}\n")));
    }

    #[test]
    fn only_the_source_as_it_stands_counts_and_the_newest_line_of_it() {
        let newer = Entry { driver: "590.1".to_owned(), ..verified("a.cu", "a") };
        let entries = [verified("a.cu", "a"), verified("b.cu", "b"), newer.clone()];
        assert_eq!(find(&entries, "a.cu", &"a".repeat(64)), Some(&newer));
        assert_eq!(find(&entries, "a.cu", &"c".repeat(64)), None);
        assert_eq!(find(&entries, "b.cu", &"a".repeat(64)), None);
    }

    #[test]
    fn a_damaged_ledger_is_refused_with_the_line() {
        let good = line(&verified("a.cu", "a"));
        let with = |bad: &str| parse(&format!("{HEADER}\n{good}\n{bad}\n")).unwrap_err();
        assert!(parse("kernel,sha\n").unwrap_err().starts_with("1: "));
        assert!(with("a.cu,abc").starts_with("3: expected 11 cells"));
        for (from, to) in [("aaaa", "zzzz"), (",12,", ",many,"), ("GB/s", "furlongs"), ("0.812", "NaN")] {
            assert!(with(&good.replacen(from, to, 1)).starts_with("3: expected"), "{to}");
        }
    }

    #[test]
    fn nothing_is_vouched_for_that_was_not_seen() {
        assert!(vouch(&verified("a.cu", "a")).is_ok());
        for bad in [1.01, f64::NAN, f64::INFINITY] {
            assert!(vouch(&Entry { worst_error: bad, ..verified("a.cu", "a") }).is_err(), "{bad}");
        }
        assert!(vouch(&Entry { cases: 0, ..verified("a.cu", "a") }).is_err());
    }
}
