//! Folders and devices that cannot be had: exit code 2 before anything is computed, 1 where it comes in the middle.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{Scratch, check, succeed};

#[test]
fn a_gpu_that_is_not_there_is_an_error_and_starts_nothing() {
    let scratch = Scratch::new();
    for paper in ["reproduce toy", "reproduce toy --dry-run"] {
        let run = scratch.toy(&format!("{paper} --out out --device cuda"));
        check(run, 2, &["--device cuda:0", "no CUDA", "leave --device out"]);
    }
    assert_eq!(scratch.files("out"), [""; 0]);
}

#[test]
fn an_output_folder_below_a_file_is_refused() {
    let scratch = Scratch::new();
    scratch.write("file", "in the way");
    check(scratch.toy("reproduce toy --out file/out"), 2, &["file: ", "give another folder with --out"]);
    assert_eq!(fs::read_to_string(scratch.path("file")).unwrap(), "in the way");
}

/// `/proc` takes no new folder from anybody, the administrator included, as a medium mounted read-only does not.
#[test]
#[cfg(target_os = "linux")]
fn a_folder_that_cannot_be_made_is_refused() {
    check(Scratch::new().toy("reproduce toy --out /proc/difflab"), 2, &["/proc/difflab"]);
}

/// As an ordinary user: the permissions of a folder bind no administrator.
#[test]
#[cfg(unix)]
fn a_read_only_folder_is_refused_and_left_as_it_is() {
    use std::os::unix::fs::PermissionsExt as _;
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("out")).unwrap();
    fs::set_permissions(scratch.path("out"), fs::Permissions::from_mode(0o555)).unwrap();
    let bound = fs::write(scratch.path("out/probe"), "").is_err();
    let run = scratch.toy("reproduce toy --out out");
    match bound {
        true => drop(check(run, 2, &["out", "ermission denied"])),
        false => drop(succeed(run)),
    }
}

/// Every write beyond `kib` fails as on a full disk; the system's limit on the size of files needs no privileges.
#[cfg(unix)]
fn with_room_for(kib: u32, command: &Command) -> Command {
    let mut limited = Command::new("bash");
    limited.args(["-c", &format!("ulimit -f {kib}; trap '' XFSZ; exec \"$@\""), "bash"]);
    limited
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(command.get_current_dir().unwrap());
    limited
}

#[test]
#[cfg(unix)]
fn a_disk_that_takes_nothing_is_refused_before_anything_runs() {
    let scratch = Scratch::new();
    let run = with_room_for(0, &scratch.toy("reproduce toy --out out"));
    check(run, 2, &["out"]);
    assert_whole(&scratch, "out");
}

#[test]
#[cfg(unix)]
fn a_disk_that_fills_up_leaves_only_whole_files_and_a_run_that_goes_on() {
    let scratch = Scratch::new();
    let line = "reproduce toy --out out -s seeds=60";
    check(with_room_for(4, &scratch.toy(line)), 1, &["out"]);
    assert_whole(&scratch, "out");
    succeed(scratch.toy(line));
    succeed(scratch.toy("reproduce toy --out other -s seeds=60"));
    let read = |folder: &str| fs::read(scratch.path(folder).join("rows.parquet")).unwrap();
    assert_eq!(read("out"), read("other"));
}

/// No temporary file is left, and every JSON file can be read to its end.
fn assert_whole(scratch: &Scratch, folder: &str) {
    for name in scratch.files(folder) {
        assert!(!name.contains("tmp"), "{name} was left behind");
        if Path::new(&name).extension().is_some_and(|extension| extension == "json") {
            let text = fs::read_to_string(scratch.path(folder).join(&name)).unwrap();
            serde_json::from_str::<serde_json::Value>(&text)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }
}

#[test]
fn a_full_standard_output_is_an_error_and_a_closed_one_is_none() {
    let scratch = Scratch::new();
    let mut full = scratch.toy("list");
    full.stdout(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    check(full, 2, &["error"]);
    let mut closed = Command::new("bash");
    let program = scratch.toy("list");
    closed.args(["-c", "set -o pipefail; \"$0\" list | true"]).arg(program.get_program());
    check(closed, 0, &[]);
}
