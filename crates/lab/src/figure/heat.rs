//! A grid of values, light to dark, each written in its cell where there is room.

use super::Panel;
use super::canvas::{Anchor, BODY, Canvas, Drawn, SMALL, width};
use super::scale;
use super::style::{GRID, INK, MUTED, ink_on, shade};

/// Height of a row.
const ROW: f64 = 32.0;
/// Height of the key at the top.
const KEY: f64 = 42.0;
/// Room for the column names and the axis name.
const BELOW: f64 = 52.0;

/// What a heat map shows.
pub(super) struct Grid<'a> {
    pub(super) rows: &'a [String],
    pub(super) columns: &'a [String],
    pub(super) values: &'a [Vec<Option<f64>>],
}

impl Grid<'_> {
    /// Height of the panel below its title.
    pub(super) fn height(&self) -> f64 {
        KEY + ROW * self.rows.len().max(1) as f64 + BELOW
    }

    fn ends(&self) -> Option<(f64, f64)> {
        let values = self.values.iter().flatten().flatten().copied().filter(|value| value.is_finite());
        values.fold(None, |ends: Option<(f64, f64)>, value| {
            Some(ends.map_or((value, value), |(low, high)| (low.min(value), high.max(value))))
        })
    }

    fn left(&self, full: f64) -> f64 {
        let widest = self.rows.iter().map(|name| width(name, BODY)).fold(20.0, f64::max);
        (widest + 10.0).min(full * 0.4)
    }
}

/// Decimals that tell the ends of the range apart.
fn decimals((low, high): (f64, f64)) -> usize {
    let size = (high - low).max(low.abs().max(high.abs()) * 1e-3).max(1e-9);
    usize::try_from((2 - size.log10().floor() as i32).clamp(0, 4)).unwrap_or(2)
}

/// Draws the panel from `top` down.
pub(super) fn draw(canvas: &Canvas, panel: &Panel, grid: &Grid, top: f64, full: f64) -> Drawn {
    let ends = grid.ends().unwrap_or((0.0, 0.0));
    let (left, right) = (grid.left(full), full - 14.0);
    let cell = (right - left) / grid.columns.len().max(1) as f64;
    key(canvas, &panel.y.label, ends, top, left.min(60.0), right)?;
    let top = top + KEY;
    for (index, name) in grid.rows.iter().enumerate() {
        let y = top + ROW * index as f64;
        canvas.text(name, (left - 8.0, y + ROW / 2.0), BODY, INK, Anchor::End)?;
        for (column, value) in
            grid.values.get(index).into_iter().flatten().take(grid.columns.len()).enumerate()
        {
            one(canvas, *value, ends, (left + cell * column as f64, y), cell)?;
        }
    }
    let bottom = top + ROW * grid.rows.len() as f64;
    names(canvas, grid.columns, (left, bottom), cell)?;
    canvas.text(&panel.x.label, ((left + right) / 2.0, bottom + 36.0), BODY, INK, Anchor::Middle)
}

fn share(value: f64, (low, high): (f64, f64)) -> f64 {
    if high > low { (value - low) / (high - low) } else { 0.3 }
}

fn one(canvas: &Canvas, value: Option<f64>, ends: (f64, f64), (x, y): (f64, f64), cell: f64) -> Drawn {
    let gap = if cell > 12.0 { 1.0 } else { 0.0 };
    let centre = (x + cell / 2.0, y + ROW / 2.0);
    let Some(value) = value.filter(|value| value.is_finite()) else {
        canvas.outline((x + gap, y + 1.0), (x + cell - gap, y + ROW - 1.0), GRID)?;
        return canvas.text("–", centre, SMALL, MUTED, Anchor::Middle);
    };
    let share = share(value, ends);
    canvas.rectangle((x + gap, y + 1.0), (x + cell - gap, y + ROW - 1.0), shade(share))?;
    let text = scale::label(value, decimals(ends));
    if width(&text, SMALL) + 4.0 <= cell {
        canvas.text(&text, centre, SMALL, ink_on(share), Anchor::Middle)?;
    }
    Ok(())
}

/// Names of the columns: as many as have room.
fn names(canvas: &Canvas, columns: &[String], (left, bottom): (f64, f64), cell: f64) -> Drawn {
    let widest = columns.iter().map(|name| width(name, SMALL)).fold(1.0, f64::max) + 10.0;
    let every = (widest / cell).ceil().max(1.0) as usize;
    for (index, name) in columns.iter().enumerate().step_by(every) {
        let x = left + cell * (index as f64 + 0.5);
        canvas.text(name, (x, bottom + 15.0), SMALL, MUTED, Anchor::Middle)?;
    }
    Ok(())
}

/// The shades from low to high with their values.
fn key(canvas: &Canvas, name: &str, ends: (f64, f64), top: f64, left: f64, right: f64) -> Drawn {
    const STEPS: usize = 24;
    let decimals = decimals(ends);
    let (low, high) = (scale::label(ends.0, decimals), scale::label(ends.1, decimals));
    let (y, room) = (top + 12.0, (right - left).min(130.0));
    canvas.text(&low, (left - 6.0, y), SMALL, INK, Anchor::End)?;
    for step in 0..STEPS {
        let x = left + room * step as f64 / STEPS as f64;
        let end = left + room * (step + 1) as f64 / STEPS as f64;
        canvas.rectangle((x, y - 7.0), (end, y + 7.0), shade(step as f64 / (STEPS - 1) as f64))?;
    }
    let text = if name.is_empty() { high } else { format!("{high}   {name}") };
    canvas.text(&text, (left + room + 7.0, y), SMALL, INK, Anchor::Start)
}
