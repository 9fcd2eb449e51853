//! Another program's times, joined to ours by name.

use std::collections::BTreeMap;

pub(crate) const HEADER: &str = "name,ours_ms,theirs_ms,theirs_over_ours\n";

/// Median milliseconds by name.
pub(crate) type Rows = BTreeMap<String, f64>;

/// Reads a CSV that begins with the columns `name,median_ms`; what stands further right does not matter. The fault begins
/// with the number of the line.
pub(crate) fn parse(text: &str) -> Result<Rows, String> {
    let mut lines = text.lines();
    let header = lines.next().unwrap_or_default();
    if !header.starts_with("name,median_ms") {
        return Err(format!("1: expected a header that begins with `name,median_ms`, found `{header}`"));
    }
    lines
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| row(index + 2, line))
        .collect()
}

fn row(number: usize, line: &str) -> Result<(String, f64), String> {
    let mut cells = line.split(',');
    let (name, median) = (cells.next().unwrap_or_default(), cells.next().unwrap_or_default());
    match median.trim().parse::<f64>() {
        Ok(median) if median > 0.0 && median.is_finite() => Ok((name.to_owned(), median)),
        _ => Err(format!("{number}: expected a positive number of milliseconds, found `{median}`")),
    }
}

/// One line of the joined table; a case that they did not time keeps its cells empty.
pub(crate) fn line(name: &str, ours: f64, theirs: Option<f64>) -> String {
    match theirs {
        Some(theirs) => format!("{name},{ours:.4},{theirs:.4},{:.3}\n", theirs / ours),
        None => format!("{name},{ours:.4},,\n"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn times_join_by_name() {
        let rows = parse("name,median_ms,q1_ms,q3_ms,reps,device\na/f32/x/step,4.0,3,5,7,cpu\n\n").unwrap();
        assert_eq!(
            line("a/f32/x/step", 2.0, rows.get("a/f32/x/step").copied()),
            "a/f32/x/step,2.0000,4.0000,2.000\n"
        );
        assert_eq!(line("b", 2.0, rows.get("b").copied()), "b,2.0000,,\n");
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_line() {
        assert!(parse("").unwrap_err().starts_with("1: "));
        assert!(parse("id,says\n").unwrap_err().contains("`id,says`"));
        for bad in ["a,fast", "a,-1", "a,nan", "a"] {
            let fault = parse(&format!("name,median_ms\nok,1\n{bad}\n")).unwrap_err();
            assert!(fault.starts_with("3: "), "{bad}: {fault}");
        }
    }
}
