//! The example `toy` as a command, in a folder of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A temporary folder with an experiment file.
pub(crate) struct Toy {
    pub(crate) folder: TempDir,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
}

impl Toy {
    pub(crate) fn new() -> Toy {
        let toy = Toy { folder: tempfile::tempdir().unwrap() };
        fs::write(toy.experiment(), include_str!("../../examples/toy/toy.yaml")).unwrap();
        toy
    }

    pub(crate) fn experiment(&self) -> PathBuf {
        self.folder.path().join("toy.yaml")
    }

    pub(crate) fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `toy reproduce toy.yaml --out <out> <words>`.
    pub(crate) fn command(&self, out: &str, words: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.arg("reproduce").arg(self.experiment()).arg("--out").arg(self.out(out)).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, out: &str, words: &[&str]) -> Child {
        self.command(out, words).spawn().unwrap()
    }

    pub(crate) fn run(&self, out: &str, words: &[&str]) -> Ended {
        ended(self.start(out, words))
    }

    /// Runs and asks for success.
    pub(crate) fn done(&self, out: &str, words: &[&str]) -> Ended {
        let ended = self.run(out, words);
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        ended
    }

    /// Folders of the trials, sorted.
    pub(crate) fn trials(&self, out: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.out(out).join("trials")).map(|entries| entries.flatten().collect());
        let mut folders: Vec<PathBuf> =
            entries.unwrap_or_else(|_| Vec::new()).iter().map(|e| e.path()).collect();
        folders.sort();
        folders
    }

    /// Folder of the trial of `arm` and `seed`.
    pub(crate) fn trial(&self, out: &str, arm: &str, seed: u64) -> PathBuf {
        let is_it = |folder: &PathBuf| {
            let spec: serde_json::Value =
                serde_json::from_slice(&fs::read(folder.join("trial.json")).unwrap()).unwrap();
            spec["arm"] == arm && spec["seed"] == seed
        };
        self.trials(out).into_iter().find(is_it).unwrap()
    }

    /// Asserts that everything that must not depend on how a run went is equal in two folders.
    #[track_caller]
    pub(crate) fn assert_same(&self, a: &str, b: &str) {
        for name in ["rows.parquet", "claims.csv", "tables/means.csv", "tables/means.md", "figures/means.svg"]
        {
            let read = |out: &str| {
                fs::read(self.out(out).join(name)).unwrap_or_else(|error| panic!("{out}/{name}: {error}"))
            };
            let (one, other) = (read(a), read(b));
            assert!(!one.is_empty() && one == other, "{name} differs between {a} and {b}");
        }
    }
}

pub(crate) fn ended(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    Ended { code: output.status.code(), said: String::from_utf8(output.stderr).unwrap() }
}

/// The example beside this test, built by the same `cargo test`.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("examples/toy");
    assert!(
        path.exists(),
        "{} is not built: run `cargo test -p lab`, or `cargo build -p lab --example toy`",
        path.display()
    );
    path
}

/// Sends a signal by name.
pub(crate) fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
    assert!(sent.success());
}

/// Waits until `holds`, for at most a minute: far longer than anything here takes.
#[track_caller]
pub(crate) fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what} did not happen");
}
