//! The set-up with a Python that is a shell script: what is made, what is left after a failure, and what is said.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A `python3` that makes an environment whose `python` is the script itself, and whose pip "installs" files. pip counts its
/// calls in `pip.calls`, and fails while the file `no-network` lies beside the script.
const PYTHON: &str = r#"#!/bin/sh
here=$(cat "$(dirname "$0")/home" 2>/dev/null || dirname "$0")
case "$2" in
  venv)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    echo "$here" > "$3/bin/home"
    ;;
  pip)
    echo "$*" >> "$here/pip.calls"
    if [ -e "$here/no-network" ]; then exit 1; fi
    kit="$(dirname "$0")/../lib/python3.11/site-packages/nvidia/cu13"
    mkdir -p "$kit/bin" "$kit/include" "$kit/nvvm" "$kit/lib"
    touch "$kit/bin/nvcc" "$kit/bin/ptxas" "$kit/include/cuda.h"
    touch "$kit/lib/libcublas.so.13" "$kit/lib/libnvrtc.so.13" "$kit/lib/libnvrtc-builtins.so.13.0"
    ;;
esac
"#;

struct Machine {
    folder: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let python = folder.path().join("python3");
        fs::write(&python, PYTHON).unwrap();
        fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn set_up(&self, parts: Parts) -> Result<String> {
        let tools = Tools { python: self.path("python3"), cc: "cc".into() };
        run(&self.path("cuda"), parts, &tools)
    }

    fn pip_calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("pip.calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    fn leftovers(&self) -> Vec<String> {
        let names = fs::read_dir(self.path("cuda")).unwrap().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.ends_with(".part")).collect()
    }
}

#[test]
fn from_nothing_to_a_toolkit_and_again_without_work() {
    let machine = Machine::new();
    assert!(machine.set_up(Parts::Whole).unwrap().contains("cuda build"));
    let kit = machine.path("cuda/toolkit");
    for file in
        ["bin/nvcc", "nvvm", "lib64/libcublas.so", "lib64/libnvrtc-builtins.so", "lib64/stubs/libcuda.so"]
    {
        assert!(kit.join(file).exists(), "{file}");
    }
    assert!(machine.leftovers().is_empty());
    assert!(machine.set_up(Parts::Whole).unwrap().contains("already"));
    assert!(machine.set_up(Parts::Nvrtc).unwrap().contains("already"));
    assert_eq!(machine.pip_calls().len(), 1);
}

#[test]
fn the_part_for_tests_is_grown_into_the_whole() {
    let machine = Machine::new();
    machine.set_up(Parts::Nvrtc).unwrap();
    assert!(!machine.path("cuda/toolkit/lib64/stubs").exists());
    machine.set_up(Parts::Whole).unwrap();
    assert!(machine.path("cuda/toolkit/lib64/stubs/libcuda.so").exists());
    let calls = machine.pip_calls();
    assert!(calls[0].contains("--no-deps") && !calls[1].contains("--no-deps"), "{calls:?}");
}

#[test]
fn a_failed_download_leaves_no_final_name_and_is_gone_on_with() {
    let machine = Machine::new();
    fs::write(machine.path("no-network"), "").unwrap();
    let error = machine.set_up(Parts::Whole).unwrap_err().to_string();
    assert!(error.contains("needs the network") && error.contains("again"), "{error}");
    assert!(!machine.path("cuda/toolkit").exists() && !machine.path("cuda/venv").exists());
    fs::remove_file(machine.path("no-network")).unwrap();
    machine.set_up(Parts::Whole).unwrap();
    assert!(machine.leftovers().is_empty());
}

#[test]
fn a_damaged_toolkit_is_made_anew() {
    let machine = Machine::new();
    machine.set_up(Parts::Whole).unwrap();
    fs::remove_file(machine.path("cuda/toolkit/lib64/libnvrtc.so")).unwrap();
    machine.set_up(Parts::Whole).unwrap();
    assert!(machine.path("cuda/toolkit/lib64/libnvrtc.so").exists());
}

#[test]
fn a_missing_python_is_said_with_what_to_do() {
    let machine = Machine::new();
    let tools = Tools { python: "/no/such/python3".into(), cc: "cc".into() };
    let error = run(&machine.path("cuda"), Parts::Nvrtc, &tools).unwrap_err();
    assert!(
        format!("{error:#}").contains("/no/such/python3")
            && format!("{error:#}").contains("install Python 3")
    );
    let tools = Tools { python: "false".into(), cc: "cc".into() };
    let error = run(&machine.path("cuda"), Parts::Nvrtc, &tools).unwrap_err().to_string();
    assert!(error.contains("python3-venv"), "{error}");
    assert!(!machine.path("cuda/venv").exists());
}
