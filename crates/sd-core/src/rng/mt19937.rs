//! The normals of `torch.randn` on the CPU after `torch.manual_seed`: a Mersenne Twister (MT19937, Matsumoto and Nishimura 1998) and
//! PyTorch's two ways of making normals of it (`aten/src/ATen/native/cpu/DistributionTemplates.h`).
//!
//! Fewer than 16 numbers are drawn one by one, by Box and Muller's method in double precision; a pair's second half is kept for
//! the next such draw. 16 or more are drawn as uniforms first and turned into normals in groups of 16, the last 16 drawn anew where
//! the count is no multiple of 16.
//!
//! In single precision PyTorch has two ways to take logarithm, sine and cosine for those groups: polynomials of Cephes on x86
//! processors with AVX2 (and AVX-512), the C library's functions elsewhere. They differ in the last place; [`Functions`] names
//! them. Both are the same bits as PyTorch 2.11's here, the second where the C library is the same.

use std::f64::consts::PI;

/// Words of state.
const WORDS: usize = 624;
/// Distance of the word that is mixed in.
const SHIFT: usize = 397;
/// Numbers that PyTorch turns into normals at a time.
const GROUP: usize = 16;

/// Where single-precision logarithm, sine and cosine come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Functions {
    /// The polynomials that PyTorch uses on x86 processors with AVX2 or AVX-512: the same bits on every machine.
    #[default]
    Polynomials,
    /// The C library's: what PyTorch uses on other processors.
    Library,
}

/// PyTorch's CPU generator.
#[derive(Clone)]
pub struct TorchCpu {
    state: [u32; WORDS],
    used: usize,
    /// The second half of a pair of normals drawn one by one.
    kept: Option<f64>,
    functions: Functions,
}

impl TorchCpu {
    /// The generator after `torch.manual_seed(seed)`; like PyTorch it takes the lower 32 bits.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = [seed as u32; WORDS];
        for word in 1..WORDS {
            let last = state[word - 1];
            state[word] = 1_812_433_253_u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(word as u32);
        }
        Self { state, used: WORDS, kept: None, functions: Functions::default() }
    }

    /// The same generator with other single-precision functions.
    #[must_use]
    pub fn with(self, functions: Functions) -> Self {
        Self { functions, ..self }
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == WORDS {
            self.refill();
        }
        let mut bits = self.state[self.used];
        self.used += 1;
        bits ^= bits >> 11;
        bits ^= (bits << 7) & 0x9d2c_5680;
        bits ^= (bits << 15) & 0xefc6_0000;
        bits ^ (bits >> 18)
    }

    /// `torch.randn(n)`.
    pub fn normals_f32(&mut self, n: usize) -> Vec<f32> {
        if n < GROUP {
            return (0..n).map(|_| self.normal() as f32).collect();
        }
        let functions = self.functions;
        self.groups(n, Self::uniform_f32, |pair| box_muller_f32(pair, functions))
    }

    /// `torch.randn(n, dtype=torch.float64)`.
    pub fn normals_f64(&mut self, n: usize) -> Vec<f64> {
        if n < GROUP {
            return (0..n).map(|_| self.normal()).collect();
        }
        self.groups(n, Self::uniform_f64, box_muller_f64)
    }

    fn refill(&mut self) {
        for word in 0..WORDS {
            let next = self.state[(word + 1) % WORDS];
            let bits = (self.state[word] & 0x8000_0000) | (next & 0x7fff_ffff);
            let twist = if next & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[word] = self.state[(word + SHIFT) % WORDS] ^ (bits >> 1) ^ twist;
        }
        self.used = 0;
    }

    /// In [0, 1), a multiple of 2⁻²⁴.
    fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() & 0x00ff_ffff) as f32 * 2f32.powi(-24)
    }

    /// In [0, 1), a multiple of 2⁻⁵³. The first word is the upper half.
    fn uniform_f64(&mut self) -> f64 {
        let bits = u64::from(self.next_u32()) << 32 | u64::from(self.next_u32());
        (bits & ((1 << 53) - 1)) as f64 * 2f64.powi(-53)
    }

    /// One normal, or the half that was kept of the last pair.
    fn normal(&mut self) -> f64 {
        if let Some(kept) = self.kept.take() {
            return kept;
        }
        let angle = 2.0 * PI * self.uniform_f64();
        let radius = (-2.0 * (-self.uniform_f64()).ln_1p()).sqrt();
        self.kept = Some(radius * angle.sin());
        radius * angle.cos()
    }

    /// Uniforms, turned into normals in groups of 16: element j with element j + 8 of its group.
    fn groups<T: Copy>(
        &mut self,
        n: usize,
        uniform: impl Fn(&mut Self) -> T,
        box_muller: impl Fn([T; 2]) -> [T; 2],
    ) -> Vec<T> {
        let turn = |group: &mut [T]| {
            let (first, second) = group.split_at_mut(GROUP / 2);
            for (a, b) in first.iter_mut().zip(second) {
                [*a, *b] = box_muller([*a, *b]);
            }
        };
        let mut values: Vec<T> = (0..n).map(|_| uniform(self)).collect();
        values.chunks_exact_mut(GROUP).for_each(turn);
        if !n.is_multiple_of(GROUP) {
            let last = &mut values[n - GROUP..];
            last.iter_mut().for_each(|value| *value = uniform(self));
            turn(last);
        }
        values
    }
}

