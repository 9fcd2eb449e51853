//! One pass over all parameters: reads θ, g and the state once, writes θ and the state once. For diffGrad that is five reads
//! and four writes, 36 bytes a parameter in `f32`.
//!
//! All parameters are cut into pieces of at most [`PIECE`] elements, whatever the number of threads, and rayon works them off.
//! An element's update depends on that element alone, and what is summed (the statistics of ξ, mean and deviation of `|g|`) is
//! summed piece by piece in a fixed order: the bits are the same for any number of threads.
//!
//! The inner loops are plain Rust over slices. They are compiled three times, for baseline x86-64, AVX2 and AVX-512, and the
//! widest that the machine has is chosen at run time. All three round alike and give the same bits.
//! Stores are ordinary ones: every line that is written was just read, so non-temporal stores would save no traffic.

use rayon::prelude::*;

use super::config::{ConfigFault, Epsilon, OptimiserConfig, RuleName};
use super::laws::{
    AbsSig, AdaDelta, AdaGrad, Adam, AdamInside, AmsGrad, DiffGrad, Halved, Law, RmsProp, Scalars, Signed,
    Widened,
};
use super::real::Real;
use super::spread;
use super::stats::{Tally, XiStats};

/// Elements in a piece of work.
pub const PIECE: usize = 1 << 15;
/// Elements whose ξ is computed at a time when it is counted; they stay in the first-level cache for the update.
const BLOCK: usize = 1 << 10;

/// One parameter in a step, as plain slices of equal length. Unused state slices are empty.
pub struct Slices<'a, T> {
    /// θ, updated in place.
    pub theta: &'a mut [T],
    /// The gradient of this step, unchanged.
    pub gradient: &'a [T],
    /// The state in the order of [`RuleName::buffers`]; zeros before the first step.
    pub state: [&'a mut [T]; 3],
    /// Number of this step, from 1. It differs between parameters when some had steps without a gradient.
    pub t: u64,
}

/// Why a step was refused; nothing was changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepFault {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// Slices of one parameter differ in length.
    #[error(
        "step: parameter {index}: {slice} must have {expected} elements, as the parameter has, found {found}"
    )]
    Length {
        /// Which parameter, from 0.
        index: usize,
        /// Which slice.
        slice: &'static str,
        /// Length of the parameter.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// Steps are counted from 1.
    #[error("step: parameter {index}: the step number must be at least 1, found 0")]
    Count {
        /// Which parameter, from 0.
        index: usize,
    },
}

/// One step of `config` on every parameter, in place. With `stats`, also counts every element's ξ (1 where the rule has
/// none), at two to three times the cost of the step.
///
/// NaN or infinity in a gradient goes into θ and the state of that element, as in PyTorch, and stays there; no other element
/// is touched, except by the variants 3 to 5, whose μ and ν are the whole tensor's.
///
/// # Errors
/// If the configuration is not valid, slices differ in length or a step number is 0.
pub fn step<T: Real>(
    config: &OptimiserConfig,
    parameters: Vec<Slices<'_, T>>,
    stats: Option<&mut XiStats>,
) -> Result<(), StepFault> {
    config.validate()?;
    for (index, parameter) in parameters.iter().enumerate() {
        check(config.rule, index, parameter)?;
    }
    step_on(Isa::detect(), config, parameters, stats);
    Ok(())
}

fn check<T>(rule: RuleName, index: usize, parameter: &Slices<'_, T>) -> Result<(), StepFault> {
    let expected = parameter.theta.len();
    let state = rule.buffers().iter().zip(&parameter.state).map(|(name, slice)| (*name, slice.len()));
    for (slice, found) in std::iter::once(("gradient", parameter.gradient.len())).chain(state) {
        if found != expected {
            return Err(StepFault::Length { index, slice, expected, found });
        }
    }
    if parameter.t == 0 { Err(StepFault::Count { index }) } else { Ok(()) }
}

/// [`step`] after its checks, on a given instruction set.
pub(super) fn step_on<T: Real>(
    isa: Isa,
    config: &OptimiserConfig,
    parameters: Vec<Slices<'_, T>>,
    stats: Option<&mut XiStats>,
) {
    let hyper = config.hyper();
    let total: usize = parameters.iter().map(|p| p.theta.len()).sum();
    let mut pieces = Vec::with_capacity(total / PIECE + parameters.len());
    for parameter in parameters {
        let mut scalars = Scalars::new(hyper, parameter.t);
        spread::fill(&mut scalars, &parameter);
        cut(parameter, scalars, &mut pieces);
    }
    match stats {
        Some(stats) => run_counting(isa, &mut pieces, stats),
        // Below one piece's worth of work, waking threads costs more than it saves.
        None if total <= PIECE => pieces.iter_mut().for_each(|piece| piece.run(isa, None)),
        None => pieces.par_iter_mut().for_each(|piece| piece.run(isa, None)),
    }
}

