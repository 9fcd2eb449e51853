//! Geometry that a reader would trip over, and shapes that must be refused.
#![allow(clippy::unwrap_used)]

use super::canvas::{dashes, width, wrap};
use super::frame::{Frame, clipped};
use super::scale::{Scale, label};
use super::style::look;
use super::*;

fn axis(range: (f64, f64), log: bool) -> Axis {
    Axis { label: String::new(), range: Some(range), log }
}

fn ticks(range: (f64, f64), log: bool, count: usize) -> Vec<String> {
    let scale = Scale::of(&axis(range, log), std::iter::empty());
    scale.ticks(count).into_iter().map(|(_, label)| label).collect()
}

#[test]
fn ticks_are_round_numbers() {
    assert_eq!(ticks((0.0, 1.0), false, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    assert_eq!(ticks((-0.3, 0.3), false, 4), ["−0.2", "0.0", "0.2"]);
    assert_eq!(ticks((0.0, 40.0), false, 4), ["0", "10", "20", "30", "40"]);
    assert_eq!(ticks((0.0, 2e7), false, 2), ["0", "1×10⁷", "2×10⁷"]);
}

#[test]
fn logarithmic_ticks_are_decades() {
    assert_eq!(ticks((1e-6, 1.0), true, 6), ["10⁻⁶", "10⁻⁵", "10⁻⁴", "0.001", "0.01", "0.1", "1"]);
    assert_eq!(ticks((1.0, 8.0), true, 5), ["1", "2", "3", "5"]);
}

#[test]
fn labels_have_proper_signs() {
    assert_eq!(label(-0.004, 2), "0.00");
    assert_eq!(label(-1.5, 1), "−1.5");
    assert_eq!(label(2.5e-7, 9), "2.5×10⁻⁷");
}

#[test]
fn values_that_cannot_be_shown_do_not_stretch_an_axis() {
    let axis = Axis { log: true, ..Axis::default() };
    let scale = Scale::of(&axis, [0.0, -3.0, f64::NAN, 1.0, 100.0].into_iter());
    assert!(scale.contains(1.0) && !scale.contains(0.1));
    assert_eq!(scale.share(0.0), None);
}

#[test]
fn a_single_value_still_has_an_axis() {
    for value in [0.0, 0.5, -1e9] {
        let scale = Scale::of(&Axis::default(), std::iter::once(value));
        assert!(scale.share(value).is_some_and(|share| (share - 0.5).abs() < 1e-9), "{value}");
    }
}

#[test]
fn segments_are_cut_at_the_frame() {
    let unit = Scale::of(&axis((0.0, 1.0), false), std::iter::empty());
    let frame = Frame { left: 0.0, top: 0.0, right: 10.0, bottom: 10.0, x: unit, y: unit };
    assert_eq!(clipped(&frame, (-5.0, 5.0), (15.0, 5.0)), Some([(0.0, 5.0), (10.0, 5.0)]));
    assert_eq!(clipped(&frame, (2.0, 2.0), (3.0, 3.0)), Some([(2.0, 2.0), (3.0, 3.0)]));
    assert_eq!(clipped(&frame, (-5.0, 1.0), (-1.0, 9.0)), None);
    assert_eq!(clipped(&frame, (-1.0, 8.0), (1.0, 13.0)), None);
}

#[test]
fn a_dash_keeps_its_rhythm_across_corners() {
    let corner = [(0.0, 0.0), (6.0, 0.0), (6.0, 6.0)];
    let pieces = dashes(&corner, &[4.0, 1.0]);
    let length = |piece: &Vec<(f64, f64)>| -> f64 {
        piece.windows(2).map(|ends| (ends[1].0 - ends[0].0).hypot(ends[1].1 - ends[0].1)).sum()
    };
    let lengths: Vec<f64> = pieces.iter().map(length).collect();
    assert_eq!(lengths, [4.0, 4.0, 2.0]);
    assert_eq!(dashes(&corner, &[]), [corner.to_vec()]);
}

#[test]
fn the_first_series_differ_in_colour_dash_and_marker_at_once() {
    for a in 0..6 {
        for b in 0..a {
            let (a, b) = (look(a), look(b));
            assert!(a.colour != b.colour && a.dash != b.dash && a.marker != b.marker);
        }
    }
}

#[test]
fn texts_wrap_below_their_limit_and_lose_nothing() {
    let lines = wrap("diffGrad minus Adam at half the rate", 14.0, 120.0);
    assert_eq!(lines.join(" "), "diffGrad minus Adam at half the rate");
    assert!(lines.len() > 1 && lines.iter().all(|line| width(line, 14.0) <= 120.0), "{lines:?}");
}

fn figure(content: Content) -> Figure {
    let panel = |content| Panel { title: "p & q".into(), x: Axis::default(), y: Axis::default(), content };
    Figure {
        id: "f".into(),
        title: "a < b".into(),
        caption: String::new(),
        panels: vec![panel(content.clone()), panel(content)],
        columns: 2,
    }
}

fn series() -> Series {
    Series { label: "s".into(), points: vec![(0.0, 1.0), (1.0, 2.0)], ..Series::default() }
}

#[test]
fn every_kind_of_content_gives_a_whole_svg_twice_the_same() {
    let contents = [
        Content::Lines(vec![series(), Series { scatter: true, ..series() }]),
        Content::Lines(Vec::new()),
        Content::Intervals(vec![Estimate { label: "e".into(), value: 1.0, ..Estimate::default() }]),
        Content::Intervals(Vec::new()),
        Content::Heat { rows: vec!["r".into()], columns: vec!["c".into()], values: vec![vec![None]] },
        Content::Heat { rows: Vec::new(), columns: Vec::new(), values: Vec::new() },
    ];
    for content in contents {
        let figure = figure(content);
        let svg = render(&figure).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.matches("font-family").count() == 1 && !svg.contains("opacity=\"1\""));
        assert!(svg.contains("viewBox") && svg.contains("p &amp; q") && svg.contains("a &lt; b"));
        assert!(!svg.contains("NaN"));
        assert_eq!(svg, render(&figure).unwrap());
        assert_eq!(render_panels(&figure).unwrap().len(), 2);
    }
}

#[test]
fn curves_stay_inside_the_plot() {
    let mut figure = figure(Content::Lines(vec![Series {
        points: vec![(0.0, -1e12), (0.5, 0.5), (1.0, 1e12)],
        band: vec![(-1e12, 1e12); 3],
        ..series()
    }]));
    figure.panels.iter_mut().for_each(|panel| panel.y.range = Some((0.0, 1.0)));
    for svg in render_panels(&figure).unwrap() {
        let far =
            svg.split(['"', ' ', ',']).filter_map(|part| part.parse::<f64>().ok()).find(|x| x.abs() > 2000.0);
        assert_eq!(far, None);
    }
}

#[test]
fn lengths_that_disagree_are_refused() {
    let band = Content::Lines(vec![Series { band: vec![(0.0, 1.0)], ..series() }]);
    let message = render(&figure(band)).unwrap_err().to_string();
    assert!(message.contains("figure `f`") && message.contains("band of 2 points"), "{message}");
    let heat =
        Content::Heat { rows: vec!["r".into()], columns: vec!["c".into()], values: vec![vec![None; 2]] };
    let message = render(&figure(heat)).unwrap_err().to_string();
    assert!(message.contains("1 rows of 1 values") && message.contains("rows of [2]"), "{message}");
}