fn box_muller_f64([u, v]: [f64; 2]) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - u).ln()).sqrt();
    let angle = 2.0 * PI * v;
    [radius * angle.cos(), radius * angle.sin()]
}

fn box_muller_f32([u, v]: [f32; 2], functions: Functions) -> [f32; 2] {
    let u = 1.0 - u;
    match functions {
        Functions::Polynomials => {
            let radius = (-2.0 * cephes_log(u)).sqrt();
            let (sin, cos) = cephes_sin_cos(2.0 * std::f32::consts::PI * v);
            [radius * cos, radius * sin]
        }
        Functions::Library => {
            let radius = (-2.0 * u.ln()).sqrt();
            let angle = (2.0 * PI * f64::from(v)) as f32;
            [radius * angle.cos(), radius * angle.sin()]
        }
    }
}

/// Natural logarithm of a positive normal number as Cephes computes it: `x = 2ᵉ·(1 + r)` with `√½ ≤ 1 + r < √2`, then a polynomial
/// in r. Products are fused with sums where PyTorch's compiler fused them.
fn cephes_log(x: f32) -> f32 {
    const P: [f32; 9] = [
        7.037_683_6e-2,
        -1.151_461e-1,
        1.167_699_87e-1,
        -1.242_014_1e-1,
        1.424_932_3e-1,
        -1.666_805_7e-1,
        2.000_071_4e-1,
        -2.499_999_4e-1,
        3.333_333e-1,
    ];
    // ln 2 in two parts.
    const LN2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
    let mut exponent = (x.to_bits() >> 23) as i32 - 126;
    let mantissa = f32::from_bits(x.to_bits() & 0x007f_ffff | 0x3f00_0000);
    let mut r = mantissa - 1.0;
    if mantissa < std::f32::consts::FRAC_1_SQRT_2 {
        exponent -= 1;
        r += mantissa;
    }
    let e = exponent as f32;
    let square = r * r;
    let series = P[1..].iter().fold(P[0], |sum, &p| sum.mul_add(r, p));
    let tail = (series * r).mul_add(square, e * LN2[1]);
    let tail = square.mul_add(-0.5, tail);
    e.mul_add(LN2[0], r + tail)
}

/// Sine and cosine of `x ≥ 0` as Cephes computes them: the rest of a division by π/4 to an even number of eighths of a turn, in
/// three steps, then a polynomial each.
fn cephes_sin_cos(x: f32) -> (f32, f32) {
    const FOUR_OVER_PI: f32 = 1.273_239_5;
    const QUARTER: [f32; 3] = [-0.785_156_25, -2.418_756_5e-4, -3.774_895e-8];
    const SIN: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
    const COS: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];
    let eighth = ((x * FOUR_OVER_PI) as u32 + 1) & !1;
    let y = eighth as f32;
    let r = QUARTER.iter().fold(x, |x, &part| y.mul_add(part, x));
    let z = r * r;
    let cos = (COS[0].mul_add(z, COS[1]).mul_add(z, COS[2]) * z).mul_add(z, z * -0.5) + 1.0;
    let sin = (SIN[0].mul_add(z, SIN[1]).mul_add(z, SIN[2]) * z).mul_add(r, r);
    let (sin, cos) = if eighth & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let negative = |bit: bool, x: f32| if bit { -x } else { x };
    (negative(eighth & 4 != 0, sin), negative(eighth.wrapping_sub(2) & 4 == 0, cos))
}

