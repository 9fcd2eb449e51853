//! Building a `.cu` file into a program for the CPU, once per text.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};

use sd_core::cuda::Source;
use sha2::{Digest, Sha256};

use crate::host::Error;
use crate::translate::{Entry, entries, translate};

const HEADER: &str = include_str!("../host/kernel_host.h");
const DRIVER: &str = include_str!("../host/driver.h");

/// What every build is made with. Locals that the kernel does not initialise hold a pattern; a fused multiply-add is made
/// only where the source asks for one. The address sanitizer knows the sizes of objects better.
const FLAGS: [&str; 12] = [
    "-std=gnu++17",
    "-g1",
    "-fno-omit-frame-pointer",
    "-fno-strict-aliasing",
    "-ffp-contract=off",
    "-ftrivial-auto-var-init=pattern",
    "-fsanitize=address,undefined",
    "-fno-sanitize=object-size",
    "-fno-sanitize-recover=all",
    "-Wall",
    "-Wno-unknown-pragmas",
    "-Wno-unused",
];

/// Compilers that may run at once: a build takes about 300 MB.
const AT_ONCE: usize = 2;

/// A C++ compiler and where builds are kept.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    command: String,
    cache: PathBuf,
    /// `-O1`, with which kernels run five times as fast, or `-O0`, with which they build twice as fast.
    level: &'static str,
}

/// What is built: a file's place and name, its text, and that of what it includes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) source: &'a Source,
    pub(crate) text: &'a str,
    pub(crate) common: &'a str,
}

type Slot = Arc<OnceLock<Result<Built, Error>>>;

/// A built `.cu`.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    pub(crate) program: PathBuf,
    pub(crate) kernels: Vec<String>,
}

impl Compiler {
    /// The compiler of `CXX`, or `g++`, or `clang++`, whichever first builds and runs a program under the sanitizers.
    pub(crate) fn find() -> Result<Self, Error> {
        static FOUND: OnceLock<Result<Compiler, Error>> = OnceLock::new();
        FOUND.get_or_init(Self::probe).clone()
    }

    fn probe() -> Result<Self, Error> {
        let named = std::env::var("CXX").ok().filter(|named| !named.trim().is_empty());
        let candidates = named.into_iter().chain(["g++".to_owned(), "clang++".to_owned()]);
        let cache = cache_folder();
        let mut refused = Vec::new();
        for command in candidates {
            let compiler = Self { command, cache: cache.clone(), level: "-O1" };
            match compiler.works() {
                Ok(()) => return Ok(compiler),
                Err(log) => refused.push(format!("{}: {}", compiler.command, first_line(&log))),
            }
        }
        Err(Error::NoCompiler(refused.join("; ")))
    }

    /// Whether an empty program builds with the sanitizers and runs. Nothing of ours is in it: where our own headers do not
    /// compile, that is a failure, and not the absence of a compiler.
    fn works(&self) -> Result<(), String> {
        let folder = self.cache.join(format!("probe-{}", std::process::id()));
        let tried = self.try_in(&folder);
        // What is left of a probe harms nobody.
        let _ = fs::remove_dir_all(&folder);
        tried
    }

