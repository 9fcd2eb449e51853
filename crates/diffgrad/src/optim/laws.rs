//! What one step does to one element: the update rules, with the operations of PyTorch's eager code in their order, so that
//! every operation rounds as it does there. PyTorch's vector kernels round `x + a·b` once in `add(alpha)`, `addcmul` and `lerp`
//! (here [`Real::plus`]) and twice in `addcdiv`.

use super::config::{Epsilon, Hyper, RuleName};
use super::real::Real;

/// An update of one element with `N` state buffers.
pub(super) trait Law<T: Real, const N: usize>: Copy {
    /// `(θ, state)` after the step, from `θ`, the raw gradient and the state.
    fn update(&self, theta: T, gradient: T, state: [T; N]) -> (T, [T; N]);

    /// The friction coefficient that [`Law::update`] will use.
    fn xi(&self, _theta: T, _gradient: T, _state: [T; N]) -> T {
        T::ONE
    }
}

/// The numbers of one parameter's step, computed once in `f64`: bias corrections depend on the parameter's own `t`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scalars {
    pub(super) hyper: Hyper,
    pub(super) t: u64,
    /// Mean of `|g|` over the tensor, where the rule needs it.
    pub(super) mean: f64,
    /// Population standard deviation of `|g|` over the tensor, where the rule needs it.
    pub(super) deviation: f64,
}

impl Scalars {
    pub(super) fn new(hyper: Hyper, t: u64) -> Self {
        Self { hyper, t, mean: 0.0, deviation: 0.0 }
    }

    fn correction(&self, beta: f64) -> f64 {
        1.0 - beta.powf(self.t as f64)
    }

    /// `ν` as variants 3, 4 and 5 use it.
    fn nu(&self) -> f64 {
        match self.hyper.rule {
            RuleName::DiffGrad4 => self.deviation * self.deviation,
            RuleName::DiffGrad5 => self.deviation.sqrt(),
            _ => self.deviation,
        }
    }

    pub(super) fn sgd<T: Real>(&self) -> Sgd<T> {
        let Hyper { lr, decay, weight_decay, .. } = self.hyper;
        Sgd { lr: T::of(-lr), momentum: T::of(decay), decay: T::of(weight_decay) }
    }

    pub(super) fn squares<T: Real>(&self) -> Squares<T> {
        let Hyper { lr, decay, eps, weight_decay, .. } = self.hyper;
        Squares {
            lr: T::of(-lr),
            keep: T::of(decay),
            take: T::of(1.0 - decay),
            eps: T::of(eps),
            decay: T::of(weight_decay),
        }
    }

    /// What a step multiplies by, and the bias correction beside `√v`: the learning rate and 1 where the rule corrects nothing.
    pub(super) fn step_and_bias(&self) -> (f64, f64) {
        let Hyper { rule, lr, decay: beta1, beta2, epsilon, .. } = self.hyper;
        if rule < RuleName::Adam {
            return (lr, 1.0);
        }
        let (bias1, bias2) = (self.correction(beta1), self.correction(beta2));
        match epsilon {
            Epsilon::Classic => (lr * bias2.sqrt() / bias1, 1.0),
            Epsilon::Modern => (lr / bias1, bias2.sqrt()),
            Epsilon::Inside => (lr / bias1, bias2),
        }
    }

    pub(super) fn moments<T: Real>(&self) -> Moments<T> {
        let Hyper { decay: beta1, beta2, eps, epsilon, weight_decay, .. } = self.hyper;
        let modern = epsilon == Epsilon::Modern;
        let (step, bias2) = self.step_and_bias();
        Moments {
            step: T::of(-step),
            beta1: T::of(beta1),
            take1: T::of(1.0 - beta1),
            beta2: T::of(beta2),
            take2: T::of(1.0 - beta2),
            bias2: T::of(bias2),
            eps: T::of(eps),
            decay: T::of(weight_decay),
            modern,
        }
    }

    pub(super) fn friction3<T: Real>(&self) -> Spread<T> {
        Spread { nu: T::of(self.nu()), mu: T::of(self.mean) }
    }
}

/// SGD with momentum. A zero buffer gives `b = g` at the first step, as PyTorch's copy does.
#[derive(Clone, Copy)]
pub(super) struct Sgd<T> {
    lr: T,
    momentum: T,
    decay: T,
}

