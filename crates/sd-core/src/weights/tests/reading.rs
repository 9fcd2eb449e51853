//! Values and dtypes out of a file.

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::{assert_says, file_of, save};
use crate::rng::Rng;
use crate::weights::Weights;

/// Numbers of every size, with those that rounding and special cases are about.
fn numbers(count: usize) -> Vec<f32> {
    let special =
        [0.0, -0.0, 1.0, -2.5, 65504.0, 65520.0, 1e-8, 6e-5, f32::MAX, f32::MIN_POSITIVE, f32::INFINITY];
    let mut rng = Rng::new(1, "numbers", 0);
    let drawn = (0..count).map(|_| (rng.normal() * 10f64.powf(rng.normal() * 2.0)) as f32);
    special.into_iter().chain(drawn).take(count).collect()
}

fn bits(tensor: &Tensor) -> Vec<u64> {
    let tensor = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::F32 => tensor.to_vec1::<f32>().unwrap().into_iter().map(|x| u64::from(x.to_bits())).collect(),
        DType::F64 => tensor.to_vec1::<f64>().unwrap().into_iter().map(f64::to_bits).collect(),
        DType::F16 => tensor.to_vec1::<f16>().unwrap().into_iter().map(|x| u64::from(x.to_bits())).collect(),
        DType::BF16 => {
            tensor.to_vec1::<bf16>().unwrap().into_iter().map(|x| u64::from(x.to_bits())).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_pair_of_floating_types_is_converted_as_element_by_element() {
    let folder = tempfile::tempdir().unwrap();
    // Longer than a block, and no multiple of one; the file's second tensor stands at an odd place.
    let values = numbers(2501);
    let wide = Tensor::new(values, &Device::Cpu).unwrap();
    for stored in [DType::F32, DType::F16, DType::BF16, DType::F64] {
        let kept = wide.to_dtype(stored).unwrap();
        let odd = Tensor::new(&[1u8, 2, 3], &Device::Cpu).unwrap();
        let path = save(folder.path(), "x.safetensors", &[("a", odd), ("x", kept.clone())]);
        let weights = Weights::open(&path).unwrap();
        assert_eq!(weights.dtype("x"), Some(stored));
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::F64] {
            let read = weights.tensor("x", dtype, &Device::Cpu).unwrap();
            // From 64 bits to 16 through 32, as PyTorch does.
            let through =
                if stored == DType::F64 { kept.to_dtype(DType::F32).unwrap() } else { kept.clone() };
            let source = if dtype == DType::F64 { &kept } else { &through };
            assert_eq!(read.dims(), [2501]);
            assert_eq!(bits(&read), bits(&source.to_dtype(dtype).unwrap()), "{stored:?} to {dtype:?}");
        }
    }
}

#[test]
fn a_tensor_longer_than_a_slab_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let count = crate::weights::stored::SLAB / 2 * 2 + 77;
    let values: Vec<u16> = (0..count).map(|i| (i % 31_337) as u16 & 0x3fff).collect();
    let values: Vec<f16> = values.into_iter().map(f16::from_bits).collect();
    let path =
        save(folder.path(), "x.safetensors", &[("x", Tensor::new(values.clone(), &Device::Cpu).unwrap())]);
    let weights = Weights::open(&path).unwrap();
    // Twice: pages that were given back are there again.
    for _ in 0..2 {
        let read = weights.tensor("x", DType::F16, &Device::Cpu).unwrap();
        assert!(read.to_vec1::<f16>().unwrap() == values);
        let wide = weights.tensor("x", DType::F32, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap();
        assert!(wide.iter().zip(&values).all(|(wide, value)| *wide == value.to_f32()));
    }
}

#[test]
fn whole_numbers_are_read_as_any_type_and_floats_never_as_whole_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let ids = Tensor::new(&[[0i64, -3], [49_407, 1 << 40]], &Device::Cpu).unwrap();
    let real = Tensor::new(&[0.5f32], &Device::Cpu).unwrap();
    let weights = Weights::open(&save(folder.path(), "x.safetensors", &[("ids", ids), ("x", real)])).unwrap();
    let read = weights.tensor("ids", DType::I64, &Device::Cpu).unwrap();
    assert_eq!(read.to_vec2::<i64>().unwrap(), [[0, -3], [49_407, 1 << 40]]);
    let read = weights.tensor("ids", DType::F32, &Device::Cpu).unwrap();
    assert_eq!(read.to_vec2::<f32>().unwrap()[1][0], 49_407.0);
    let message = weights.tensor("x", DType::I64, &Device::Cpu).unwrap_err().to_string();
    assert_says(&message, &["x.safetensors", "`x`", "F32 cannot be read as I64"]);
}

