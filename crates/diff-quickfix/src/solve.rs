//! The closed form, in double precision.

use anyhow::{Result, ensure};
use faer::linalg::solvers::Solve;
use faer::{Mat, Side};

use crate::collect::Attended;
use crate::encoder::Projection;
use crate::rows::{Bias, Pairing};

/// Rows of the system, each times the square root of its weight: keys K (N, D) and steps S (N, D), from each key to the key of the token that
/// it is to act as. The residual is R = V − K W₀ᵀ = S W₀ᵀ, with the release's bias that plus b.
#[derive(Clone, Debug)]
pub struct System {
    keys: Mat<f64>,
    steps: Mat<f64>,
    /// How often b is added to a row's value: 0, or with the release's bias the root of the row's weight.
    offsets: Mat<f64>,
}

impl System {
    /// A system without rows over `width` channels.
    #[must_use]
    pub fn empty(width: usize) -> Self {
        Self { keys: Mat::zeros(0, width), steps: Mat::zeros(0, width), offsets: Mat::zeros(0, 1) }
    }

    /// The rows of one pair of prompts.
    ///
    /// # Errors
    /// Where shapes differ, a position is outside the window, or the weight is no number of at least 0.
    pub fn of_pair(
        [from, to]: [&Attended; 2],
        pairings: &[Pairing],
        bias: Bias,
        weight: f64,
    ) -> Result<Self> {
        let width = from.ncols();
        ensure!(to.ncols() == width, "keys of {width} and {} channels", to.ncols());
        ensure!(
            weight >= 0.0 && weight.is_finite(),
            "the weight of a change is {weight}\n  expected: a number of at least 0"
        );
        let fits = |pairing: &Pairing| pairing.key < from.nrows() && pairing.value < to.nrows();
        ensure!(pairings.iter().all(fits), "a position outside a window of {} tokens", from.nrows());
        let root = weight.sqrt();
        let count = pairings.len();
        let keys = Mat::from_fn(count, width, |row, column| root * from[(pairings[row].key, column)]);
        let steps = Mat::from_fn(count, width, |row, column| {
            let Pairing { key, value } = pairings[row];
            root * (to[(value, column)] - from[(key, column)])
        });
        let offset = if bias == Bias::Release { root } else { 0.0 };
        Ok(Self { keys, steps, offsets: Mat::from_fn(count, 1, |_, _| offset) })
    }

    /// Rows of a prompt that is to act as it does: their residual is 0.
    #[must_use]
    pub fn preserving(prompt: &Attended, positions: &[usize]) -> Self {
        let (count, width) = (positions.len(), prompt.ncols());
        let keys = Mat::from_fn(count, width, |row, column| prompt[(positions[row], column)]);
        Self { keys, steps: Mat::zeros(count, width), offsets: Mat::zeros(count, 1) }
    }

    /// Both systems' rows.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self::joined(&[self, other], self.width())
    }

    /// All systems' rows over `width` channels, one system below the other.
    #[must_use]
    pub fn joined(all: &[&Self], width: usize) -> Self {
        let rows = all.iter().map(|system| system.rows()).sum();
        let mut joined = Self {
            keys: Mat::zeros(rows, width),
            steps: Mat::zeros(rows, width),
            offsets: Mat::zeros(rows, 1),
        };
        let mut first = 0;
        for system in all {
            let count = system.rows();
            joined.keys.subrows_mut(first, count).copy_from(&system.keys);
            joined.steps.subrows_mut(first, count).copy_from(&system.steps);
            joined.offsets.subrows_mut(first, count).copy_from(&system.offsets);
            first += count;
        }
        joined
    }

    /// Number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.keys.nrows()
    }

    /// Number of channels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.keys.ncols()
    }

    /// `‖K (W₀ + ΔW)ᵀ − V‖`, the root of the weighted sum of squares that an edit leaves; with ΔW = 0 what there was before.
    #[must_use]
    pub fn residual(&self, of: &Projection, change: &Mat<f64>) -> f64 {
        (&self.keys * change.transpose() - self.residuals(of)).norm_l2()
    }

    /// The change ΔW (D, D): by the dual where there are fewer rows than channels, else by the primal.
    ///
    /// # Errors
    /// Where λ is not above 0, or a number is not finite.
    pub fn solve(&self, of: &Projection, lambda: f64) -> Result<Mat<f64>> {
        if self.rows() < self.width() { self.dual(of, lambda) } else { self.primal(of, lambda) }
    }

    /// `M = Sᵀ K (λ I + Kᵀ K)⁻¹`: the change `W₀ M` of any matrix W₀ that reads these keys and is to give `W₀ k'`. What the methods do that edit
    /// many matrices with the same input.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn common(&self, lambda: f64) -> Result<Mat<f64>> {
        if self.rows() < self.width() {
            let mut gram = &self.keys * self.keys.transpose();
            return Ok(self.steps.transpose() * regularised(&mut gram, lambda)?.solve(&self.keys));
        }
        let mut gram = self.keys.transpose() * &self.keys;
        let crossed = self.steps.transpose() * &self.keys;
        let turned = regularised(&mut gram, lambda)?.solve(crossed.transpose());
        Ok(turned.transpose().to_owned())
    }

    /// The keys K (N, D), each times the square root of its weight.
    #[must_use]
    pub fn keys(&self) -> &Mat<f64> {
        &self.keys
    }

    /// The residuals R = V − K W₀ᵀ (N, D), likewise.
    #[must_use]
    pub fn residuals(&self, of: &Projection) -> Mat<f64> {
        &self.steps * of.weight.transpose() + &self.offsets * bias_row(of)
    }

    /// `Rᵀ (λ I + K Kᵀ)⁻¹ K`.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn dual(&self, of: &Projection, lambda: f64) -> Result<Mat<f64>> {
        Ok(self.dual_with_residuals(of, lambda)?.0)
    }

    /// The change, and [`Self::residual`] before and after it. With Y = (λ I + K Kᵀ)⁻¹ R the change is ΔW = Yᵀ K, and what it leaves of the
    /// residual is K ΔWᵀ − R = −λ Y.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn dual_with_residuals(&self, of: &Projection, lambda: f64) -> Result<(Mat<f64>, [f64; 2])> {
        let residuals = self.residuals(of);
        let mut gram = &self.keys * self.keys.transpose();
        let solved = regularised(&mut gram, lambda)?.solve(&residuals);
        let left = [residuals.norm_l2(), lambda * solved.norm_l2()];
        Ok((solved.transpose() * &self.keys, left))
    }

    /// `Rᵀ K (λ I + Kᵀ K)⁻¹`.
    ///
    /// # Errors
    /// As [`Self::solve`].
    pub fn primal(&self, of: &Projection, lambda: f64) -> Result<Mat<f64>> {
        Statistics::of(self).solve(of, lambda)
    }
}