impl<T: Real> Law<T, 1> for Sgd<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [b]: [T; 1]) -> (T, [T; 1]) {
        let b = b * self.momentum + gradient.plus(self.decay, theta);
        (theta.plus(self.lr, b), [b])
    }
}

/// What AdaGrad, RMSProp and AdaDelta share.
#[derive(Clone, Copy)]
pub(super) struct Squares<T> {
    lr: T,
    keep: T,
    take: T,
    eps: T,
    decay: T,
}

#[derive(Clone, Copy)]
pub(super) struct AdaGrad<T>(pub(super) Squares<T>);

impl<T: Real> Law<T, 1> for AdaGrad<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [sum]: [T; 1]) -> (T, [T; 1]) {
        let g = gradient.plus(self.0.decay, theta);
        let sum = sum.plus(g, g);
        (theta + self.0.lr * g / (sum.root() + self.0.eps), [sum])
    }
}

#[derive(Clone, Copy)]
pub(super) struct RmsProp<T>(pub(super) Squares<T>);

impl<T: Real> Law<T, 1> for RmsProp<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [average]: [T; 1]) -> (T, [T; 1]) {
        let g = gradient.plus(self.0.decay, theta);
        let average = (average * self.0.keep).plus(self.0.take * g, g);
        (theta + self.0.lr * g / (average.root() + self.0.eps), [average])
    }
}

#[derive(Clone, Copy)]
pub(super) struct AdaDelta<T>(pub(super) Squares<T>);

impl<T: Real> Law<T, 2> for AdaDelta<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [squares, deltas]: [T; 2]) -> (T, [T; 2]) {
        let Squares { lr, keep, take, eps, decay } = self.0;
        let g = gradient.plus(decay, theta);
        let squares = (squares * keep).plus(take * g, g);
        let delta = (deltas + eps).root() / (squares + eps).root() * g;
        let deltas = (deltas * keep).plus(take * delta, delta);
        (theta.plus(lr, delta), [squares, deltas])
    }
}

/// What Adam's family shares.
#[derive(Clone, Copy)]
pub(super) struct Moments<T> {
    /// Minus the step.
    step: T,
    beta1: T,
    take1: T,
    beta2: T,
    take2: T,
    /// `√(1−β2ᵗ)` with the modern epsilon, `1−β2ᵗ` with the one inside, 1 with the classic, where it stands in `step`.
    bias2: T,
    eps: T,
    decay: T,
    modern: bool,
}

impl<T: Real> Moments<T> {
    #[inline(always)]
    fn decayed(&self, theta: T, gradient: T) -> T {
        gradient.plus(self.decay, theta)
    }

    #[inline(always)]
    fn average(&self, g: T, m: T, v: T) -> (T, T) {
        ((m * self.beta1).plus(self.take1, g), self.squares(g, v))
    }

    #[inline(always)]
    fn squares(&self, g: T, v: T) -> T {
        (v * self.beta2).plus(self.take2 * g, g)
    }

    /// As [`Moments::average`], `m` as today's PyTorch computes it with the modern epsilon: `m + (1−β1)(g − m)`.
    #[inline(always)]
    fn average_either(&self, g: T, m: T, v: T) -> (T, T) {
        let m = if self.modern { m.plus(self.take1, g - m) } else { (m * self.beta1).plus(self.take1, g) };
        (m, self.squares(g, v))
    }

    #[inline(always)]
    fn moved(&self, theta: T, m: T, v: T) -> T {
        theta + self.step * m / (v.root() / self.bias2 + self.eps)
    }
}

#[derive(Clone, Copy)]
pub(super) struct Adam<T>(pub(super) Moments<T>);

impl<T: Real> Law<T, 2> for Adam<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [m, v]: [T; 2]) -> (T, [T; 2]) {
        let (m, v) = self.0.average_either(self.0.decayed(theta, gradient), m, v);
        (self.0.moved(theta, m, v), [m, v])
    }
}

/// Adam with `eps` inside the root.
#[derive(Clone, Copy)]
pub(super) struct AdamInside<T>(pub(super) Moments<T>);

