//! The soft shadow beneath an object.

use super::canvas::Canvas;
use crate::scenes::Rgb;

const DARK: Rgb = [0.02, 0.02, 0.05];

/// Paints the blurred silhouette, moved to the lower right, of an object of `radius` pixels.
pub(super) fn cast(canvas: &mut Canvas, silhouette: &[u8], radius: f32) {
    let side = canvas.side;
    let limit = (side / 4) as f32;
    let shift = (0.16 * radius + 0.5).clamp(1.0, limit.max(1.0)) as usize;
    let reach = (0.1 * radius + 0.5).clamp(1.0, limit.max(1.0)) as usize;
    let mut shadow = vec![0; silhouette.len()];
    for (row, line) in shadow.chunks_exact_mut(side.max(1)).enumerate().skip(shift) {
        let source = (row - shift) * side;
        for (column, share) in line.iter_mut().enumerate().skip(shift) {
            *share = silhouette[source + column - shift];
        }
    }
    // Twice a box is nearly a bell.
    for _ in 0..2 {
        shadow = transposed(&blurred(&shadow, side, reach), side);
        shadow = transposed(&blurred(&shadow, side, reach), side);
    }
    let soft: Vec<u8> = shadow.iter().map(|&share| (u16::from(share) * 9 / 25) as u8).collect();
    canvas.paint(&soft, |_| DARK);
}

/// Each row's running mean over `2 · reach + 1` pixels; beyond the edge there is none.
fn blurred(values: &[u8], side: usize, reach: usize) -> Vec<u8> {
    let width = (2 * reach + 1) as u32;
    let mut out = Vec::with_capacity(values.len());
    for row in values.chunks_exact(side.max(1)) {
        let mut sum: u32 = row.iter().take(reach).map(|&value| u32::from(value)).sum();
        for column in 0..side {
            sum += row.get(column + reach).map_or(0, |&value| u32::from(value));
            out.push((sum / width) as u8);
            sum -= column.checked_sub(reach).map_or(0, |first| u32::from(row[first]));
        }
    }
    out
}

fn transposed(values: &[u8], side: usize) -> Vec<u8> {
    (0..values.len()).map(|k| values[(k % side) * side + k / side]).collect()
}
