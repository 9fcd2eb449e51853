//! Whatever bytes a file has, reading it ends in tensors or in an error that names it.

use candle_core::{DType, Device};
use proptest::prelude::*;

use super::file_of;
use crate::weights::{Folder, Weights};

/// Opens `bytes` as a file, reads every tensor that is in it; an error must name the file.
fn read(bytes: &[u8]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, bytes).unwrap();
    let weights = match Weights::open(&path) {
        Ok(weights) => weights,
        Err(error) => return assert!(error.to_string().contains("w.safetensors"), "{error}"),
    };
    for name in weights.names() {
        let shape = weights.shape(name).unwrap();
        if let Ok(tensor) = weights.tensor(name, DType::F32, &Device::Cpu) {
            assert_eq!(tensor.dims(), shape);
            assert!(tensor.elem_count() <= bytes.len(), "more elements than bytes");
        }
    }
}

/// A good file of three tensors.
fn good() -> Vec<u8> {
    let json = r#"{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},"b":{"dtype":"F16","shape":[5],"data_offsets":[24,34]},"c":{"dtype":"I64","shape":[1,2],"data_offsets":[34,50]}}"#;
    file_of(json, &[7; 50])
}

fn dtype() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["F32", "F16", "BF16", "F64", "I64", "U8", "F4", "F8_E4M3", "C64", "X", ""])
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..40u64, Just(u64::MAX), Just(u64::MAX / 2), Just(1 << 32), any::<u64>()]
}

prop_compose! {
    fn entry()(dtype in dtype(), shape in prop::collection::vec(number(), 0..10), begin in number(), end in number()) -> String {
        format!(r#"{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{begin},{end}]}}"#)
    }
}

prop_compose! {
    fn header()(entries in prop::collection::vec(("[a-c_]{1,2}", entry()), 0..4)) -> String {
        let entries: Vec<String> = entries.iter().map(|(name, entry)| format!("{name:?}:{entry}")).collect();
        format!("{{{}}}", entries.join(","))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&bytes);
    }

    #[test]
    fn noise_behind_a_length_that_fits_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read(&file_of("{", &bytes));
        read(&[&(bytes.len() as u64).to_le_bytes()[..], &bytes].concat());
    }

    #[test]
    fn headers_of_any_numbers_are_read_or_refused(header in header(), data in 0..80usize) {
        read(&file_of(&header, &vec![1; data]));
    }

    #[test]
    fn a_good_file_with_bytes_changed_is_read_or_refused(changes in prop::collection::vec((0..300usize, any::<u8>()), 1..5)) {
        let mut bytes = good();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        read(&bytes);
    }

    #[test]
    fn an_index_of_any_text_is_read_or_refused(text in r#"[{}\[\]",:a-c./\\0-9]{0,60}"#) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        for text in [format!(r#"{{"weight_map":{{{text}}}}}"#), text.clone()] {
            std::fs::write(&path, &text).unwrap();
            if let Err(error) = Weights::open(folder.path()) {
                prop_assert!(error.to_string().contains("index.json"), "{error}");
            }
            std::fs::write(folder.path().join("model_index.json"), &text).unwrap();
            prop_assert!(Folder::open(folder.path()).is_err());
        }
    }

    #[test]
    fn every_beginning_of_a_good_file_is_refused(length in 0..300usize) {
        let bytes = good();
        let cut = length % bytes.len();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.safetensors");
        std::fs::write(&path, &bytes[..cut]).unwrap();
        prop_assert!(Weights::open(&path).is_err(), "{cut} of {} bytes", bytes.len());
    }
}

#[test]
fn the_good_file_is_good() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    std::fs::write(&path, good()).unwrap();
    assert_eq!(Weights::open(&path).unwrap().names().count(), 3);
    read(&good());
}

#[test]
fn a_header_that_promises_much_costs_little() {
    // 10^12 bytes by shape and offsets, in a file of 100 bytes: refused by its length, before any allocation.
    let json = r#"{"x":{"dtype":"F32","shape":[500000,500000],"data_offsets":[0,1000000000000]}}"#;
    read(&file_of(json, b""));
}
