//! A thin layer over plotters' drawing area: lengths in canvas units, dashes, markers, text of known anchor.

use plotters::coord::Shift;
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::prelude::{Color, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontDesc, FontFamily, FontStyle, ShapeStyle};

use super::style::Marker;

/// Backend coordinates are whole numbers: half a unit is the finest step.
pub(super) const FINE: f64 = 2.0;
/// plotters divides font sizes by this before it writes them.
const FONT: f64 = 1.24;
/// Mean width of a character as a share of the font size; generous, as no font is at hand to measure.
const CHARACTER: f64 = 0.61;

/// Sizes of text.
pub(super) const TITLE: f64 = 16.0;
pub(super) const BODY: f64 = 14.0;
pub(super) const SMALL: f64 = 13.0;

pub(super) type Point = (f64, f64);
pub(super) type Failure = DrawingAreaErrorKind<std::io::Error>;
pub(super) type Drawn = Result<(), Failure>;

/// Where a text stands relative to its point, horizontally; vertically it is always centred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A region of the drawing with its own origin.
pub(super) struct Canvas<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    origin: Point,
}

fn whole(value: f64) -> i32 {
    (value * FINE).round().clamp(-1e6, 1e6) as i32
}

/// Estimated width of a text, in canvas units.
pub(super) fn width(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * CHARACTER * size
}