/// Pieces are tallied a few at a time, so that the tallies of a large model do not fill the memory.
fn run_counting<T: Real>(isa: Isa, pieces: &mut [Piece<'_, T>], stats: &mut XiStats) {
    for batch in pieces.chunks_mut(256) {
        let tallies: Vec<Tally> = batch
            .par_chunks_mut(16)
            .map(|some| {
                let mut tally = stats.tally();
                some.iter_mut().for_each(|piece| piece.run(isa, Some(&mut tally)));
                tally
            })
            .collect();
        tallies.iter().for_each(|tally| stats.add(tally));
    }
}

/// At most [`PIECE`] elements of one parameter.
struct Piece<'a, T> {
    theta: &'a mut [T],
    gradient: &'a [T],
    state: [&'a mut [T]; 3],
    scalars: Scalars,
}

fn cut<'a, T>(parameter: Slices<'a, T>, scalars: Scalars, pieces: &mut Vec<Piece<'a, T>>) {
    let mut state = parameter.state.map(|slice| slice.chunks_mut(PIECE));
    for (theta, gradient) in parameter.theta.chunks_mut(PIECE).zip(parameter.gradient.chunks(PIECE)) {
        let state = state.each_mut().map(|chunks| chunks.next().unwrap_or_default());
        pieces.push(Piece { theta, gradient, state, scalars });
    }
}

/// An instruction set for which the loops were compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest that this machine has.
    pub(super) fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("fma");
            if fma && is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if fma && is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Baseline
    }
}

