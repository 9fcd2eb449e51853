//! Axes: gridlines, ticks, labels that keep clear of each other, and the way from values to the canvas.

use super::Axis;
use super::canvas::{Anchor, BODY, Canvas, Drawn, Point, SMALL, width};
use super::scale::Scale;
use super::style::{GRID, INK, MUTED};

/// The rectangle of a plot and its two scales.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) right: f64,
    pub(super) bottom: f64,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

/// Height that [`Frame::horizontal`] needs below the plot.
pub(super) const BELOW: f64 = 52.0;

impl Frame {
    /// Canvas position of a value on the horizontal axis.
    pub(super) fn across(&self, x: f64) -> Option<f64> {
        Some(self.left + (self.right - self.left) * self.x.share(x)?)
    }

    /// Canvas position of a value on the vertical axis.
    pub(super) fn up(&self, y: f64) -> Option<f64> {
        Some(self.bottom - (self.bottom - self.top) * self.y.share(y)?)
    }

    /// Canvas position of a point; it may lie outside the plot.
    pub(super) fn point(&self, (x, y): (f64, f64)) -> Option<Point> {
        Some((self.across(x)?, self.up(y)?))
    }

    /// Whether a canvas position lies in the plot.
    pub(super) fn holds(&self, (x, y): Point) -> bool {
        x >= self.left - 0.5 && x <= self.right + 0.5 && y >= self.top - 0.5 && y <= self.bottom + 0.5
    }

    /// As many horizontal ticks as fit with room between their labels.
    fn ticks_across(&self) -> Vec<(f64, String)> {
        let room = self.right - self.left;
        for count in (2..=7).rev() {
            let ticks = self.x.ticks(count);
            let widest = ticks.iter().map(|(_, label)| width(label, SMALL)).fold(0.0, f64::max);
            if (widest + 18.0) * ticks.len() as f64 <= room {
                return ticks;
            }
        }
        self.x.ticks(1)
    }

    /// Vertical gridlines, the bottom axis, its tick labels and its name.
    pub(super) fn horizontal(&self, canvas: &Canvas, axis: &Axis) -> Drawn {
        for (value, label) in self.ticks_across() {
            let Some(x) = self.across(value) else { continue };
            canvas.line(&[(x, self.top), (x, self.bottom)], GRID, 1.0)?;
            canvas.line(&[(x, self.bottom), (x, self.bottom + 4.0)], MUTED, 1.0)?;
            canvas.text(&label, (x, self.bottom + 15.0), SMALL, MUTED, Anchor::Middle)?;
        }
        canvas.line(&[(self.left, self.bottom), (self.right, self.bottom)], MUTED, 1.0)?;
        let middle = (self.left + self.right) / 2.0;
        canvas.text(&axis.label, (middle, self.bottom + 36.0), BODY, INK, Anchor::Middle)
    }

    /// Horizontal gridlines and their labels at the left.
    pub(super) fn vertical(&self, canvas: &Canvas) -> Drawn {
        for (value, label) in self.y.ticks(5) {
            let Some(y) = self.up(value) else { continue };
            canvas.line(&[(self.left, y), (self.right, y)], GRID, 1.0)?;
            canvas.text(&label, (self.left - 7.0, y), SMALL, MUTED, Anchor::End)?;
        }
        Ok(())
    }
}

/// Width that the labels of a vertical axis need.
pub(super) fn label_room(y: &Scale) -> f64 {
    y.ticks(5).iter().map(|(_, label)| width(label, SMALL)).fold(14.0, f64::max) + 12.0
}

/// Part of the segment `from`–`to` that lies in the plot (Liang and Barsky's clipping).
pub(super) fn clipped(frame: &Frame, from: Point, to: Point) -> Option<[Point; 2]> {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let sides = [
        (-dx, from.0 - frame.left),
        (dx, frame.right - from.0),
        (-dy, from.1 - frame.top),
        (dy, frame.bottom - from.1),
    ];
    let (mut enter, mut leave) = (0.0f64, 1.0f64);
    for (direction, distance) in sides {
        if direction == 0.0 {
            if distance < 0.0 {
                return None;
            }
        } else if direction < 0.0 {
            enter = enter.max(distance / direction);
        } else {
            leave = leave.min(distance / direction);
        }
    }
    let at = |share: f64| (from.0 + dx * share, from.1 + dy * share);
    (enter <= leave).then(|| [at(enter), at(leave)])
}
