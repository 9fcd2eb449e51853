//! The real data sets, where they are on this machine: `DIFFLAB_TEST_DATA` names the folder that holds `cifar10` and
//! `cifar100`. Without it these tests say so and pass.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::path::PathBuf;

use worlds::classification::{ImageSet, altered_copy, check, digest, load, title};

fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("DIFFLAB_TEST_DATA").map(PathBuf::from);
    let found = root.filter(|root| root.join(name).is_dir());
    if found.is_none() {
        eprintln!("skipped: set DIFFLAB_TEST_DATA to the folder that holds {name}");
    }
    found
}

/// Mean of each channel over a set, in [0, 1].
fn channel_means(set: &ImageSet) -> [f64; 3] {
    let plane = set.side * set.side;
    let sum = |channel: usize| -> u64 {
        (0..set.len())
            .flat_map(|row| &set.picture(row)[channel * plane..][..plane])
            .map(|&byte| u64::from(byte))
            .sum()
    };
    std::array::from_fn(|channel| sum(channel) as f64 / (set.len() * plane) as f64 / 255.0)
}

#[test]
fn cifar10_has_the_published_means() {
    let Some(root) = folder("cifar10") else { return };
    let (train, test) = load("cifar10", &root).unwrap();
    assert_eq!((train.class_counts(), test.class_counts()), (vec![5_000; 10], vec![1_000; 10]));
    for (mean, published) in channel_means(&train).iter().zip([0.491_399_68, 0.482_158_41, 0.446_530_91]) {
        assert!((mean - published).abs() < 1e-8, "{mean} against {published}");
    }
}

#[test]
fn cifar100_is_read_whole() {
    let Some(root) = folder("cifar100") else { return };
    let (train, test) = load("cifar100", &root).unwrap();
    assert_eq!((train.class_counts(), test.class_counts()), (vec![500; 100], vec![100; 100]));
    // The published means, to what recompression may have moved them.
    for (mean, published) in channel_means(&train).iter().zip([0.507_075_16, 0.486_548_87, 0.440_917_84]) {
        assert!((mean - published).abs() < 2e-4, "{mean} against {published}");
    }
    assert_eq!(train.names[26], "crab");
}

#[test]
fn a_known_copy_is_called_by_its_name() {
    let Some(root) = folder("cifar100") else { return };
    check("cifar100", &root).unwrap();
    let (name, note) = title("cifar100", &root).unwrap();
    if note.is_some() {
        assert_eq!(name, "CIFAR-100, JPEG-recompressed");
        assert_eq!(altered_copy("cifar100", &root).unwrap(), Some(name));
    }
    assert_eq!(digest("cifar100", &root).unwrap().len(), 64);
}
