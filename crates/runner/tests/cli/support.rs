//! A scratch repository, the two programs, and what is asserted about how they end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The toy's experiment, its first line as the schemas demand it.
const TOY: &str = concat!(
    "# yaml-language-server: $schema=../schema/toy.json\n",
    include_str!("../../../lab/examples/toy/toy.yaml")
);

/// A folder that looks like the repository: `Cargo.toml` and the experiment files of every paper and of sd-mini.
pub(crate) struct Scratch {
    folder: TempDir,
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let scratch = Self { folder: tempfile::tempdir().unwrap() };
        scratch.write("Cargo.toml", "[workspace]\n");
        scratch.write("experiments/toy/quick.yaml", TOY);
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments");
        for paper in ["diffgrad", "causal-trace", "diff-quickfix", "sd-mini"] {
            for scale in ["quick", "standard", "paper"] {
                let name = format!("{paper}/{scale}.yaml");
                // sd-mini is a recipe and has no scale of a paper.
                if let Ok(text) = fs::read_to_string(shipped.join(&name)) {
                    scratch.write(&format!("experiments/{name}"), &text);
                }
            }
        }
        assert!(scratch.files("experiments").len() >= 1 + 3 + 3 + 2, "{:?}", scratch.files("experiments"));
        scratch
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    pub(crate) fn write(&self, relative: &str, content: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Replaces `old`, which must be there, in the file.
    pub(crate) fn edit(&self, relative: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(relative)).unwrap();
        assert!(text.contains(old), "{relative} does not contain {old:?}");
        self.write(relative, text.replacen(old, new, 1));
    }

    /// The program with every paper of this build.
    pub(crate) fn runner(&self, line: &str) -> Command {
        self.command(Path::new(env!("CARGO_BIN_EXE_runner")), line)
    }

    /// The program with the example's paper `toy`, whose trials can be told to take time or to go wrong.
    pub(crate) fn toy(&self, line: &str) -> Command {
        self.command(&example(), line)
    }

    fn command(&self, program: &Path, line: &str) -> Command {
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(self.folder.path());
        for name in ["DIFFLAB_DATA", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT"] {
            command.env_remove(name);
        }
        command.env("HF_HUB_OFFLINE", "1").env("HOME", self.path("home"));
        command
    }

    /// Every file below `relative`, sorted, as paths from there.
    pub(crate) fn files(&self, relative: &str) -> Vec<String> {
        let root = self.path(relative);
        let mut found = Vec::new();
        walk(&root, &mut found);
        let relative = |path: &PathBuf| path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let mut names: Vec<String> = found.iter().map(relative).collect();
        names.sort();
        names
    }
}

/// `reproduce diffgrad` with the overrides that make it tiny.
pub(crate) fn tiny_diffgrad() -> String {
    let overrides = include_str!("../tiny.txt").lines().filter(|line| !line.starts_with('#'));
    overrides.fold("reproduce diffgrad".to_owned(), |line, change| format!("{line} -s {change}"))
}

fn walk(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().unwrap().is_dir() {
            true => walk(&entry.path(), into),
            false => into.push(entry.path()),
        }
    }
}

/// The example `own_paper`, which `cargo test` builds along with the tests.
fn example() -> PathBuf {
    let beside = Path::new(env!("CARGO_BIN_EXE_runner")).parent().unwrap();
    let path = beside.join("examples").join(format!("own_paper{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.exists(),
        "{} is missing: `cargo test -p runner` builds it, with one test alone it is not",
        path.display()
    );
    path
}

/// Runs `command` and checks its exit code and that standard error holds each of `parts`; gives standard error.
#[track_caller]
pub(crate) fn check(mut command: Command, code: i32, parts: &[&str]) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{command:?} said:\n{said}\n{}", text(&output));
    for part in parts {
        assert!(said.contains(part), "{command:?} did not say {part:?} but:\n{said}");
    }
    assert!(code == 1 || !said.contains("panicked"), "{said}");
    said
}

/// Runs `command`, which must succeed, and gives standard output.
#[track_caller]
pub(crate) fn succeed(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text(&output)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}
