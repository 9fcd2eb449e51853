//! Tables: a title, columns and typed cells, written as CSV (through polars), and as Markdown and HTML, of long ones the first rows.

use crate::stats::Interval;

/// One table of a reproduction.
#[derive(Clone, Debug)]
pub struct Table {
    /// File stem under `tables/`.
    pub id: String,
    /// Heading in the report.
    pub title: String,
    /// What the columns mean, with units; how the numbers came about.
    pub caption: String,
    /// Column names, as they stand in the CSV (snake_case). A published value stands in a column of its own.
    pub columns: Vec<String>,
    /// Cells, one inner vector a row, as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
}

/// One cell. A column holds text or numbers, not both; [`Cell::Missing`] fits either.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number, written in full to the CSV and with this many decimals to the page.
    Number(f64, u8),
    /// Not measured, not published or not found.
    Missing,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Cell::Text(text.to_owned())
    }
}

impl Cell {
    /// A number with `decimals`, or [`Cell::Missing`].
    #[must_use]
    pub fn number(value: Option<f64>, decimals: u8) -> Self {
        value.map_or(Cell::Missing, |value| Cell::Number(value, decimals))
    }

    /// Estimate, low end and high end; the ends are missing where n is 1.
    #[must_use]
    pub fn interval(interval: Option<Interval>, decimals: u8) -> [Self; 3] {
        let ends = interval.filter(|interval| interval.n > 1);
        [
            Self::number(interval.map(|interval| interval.estimate), decimals),
            Self::number(ends.map(|interval| interval.low), decimals),
            Self::number(ends.map(|interval| interval.high), decimals),
        ]
    }
}

/// Names of columns, owned.
#[must_use]
pub fn columns(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

mod write;

pub(crate) use write::{Kind, fixed, kinds, readable, shown};
pub use write::{TableError, csv, markdown};
