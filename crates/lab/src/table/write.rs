//! Tables as CSV, through polars and in full precision, and as Markdown to read.

use polars::prelude::{Column, CsvWriter, DataFrame, PolarsError, SerWriter};

use super::{Cell, Table};

/// Why a table could not be written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// Rows and columns do not fit together.
    #[error("table `{table}`, {place}: expected {expected}, found {found}")]
    Shape {
        /// Id of the table.
        table: String,
        /// Row and column.
        place: String,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
    /// polars refused the frame.
    #[error("table `{table}`: cannot write CSV: {source}")]
    Csv {
        /// Id of the table.
        table: String,
        /// polars' reason.
        source: PolarsError,
    },
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Text, or nothing at all.
    Text,
    /// Numbers, some of them with decimals.
    Real,
    /// Whole numbers, shown without decimals.
    Whole,
}

fn wrong(table: &Table, place: String, expected: impl Into<String>, found: impl Into<String>) -> TableError {
    TableError::Shape { table: table.id.clone(), place, expected: expected.into(), found: found.into() }
}

/// Checks names, lengths and types, and tells what each column holds.
pub(crate) fn kinds(table: &Table) -> Result<Vec<Kind>, TableError> {
    for (index, name) in table.columns.iter().enumerate() {
        if table.columns[..index].contains(name) {
            return Err(wrong(
                table,
                format!("column {index}"),
                "a name of its own",
                format!("`{name}` again"),
            ));
        }
    }
    for (index, row) in table.rows.iter().enumerate() {
        if row.len() != table.columns.len() {
            let expected = format!("{} cells", table.columns.len());
            return Err(wrong(table, format!("row {index}"), expected, format!("{}", row.len())));
        }
    }
    (0..table.columns.len()).map(|column| kind(table, column)).collect()
}

fn kind(table: &Table, column: usize) -> Result<Kind, TableError> {
    let mut found = None;
    for (index, row) in table.rows.iter().enumerate() {
        let place = || format!("row {index}, column `{}`", table.columns[column]);
        let here = match &row[column] {
            Cell::Missing => continue,
            Cell::Text(_) => Kind::Text,
            Cell::Number(value, _) if !value.is_finite() => {
                return Err(wrong(table, place(), "a finite number, or a missing cell", value.to_string()));
            }
            Cell::Number(value, 0) if value.fract() == 0.0 && value.abs() < 9e15 => Kind::Whole,
            Cell::Number(..) => Kind::Real,
        };
        found = match (found, here) {
            (None, here) => Some(here),
            (Some(Kind::Text), Kind::Text) => Some(Kind::Text),
            (Some(Kind::Text), _) => return Err(wrong(table, place(), "text, as above", "a number")),
            (Some(_), Kind::Text) => return Err(wrong(table, place(), "a number, as above", "text")),
            (Some(Kind::Whole), Kind::Whole) => Some(Kind::Whole),
            _ => Some(Kind::Real),
        };
    }
    Ok(found.unwrap_or(Kind::Text))
}

/// The table as CSV: the columns' names, then one line a row; numbers in the shortest form that reads back to the same
/// value, missing cells empty.
///
/// # Errors
/// Where a row has the wrong length, a column mixes text and numbers, a number is not finite, or a name is used twice.
pub fn csv(table: &Table) -> Result<Vec<u8>, TableError> {
    let kinds = kinds(table)?;
    let columns = kinds.iter().enumerate().map(|(index, kind)| column(table, index, *kind)).collect();
    let refused = |source| TableError::Csv { table: table.id.clone(), source };
    let mut frame = DataFrame::new(table.rows.len(), columns).map_err(refused)?;
    let mut bytes = Vec::new();
    CsvWriter::new(&mut bytes).finish(&mut frame).map_err(refused)?;
    Ok(bytes)
}

fn column(table: &Table, index: usize, kind: Kind) -> Column {
    let name = table.columns[index].as_str().into();
    let cells = table.rows.iter().map(|row| &row[index]);
    match kind {
        Kind::Text => Column::new(name, cells.map(text).collect::<Vec<Option<&str>>>()),
        Kind::Real => Column::new(name, cells.map(number).collect::<Vec<Option<f64>>>()),
        Kind::Whole => {
            let whole = cells.map(|cell| number(cell).map(|value| value as i64));
            Column::new(name, whole.collect::<Vec<Option<i64>>>())
        }
    }
}

fn text(cell: &Cell) -> Option<&str> {
    match cell {
        Cell::Text(text) => Some(text),
        _ => None,
    }
}

fn number(cell: &Cell) -> Option<f64> {
    match cell {
        Cell::Number(value, _) => Some(*value),
        _ => None,
    }
}

/// A cell as people read it: its decimals, a proper minus sign, an en dash for what is missing.
pub(crate) fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(value, decimals) => fixed(*value, usize::from(*decimals)),
        Cell::Missing => "–".to_owned(),
    }
}

