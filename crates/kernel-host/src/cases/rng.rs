//! Cases of the normals: fewer than PyTorch starts threads for, and so many that a thread draws several times; what PyTorch printed on
//! a GPU.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::rng::cuda::{normal, torch_threads};
use sd_core::rng::philox4x32;

use super::{Case, FLOATS, Job, Work};
use crate::{Expected, Tolerance};

const OP: &str = "rng";

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![Case::new(OP, "as printed by PyTorch on a GPU", printed)];
    for element in FLOATS {
        // (seed, offset, count, multiprocessors)
        for draw in [(0, 0, 1, 1), (7, 4, 257, 2), (u64::MAX, 1 << 40, 4096, 1), (3, 12, 20_011, 2)] {
            let (seed, offset, count, multiprocessors) = draw;
            let name = format!("{count} of seed {seed:x} from {offset} {}", element.suffix());
            let threads = torch_threads(count, multiprocessors);
            cases.push(Case::new(OP, name, move || job(seed, offset, threads, count, element)));
        }
        let count = 1 << 25;
        let work = Work { bytes: (count * element.bytes()) as u64, flop: 0 };
        let name = format!("timed {}", element.suffix());
        let threads = torch_threads(count, 132);
        cases.push(Case::new(OP, name, move || job(0, 0, threads, count, element)).timed(work));
    }
    cases
}

/// What `torch.manual_seed(0); torch.randn(4, 8, device="cuda")` prints, as found in public notes (PyTorch 2.2, some GPU).
const PRINTED: [f64; 32] = [
    -0.9247, -0.4253, -2.6438, 0.1452, -0.1209, -0.5797, -0.6229, -0.3284, -1.0745, -0.3631, -1.6711, 2.2655,
    0.3117, -0.1842, 1.2866, 1.1820, -0.1271, 1.2169, 1.4353, 1.0605, -0.4941, -1.4244, -0.7244, -1.2973,
    0.0697, -0.0074, 1.8969, 0.6878, -0.0779, -0.8373, 1.3506, -0.2879,
];

fn printed() -> Result<Job> {
    let expected = Expected::new("normals", Element::F32, PRINTED.to_vec());
    let to_four_places = Tolerance { relative: 0.0, absolute: 6e-5 };
    Ok(Job {
        program: normal(0, 0, torch_threads(32, 132), 32, Element::F32)?,
        inputs: Vec::new(),
        expected: vec![Expected { tolerance: to_four_places, ..expected }.at_least(1.0)],
    })
}

/// The definition, element by element: u and v are rounded to f32 as the generator does, the rest is in double precision.
fn one(seed: u64, offset: u64, threads: usize, index: usize) -> f64 {
    let (thread, turn, lane) = (index % threads, index / threads / 4, index / threads % 4);
    let split = |bits: u64| [bits as u32, (bits >> 32) as u32];
    let ([low, high], [t_low, t_high]) = (split(offset / 4 + turn as u64), split(thread as u64));
    let words = philox4x32([low, high, t_low, t_high], split(seed));
    let [a, b] = [0, 1].map(|k| words[lane / 2 * 2 + k] as f32);
    let turned = 2.328_306_4e-10_f32 * 6.283_185_5;
    let u = f64::from(a.mul_add(2.328_306_4e-10, 2.328_306_4e-10 / 2.0));
    let v = f64::from(b.mul_add(turned, turned / 2.0));
    let radius = (-2.0 * u.ln()).sqrt();
    radius * if lane % 2 == 0 { v.sin() } else { v.cos() }
}

fn job(seed: u64, offset: u64, threads: usize, count: usize, element: Element) -> Result<Job> {
    let values = (0..count).map(|index| one(seed, offset, threads, index)).collect();
    // On a device sine and cosine are the fast ones, right to 2⁻²¹ absolutely.
    Ok(Job {
        program: normal(seed, offset, threads, count, element)?,
        inputs: Vec::new(),
        expected: vec![Expected::new("normals", element, values)],
    })
}