impl<T: Real> Law<T, 2> for AdamInside<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [m, v]: [T; 2]) -> (T, [T; 2]) {
        let (m, v) = self.0.average(self.0.decayed(theta, gradient), m, v);
        (theta + self.0.step * m / (v / self.0.bias2 + self.0.eps).root(), [m, v])
    }
}

#[derive(Clone, Copy)]
pub(super) struct AmsGrad<T>(pub(super) Moments<T>);

impl<T: Real> Law<T, 3> for AmsGrad<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [m, v, max_v]: [T; 3]) -> (T, [T; 3]) {
        let (m, v) = self.0.average_either(self.0.decayed(theta, gradient), m, v);
        // Written so that NaN in v wins.
        let max_v = if v <= max_v { max_v } else { v };
        (self.0.moved(theta, m, max_v), [m, v, max_v])
    }
}

/// diffGrad as run and the half-step control: no previous gradient is kept. `first` asks for `σ(|g|)` at this step.
#[derive(Clone, Copy)]
pub(super) struct Halved<T> {
    pub(super) moments: Moments<T>,
    pub(super) first: bool,
}

impl<T: Real> Law<T, 2> for Halved<T> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [m, v]: [T; 2]) -> (T, [T; 2]) {
        let xi = self.xi(theta, gradient, [m, v]);
        let (m, v) = self.moments.average(self.moments.decayed(theta, gradient), m, v);
        (self.moments.moved(theta, m * xi, v), [m, v])
    }

    #[inline(always)]
    fn xi(&self, theta: T, gradient: T, _state: [T; 2]) -> T {
        if self.first {
            self.moments.decayed(theta, gradient).magnitude().sigmoid_of_positive()
        } else {
            T::of(0.5)
        }
    }
}

/// The friction coefficient `ξ` from the previous and the current gradient.
pub(super) trait Friction<T>: Copy {
    fn xi(&self, previous: T, g: T) -> T;
}

/// Equation 17: `σ(|p − g|)`.
#[derive(Clone, Copy)]
pub(super) struct AbsSig;

impl<T: Real> Friction<T> for AbsSig {
    #[inline(always)]
    fn xi(&self, previous: T, g: T) -> T {
        (previous - g).magnitude().sigmoid_of_positive()
    }
}

/// Variant 1: `σ(p − g)`.
#[derive(Clone, Copy)]
pub(super) struct Signed;

impl<T: Real> Friction<T> for Signed {
    #[inline(always)]
    fn xi(&self, previous: T, g: T) -> T {
        (previous - g).sigmoid()
    }
}

/// Variant 2: `9σ(|p − g|/2) − 4`.
#[derive(Clone, Copy)]
pub(super) struct Widened;

impl<T: Real> Friction<T> for Widened {
    #[inline(always)]
    fn xi(&self, previous: T, g: T) -> T {
        T::of(9.0) * (T::of(0.5) * (previous - g).magnitude()).sigmoid_of_positive() - T::of(4.0)
    }
}

/// Variants 3, 4 and 5: `σ(ν·|p − g| − μ)`.
#[derive(Clone, Copy)]
pub(super) struct Spread<T> {
    nu: T,
    mu: T,
}

impl<T: Real> Friction<T> for Spread<T> {
    #[inline(always)]
    fn xi(&self, previous: T, g: T) -> T {
        (self.nu * (previous - g).magnitude() - self.mu).sigmoid()
    }
}

/// diffGrad with any friction.
#[derive(Clone, Copy)]
pub(super) struct DiffGrad<T, F> {
    pub(super) moments: Moments<T>,
    pub(super) friction: F,
}

impl<T: Real, F: Friction<T>> Law<T, 3> for DiffGrad<T, F> {
    #[inline(always)]
    fn update(&self, theta: T, gradient: T, [m, v, previous]: [T; 3]) -> (T, [T; 3]) {
        let g = self.moments.decayed(theta, gradient);
        let (m, v) = self.moments.average(g, m, v);
        let xi = self.friction.xi(previous, g);
        (self.moments.moved(theta, m * xi, v), [m, v, g])
    }

    #[inline(always)]
    fn xi(&self, theta: T, gradient: T, [_, _, previous]: [T; 3]) -> T {
        self.friction.xi(previous, self.moments.decayed(theta, gradient))
    }
}