/// Breaks a text at spaces into lines of at most `limit` units.
pub(super) fn wrap(text: &str, size: f64, limit: f64) -> Vec<String> {
    let mut lines: Vec<String> = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().unwrap_or_else(|| unreachable!("there is always a line"));
        if line.is_empty() {
            line.push_str(word);
        } else if width(line, size) + width(word, size) + size * 0.3 <= limit {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines
}

impl<'a> Canvas<'a> {
    pub(super) fn new(buffer: &'a mut String, size: Point) -> Self {
        let pixels = ((size.0 * FINE).ceil() as u32, (size.1 * FINE).ceil() as u32);
        Self { area: SVGBackend::with_string(buffer, pixels).into_drawing_area(), origin: (0.0, 0.0) }
    }

    /// Moves the origin; everything drawn afterwards is relative to it.
    pub(super) fn move_to(&mut self, origin: Point) {
        self.origin = origin;
    }

    pub(super) fn finish(&self) -> Drawn {
        self.area.present()
    }

    fn at(&self, (x, y): Point) -> (i32, i32) {
        (whole(x + self.origin.0), whole(y + self.origin.1))
    }

    fn all(&self, points: &[Point]) -> Vec<(i32, i32)> {
        points.iter().map(|point| self.at(*point)).collect()
    }

    pub(super) fn line(&self, points: &[Point], colour: RGBColor, stroke: f64) -> Drawn {
        let style: ShapeStyle = colour.stroke_width(stroke_width(stroke));
        self.area.draw(&PathElement::new(self.all(points), style))
    }

    /// A polyline in `dash` (solid where empty).
    pub(super) fn dashed(&self, points: &[Point], dash: &[f64], colour: RGBColor, stroke: f64) -> Drawn {
        for piece in dashes(points, dash) {
            self.line(&piece, colour, stroke)?;
        }
        Ok(())
    }

    pub(super) fn area(&self, points: &[Point], colour: RGBColor, opacity: f64) -> Drawn {
        self.area.draw(&Polygon::new(self.all(points), colour.mix(opacity)))
    }

    pub(super) fn rectangle(&self, from: Point, to: Point, colour: RGBColor) -> Drawn {
        self.area.draw(&Rectangle::new([self.at(from), self.at(to)], colour.filled()))
    }

    pub(super) fn outline(&self, from: Point, to: Point, colour: RGBColor) -> Drawn {
        self.area.draw(&Rectangle::new([self.at(from), self.at(to)], colour.stroke_width(stroke_width(1.0))))
    }

    pub(super) fn ring(&self, centre: Point, radius: f64, colour: RGBColor, stroke: f64) -> Drawn {
        let style = colour.stroke_width(stroke_width(stroke));
        self.area.draw(&Circle::new(self.at(centre), whole(radius), style))
    }

    pub(super) fn disc(&self, centre: Point, radius: f64, colour: RGBColor) -> Drawn {
        self.area.draw(&Circle::new(self.at(centre), whole(radius), colour.filled()))
    }

    /// A diamond with a white inside: what the paper printed.
    pub(super) fn hollow_diamond(&self, centre: Point, radius: f64, colour: RGBColor) -> Drawn {
        self.hollow_diamonds(std::iter::once(centre), radius, colour)
    }

    /// Diamonds with a white inside, which do not overlap.
    pub(super) fn hollow_diamonds(
        &self,
        centres: impl Iterator<Item = Point> + Clone,
        radius: f64,
        colour: RGBColor,
    ) -> Drawn {
        for centre in centres.clone() {
            self.area(&diamond(centre, radius), RGBColor(255, 255, 255), 1.0)?;
        }
        for centre in centres {
            let mut corners = diamond(centre, radius);
            corners.push(corners[0]);
            self.line(&corners, colour, 2.0)?;
        }
        Ok(())
    }

    pub(super) fn marker(&self, marker: Marker, centre: Point, radius: f64, colour: RGBColor) -> Drawn {
        let (x, y) = centre;
        match marker {
            Marker::Disc => self.disc(centre, radius, colour),
            Marker::Ring => self.ring(centre, radius, colour, 1.5),
            Marker::Square => {
                let half = radius * 0.9;
                self.rectangle((x - half, y - half), (x + half, y + half), colour)
            }
            Marker::Triangle => {
                let corners = [
                    (x, y - radius * 1.2),
                    (x + radius * 1.1, y + radius * 0.8),
                    (x - radius * 1.1, y + radius * 0.8),
                ];
                self.area(&corners, colour, 1.0)
            }
            Marker::Diamond => self.area(&diamond(centre, radius * 1.25), colour, 1.0),
            Marker::Cross => {
                self.line(&[(x - radius, y - radius), (x + radius, y + radius)], colour, 1.8)?;
                self.line(&[(x - radius, y + radius), (x + radius, y - radius)], colour, 1.8)
            }
            Marker::Plus => {
                self.line(&[(x - radius * 1.2, y), (x + radius * 1.2, y)], colour, 1.8)?;
                self.line(&[(x, y - radius * 1.2), (x, y + radius * 1.2)], colour, 1.8)
            }
        }
    }

    pub(super) fn text(&self, text: &str, at: Point, size: f64, colour: RGBColor, anchor: Anchor) -> Drawn {
        self.write(text, at, size, colour, anchor, FontStyle::Normal)
    }

    pub(super) fn bold(&self, text: &str, at: Point, size: f64, colour: RGBColor) -> Drawn {
        self.write(text, at, size, colour, Anchor::Start, FontStyle::Bold)
    }

    fn write(
        &self,
        text: &str,
        at: Point,
        size: f64,
        colour: RGBColor,
        anchor: Anchor,
        face: FontStyle,
    ) -> Drawn {
        let family =
            FontFamily::Name("system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif");
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let font = FontDesc::new(family, size * FINE * FONT, face);
        let style =
            plotters::style::TextStyle::from(font).color(&colour).pos(Pos::new(horizontal, VPos::Center));
        self.area.draw(&Text::new(text.to_owned(), self.at(at), style))
    }
}

fn stroke_width(stroke: f64) -> u32 {
    (stroke * FINE).round().max(1.0) as u32
}

fn diamond((x, y): Point, radius: f64) -> Vec<Point> {
    vec![(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)]
}

/// Cuts a polyline into the pieces that a dash draws.
pub(super) fn dashes(points: &[Point], dash: &[f64]) -> Vec<Vec<Point>> {
    if dash.iter().sum::<f64>() <= 0.0 {
        return vec![points.to_vec()];
    }
    let (mut pieces, mut piece) = (Vec::new(), points.first().map_or(Vec::new(), |first| vec![*first]));
    let (mut index, mut left) = (0, dash[0]);
    for ends in points.windows(2) {
        let (mut from, to) = (ends[0], ends[1]);
        let mut length = (to.0 - from.0).hypot(to.1 - from.1);
        while length > left {
            let share = left / length;
            from = (from.0 + (to.0 - from.0) * share, from.1 + (to.1 - from.1) * share);
            length -= left;
            piece.push(from);
            if index % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            index += 1;
            left = dash[index % dash.len()];
            piece = vec![from];
        }
        left -= length;
        piece.push(to);
    }
    if index % 2 == 0 && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}
