//! When and as what something was verified. The only place of this program that asks for the date; no result depends on it.

use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};

/// The day in UTC, as 2026-11-23.
pub(super) fn today() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    day(seconds / 86_400)
}

/// The day that many days after 1970-01-01, in the Gregorian calendar.
fn day(days: u64) -> String {
    // Years from March on, so that a leap day is the last of its year; 400 years have 146097 days.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", 400 * era + year + next)
}

/// The commit of the repository at `root`, with a `+` where files differ from it.
pub(super) fn commit(root: &Path) -> Result<String> {
    let changed =
        git(root, &["status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results"])?;
    let commit = git(root, &["rev-parse", "--short=12", "HEAD"])?;
    Ok(if changed.is_empty() { commit } else { commit + "+" })
}

fn git(root: &Path, words: &[&str]) -> Result<String> {
    let output = Command::new("git").arg("-C").arg(root).args(words).output().context("cannot start git")?;
    if !output.status.success() {
        bail!("git {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        // python3 -c "import datetime as d; print([(d.date(1970,1,1)+d.timedelta(n)).isoformat() for n in (0,59,11016,19782,20780,47540)])"
        let days = [0, 59, 11_016, 19_782, 20_780, 47_540].map(day);
        assert_eq!(
            days,
            ["1970-01-01", "1970-03-01", "2000-02-29", "2024-02-29", "2026-11-23", "2100-02-28"]
        );
    }
}
