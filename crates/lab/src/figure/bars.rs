//! Many thin bars in a fixed order, told apart by kind, each with its interval and a control beside it.

use super::canvas::{Anchor, Canvas, Drawn, SMALL, width};
use super::frame::{BELOW, Frame};
use super::scale::Scale;
use super::style::{INK, MUTED, PUBLISHED, look};
use super::{Axis, Bar, Panel};

/// Height of a bar's row.
const ROW: f64 = 13.0;
/// Height of a line of the legend.
const ENTRY: f64 = 20.0;
/// Size of the names.
const NAME: f64 = 10.5;

/// What a panel of bars shows.
pub(super) struct Bars<'a> {
    pub(super) kinds: &'a [String],
    pub(super) control: &'a str,
    pub(super) bars: &'a [Bar],
}

impl Bars<'_> {
    /// Height of the panel below its title.
    pub(super) fn height(&self, full: f64) -> f64 {
        self.legend(full).1 + ROW * self.bars.len().max(1) as f64 + BELOW
    }

    /// Names of the legend with their places, and its height.
    fn legend(&self, full: f64) -> (Vec<(f64, f64)>, f64) {
        let names =
            self.kinds.iter().map(String::as_str).chain((!self.control.is_empty()).then_some(self.control));
        let (mut x, mut y, mut places) = (0.0, ENTRY / 2.0, Vec::new());
        for name in names {
            let needs = 18.0 + width(name, SMALL) + 14.0;
            if x > 0.0 && x + needs > full {
                (x, y) = (0.0, y + ENTRY);
            }
            places.push((x, y));
            x += needs;
        }
        (places, y + ENTRY / 2.0 + 6.0)
    }
}

/// Draws the panel from `top` down.
pub(super) fn draw(canvas: &Canvas, panel: &Panel, shown: &Bars<'_>, top: f64, full: f64) -> Drawn {
    let (places, used) = shown.legend(full);
    for (index, (x, y)) in places.into_iter().enumerate() {
        let name = shown.kinds.get(index).map_or(shown.control, String::as_str);
        match index < shown.kinds.len() {
            true => canvas.rectangle((x, top + y - 5.0), (x + 12.0, top + y + 5.0), look(index).colour)?,
            false => canvas.hollow_diamond((x + 6.0, top + y), 4.0, PUBLISHED)?,
        }
        canvas.text(name, (x + 18.0, top + y), SMALL, INK, Anchor::Start)?;
    }
    let frame = frame(panel, shown, top + used, full);
    frame.horizontal(canvas, &panel.x)?;
    if let Some(x) = frame.across(0.0).filter(|_| frame.x.contains(0.0)) {
        canvas.line(&[(x, frame.top), (x, frame.bottom)], MUTED, 1.0)?;
    }
    let rows: Vec<(&Bar, f64)> =
        shown.bars.iter().enumerate().map(|(row, bar)| (bar, frame.top + ROW * (row as f64 + 0.5))).collect();
    marks(canvas, &frame, &rows, shown.kinds.len())
}

fn frame(panel: &Panel, shown: &Bars<'_>, top: f64, full: f64) -> Frame {
    let values = shown.bars.iter().flat_map(|bar| {
        let ends = bar.interval.map(|(low, high)| [low, high]);
        ends.into_iter().flatten().chain([0.0]).chain(bar.value).chain(bar.control)
    });
    let x = Scale::of(&panel.x, values);
    let y = Scale::of(&Axis { range: Some((0.0, 1.0)), ..Axis::default() }, std::iter::empty());
    let left = shown.bars.iter().map(|bar| width(&bar.label, NAME)).fold(20.0, f64::max) + 8.0;
    let bottom = top + ROW * shown.bars.len().max(1) as f64;
    Frame { left: left.min(full * 0.5), top, right: full - 14.0, bottom, x, y }
}

/// All names, all bars from 0, all intervals as thin lines through them, all controls as diamonds: what looks alike is drawn together.
fn marks(canvas: &Canvas, frame: &Frame, rows: &[(&Bar, f64)], kinds: usize) -> Drawn {
    let inside = |value: f64| frame.across(value).map(|x| x.clamp(frame.left, frame.right));
    for (bar, y) in rows {
        canvas.text(&bar.label, (frame.left - 6.0, *y), NAME, INK, Anchor::End)?;
    }
    for kind in 0..kinds {
        for (bar, y) in rows.iter().filter(|(bar, _)| bar.kind == kind) {
            if let (Some(value), Some(zero)) = (bar.value.and_then(inside), inside(0.0)) {
                canvas.rectangle(
                    (zero.min(value), y - 4.0),
                    (zero.max(value), y + 4.0),
                    look(kind).colour,
                )?;
            }
        }
    }
    for (bar, y) in rows {
        if let Some((low, high)) = bar.interval
            && let (Some(low), Some(high)) = (inside(low), inside(high))
        {
            canvas.line(&[(low, *y), (high, *y)], INK, 1.2)?;
        }
    }
    let seen = |bar: &Bar, y: f64| {
        bar.control.and_then(|value| frame.across(value)).filter(|x| frame.holds((*x, y)))
    };
    canvas.hollow_diamonds(rows.iter().filter_map(|(bar, y)| Some((seen(bar, *y)?, *y))), 3.4, PUBLISHED)
}
