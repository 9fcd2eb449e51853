//! What a kernel's source is, in 64 digits.

use sha2::{Digest as _, Sha256};

use super::{COMMON, Source};

/// sha256 of the `.cu` file followed by `common.cuh`, in hexadecimal digits: what the ledger of verified kernels names.
///
/// `cat <op>.cu common.cuh packs.cuh | sha256sum` gives the same.
#[must_use]
pub fn digest(source: &Source) -> String {
    hex(&[source.text, COMMON])
}

/// sha256 of the parts one after another.
pub(crate) fn hex(parts: &[impl AsRef<[u8]>]) -> String {
    let mut hasher = Sha256::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_and_the_digest_is_the_known_one() {
        // printf abc | sha256sum
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(&["a", "bc"]), known);
    }
}
