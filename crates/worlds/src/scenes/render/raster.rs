//! Filling polygons: the share of each pixel that lies inside.
//!
//! tiny-skia's masks panic where a picture is tiny or a figure huge, and a filler of polygons alone is short.

use super::outline::Point;

/// Lines on which each row of pixels is sampled; along a line the cover is exact.
const LINES: usize = 8;

/// Where a polygon's edge crosses a line: the place in pixels, and +1 or −1 by the edge's direction.
type Crossing = (f32, i32);

/// Share, 0..=255, of each pixel of a `side × side` picture with a winding number other than 0. Polygons are in pixels; where a corner is
/// not finite, nothing is covered.
pub(super) fn cover(polygons: &[Vec<Point>], side: usize) -> Vec<u8> {
    let mut shares = vec![0; side * side];
    if polygons.iter().flatten().flatten().any(|value| !value.is_finite()) {
        return shares;
    }
    let mut lines = Lines::new(polygons, side);
    let mut sums = vec![0.0_f32; side];
    for (row, shares) in shares.chunks_exact_mut(side.max(1)).enumerate() {
        let mut touched = false;
        for line in row * LINES..(row + 1) * LINES {
            touched |= add_line(lines.sorted(line), &mut sums);
        }
        if touched {
            for (share, sum) in shares.iter_mut().zip(&mut sums) {
                *share = (sum.min(LINES as f32) * (255.0 / LINES as f32) + 0.5) as u8;
                *sum = 0.0;
            }
        }
    }
    shares
}

/// Adds what lies inside along one line to the sums of its row; says whether anything did.
fn add_line(crossings: &[Crossing], sums: &mut [f32]) -> bool {
    let mut winding = 0;
    for pair in crossings.windows(2) {
        winding += pair[0].1;
        if winding != 0 {
            add_span(pair[0].0, pair[1].0, sums);
        }
    }
    !crossings.is_empty()
}

/// Adds the part of each pixel between two places, which lie in the picture.
fn add_span(from: f32, to: f32, sums: &mut [f32]) {
    let (first, last) = (from as usize, (to as usize).min(sums.len() - 1));
    for (pixel, sum) in sums.iter_mut().enumerate().take(last + 1).skip(first) {
        let left = pixel as f32;
        *sum += (to.min(left + 1.0) - from.max(left)).max(0.0);
    }
}

/// The crossings of every line, one line after the other.
struct Lines {
    crossings: Vec<Crossing>,
    /// Where each line's begin; one more than there are lines.
    starts: Vec<usize>,
}

impl Lines {
    fn new(polygons: &[Vec<Point>], side: usize) -> Self {
        let edges: Vec<Edge> = polygons.iter().flat_map(|polygon| edges(polygon, side)).collect();
        let mut starts = vec![0; side * LINES + 1];
        for line in edges.iter().flat_map(|edge| edge.first..edge.last) {
            starts[line + 1] += 1;
        }
        for line in 1..starts.len() {
            starts[line] += starts[line - 1];
        }
        let mut next = starts.clone();
        let mut crossings = vec![(0.0, 0); starts[side * LINES]];
        for edge in &edges {
            for line in edge.first..edge.last {
                crossings[next[line]] = (edge.at(line).clamp(0.0, side as f64) as f32, edge.sign);
                next[line] += 1;
            }
        }
        Self { crossings, starts }
    }

    /// The crossings of a line from left to right.
    fn sorted(&mut self, line: usize) -> &[Crossing] {
        let own = &mut self.crossings[self.starts[line]..self.starts[line + 1]];
        own.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        own
    }
}

/// An edge of a polygon that crosses the lines from `first` up to, but not with, `last`.
struct Edge {
    first: usize,
    last: usize,
    sign: i32,
    top: [f64; 2],
    slope: f64,
}

impl Edge {
    fn at(&self, line: usize) -> f64 {
        self.top[0] + ((line as f64 + 0.5) / LINES as f64 - self.top[1]) * self.slope
    }
}

/// The edges that cross any line of the picture.
fn edges(polygon: &[Point], side: usize) -> impl Iterator<Item = Edge> + '_ {
    let next = polygon.iter().cycle().skip(1);
    polygon.iter().zip(next).filter_map(move |(a, b)| {
        let (a, b) = (a.map(f64::from), b.map(f64::from));
        let (top, low, sign) = if a[1] < b[1] { (a, b, 1) } else { (b, a, -1) };
        // `as` cuts what is below the first line to 0.
        let line = |y: f64| ((y * LINES as f64 - 0.5).ceil().max(0.0) as usize).min(side * LINES);
        let (first, last) = (line(top[1]), line(low[1]));
        let slope = (low[0] - top[0]) / (low[1] - top[1]);
        (first < last).then_some(Edge { first, last, sign, top, slope })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rectangle([left, top]: Point, [right, bottom]: Point) -> Vec<Point> {
        vec![[left, top], [right, top], [right, bottom], [left, bottom]]
    }

    #[test]
    fn a_rectangle_covers_its_part_of_each_pixel() {
        let shares = cover(&[rectangle([0.25, 1.0], [2.5, 2.75])], 3);
        assert_eq!(shares, [0, 0, 0, 191, 255, 128, 143, 191, 96]);
    }

    #[test]
    fn overlaps_count_once_and_holes_not_at_all() {
        let whole = rectangle([0.0, 0.0], [4.0, 4.0]);
        let mut hole = rectangle([1.0, 1.0], [3.0, 3.0]);
        assert_eq!(cover(&[whole.clone(), hole.clone()], 4), [255; 16]);
        hole.reverse();
        let shares = cover(&[whole, hole], 4);
        assert_eq!(shares.iter().filter(|&&share| share == 0).count(), 4);
        assert_eq!([shares[0], shares[5]], [255, 0]);
    }

    #[test]
    fn what_lies_outside_is_cut() {
        assert_eq!(cover(&[rectangle([-1e30, -1e30], [1e30, 1e30])], 2), [255; 4]);
        assert_eq!(cover(&[rectangle([5.0, -3.0], [9.0, 3.0])], 2), [0; 4]);
        assert_eq!(cover(&[rectangle([f32::NAN, 0.0], [1.0, 1.0])], 2), [0; 4]);
        assert_eq!(cover(&[rectangle([0.0, 0.0], [1.0, 1.0])], 0), [0; 0]);
        assert_eq!(cover(&[Vec::new(), vec![[1.0, 1.0]]], 2), [0; 4]);
    }

    #[test]
    fn a_triangle_covers_half_its_square() {
        let shares = cover(&[vec![[0.0, 0.0], [16.0, 0.0], [0.0, 16.0]]], 16);
        let sum: u32 = shares.iter().map(|&share| u32::from(share)).sum();
        assert!(sum.abs_diff(255 * 128) < 40, "{sum}");
    }
}
