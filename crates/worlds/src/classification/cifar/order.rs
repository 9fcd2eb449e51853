//! One order for every layout.

use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::PICTURE_BYTES;

/// Pictures and labels ordered by (SHA-256 of the pixels, label).
///
/// Equal pictures have equal keys, so the order does not depend on the order they came in.
pub(super) fn canonical(pixels: &[u8], labels: &[u16]) -> (Vec<u8>, Vec<u16>) {
    let pictures: Vec<&[u8]> = pixels.chunks_exact(PICTURE_BYTES).collect();
    let mut keys: Vec<([u8; 32], u16, usize)> = pictures
        .par_iter()
        .zip(labels)
        .enumerate()
        .map(|(row, (picture, &label))| (Sha256::digest(picture).into(), label, row))
        .collect();
    keys.par_sort_unstable();
    let ordered = keys.iter().flat_map(|&(_, _, row)| pictures[row]).copied().collect();
    (ordered, keys.into_iter().map(|(_, label, _)| label).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_rows_does_not_matter() {
        let picture = |byte: u8| vec![byte; PICTURE_BYTES];
        let one_way = canonical(&[picture(1), picture(2), picture(2), picture(3)].concat(), &[7, 9, 4, 5]);
        let other_way = canonical(&[picture(2), picture(3), picture(2), picture(1)].concat(), &[4, 5, 9, 7]);
        assert_eq!(one_way, other_way);
        for (picture, label) in one_way.0.chunks(PICTURE_BYTES).zip(&one_way.1) {
            let expected: &[u16] = [&[][..], &[7], &[4, 9], &[5]][usize::from(picture[0])];
            assert!(expected.contains(label), "picture {} came out with label {label}", picture[0]);
        }
    }
}
