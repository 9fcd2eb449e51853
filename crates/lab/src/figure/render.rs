//! From a figure to SVG: panels one by one for the report (they reflow on a narrow page), or all in one file.

use super::bars::Bars;
use super::canvas::{Canvas, Drawn, FINE, TITLE, wrap};
use super::compact::compact;
use super::heat::Grid;
use super::style::INK;
use super::{Content, Figure, Panel, bars, intervals, lines};

/// Why a figure could not be drawn.
#[derive(Debug, thiserror::Error)]
pub enum FigureError {
    /// The description contradicts itself.
    #[error("figure `{figure}`, panel `{panel}`: expected {expected}, found {found}")]
    Shape {
        /// Id of the figure.
        figure: String,
        /// Title of the panel.
        panel: String,
        /// What should hold.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The drawing backend failed.
    #[error("figure `{figure}`: cannot draw: {reason}")]
    Draw {
        /// Id of the figure.
        figure: String,
        /// The backend's reason.
        reason: String,
    },
}

/// Width of a panel, in canvas units (shown as CSS pixels at full size).
const PANEL: f64 = 460.0;
/// White space around a panel.
const MARGIN: f64 = 12.0;
/// Height of one line of a title.
const LINE: f64 = 22.0;

/// Draws the whole figure as one SVG file, panels in rows of `figure.columns`, its title on top.
///
/// # Errors
/// Where lengths disagree (a band and its points, a heat map's rows and names).
pub fn render(figure: &Figure) -> Result<String, FigureError> {
    check(figure)?;
    let columns = figure.columns.clamp(1, figure.panels.len().max(1));
    let full = columns as f64 * (PANEL + 2.0 * MARGIN);
    let title = wrap(&figure.title, TITLE + 2.0, full - 2.0 * MARGIN);
    let head = title.len() as f64 * (LINE + 2.0) + MARGIN;
    let heights: Vec<f64> = figure.panels.chunks(columns).map(tallest).collect();
    let size = (full, head + heights.iter().sum::<f64>());
    draw(figure, size, |canvas| {
        canvas.move_to((MARGIN, MARGIN));
        for (index, line) in title.iter().enumerate() {
            canvas.bold(line, (0.0, (LINE + 2.0) * (index as f64 + 0.4)), TITLE + 2.0, INK)?;
        }
        let mut top = head;
        for (row, height) in figure.panels.chunks(columns).zip(&heights) {
            for (index, panel) in row.iter().enumerate() {
                canvas.move_to((MARGIN + index as f64 * (PANEL + 2.0 * MARGIN), top + MARGIN));
                self::panel(canvas, panel)?;
            }
            top += height;
        }
        Ok(())
    })
}

/// Draws every panel as an SVG of its own, without the figure's title.
///
/// # Errors
/// As [`render`].
pub fn render_panels(figure: &Figure) -> Result<Vec<String>, FigureError> {
    check(figure)?;
    let one = |panel| {
        draw(figure, (PANEL + 2.0 * MARGIN, height(panel)), |canvas| {
            canvas.move_to((MARGIN, MARGIN));
            self::panel(canvas, panel)
        })
    };
    figure.panels.iter().map(one).collect()
}

fn draw(
    figure: &Figure,
    size: (f64, f64),
    paint: impl FnOnce(&mut Canvas) -> Drawn,
) -> Result<String, FigureError> {
    let mut svg = String::new();
    let mut canvas = Canvas::new(&mut svg, size);
    let painted = paint(&mut canvas).and_then(|()| canvas.finish());
    drop(canvas);
    painted.map_err(|error| FigureError::Draw { figure: figure.id.clone(), reason: error.to_string() })?;
    Ok(scalable(&svg, size, &figure.title))
}

/// What the backend writes on element after element: said once on the whole, which they inherit it from.
const INHERITED: [&str; 3] = [
    " font-family=\"system-ui, -apple-system, &apos;Segoe UI&apos;, Roboto, Helvetica, Arial, sans-serif\"",
    " fill=\"none\"",
    " stroke-width=\"2\"",
];
/// What it writes though it goes without saying.
const NEEDLESS: [&str; 3] = [" opacity=\"1\"", " stroke=\"none\"", ".000000000000004"];

/// Replaces the backend's fixed size by one that scales, and gives the picture a name for those who cannot see it. Every kind of mark has
/// its own fill or stroke in the body, so that what is inherited changes no picture.
fn scalable(svg: &str, size: (f64, f64), title: &str) -> String {
    let body = svg.split_once('>').map_or("", |(_, body)| body);
    let body = INHERITED.iter().chain(&NEEDLESS).fold(body.to_owned(), |body, usual| body.replace(usual, ""));
    let body = compact(&body);
    let (width, height) = ((size.0 * FINE).ceil(), (size.1 * FINE).ceil());
    let name = title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" viewBox=\"0 0 {width} {height}\" \
         role=\"img\" aria-label=\"{name}\"{}>\n<rect width=\"{width}\" height=\"{height}\" fill=\"#FFFFFF\"/>\n{body}",
        size.0.ceil(),
        size.1.ceil(),
        INHERITED.concat(),
    )
}