impl<T: Real> Piece<'_, T> {
    fn run(&mut self, isa: Isa, tally: Option<&mut Tally>) {
        match isa {
            Isa::Baseline => self.run_inline(tally),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::detect` returns this value only where the processor has AVX2 and FMA.
            Isa::Avx2 => unsafe { self.run_avx2(tally) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Isa::detect` returns this value only where the processor has AVX-512F and FMA.
            Isa::Avx512 => unsafe { self.run_avx512(tally) },
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn run_avx2(&mut self, tally: Option<&mut Tally>) {
        self.run_inline(tally);
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,fma")]
    fn run_avx512(&mut self, tally: Option<&mut Tally>) {
        self.run_inline(tally);
    }

    #[inline(always)]
    fn run_inline(&mut self, tally: Option<&mut Tally>) {
        let scalars = self.scalars;
        let moments = || scalars.moments();
        match scalars.hyper.rule {
            RuleName::Sgd => self.with_one(scalars.sgd(), tally),
            RuleName::AdaGrad => self.with_one(AdaGrad(scalars.squares()), tally),
            RuleName::RmsProp => self.with_one(RmsProp(scalars.squares()), tally),
            RuleName::AdaDelta => self.with_two(AdaDelta(scalars.squares()), tally),
            RuleName::Adam if scalars.hyper.epsilon == Epsilon::Inside => {
                self.with_two(AdamInside(moments()), tally)
            }
            RuleName::Adam => self.with_two(Adam(moments()), tally),
            RuleName::AmsGrad => self.with_three(AmsGrad(moments()), tally),
            RuleName::DiffGradAsRun => {
                self.with_two(Halved { moments: moments(), first: scalars.t == 1 }, tally)
            }
            RuleName::HalfStep => self.with_two(Halved { moments: moments(), first: false }, tally),
            RuleName::DiffGrad => self.with_three(DiffGrad { moments: moments(), friction: AbsSig }, tally),
            RuleName::DiffGrad1 => self.with_three(DiffGrad { moments: moments(), friction: Signed }, tally),
            RuleName::DiffGrad2 => self.with_three(DiffGrad { moments: moments(), friction: Widened }, tally),
            RuleName::DiffGrad3 | RuleName::DiffGrad4 | RuleName::DiffGrad5 => {
                self.with_three(DiffGrad { moments: moments(), friction: scalars.friction3() }, tally);
            }
        }
    }

    #[inline(always)]
    fn with_one<L: Law<T, 1>>(&mut self, law: L, tally: Option<&mut Tally>) {
        let [a, _, _] = &mut self.state;
        if let Some(tally) = tally {
            let gradients = self.gradient.iter().zip(&*self.theta).zip(&**a);
            tally.count(gradients.map(|((g, p), a)| law.xi(*p, *g, [*a]).wide()));
        }
        one(law, self.theta, self.gradient, a);
    }

    #[inline(always)]
    fn with_two<L: Law<T, 2>>(&mut self, law: L, tally: Option<&mut Tally>) {
        let [a, b, _] = &mut self.state;
        if let Some(tally) = tally {
            let gradients = self.gradient.iter().zip(&*self.theta).zip(&**a);
            tally.count(gradients.map(|((g, p), a)| law.xi(*p, *g, [*a, T::ZERO]).wide()));
        }
        two(law, self.theta, self.gradient, a, b);
    }

    #[inline(always)]
    fn with_three<L: Law<T, 3>>(&mut self, law: L, tally: Option<&mut Tally>) {
        let [a, b, c] = &mut self.state;
        let Some(tally) = tally else { return three(law, self.theta, self.gradient, a, b, c) };
        let mut xi = [T::ZERO; BLOCK];
        let blocks = self.theta.chunks_mut(BLOCK).zip(self.gradient.chunks(BLOCK));
        let states = a.chunks_mut(BLOCK).zip(b.chunks_mut(BLOCK)).zip(c.chunks_mut(BLOCK));
        for ((theta, gradient), ((a, b), c)) in blocks.zip(states) {
            frictions(law, theta, gradient, c, &mut xi);
            tally.count(xi[..theta.len()].iter().map(|xi| xi.wide()));
            three(law, theta, gradient, a, b, c);
        }
    }
}

#[inline(always)]
fn one<T: Real, L: Law<T, 1>>(law: L, theta: &mut [T], gradient: &[T], a: &mut [T]) {
    for ((theta, g), a) in theta.iter_mut().zip(gradient).zip(a) {
        (*theta, [*a]) = law.update(*theta, *g, [*a]);
    }
}

#[inline(always)]
fn two<T: Real, L: Law<T, 2>>(law: L, theta: &mut [T], gradient: &[T], a: &mut [T], b: &mut [T]) {
    for (((theta, g), a), b) in theta.iter_mut().zip(gradient).zip(a).zip(b) {
        (*theta, [*a, *b]) = law.update(*theta, *g, [*a, *b]);
    }
}

#[inline(always)]
fn three<T: Real, L: Law<T, 3>>(
    law: L,
    theta: &mut [T],
    gradient: &[T],
    a: &mut [T],
    b: &mut [T],
    c: &mut [T],
) {
    for ((((theta, g), a), b), c) in theta.iter_mut().zip(gradient).zip(a).zip(b).zip(c) {
        (*theta, [*a, *b, *c]) = law.update(*theta, *g, [*a, *b, *c]);
    }
}

/// ξ of a block; of the three states only the third, the previous gradient, matters to it.
#[inline(always)]
fn frictions<T: Real, L: Law<T, 3>>(law: L, theta: &[T], gradient: &[T], previous: &[T], xi: &mut [T]) {
    for (((xi, theta), g), previous) in xi.iter_mut().zip(theta).zip(gradient).zip(previous) {
        *xi = law.xi(*theta, *g, [T::ZERO, T::ZERO, *previous]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_arch = "x86_64")]
    fn supported() -> Vec<Isa> {
        let all = [Isa::Baseline, Isa::Avx2, Isa::Avx512];
        let widest = all.iter().position(|isa| *isa == Isa::detect()).unwrap_or(0);
        all[..=widest].to_vec()
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn supported() -> Vec<Isa> {
        vec![Isa::detect()]
    }

    /// A wave of an irregular period.
    fn wave(n: usize, pace: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * pace).sin()).collect()
    }

    fn run(isa: Isa, rule: RuleName) -> (Vec<Vec<f32>>, XiStats) {
        let n = 1031;
        let mut buffers = vec![wave(n, 0.7)];
        buffers.extend((0..3).map(|i| vec![0.0; if i < rule.buffers().len() { n } else { 0 }]));
        let mut stats = XiStats::new(rule);
        let config = OptimiserConfig { weight_decay: 0.1, ..OptimiserConfig::new(rule, 1e-2) };
        for t in 1..=3 {
            let gradient = wave(n, 1.3 * t as f32);
            let [theta, a, b, c] = &mut buffers[..] else { return (buffers, stats) };
            let slices = Slices { theta, gradient: &gradient, state: [a, b, c], t };
            step_on(isa, &config, vec![slices], Some(&mut stats));
        }
        (buffers, stats)
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for rule in RuleName::ALL {
            let baseline = run(Isa::Baseline, rule);
            assert!(baseline.0[0].iter().all(|x| x.is_finite()) && baseline.0[0] != wave(1031, 0.7));
            for isa in supported() {
                assert!(run(isa, rule) == baseline, "{} on {isa:?}", rule.name());
            }
        }
    }
}
