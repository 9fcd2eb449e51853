//! The weights that ship: whole, light, and what they are said to be.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use sd_core::pipeline::{Parts, Request, Unwatched};
use sd_mini::Shipped;
use sd_mini::shipped::{MANIFEST, PLACE};

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(PLACE)
}

#[test]
fn every_file_has_its_digest_and_all_are_light() {
    let shipped = Shipped::open(&place()).unwrap();
    let bytes: u64 = shipped.manifest.files.values().map(|file| file.bytes).sum();
    assert!(bytes <= 30_000_000, "{bytes} bytes ship");
    assert_eq!(
        shipped.manifest.world,
        worlds::scenes::digest(),
        "the weights are of another world: train them anew"
    );
}

#[test]
fn a_file_that_was_changed_or_taken_away_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let shipped = Shipped::open(&place()).unwrap();
    for name in shipped.manifest.files.keys().chain([&MANIFEST.to_owned()]) {
        let to = folder.path().join(name);
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(place().join(name), to).unwrap();
    }
    assert!(Shipped::open(folder.path()).is_ok());
    let victim = folder.path().join("model/unet/diffusion_pytorch_model.safetensors");
    let mut bytes = fs::read(&victim).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&victim, &bytes).unwrap();
    let said = format!("{:#}", Shipped::open(folder.path()).unwrap_err());
    assert!(
        said.contains("model/unet") && said.contains("sha256") && said.contains("git checkout"),
        "{said}"
    );
    fs::remove_file(&victim).unwrap();
    assert!(format!("{:#}", Shipped::open(folder.path()).unwrap_err()).contains("model/unet"));
    fs::remove_file(folder.path().join(MANIFEST)).unwrap();
    assert!(format!("{:#}", Shipped::open(folder.path()).unwrap_err()).contains("come with the repository"));
}

#[test]
fn the_pipeline_draws_and_has_stable_diffusions_hook_points() {
    let shipped = Shipped::open(&place()).unwrap();
    let pipeline = Parts::open(&shipped.model(), DType::F32, &Device::Cpu).unwrap().pipeline(None).unwrap();
    let mut request = Request::new("two green stars in the style of bela cruz");
    (request.steps, request.guidance) = (4, shipped.manifest.guidance);
    let pictures = pipeline.generate(&request, &mut Unwatched).unwrap();
    assert_eq!(pictures.pixels.dims(), [1, 64, 64, 3]);
    assert_eq!(hooks(&pipeline), 70);
}

/// Components that causal tracing restores in Stable Diffusion 1.x: 22 residual blocks, and of each of the 16 transformers self-attention,
/// cross-attention and feed-forward.
fn hooks(pipeline: &sd_core::pipeline::StableDiffusion) -> usize {
    let sites = sd_core::taps::sites(pipeline.unet.config()).unwrap();
    let is_hook = |path: &str| {
        let mut parts = path.rsplit('.');
        let (last, before) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        matches!(last, "attn1" | "attn2" | "ff") || (before == "resnets" && last.parse::<usize>().is_ok())
    };
    let paths: std::collections::BTreeSet<&str> =
        sites.iter().map(sd_core::taps::Site::path).filter(|path| is_hook(path)).collect();
    paths.len()
}
