//! A disk that fails at every step in turn leaves the old file or the new one, never a part.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::ErrorKind;

use super::*;
use crate::faults::fail_at;

const OLD: &[u8] = b"the old content";

/// Long enough for several writes through the buffer.
fn new_content() -> Vec<u8> {
    (0..40_000u32).flat_map(u32::to_le_bytes).collect()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_failure_at_any_step_leaves_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let new = new_content();
    let mut failures = 0;
    for step in 0.. {
        fs::write(&path, OLD).unwrap();
        fail_at(Some((step, ErrorKind::StorageFull)));
        let written = write(&path, |file| new.chunks(1000).try_for_each(|part| file.write_all(part)));
        fail_at(None);
        let there = fs::read(&path).unwrap();
        match written {
            Ok(()) => {
                assert_eq!(there, new);
                break;
            }
            // Only the last step, after the renaming, may fail with the new file in place.
            Err(error) if error.doing == "make the file durable" => assert_eq!(there, new),
            Err(_) => assert_eq!(there, OLD),
        }
        assert_eq!(names(folder.path()), ["rows.parquet"], "nothing is left behind");
        failures += 1;
    }
    assert!(failures > 20, "only {failures} steps were tried");
}

#[test]
fn an_error_of_the_writer_itself_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    let failed = write(&path, |file| {
        file.write_all(b"half")?;
        Err(io::Error::other("no more rows"))
    });
    assert_eq!(failed.unwrap_err().doing, "write");
    assert!(names(folder.path()).is_empty());
}

#[test]
fn messages_name_the_path_the_step_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    fail_at(Some((1, ErrorKind::StorageFull)));
    let full = write_bytes(&path, b"x").unwrap_err().to_string();
    assert_eq!(
        full,
        format!(
            "{}: cannot write: injected by a test\n  help: free some space or give another folder with --out; finished \
             trials are kept, so run the same command again",
            path.display()
        )
    );
    fail_at(Some((0, ErrorKind::ReadOnlyFilesystem)));
    let read_only = write_bytes(&path, b"x").unwrap_err().to_string();
    assert!(read_only.contains("a.csv: cannot create a temporary file: "), "{read_only}");
    assert!(read_only.ends_with("help: give a folder that can be written with --out"), "{read_only}");
    fail_at(None);
}

#[test]
#[cfg(target_os = "linux")]
fn a_file_system_that_takes_no_files_is_an_error() {
    // Not even root creates files there.
    let error = write_bytes("/proc/difflab-test", b"x").unwrap_err();
    assert_eq!(error.path, Path::new("/proc/difflab-test"));
    assert!(create_dir_all_synced("/proc/difflab/test").is_err());
}

#[test]
#[cfg(unix)]
fn permissions_are_those_of_a_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |name: &str| fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    write_bytes(folder.path().join("ours"), b"x").unwrap();
    fs::write(folder.path().join("plain"), b"x").unwrap();
    assert_eq!(mode("ours"), mode("plain"));
}

#[test]
fn leftovers_of_a_killed_writer_go_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for name in [".a.csv.12-0.tmp", "a.csv", "b.tmp"] {
        fs::write(folder.path().join(name), b"x").unwrap();
    }
    remove_leftovers(folder.path()).unwrap();
    assert_eq!(names(folder.path()), ["a.csv", "b.tmp"]);
}

#[test]
fn folders_are_made_with_those_above_and_twice() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    create_dir_all_synced(&deep).unwrap();
    create_dir_all_synced(&deep).unwrap();
    assert!(deep.is_dir());
    fs::write(folder.path().join("file"), b"").unwrap();
    assert!(create_dir_all_synced(folder.path().join("file/x")).is_err());
}