/// A number with fixed decimals, never `-0`.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let zero = text.chars().all(|c| matches!(c, '-' | '0' | '.'));
    let text = if zero { text.trim_start_matches('-').to_owned() } else { text };
    text.replacen('-', "−", 1)
}

/// Most rows that are shown to people; the CSV holds all.
const READABLE: usize = 80;

/// The rows that are shown, and a sentence on those that are not.
pub(crate) fn readable(table: &Table) -> (&[Vec<Cell>], Option<String>) {
    let all = table.rows.len();
    if all <= READABLE {
        return (&table.rows, None);
    }
    (&table.rows[..READABLE], Some(format!("The first {READABLE} of {all} rows.")))
}

/// The table as Markdown, with its heading and caption; of a long one the first rows, and where the others are.
///
/// # Errors
/// As [`csv`].
pub fn markdown(table: &Table) -> Result<String, TableError> {
    let kinds = kinds(table)?;
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rule = kinds.iter().map(|kind| if *kind == Kind::Text { "---" } else { "---:" }.to_owned());
    let mut text = format!("# {}\n\n", table.title);
    text.push_str(&line(table.columns.iter().map(|name| escape(name)).collect()));
    text.push_str(&line(rule.collect()));
    let (rows, left_out) = readable(table);
    for row in rows {
        text.push_str(&line(row.iter().map(|cell| escape(&shown(cell))).collect()));
    }
    if let Some(left_out) = left_out {
        text.push_str(&format!("\n{left_out} All of them: [{0}.csv]({0}.csv).\n", table.id));
    }
    if !table.caption.is_empty() {
        text.push_str(&format!("\n{}\n", table.caption));
    }
    Ok(text)
}

/// What would end a cell or a row early.
fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('|', "\\|").replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn table(rows: Vec<Vec<Cell>>) -> Table {
        Table {
            id: "t".into(),
            title: "Accuracy".into(),
            caption: "Five seeds.".into(),
            columns: vec!["arm".into(), "seeds".into(), "ours".into(), "published".into()],
            rows,
        }
    }

    fn example() -> Table {
        table(vec![
            vec!["a|b, \"c\"".into(), Cell::Number(5.0, 0), Cell::Number(0.1 + 0.2, 2), Cell::Missing],
            vec!["d\ne".into(), Cell::Number(3.0, 0), Cell::Number(-1e-7, 2), Cell::Number(93.9, 2)],
        ])
    }

    #[test]
    fn csv_holds_full_precision_and_reads_back() {
        let text = String::from_utf8(csv(&example()).unwrap()).unwrap();
        let expected =
            "arm,seeds,ours,published\n\"a|b, \"\"c\"\"\",5,0.30000000000000004,\n\"d\ne\",3,-1e-7,93.9\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn markdown_holds_what_is_read() {
        let expected = "# Accuracy\n\n| arm | seeds | ours | published |\n| --- | ---: | ---: | ---: |\n\
                        | a\\|b, \"c\" | 5 | 0.30 | – |\n| d e | 3 | 0.00 | 93.90 |\n\nFive seeds.\n";
        assert_eq!(markdown(&example()).unwrap(), expected);
    }

    #[test]
    fn of_a_long_table_the_first_rows_are_shown_and_the_others_named() {
        let row = |index: usize| {
            vec![format!("arm {index}").as_str().into(), Cell::Missing, Cell::Missing, Cell::Missing]
        };
        let (most, more) =
            (table((0..READABLE).map(row).collect()), table((0..=READABLE).map(row).collect()));
        let (most, more) = (markdown(&most).unwrap(), markdown(&more).unwrap());
        assert!(most.contains("| arm 79 |") && !most.contains("of 80 rows"), "{most}");
        assert!(more.contains("| arm 79 |") && !more.contains("| arm 80 |"), "{more}");
        assert!(
            more.ends_with("\nThe first 80 of 81 rows. All of them: [t.csv](t.csv).\n\nFive seeds.\n"),
            "{more}"
        );
    }

    #[test]
    fn a_table_without_rows_still_has_its_header() {
        assert_eq!(csv(&table(Vec::new())).unwrap(), b"arm,seeds,ours,published\n");
    }

    #[test]
    fn cells_that_do_not_fit_are_named() {
        let mut mixed = example();
        mixed.rows[1][2] = "x".into();
        let mut short = example();
        short.rows[1].pop();
        let mut nan = example();
        nan.rows[0][2] = Cell::Number(f64::NAN, 1);
        let mut twice = example();
        twice.columns[3] = "arm".into();
        let cases = [
            (mixed, "row 1, column `ours`: expected a number, as above, found text"),
            (short, "row 1: expected 4 cells, found 3"),
            (nan, "row 0, column `ours`: expected a finite number"),
            (twice, "`arm` again"),
        ];
        for (table, part) in cases {
            let message = csv(&table).unwrap_err().to_string();
            assert!(message.contains(part) && message.contains("`t`"), "{message}");
            assert!(markdown(&table).is_err());
        }
    }
}
