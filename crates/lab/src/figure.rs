//! Figures: described as data here, drawn by plotters to SVG; legible in black and white, with intervals drawn.

/// One figure of a reproduction.
#[derive(Clone, Debug)]
pub struct Figure {
    /// File stem under `figures/`.
    pub id: String,
    /// Heading in the report.
    pub title: String,
    /// What is seen, with n and how the intervals were made.
    pub caption: String,
    /// What is drawn: one panel or several side by side.
    pub panels: Vec<Panel>,
    /// Panels in a row.
    pub columns: usize,
}

/// One set of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// Shown above the axes.
    pub title: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// What is drawn in it.
    pub content: Content,
}

/// An axis.
#[derive(Clone, Debug, Default)]
pub struct Axis {
    /// Name with unit.
    pub label: String,
    /// Fixed range; from the data where absent.
    pub range: Option<(f64, f64)>,
    /// Logarithmic.
    pub log: bool,
}

/// What a panel shows.
#[derive(Clone, Debug)]
pub enum Content {
    /// Curves, told apart by colour, dash and marker at once; an optional band is `(low, high)` per point.
    Lines(Vec<Series>),
    /// One row a group: estimate, interval and, beside it, the published value. The horizontal axis carries the values.
    Intervals(Vec<Estimate>),
    /// Many thin bars in a fixed order, from 0, top first. The horizontal axis carries the values.
    Bars {
        /// Names of the kinds that bars are told apart by.
        kinds: Vec<String>,
        /// What the control beside each bar is; empty where there is none.
        control: String,
        /// The bars.
        bars: Vec<Bar>,
    },
    /// A grid of values.
    Heat {
        /// Names of the rows, top first.
        rows: Vec<String>,
        /// Names of the columns.
        columns: Vec<String>,
        /// Values by row and column; `None` is left blank.
        values: Vec<Vec<Option<f64>>>,
    },
}

/// A curve.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// Name in the legend.
    pub label: String,
    /// Points, in order of x.
    pub points: Vec<(f64, f64)>,
    /// Interval at every point, as long as `points`, or empty.
    pub band: Vec<(f64, f64)>,
    /// Draw points only.
    pub scatter: bool,
}

/// One estimate with its interval.
#[derive(Clone, Debug, Default)]
pub struct Estimate {
    /// Name of the row.
    pub label: String,
    /// Point estimate.
    pub value: f64,
    /// Interval, where there is one.
    pub interval: Option<(f64, f64)>,
    /// The single measurements behind it, drawn as small marks.
    pub samples: Vec<f64>,
    /// What the paper printed.
    pub published: Option<f64>,
}

/// One bar.
#[derive(Clone, Debug, Default)]
pub struct Bar {
    /// Name of the row.
    pub label: String,
    /// Which kind it is of.
    pub kind: usize,
    /// Its length; `None` is left blank.
    pub value: Option<f64>,
    /// Its interval, where there is one.
    pub interval: Option<(f64, f64)>,
    /// The control's value.
    pub control: Option<f64>,
}

mod bars;
mod canvas;
mod compact;
mod frame;
mod heat;
mod intervals;
mod lines;
mod render;
mod scale;
mod style;
#[cfg(test)]
mod tests;

pub use render::{FigureError, render, render_panels};