fn tallest(row: &[Panel]) -> f64 {
    row.iter().map(height).fold(0.0, f64::max)
}

fn title(panel: &Panel) -> Vec<String> {
    if panel.title.is_empty() { Vec::new() } else { wrap(&panel.title, TITLE, PANEL) }
}

fn height(panel: &Panel) -> f64 {
    let content = match &panel.content {
        Content::Lines(series) => lines::height(panel, series, PANEL),
        Content::Intervals(estimates) => intervals::height(estimates, PANEL),
        Content::Heat { rows, columns, values } => Grid { rows, columns, values }.height(),
        Content::Bars { kinds, control, bars } => Bars { kinds, control, bars }.height(PANEL),
    };
    title(panel).len() as f64 * LINE + 6.0 + content + 2.0 * MARGIN
}

fn panel(canvas: &Canvas, panel: &Panel) -> Drawn {
    let title = title(panel);
    for (index, line) in title.iter().enumerate() {
        canvas.bold(line, (0.0, LINE * (index as f64 + 0.4)), TITLE, INK)?;
    }
    let top = title.len() as f64 * LINE + 6.0;
    match &panel.content {
        Content::Lines(series) => lines::draw(canvas, panel, series, top, PANEL),
        Content::Intervals(estimates) => intervals::draw(canvas, panel, estimates, top, PANEL),
        Content::Heat { rows, columns, values } => {
            super::heat::draw(canvas, panel, &Grid { rows, columns, values }, top, PANEL)
        }
        Content::Bars { kinds, control, bars: all } => {
            bars::draw(canvas, panel, &Bars { kinds, control, bars: all }, top, PANEL)
        }
    }
}

/// Lengths that must agree.
fn check(figure: &Figure) -> Result<(), FigureError> {
    for panel in &figure.panels {
        let wrong = |expected: String, found: String| FigureError::Shape {
            figure: figure.id.clone(),
            panel: panel.title.clone(),
            expected,
            found,
        };
        match &panel.content {
            Content::Lines(series) => {
                let uneven =
                    |one: &&super::Series| !one.band.is_empty() && one.band.len() != one.points.len();
                if let Some(one) = series.iter().find(uneven) {
                    let expected = format!("a band of {} points for `{}`", one.points.len(), one.label);
                    return Err(wrong(expected, format!("{}", one.band.len())));
                }
            }
            Content::Heat { rows, columns, values } => {
                let even = values.iter().all(|row| row.len() == columns.len());
                if values.len() != rows.len() || !even {
                    let expected = format!("{} rows of {} values", rows.len(), columns.len());
                    let found: Vec<usize> = values.iter().map(Vec::len).collect();
                    return Err(wrong(expected, format!("rows of {found:?}")));
                }
            }
            Content::Bars { kinds, bars, .. } => {
                if let Some(bar) = bars.iter().find(|bar| bar.kind >= kinds.len()) {
                    let expected = format!("one of {} kinds for `{}`", kinds.len(), bar.label);
                    return Err(wrong(expected, format!("kind {}", bar.kind)));
                }
            }
            Content::Intervals(_) => {}
        }
    }
    Ok(())
}
