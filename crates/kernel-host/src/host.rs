//! The executor: runs programs on the CPU.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use sd_core::cuda::{COMMON, Program, Role, Source, Step};

use crate::Data;
use crate::compile::{Compiler, EMPTY, Texts};
use crate::wire::request;

/// In which order the threads of a block are taken up between barriers, and the warps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// By index.
    Forward,
    /// From the last to the first.
    Reverse,
    /// A permutation from this seed, another one after every barrier.
    Shuffled(u64),
}

impl Order {
    /// As the other end of the wire knows it: a number, and the seed.
    fn code(self) -> (u32, u64) {
        match self {
            Self::Forward => (0, 0),
            Self::Reverse => (1, 0),
            Self::Shuffled(seed) => (2, seed),
        }
    }
}

/// Why a program has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No compiler on this machine builds programs with the sanitizers.
    #[error(
        "no C++ compiler with the address sanitizer (tried {0}): install g++ 12 or later, or clang++ 16 or later, or name one \
         in CXX"
    )]
    NoCompiler(String),
    /// The compiler refuses a kernel file.
    #[error("{path} does not compile on the host:\n{log}")]
    Compile {
        /// The `.cu` file.
        path: String,
        /// What the compiler said.
        log: String,
    },
    /// What the caller gives does not fit the program.
    #[error("{program}: {reason}")]
    Given {
        /// The program's name.
        program: String,
        /// What does not fit.
        reason: String,
    },
    /// A kernel did something it must not: the message names kernel, block and thread.
    #[error("{program}: {message}")]
    Fault {
        /// The program's name.
        program: String,
        /// What the process said before it ended.
        message: String,
    },
}

/// Runs programs on the CPU.
#[derive(Clone, Debug)]
pub struct Host {
    compiler: Compiler,
    /// A source by name, or [`COMMON_NAME`], and the text to use in the place of its own.
    replaced: Option<(String, String)>,
    seconds: u32,
}

/// Processor time, in seconds, after which a process counts as endless. The slowest case takes a few.
const SECONDS: u32 = 60;

impl Host {
    /// An executor with this machine's C++ compiler.
    ///
    /// # Errors
    /// [`Error::NoCompiler`] where none works.
    pub fn find() -> Result<Self, Error> {
        Ok(Self { compiler: Compiler::find()?, replaced: None, seconds: SECONDS })
    }

    /// The same, but with `text` in the place of the text of the source called `name`, or of what all include where it is
    /// [`COMMON_NAME`].
    #[must_use]
    pub fn with_text(&self, name: &str, text: String) -> Self {
        Self { replaced: Some((name.to_owned(), text)), ..self.clone() }
    }

    /// The same, but kernels are built without optimisation: for a few small runs of each build.
    #[must_use]
    pub fn hasty(&self) -> Self {
        Self { compiler: self.compiler.hasty(), ..self.clone() }
    }

    /// The same, but a process that takes more than `seconds` of a processor's time is ended.
    #[must_use]
    pub fn limited_to(&self, seconds: u32) -> Self {
        Self { seconds, ..self.clone() }
    }

    /// The kernels that the host's compiler finds in `source`, in its order.
    ///
    /// # Errors
    /// [`Error::Compile`] where the file does not build.
    pub fn kernels(&self, source: &Source) -> Result<Vec<String>, Error> {
        Ok(self.compiler.build(self.texts(source))?.kernels)
    }

    /// Runs `program` on `inputs`, one for each `Input` and `InOut` buffer in order, and gives its `InOut` and `Output` buffers
    /// in order.
    ///
    /// # Errors
    /// Where inputs do not fit, a source does not compile, or a kernel breaks a rule: [`Error`].
    pub fn run(&self, program: &Program, inputs: &[Data], order: Order) -> Result<Vec<Data>, Error> {
        let mut contents = place(program, inputs)?;
        for (source, steps) in stretches(&program.steps) {
            let built = self.compiler.build(self.texts(source))?;
            let request = request(order.code(), self.seconds, program, &contents, &steps);
            let answer = execute(&built.program, &request, &program.name)?;
            take_up(program, &mut contents, &answer)?;
        }
        let given_back = |role| matches!(role, Role::InOut | Role::Output);
        let kept = program.buffers.iter().zip(contents).filter(|(spec, _)| given_back(spec.role));
        kept.map(|(_, data)| data.ok_or_else(|| given(program, "it has no steps".into()))).collect()
    }

