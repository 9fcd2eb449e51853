//! Becomes the runner, in the folder and with the words that xtask was given.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

/// Becomes the runner as it is.
pub(crate) fn run(runner: &Path, arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    with(runner, arguments, &[])
}

/// Replaces this process by the runner, so that signals and the exit code are the runner's own, with some variables set.
#[cfg(unix)]
pub(crate) fn with(
    runner: &Path,
    arguments: impl Iterator<Item = OsString>,
    variables: &[(&str, OsString)],
) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt as _;
    let variables = variables.iter().map(|(name, value)| (*name, value));
    Err(Command::new(runner).args(arguments).envs(variables).exec())
        .with_context(|| format!("cannot start {}", runner.display()))
}

/// Runs the runner with some variables set and hands on its exit code.
#[cfg(not(unix))]
pub(crate) fn with(
    runner: &Path,
    arguments: impl Iterator<Item = OsString>,
    variables: &[(&str, OsString)],
) -> Result<ExitCode> {
    let variables = variables.iter().map(|(name, value)| (*name, value));
    let status = Command::new(runner).args(arguments).envs(variables).status();
    let status = status.with_context(|| format!("cannot start {}", runner.display()))?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(cli::exit::FAILED)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_runner_that_is_not_there_is_an_error_that_names_it() {
        let error = run(Path::new("/no/such/runner"), std::iter::empty()).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/runner"));
    }
}
