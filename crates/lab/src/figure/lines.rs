//! Curves with bands and markers, and scatters.

use super::canvas::{Anchor, BODY, Canvas, Drawn, Point, width};
use super::frame::{BELOW, Frame, clipped, label_room};
use super::scale::Scale;
use super::style::{INK, Look, look};
use super::{Panel, Series};

/// Height of the plot itself.
const PLOT: f64 = 230.0;
/// Height of a line of the legend.
const ENTRY: f64 = 22.0;
/// Length of the sample of a line in the legend.
const SAMPLE: f64 = 34.0;
/// Markers along one curve.
const MARKED: usize = 7;

/// Position of every entry of the legend, and its height.
fn legend(series: &[Series], full: f64) -> (Vec<Point>, f64) {
    if series.len() == 1 && series[0].label.is_empty() {
        return (vec![(0.0, 0.0)], 0.0);
    }
    let (mut x, mut y) = (0.0, ENTRY / 2.0);
    let mut places = Vec::new();
    for one in series {
        let needs = SAMPLE + 8.0 + width(&one.label, BODY) + 16.0;
        if x > 0.0 && x + needs > full {
            (x, y) = (0.0, y + ENTRY);
        }
        places.push((x, y));
        x += needs;
    }
    (places, y + ENTRY / 2.0 + 4.0)
}

/// Height of the panel below its title.
pub(super) fn height(panel: &Panel, series: &[Series], full: f64) -> f64 {
    let axis_name = if panel.y.label.is_empty() { 6.0 } else { 24.0 };
    legend(series, full).1 + axis_name + PLOT + BELOW
}

/// Draws the panel from `top` down.
pub(super) fn draw(canvas: &Canvas, panel: &Panel, series: &[Series], top: f64, full: f64) -> Drawn {
    let (places, used) = legend(series, full);
    let frame = frame(panel, series, top + used, full);
    if !panel.y.label.is_empty() {
        canvas.text(&panel.y.label, (0.0, frame.top - 14.0), BODY, INK, Anchor::Start)?;
    }
    frame.vertical(canvas)?;
    frame.horizontal(canvas, &panel.x)?;
    for (index, one) in series.iter().enumerate() {
        band(canvas, &frame, one, look(index))?;
    }
    for (index, (one, place)) in series.iter().zip(places).enumerate() {
        curve(canvas, &frame, one, look(index), index)?;
        if used > 0.0 {
            entry(canvas, one, look(index), (place.0, place.1 + top))?;
        }
    }
    if series.iter().all(|one| one.points.is_empty()) {
        let middle = ((frame.left + frame.right) / 2.0, (frame.top + frame.bottom) / 2.0);
        canvas.text("nothing was measured", middle, BODY, INK, Anchor::Middle)?;
    }
    Ok(())
}

fn frame(panel: &Panel, series: &[Series], top: f64, full: f64) -> Frame {
    let points = || series.iter().flat_map(|one| &one.points);
    let bands = series.iter().flat_map(|one| &one.band).flat_map(|(low, high)| [*low, *high]);
    let x = Scale::of(&panel.x, points().map(|point| point.0));
    let y = Scale::of(&panel.y, points().map(|point| point.1).chain(bands));
    let top = top + if panel.y.label.is_empty() { 6.0 } else { 24.0 };
    Frame { left: label_room(&y), top, right: full - 14.0, bottom: top + PLOT, x, y }
}

fn entry(canvas: &Canvas, series: &Series, look: Look, (x, y): Point) -> Drawn {
    if !series.scatter {
        canvas.dashed(&[(x, y), (x + SAMPLE, y)], look.dash, look.colour, 2.2)?;
    }
    canvas.marker(look.marker, (x + SAMPLE / 2.0, y), 4.0, look.colour)?;
    canvas.text(&series.label, (x + SAMPLE + 8.0, y), BODY, INK, Anchor::Start)
}

/// The band between its low and high ends, cut at the plot's edges.
fn band(canvas: &Canvas, frame: &Frame, series: &Series, look: Look) -> Drawn {
    let mut upper = Vec::new();
    let mut lower = Vec::new();
    for ((x, _), (low, high)) in series.points.iter().zip(&series.band) {
        let (Some(low), Some(high)) = (frame.point((*x, *low)), frame.point((*x, *high))) else { continue };
        if low.0 >= frame.left - 0.5 && low.0 <= frame.right + 0.5 {
            upper.push((high.0, high.1.clamp(frame.top, frame.bottom)));
            lower.push((low.0, low.1.clamp(frame.top, frame.bottom)));
        }
    }
    if upper.len() < 2 {
        return Ok(());
    }
    upper.extend(lower.into_iter().rev());
    canvas.area(&upper, look.colour, 0.16)
}

fn curve(canvas: &Canvas, frame: &Frame, series: &Series, look: Look, index: usize) -> Drawn {
    let points: Vec<Point> = series.points.iter().filter_map(|point| frame.point(*point)).collect();
    if !series.scatter {
        for run in runs(frame, &points) {
            canvas.dashed(&run, look.dash, look.colour, 2.2)?;
        }
    }
    for point in marked(&points, series.scatter, index).filter(|point| frame.holds(*point)) {
        canvas.marker(look.marker, point, if series.scatter { 3.0 } else { 3.8 }, look.colour)?;
    }
    Ok(())
}

/// The stretches of a polyline that lie in the plot.
fn runs(frame: &Frame, points: &[Point]) -> Vec<Vec<Point>> {
    let mut runs: Vec<Vec<Point>> = Vec::new();
    for ends in points.windows(2) {
        let Some([from, to]) = clipped(frame, ends[0], ends[1]) else { continue };
        match runs.last_mut() {
            Some(run) if run.last() == Some(&from) => run.push(to),
            _ => runs.push(vec![from, to]),
        }
    }
    runs
}

/// All points of a scatter or a short curve; of a long one some, placed differently for every series.
fn marked(points: &[Point], scatter: bool, index: usize) -> impl Iterator<Item = Point> + '_ {
    let every = if scatter || points.len() <= 2 * MARKED { 1 } else { points.len() / MARKED };
    let start = if every == 1 { 0 } else { (index * every / 3 + every / 2) % every };
    points.iter().copied().skip(start).step_by(every)
}