    fn texts<'a>(&'a self, source: &'a Source) -> Texts<'a> {
        let text_of = |name: &str, own: &'a str| match &self.replaced {
            Some((replaced, text)) if replaced == name => text,
            _ => own,
        };
        Texts { source, text: text_of(source.name, source.text), common: text_of(COMMON_NAME, COMMON) }
    }
}

/// What [`Host::with_text`] knows the text by that all sources include.
pub const COMMON_NAME: &str = "common";

fn given(program: &Program, reason: String) -> Error {
    Error::Given { program: program.name.clone(), reason }
}

/// The inputs at their places among the buffers.
fn place(program: &Program, inputs: &[Data]) -> Result<Vec<Option<Data>>, Error> {
    let mut inputs = inputs.iter();
    let mut contents = Vec::with_capacity(program.buffers.len());
    for (index, spec) in program.buffers.iter().enumerate() {
        let data = match spec.role {
            Role::Input | Role::InOut => {
                Some(inputs.next().ok_or_else(|| given(program, format!("buffer {index} is not given")))?)
            }
            Role::Output | Role::Scratch => None,
        };
        if let Some(data) = data.filter(|data| (data.element(), data.len()) != (spec.element, spec.len)) {
            let found = format!("{} of {:?}", data.len(), data.element());
            let reason = format!("buffer {index} holds {} of {:?}, given {found}", spec.len, spec.element);
            return Err(given(program, reason));
        }
        contents.push(data.cloned());
    }
    match inputs.len() {
        0 => Ok(contents),
        more => Err(given(program, format!("{more} inputs too many"))),
    }
}

/// The steps cut where the source of the kernels changes: what one process runs.
fn stretches(steps: &[Step]) -> Vec<(&'static Source, Vec<&Step>)> {
    let mut cut: Vec<(Option<&'static Source>, Vec<&Step>)> = vec![(None, Vec::new())];
    for step in steps {
        let wanted = if let Step::Launch(launch) = step { Some(launch.source) } else { None };
        let last = cut.len() - 1;
        match (cut[last].0, wanted) {
            (Some(here), Some(wanted)) if here.name != wanted.name => cut.push((Some(wanted), vec![step])),
            (here, _) => {
                cut[last].0 = here.or(wanted);
                cut[last].1.push(step);
            }
        }
    }
    cut.into_iter().map(|(source, steps)| (source.unwrap_or(&EMPTY), steps)).collect()
}

/// What the process gave back, as contents of the buffers it may have changed.
fn take_up(program: &Program, contents: &mut [Option<Data>], answer: &[u8]) -> Result<(), Error> {
    let mut rest = answer;
    for (spec, content) in program.buffers.iter().zip(contents).filter(|(spec, _)| spec.role != Role::Input) {
        let (bytes, after) = rest
            .split_at_checked(spec.len * spec.element.bytes())
            .ok_or_else(|| given(program, "the process gave back too little".into()))?;
        *content = Data::from_bytes(spec.element, bytes.to_vec());
        rest = after;
    }
    Ok(())
}

/// Runs a build on a request: its answer, or why it ended without one.
pub(crate) fn execute(program: &Path, request: &[u8], name: &str) -> Result<Vec<u8>, Error> {
    let fault = |message: String| Error::Fault { program: name.to_owned(), message };
    let done = communicate(program, request).map_err(|error| fault(error.to_string()))?;
    if done.status.success() {
        return Ok(done.stdout);
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(fault(format!("{} ({})", summary(&said), done.status)))
}

fn communicate(program: &Path, request: &[u8]) -> std::io::Result<Output> {
    let mut child = Command::new(program)
        .env("ASAN_OPTIONS", "exitcode=77:detect_leaks=0:detect_stack_use_after_return=0:color=never")
        .env("UBSAN_OPTIONS", "exitcode=77:print_stacktrace=1:color=never")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut input) = child.stdin.take() {
        // A process that ends early does not read to the end; its status says why.
        let _ = input.write_all(request);
    }
    child.wait_with_output()
}

/// What matters of a process's last words: our own line, the sanitizer's, and the first frames.
fn summary(said: &str) -> String {
    let ours = said.lines().filter(|line| line.starts_with("kernel-host: "));
    let sanitizer = said.lines().filter(|line| line.contains("ERROR: ") || line.contains("runtime error: "));
    let frames = said.lines().filter(|line| line.trim_start().starts_with('#')).take(4);
    let lines: Vec<&str> = ours.chain(sanitizer).chain(frames).map(str::trim).collect();
    if lines.is_empty() { "ended without a word".into() } else { lines.join("\n  ") }
}