    fn try_in(&self, folder: &Path) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        fs::create_dir_all(folder).map_err(said)?;
        fs::write(folder.join("main.cpp"), "int main() { return 0; }\n").map_err(said)?;
        self.compile(folder, Path::new("program"))?;
        let status = Command::new(folder.join("program")).status().map_err(said)?;
        if status.success() { Ok(()) } else { Err(format!("an empty program ends with {status}")) }
    }

    /// The same, but for builds that run little.
    pub(crate) fn hasty(&self) -> Self {
        Self { level: "-O0", ..self.clone() }
    }

    /// Builds a file, or takes the build that is there.
    pub(crate) fn build(&self, texts: Texts<'_>) -> Result<Built, Error> {
        static BUILDS: Mutex<Option<HashMap<String, Slot>>> = Mutex::new(None);
        let key = self.key(texts);
        let slot = {
            let mut builds = BUILDS.lock().unwrap_or_else(PoisonError::into_inner);
            builds.get_or_insert_default().entry(key.clone()).or_default().clone()
        };
        slot.get_or_init(|| self.build_at(&self.cache.join(&key), texts)).clone()
    }

    fn key(&self, texts: Texts<'_>) -> String {
        let name = texts.source.name;
        let parts = [&*self.command, self.level, texts.text, texts.common, HEADER, DRIVER];
        let digest = parts.iter().chain(&FLAGS).fold(Sha256::new(), |digest, part| {
            digest.chain_update(part.len().to_le_bytes()).chain_update(part)
        });
        let digest = digest.finalize();
        let hex: String = digest.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        format!("{name}-{hex}")
    }

    fn build_at(&self, folder: &Path, texts: Texts<'_>) -> Result<Built, Error> {
        let program = folder.join("program");
        let listing = folder.join("kernels");
        if let (true, Ok(kernels)) = (program.exists(), fs::read_to_string(&listing)) {
            return Ok(Built { program, kernels: kernels.lines().map(str::to_owned).collect() });
        }
        let failed = |log: String| Error::Compile { path: texts.source.path.to_owned(), log };
        let _turn = Turn::take();
        let entries = self.prepare(folder, texts).map_err(&failed)?;
        let unfinished = folder.join(format!("program.{}", std::process::id()));
        self.compile(folder, &unfinished).map_err(&failed)?;
        let kernels: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
        let listed = fs::write(&listing, kernels.join("\n"));
        // Under its final name only when it is whole: another process may be looking.
        listed.and_then(|()| fs::rename(&unfinished, &program)).map_err(|error| failed(error.to_string()))?;
        Ok(Built { program, kernels })
    }

    /// Writes the sources, the table of kernels included.
    fn prepare(&self, folder: &Path, texts: Texts<'_>) -> Result<Vec<Entry>, String> {
        let Texts { source, text, common } = texts;
        let file = source.path.rsplit('/').next().unwrap_or(source.path);
        let put = |name: &str, text: &str| {
            fs::write(folder.join(name), text)
                .map_err(|error| format!("{}: {error}", folder.join(name).display()))
        };
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        put("kernel_host.h", HEADER)?;
        put("driver.h", DRIVER)?;
        put("common.cuh", &translate(common)?)?;
        put(file, &translate(text)?)?;
        let include = format!("#include \"common.cuh\"\n#include \"{file}\"\n");
        put("list.cpp", &include)?;
        let entries = entries(&self.run(folder, &["-E", "-P", "-DKERNEL_HOST_LIST", "list.cpp"])?)?;
        put("main.cpp", &format!("{include}#include \"driver.h\"\n{}", table(&entries)))?;
        Ok(entries)
    }

    fn compile(&self, folder: &Path, output: &Path) -> Result<(), String> {
        let output = output.to_string_lossy();
        self.run(folder, &["main.cpp", "-o", &*output]).map(|_| ())
    }

    /// Standard output of the compiler, or what it complains of.
    fn run(&self, folder: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut words = self.command.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("c++"));
        command
            .args(words)
            .arg(self.level)
            .args(FLAGS)
            .arg("-DKERNEL_HOST")
            .args(arguments)
            .current_dir(folder);
        let done = command.output().map_err(|error| error.to_string())?;
        if done.status.success() {
            Ok(String::from_utf8_lossy(&done.stdout).into_owned())
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into_owned())
        }
    }
}

/// A source without kernels: what products and zeros run in.
pub(crate) static EMPTY: Source =
    Source { name: "none", path: "none.cu", text: "", kernels: &[], stack_limit: 0 };

fn table(entries: &[Entry]) -> String {
    let lines =
        entries.iter().map(|Entry { name, bound }| format!("  KERNEL_HOST_ENTRY({name}, ({bound})),\n"));
    format!(
        "namespace kernel_host {{\nconst Entry entries[] = {{\n{}  {{nullptr, nullptr}}\n}};\nconst size_t entry_count = {};\n}}\n",
        lines.collect::<String>(),
        entries.len()
    )
}

fn first_line(text: &str) -> String {
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim().to_owned()
}

/// `kernel-host` in the target folder this program was built into; in the folder for temporary files where there is none.
fn cache_folder() -> PathBuf {
    if let Some(named) = std::env::var_os("DIFFLAB_KERNEL_HOST_CACHE") {
        return named.into();
    }
    let this = std::env::current_exe().unwrap_or_default();
    let target = this.ancestors().find(|folder| folder.join("CACHEDIR.TAG").exists());
    target.map_or_else(std::env::temp_dir, Path::to_owned).join("kernel-host")
}

/// The right to run a compiler, given back on drop.
struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static FREED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running =
            FREED.wait_while(running, |running| *running >= AT_ONCE).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        FREED.notify_one();
    }
}