#[test]
fn each_width_of_whole_numbers_keeps_its_sign() {
    let folder = tempfile::tempdir().unwrap();
    let kinds = [("BOOL", 1), ("U8", 1), ("I8", 1), ("U16", 2), ("I16", 2), ("U32", 4), ("I32", 4)];
    for (name, width) in kinds {
        let json = format!(r#"{{"x":{{"dtype":"{name}","shape":[],"data_offsets":[0,{width}]}}}}"#);
        let path = folder.path().join("x.safetensors");
        std::fs::write(&path, file_of(&json, &[0xff; 4][..width])).unwrap();
        let read = Weights::open(&path).unwrap().tensor("x", DType::I64, &Device::Cpu).unwrap();
        let expected = if name.starts_with('I') { -1 } else { (1i64 << (8 * width)) - 1 };
        assert_eq!(read.to_scalar::<i64>().unwrap(), expected, "{name}");
    }
}

#[test]
fn types_that_are_not_read_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let json = r#"{"x":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}"#;
    std::fs::write(&path, file_of(json, &[0; 2])).unwrap();
    let message =
        Weights::open(&path).unwrap().tensor("x", DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert_says(&message, &["x.safetensors", "`x`", "F8_E4M3", "expected F16, BF16"]);
}

#[test]
fn empty_tensors_and_scalars_are_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let json = r#"{"e":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]},"s":{"dtype":"F16","shape":[],"data_offsets":[0,2]}}"#;
    std::fs::write(&path, file_of(json, &f16::from_f32(1.5).to_le_bytes())).unwrap();
    let weights = Weights::open(&path).unwrap();
    assert_eq!(weights.tensor("e", DType::F32, &Device::Cpu).unwrap().dims(), [0, 3]);
    assert_eq!(weights.tensor("s", DType::F32, &Device::Cpu).unwrap().to_scalar::<f32>().unwrap(), 1.5);
}

#[test]
fn what_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let missing = Weights::open(&folder.path().join("none.safetensors")).unwrap_err().to_string();
    assert_says(&missing, &["none.safetensors", "cannot open it"]);
    let empty = Weights::open(folder.path()).unwrap_err().to_string();
    assert_says(
        &empty,
        &["diffusion_pytorch_model.safetensors or model.safetensors", "an empty folder", "Hub"],
    );
    let path = save(folder.path(), "x.safetensors", &[]);
    let message =
        Weights::open(&path).unwrap().tensor("y", DType::F32, &Device::Cpu).unwrap_err().to_string();
    assert_says(&message, &["x.safetensors", "there is no tensor `y`"]);
}

#[test]
fn a_pickle_is_refused_by_its_content_and_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let disguised = folder.path().join("unet.safetensors");
    std::fs::write(&disguised, b"PK\x03\x04 archive/data.pkl").unwrap();
    let message = Weights::open(&disguised).unwrap_err().to_string();
    assert_says(&message, &["unet.safetensors", "zip archive", "pickled", "python -c", "Hub"]);
    std::fs::remove_file(disguised).unwrap();
    std::fs::write(folder.path().join("diffusion_pytorch_model.bin"), b"PK\x03\x04").unwrap();
    let message = Weights::open(folder.path()).unwrap_err().to_string();
    assert_says(
        &message,
        &["found diffusion_pytorch_model.bin", "python -c", "diffusion_pytorch_model.safetensors"],
    );
}

#[test]
fn the_half_precision_variant_is_taken_when_asked_for_or_alone() {
    let folder = tempfile::tempdir().unwrap();
    let value = |x: f32| Tensor::new(&[x], &Device::Cpu).unwrap();
    let whole = save(folder.path(), "diffusion_pytorch_model.safetensors", &[("x", value(1.0))]);
    let half = save(folder.path(), "diffusion_pytorch_model.fp16.safetensors", &[("x", value(2.0))]);
    let place = |dtype| Weights::open_for(folder.path(), dtype).unwrap().place().to_owned();
    assert_eq!([place(None), place(Some(DType::F32)), place(Some(DType::BF16))], [&*whole, &*whole, &*whole]);
    assert_eq!(place(Some(DType::F16)), half);
    std::fs::remove_file(whole).unwrap();
    assert_eq!(place(Some(DType::F32)), half);
}

#[test]
fn what_a_file_says_of_itself_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    std::fs::write(&path, file_of(r#"{"__metadata__":{"format":"pt"}}"#, b"")).unwrap();
    assert_eq!(Weights::open(&path).unwrap().metadata()["format"], "pt");
}
