//! Dot and whisker: one row an estimate, with the single measurements and what the paper printed beside it.

use super::canvas::{Anchor, BODY, Canvas, Drawn, SMALL, width, wrap};
use super::frame::{BELOW, Frame};
use super::scale::Scale;
use super::style::{GRID, INK, MUTED, OURS, PUBLISHED};
use super::{Axis, Estimate, Panel};

/// Least height of a row: room for measurements above the estimate and the published value below it.
const ROW: f64 = 46.0;
/// Height of a line of a row's name.
const LINE: f64 = 17.0;
/// Height of the legend.
const LEGEND: f64 = 26.0;

/// Largest share of the width that row labels may take.
const LABELS: f64 = 0.42;

fn labels(estimates: &[Estimate], full: f64) -> (f64, Vec<Vec<String>>) {
    let limit = full * LABELS - 14.0;
    let lines: Vec<Vec<String>> = estimates.iter().map(|one| wrap(&one.label, BODY, limit)).collect();
    let widest = lines.iter().flatten().map(|line| width(line, BODY)).fold(30.0, f64::max);
    (widest.min(limit) + 14.0, lines)
}

/// Height of every row: that of the longest name where it needs more than the marks.
fn row(lines: &[Vec<String>]) -> f64 {
    lines.iter().map(|lines| LINE * lines.len() as f64 + 12.0).fold(ROW, f64::max)
}

/// Height of the panel below its title.
pub(super) fn height(estimates: &[Estimate], full: f64) -> f64 {
    LEGEND + row(&labels(estimates, full).1) * estimates.len().max(1) as f64 + BELOW
}

/// Draws the panel from `top` down.
pub(super) fn draw(canvas: &Canvas, panel: &Panel, estimates: &[Estimate], top: f64, full: f64) -> Drawn {
    let (left, lines) = labels(estimates, full);
    let row = row(&lines);
    let frame = frame(panel, estimates, row, (left, top + LEGEND), full);
    legend(canvas, estimates, top + LEGEND / 2.0 - 3.0)?;
    frame.horizontal(canvas, &panel.x)?;
    zero(canvas, &frame)?;
    for (index, (one, lines)) in estimates.iter().zip(lines).enumerate() {
        let y = frame.top + row * (index as f64 + 0.5);
        if index > 0 {
            canvas.line(&[(0.0, y - row / 2.0), (frame.right, y - row / 2.0)], GRID, 1.0)?;
        }
        name(canvas, &lines, y)?;
        estimate(canvas, &frame, one, y)?;
    }
    Ok(())
}

fn frame(panel: &Panel, estimates: &[Estimate], row: f64, (left, top): (f64, f64), full: f64) -> Frame {
    let values = estimates.iter().flat_map(|one| {
        let ends = one.interval.map_or([one.value; 2], |(low, high)| [low, high]);
        one.samples.iter().copied().chain(ends).chain([one.value]).chain(one.published)
    });
    let x = Scale::of(&panel.x, values);
    let bottom = top + row * estimates.len().max(1) as f64;
    let y = Scale::of(&Axis { range: Some((0.0, 1.0)), ..Axis::default() }, std::iter::empty());
    Frame { left, top, right: full - 14.0, bottom, x, y }
}

/// A reference line at 0, where it is in sight and not the edge.
fn zero(canvas: &Canvas, frame: &Frame) -> Drawn {
    match frame.across(0.0).filter(|x| frame.x.contains(0.0) && *x > frame.left + 1.0) {
        Some(x) => canvas.dashed(&[(x, frame.top), (x, frame.bottom)], &[5.0, 4.0], MUTED, 1.2),
        None => Ok(()),
    }
}

fn name(canvas: &Canvas, lines: &[String], y: f64) -> Drawn {
    let first = y - (lines.len() as f64 - 1.0) * LINE / 2.0;
    for (index, line) in lines.iter().enumerate() {
        canvas.text(line, (0.0, first + LINE * index as f64), BODY, INK, Anchor::Start)?;
    }
    Ok(())
}

/// Measurements above the line, the estimate on it, the published value below it: none hides another.
fn estimate(canvas: &Canvas, frame: &Frame, one: &Estimate, y: f64) -> Drawn {
    let seen = |value: f64| frame.across(value).filter(|x| frame.holds((*x, frame.top)));
    for x in one.samples.iter().filter_map(|value| seen(*value)) {
        canvas.ring((x, y - 12.0), 3.0, MUTED, 1.0)?;
    }
    if let Some((low, high)) = one.interval {
        whisker(canvas, frame, (low, high), y)?;
    }
    if let Some(x) = seen(one.value) {
        canvas.disc((x, y), 5.0, OURS)?;
    }
    if let Some(x) = one.published.and_then(seen) {
        canvas.hollow_diamond((x, y + 12.0), 5.5, PUBLISHED)?;
    }
    Ok(())
}

/// The interval, with a cap where its end is in sight.
fn whisker(canvas: &Canvas, frame: &Frame, (low, high): (f64, f64), y: f64) -> Drawn {
    let (Some(from), Some(to)) = (frame.across(low), frame.across(high)) else { return Ok(()) };
    let (start, end) = (from.clamp(frame.left, frame.right), to.clamp(frame.left, frame.right));
    canvas.line(&[(start, y), (end, y)], OURS, 2.4)?;
    for x in [from, to].into_iter().filter(|x| frame.holds((*x, frame.top))) {
        canvas.line(&[(x, y - 5.0), (x, y + 5.0)], OURS, 2.4)?;
    }
    Ok(())
}

fn legend(canvas: &Canvas, estimates: &[Estimate], y: f64) -> Drawn {
    let mut x = 6.0;
    canvas.line(&[(x - 6.0, y), (x + 14.0, y)], OURS, 2.4)?;
    canvas.disc((x + 4.0, y), 4.5, OURS)?;
    x = word(canvas, "ours, with interval", x + 20.0, y)?;
    if estimates.iter().any(|one| !one.samples.is_empty()) {
        canvas.ring((x, y), 3.0, MUTED, 1.0)?;
        x = word(canvas, "single runs", x + 9.0, y)?;
    }
    if estimates.iter().any(|one| one.published.is_some()) {
        canvas.hollow_diamond((x, y), 5.5, PUBLISHED)?;
        word(canvas, "published", x + 11.0, y)?;
    }
    Ok(())
}

/// Writes a word of the legend and returns where the next mark stands.
fn word(canvas: &Canvas, text: &str, x: f64, y: f64) -> Result<f64, super::canvas::Failure> {
    canvas.text(text, (x, y), SMALL, INK, Anchor::Start)?;
    Ok(x + width(text, SMALL) + 20.0)
}