#[cfg(test)]
mod tests {
    use super::*;

    // import torch, numpy as np                                     # torch 2.11.0
    // def check(x):                                                 # Σ bits·(2i + 1) modulo 2⁶⁴
    //     b = x.numpy().view(np.uint32 if x.dtype == torch.float32 else np.uint64).astype(np.uint64)
    //     return int((b * (2 * np.arange(b.size, dtype=np.uint64) + 1)).sum(dtype=np.uint64))
    fn check(bits: impl Iterator<Item = u64>) -> u64 {
        bits.zip(0u64..).fold(0, |sum, (bits, i)| sum.wrapping_add(bits.wrapping_mul(2 * i + 1)))
    }

    fn check_f32(values: &[f32]) -> u64 {
        check(values.iter().map(|x| u64::from(x.to_bits())))
    }

    /// torch.manual_seed(42); print(torch.randn(5))
    #[test]
    fn fewer_than_sixteen_are_pytorchs_bits() {
        let golden = [0.336_690_366_268_158, 0.128_809_407_353_401_2, 0.234_462_365_508_079_53];
        let ours = TorchCpu::new(42).normals_f32(5);
        assert_eq!(ours[..3], golden.map(|x: f64| x as f32));
        assert_eq!(ours[3..], [0.230_333_03_f32, -1.122_856_4]);
        // torch.manual_seed(2**32 + 5) is torch.manual_seed(5): [-0.48678076, -0.60382158]
        assert_eq!(TorchCpu::new((1 << 32) + 5).normals_f32(2), [-0.486_780_76, -0.603_821_6]);
    }

    /// torch.manual_seed(s); x = torch.randn(n); print(check(x)): with AVX2, then with ATEN_CPU_CAPABILITY=default
    #[test]
    fn sixteen_and_more_are_pytorchs_bits_with_both_kinds_of_functions() {
        let ours = |seed, n, functions| check_f32(&TorchCpu::new(seed).with(functions).normals_f32(n));
        assert_eq!(ours(42, 16, Functions::Polynomials), 675_384_948_929);
        assert_eq!(ours(42, 20, Functions::Polynomials), 887_989_422_909);
        assert_eq!(ours(7, 1_000_003, Functions::Polynomials), 9_768_958_565_120_704_514);
        // The C library's functions are the same bits where it is glibc.
        if cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")) {
            assert_eq!(ours(42, 16, Functions::Library), 675_384_948_981);
            assert_eq!(ours(42, 20, Functions::Library), 887_989_423_031);
            assert_eq!(ours(7, 1_000_003, Functions::Library), 9_768_962_059_795_002_288);
        }
    }

    /// The same with dtype=torch.float64.
    #[test]
    fn double_precision_is_pytorchs_bits() {
        let ours = |seed, n| check(TorchCpu::new(seed).normals_f64(n).iter().map(|x| x.to_bits()));
        if cfg!(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64")) {
            assert_eq!(ours(42, 16), 16_612_839_360_196_179_293);
            assert_eq!(ours(7, 10_007), 14_986_495_559_312_554_544);
        }
        let last = TorchCpu::new(7).normals_f64(10_007)[10_006];
        assert!((last - 1.035_568_681_066_766_8).abs() <= 1e-14, "{last}");
    }

    /// torch.manual_seed(0); torch.randn(3), torch.randn(2, dtype=torch.float64), torch.randn(16)[:2], torch.randn(1): the second
    /// half of a pair waits for the next small draw, whatever is drawn in between.
    #[test]
    fn draws_follow_each_other_as_pytorchs_do() {
        let mut generator = TorchCpu::new(0);
        assert_eq!(generator.normals_f32(3), [1.540_996_1, -0.293_428_9, -2.178_789_4]);
        let double = generator.normals_f64(2);
        let golden = [0.568_431_277_280_667_8, -1.084_522_342_424_021];
        assert!(double.iter().zip(golden).all(|(a, b)| (a - b).abs() <= 1e-15), "{double:?}");
        assert_eq!(generator.normals_f32(16)[..2], [-0.088_531_43, 0.523_883_3]);
        assert_eq!(generator.normals_f32(1), [-1.398_595_5]);
    }
}