/// b as (1, D).
fn bias_row(of: &Projection) -> Mat<f64> {
    Mat::from_fn(1, of.bias.len(), |_, column| of.bias[column])
}

/// The Cholesky factor of `gram + λ I`.
fn regularised(gram: &mut Mat<f64>, lambda: f64) -> Result<faer::linalg::solvers::Llt<f64>> {
    ensure!(
        lambda > 0.0 && lambda.is_finite(),
        "λ is {lambda}\n  expected: a number above 0\n  help: the authors' release has 0.01; smaller edits harder, larger less"
    );
    for at in 0..gram.nrows() {
        gram[(at, at)] += lambda;
    }
    gram.llt(Side::Lower).map_err(|_| {
        anyhow::anyhow!(
            "the system has no solution: a key is infinite or no number\n  help: do the weights belong to this model, and are they whole?"
        )
    })
}

/// Sums over rows from which any joint edit follows: `A = Σ k kᵀ`, `C = Σ s kᵀ` and `Σ o k`. Concepts are added and taken back in any order.
/// Neither knows W₀, which is applied once, at the end: D³ in the place of N D².
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `Σ k kᵀ` (D, D).
    keys: Mat<f64>,
    /// `Σ s kᵀ` (D, D).
    crossed: Mat<f64>,
    /// `Σ o kᵀ` (1, D).
    offset: Mat<f64>,
}

impl Statistics {
    /// Of no row.
    #[must_use]
    pub fn new(width: usize) -> Self {
        Self {
            keys: Mat::zeros(width, width),
            crossed: Mat::zeros(width, width),
            offset: Mat::zeros(1, width),
        }
    }

    /// Of a system's rows.
    #[must_use]
    pub fn of(system: &System) -> Self {
        let mut sums = Self::new(system.width());
        sums.add(system);
        sums
    }

    /// Adds a system's rows.
    pub fn add(&mut self, system: &System) {
        self.keys += system.keys.transpose() * &system.keys;
        self.crossed += system.steps.transpose() * &system.keys;
        self.offset += system.offsets.transpose() * &system.keys;
    }

    /// Takes a system's rows back.
    pub fn take_back(&mut self, system: &System) {
        self.keys -= system.keys.transpose() * &system.keys;
        self.crossed -= system.steps.transpose() * &system.keys;
        self.offset -= system.offsets.transpose() * &system.keys;
    }

    /// Adds what others have summed.
    pub fn merge(&mut self, other: &Self) {
        self.keys += &other.keys;
        self.crossed += &other.crossed;
        self.offset += &other.offset;
    }

    /// `ΔW = B (λ I + A)⁻¹` of `B = W₀ C + b (Σ o k)ᵀ`.
    ///
    /// # Errors
    /// As [`System::solve`].
    pub fn solve(&self, of: &Projection, lambda: f64) -> Result<Mat<f64>> {
        let mut gram = self.keys.clone();
        let wanted = &of.weight * &self.crossed + bias_row(of).transpose() * &self.offset;
        // A is symmetric, and so ΔWᵀ = (λ I + A)⁻¹ Bᵀ.
        let turned = regularised(&mut gram, lambda)?.solve(wanted.transpose());
        Ok(turned.transpose().to_owned())
    }
}
