//! Colours, dashes and markers: a series is told apart by all three, so that print and colour blindness lose nothing.

use plotters::style::RGBColor;

/// Text and axes.
pub(super) const INK: RGBColor = RGBColor(28, 32, 38);
/// Less important text.
pub(super) const MUTED: RGBColor = RGBColor(92, 99, 110);
/// Gridlines.
pub(super) const GRID: RGBColor = RGBColor(226, 229, 233);
/// Reference lines and what the paper printed.
pub(super) const PUBLISHED: RGBColor = RGBColor(173, 70, 0);
/// Estimates.
pub(super) const OURS: RGBColor = RGBColor(0, 98, 155);

/// Colours that stay apart under the common colour vision deficiencies (after Okabe and Ito, darkened for thin lines).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 98, 155),
    RGBColor(200, 82, 0),
    RGBColor(0, 128, 94),
    RGBColor(30, 30, 30),
    RGBColor(176, 82, 138),
    RGBColor(186, 128, 0),
    RGBColor(60, 150, 205),
];

/// On and off lengths of a dash, in units of the canvas; empty for a solid line.
const DASHES: [&[f64]; 6] =
    [&[], &[9.0, 5.0], &[2.0, 4.0], &[11.0, 4.0, 2.0, 4.0], &[16.0, 5.0], &[6.0, 3.0, 2.0, 3.0, 2.0, 3.0]];

/// Shape drawn at points of a curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marker {
    Disc,
    Square,
    Triangle,
    Diamond,
    Cross,
    Plus,
    Ring,
}

const MARKERS: [Marker; 7] = [
    Marker::Disc,
    Marker::Square,
    Marker::Triangle,
    Marker::Diamond,
    Marker::Cross,
    Marker::Plus,
    Marker::Ring,
];

/// How one series looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    pub(super) dash: &'static [f64],
    pub(super) marker: Marker,
}

/// Look of the series at `index`. The cycles of colours and dashes have different lengths, and markers move on by one after each cycle of colours: 42
/// curves differ, and 49 series of points.
pub(super) fn look(index: usize) -> Look {
    Look {
        colour: COLOURS[index % COLOURS.len()],
        dash: DASHES[index % DASHES.len()],
        marker: MARKERS[(index + index / COLOURS.len()) % MARKERS.len()],
    }
}

/// Colour of a share in [0, 1]: light to dark, so that its lightness alone tells the order.
pub(super) fn shade(share: f64) -> RGBColor {
    const STOPS: [(f64, f64, f64); 4] =
        [(244.0, 247.0, 250.0), (158.0, 200.0, 222.0), (48.0, 128.0, 178.0), (8.0, 38.0, 84.0)];
    let position = share.clamp(0.0, 1.0) * (STOPS.len() - 1) as f64;
    let index = (position.floor() as usize).min(STOPS.len() - 2);
    let (from, to, part) = (STOPS[index], STOPS[index + 1], position - index as f64);
    let mix = |from: f64, to: f64| (from + (to - from) * part).round() as u8;
    RGBColor(mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}

/// Ink that can be read on [`shade`]`(share)`.
pub(super) fn ink_on(share: f64) -> RGBColor {
    if share > 0.5 { RGBColor(255, 255, 255) } else { INK }
}
