//! The largest convolutions and attentions hold their operands, their results and at most 64 MiB more; decoding a 512×512 picture
//! holds less than 2 GB beside the weights, whatever the batch; checkpointing keeps a quarter of a UNet's activations at the most.
#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use candle_core::{DType, Device, Result, Tensor, Var};
use sd_core::models::unet::{self, UNet2DConditionModel};
use sd_core::models::vae::{AutoencoderKL, Config};
use sd_core::nn::{Init, Scope, Source};
use sd_core::ops::attention::attention;
use sd_core::ops::conv2d::conv2d;
use sd_core::taps::NoTap;

/// The system's allocator, which also knows how much is lent and how much was at the most.
struct Counting;

static LENT: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn lend(bytes: usize) {
    PEAK.fetch_max(LENT.fetch_add(bytes, SeqCst) + bytes, SeqCst);
}

// SAFETY: every call is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        lend(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        lend(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LENT.fetch_sub(layout.size(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const MORE: usize = 64 << 20;

fn bytes(tensor: &Tensor) -> usize {
    tensor.elem_count() * tensor.dtype().size_in_bytes()
}

/// The most that `body` held beyond what was lent before it.
fn peak<T>(body: impl FnOnce() -> T) -> (usize, T) {
    let before = LENT.load(SeqCst);
    PEAK.store(before, SeqCst);
    let result = body();
    (PEAK.load(SeqCst) - before, result)
}

fn check(name: &str, shapes: &[&[usize]], function: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let ones = |shape: &&[usize]| {
        Var::from_tensor(&Tensor::ones(*shape, DType::F32, &Device::Cpu).unwrap()).unwrap()
    };
    let vars: Vec<Var> = shapes.iter().map(ones).collect();
    let leaves: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
    let (forward, y) = peak(|| function(&leaves).unwrap());
    assert!(forward <= bytes(&y) + MORE, "{name}: the forward held {} MiB", forward >> 20);
    let (backward, _gradients) = peak(|| y.backward().unwrap());
    // candle starts from dy = 1, and adds each gradient to zeros: three times its size.
    let gradients: usize = leaves.iter().map(|leaf| 3 * bytes(leaf)).sum();
    assert!(backward <= bytes(&y) + gradients + MORE, "{name}: the backward held {} MiB", backward >> 20);
}

/// Frozen weights, all of one value.
struct Frozen;

impl Source for Frozen {
    fn parameter(&mut self, _: &str, shape: &[usize], _: Init) -> Result<Tensor> {
        Tensor::full(0.01f32, shape, &Device::Cpu)
    }

    fn buffer(&mut self, _: &str, shape: &[usize], _: f64) -> Result<Var> {
        Var::zeros(shape, DType::F32, &Device::Cpu)
    }

    fn device(&self) -> &Device {
        &Device::Cpu
    }

    fn dtype(&self) -> DType {
        DType::F32
    }
}

/// Decoding with the published sizes.
fn check_decode() {
    let levels = 4;
    let config = serde_json::json!({
        "block_out_channels": [128, 256, 512, 512], "layers_per_block": 2,
        "down_block_types": vec!["DownEncoderBlock2D"; levels], "up_block_types": vec!["UpDecoderBlock2D"; levels],
    });
    let config = Config::from_json(&config.to_string()).unwrap();
    let vae = AutoencoderKL::new(&mut Scope::of(&mut Frozen), &config).unwrap();
    let decode = |batch, side| {
        let latents = Tensor::ones((batch, 4, side, side), DType::F32, &Device::Cpu).unwrap();
        peak(|| vae.decode(&latents, &mut NoTap).unwrap())
    };
    let (held, _) = decode(1, 64);
    assert!(held <= 800 << 20, "decoding 512×512 held {} MiB", held >> 20);
    let ((one, _), (many, pictures)) = (decode(1, 24), decode(3, 24));
    assert!(many <= one + 2 * bytes(&pictures), "decoding three pictures held {many}, one {one} bytes");
}

/// What a pass of the UNet keeps for the gradient of its latents, with and without checkpointing.
fn check_checkpointing() {
    let config = r#"{"block_out_channels": [64, 128], "layers_per_block": 2, "cross_attention_dim": 64,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}"#;
    let config = unet::Config::from_json(config).unwrap();
    let unet = UNet2DConditionModel::new(&mut Scope::of(&mut Frozen), &config).unwrap();
    let [latents, text] = [&[1, 4, 48, 48][..], &[1, 77, 64]]
        .map(|shape| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap());
    let latents = Var::from_tensor(&latents).unwrap();
    let held = |on: bool| {
        let unet = unet.clone().with_checkpointing(on);
        let before = LENT.load(SeqCst);
        let output = unet.forward(latents.as_tensor(), &[1.0], &text, &mut NoTap).unwrap();
        let graph = LENT.load(SeqCst) - before;
        let (backward, _gradients) = peak(|| output.backward().unwrap());
        (graph, graph + backward)
    };
    let ((plain, plain_peak), (checkpointed, checkpointed_peak)) = (held(false), held(true));
    assert!(4 * checkpointed <= plain, "{} MiB are kept, {} without", checkpointed >> 20, plain >> 20);
    assert!(checkpointed_peak < plain_peak, "{} MiB at the most", checkpointed_peak >> 20);
}

/// One test, since the count is the whole program's.
#[test]
fn the_largest_cases_hold_little_beside_operands_and_results() {
    check_decode();
    check_checkpointing();
    let convolutions: [[usize; 6]; 5] = [
        [128, 64, 64, 32, 3, 1],
        [2, 320, 320, 64, 3, 1],
        [2, 1280, 1280, 16, 3, 1],
        [128, 64, 128, 32, 3, 2],
        [1, 128, 128, 256, 3, 1],
    ];
    for [b, i, o, s, k, stride] in convolutions {
        let name = format!("conv2d ({b},{i},{s},{s}) to {o}, kernel {k}, stride {stride}");
        check(&name, &[&[b, i, s, s], &[o, i, k, k], &[o]], |x| {
            conv2d(&x[0], &x[1], Some(&x[2]), stride, k / 2)
        });
    }
    for [b, h, q, k, d] in [[2, 8, 4096, 4096, 40], [2, 8, 1024, 1024, 80]] {
        let name = format!("attention ({b},{h},{q},{d}), {k} keys");
        check(&name, &[&[b, h, q, d], &[b, h, k, d], &[b, h, k, d]], |x| {
            attention(&x[0], &x[1], &x[2], 0.1, false)
        });
    }
}
