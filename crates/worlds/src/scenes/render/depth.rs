//! How deep each pixel lies inside a covered region.

/// Farther than any pixel of a picture; its square is still exact enough.
const FAR: f32 = 1e9;

/// Distance in pixels from each pixel's centre to the edge of the region, 0 outside. Covered shares place the edge between pixels.
pub(super) fn depth(coverage: &[u8], side: usize) -> Vec<f32> {
    let mut depths = vec![0.0; coverage.len()];
    let Some([left, top, right, bottom]) = window(coverage, side) else { return depths };
    let (mut line, width) = (Line::new(side), right - left);
    let rows = (top..bottom).flat_map(|row| &coverage[row * side + left..row * side + right]);
    let mut squares: Vec<f32> = rows.map(|&share| start(share)).collect();
    for row in squares.chunks_exact_mut(width) {
        line.load(row.iter().copied());
        row.iter_mut().zip(line.nearest()).for_each(|(value, near)| *value = near);
    }
    for column in 0..width {
        line.load(squares[column..].iter().step_by(width).copied());
        let places = depths[top * side + left + column..].iter_mut().step_by(side);
        places.zip(line.nearest()).for_each(|(value, near)| *value = near.sqrt());
    }
    depths
}

/// Left, top, right and bottom of what is covered with a pixel around it; the last two are beyond it.
fn window(coverage: &[u8], side: usize) -> Option<[usize; 4]> {
    let mut covered = (0..coverage.len()).filter(|&k| coverage[k] > 0);
    let first = covered.next()?;
    let start = [first % side, first / side, first % side, first / side];
    let [left, top, right, bottom] = covered.fold(start, |[left, top, right, bottom], k| {
        let (x, y) = (k % side, k / side);
        [left.min(x), top.min(y), right.max(x), bottom.max(y)]
    });
    Some([left.saturating_sub(1), top.saturating_sub(1), (right + 2).min(side), (bottom + 2).min(side)])
}

/// Square of a pixel's own distance to the edge where the edge crosses it, and `FAR` inside.
fn start(share: u8) -> f32 {
    let inside = (f32::from(share) / 255.0 - 0.5).max(0.0);
    if share == 255 { FAR } else { inside * inside }
}

/// One row or column in the distance transform of Felzenszwalb and Huttenlocher: the lower envelope of parabolas.
struct Line {
    values: Vec<f32>,
    /// Where each parabola of the envelope has its vertex.
    vertices: Vec<usize>,
    /// From where on each parabola is the lowest.
    bounds: Vec<f32>,
}

impl Line {
    fn new(side: usize) -> Self {
        let empty = || Vec::with_capacity(side);
        Self { values: Vec::with_capacity(side), vertices: Vec::with_capacity(side), bounds: empty() }
    }

    /// Takes the values and finds the envelope.
    fn load(&mut self, values: impl Iterator<Item = f32>) {
        self.values.clear();
        self.values.extend(values);
        self.vertices.clear();
        self.bounds.clear();
        for vertex in 0..self.values.len() {
            let mut from = f32::NEG_INFINITY;
            while let (Some(&last), Some(&bound)) = (self.vertices.last(), self.bounds.last()) {
                from = self.crossing(last, vertex);
                if from > bound {
                    break;
                }
                self.vertices.pop();
                self.bounds.pop();
                from = f32::NEG_INFINITY;
            }
            self.vertices.push(vertex);
            self.bounds.push(from);
        }
    }

    /// Where the parabola of `right` becomes lower than that of `left`.
    fn crossing(&self, left: usize, right: usize) -> f32 {
        let (a, b) = (left as f32, right as f32);
        ((self.values[right] - self.values[left]) / (b - a) + b + a) / 2.0
    }

    /// The envelope's height at each place.
    fn nearest(&self) -> impl Iterator<Item = f32> + '_ {
        let mut k = 0;
        (0..self.values.len()).map(move |place| {
            while self.bounds.get(k + 1).is_some_and(|&bound| bound < place as f32) {
                k += 1;
            }
            let off = place as f32 - self.vertices[k] as f32;
            off * off + self.values[self.vertices[k]]
        })
    }
}
